"""Keeping freed memory: what the process does about large blocks, seen from outside."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from allsub_edge.training.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def touch():
    np.ones(32 * 2**20, np.uint8)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_large_blocks_are_not_asked_for_again() -> None:
    # 32 MB are 8192 pages, or 16 large ones where the kernel gives such.
    assert _faults("keep") < 50 < _faults("leave")


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    from allsub_edge.training.allocator import keep_freed_memory

    def foreign(_: None) -> object:
        return object()

    monkeypatch.setattr(ctypes, "CDLL", foreign)
    assert not keep_freed_memory()
