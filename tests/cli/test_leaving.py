from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")

BEGIN = """
import atexit, os, sys, threading, time
from allsub_edge.cli.leaving import Leaving
leaving = Leaving()
class Told:
    def __del__(self): os.write(2, b"taken apart")
kept = Told()
"""


def end(code: str, **given: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        capture_output="stdout" not in given,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
        text=True,
        timeout=60,
        check=False,
        **given,  # type: ignore[call-overload]
    )


def test_it_ends_with_its_code_everything_written_and_nothing_taken_apart() -> None:
    done = end("print('out', end=''); print('err', end='', file=sys.stderr); leaving.code = 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out", "err")


def test_exit_functions_and_threads_come_first() -> None:
    done = end(
        "atexit.register(print, 'exit function')\n"
        "def work():\n"
        "    time.sleep(0.3); print('thread')\n"
        "threading.Thread(target=work).start()\n"
        "leaving.code = 0\n"
        "sys.exit(0)"
    )
    assert (done.returncode, done.stdout.split("\n")[:2]) == (0, ["thread", "exit function"])


def test_an_error_that_nobody_caught_ends_as_always() -> None:
    done = end("raise KeyError('a fault')")
    assert done.returncode == 1
    assert "KeyError: 'a fault'" in done.stderr
    assert "taken apart" in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_what_cannot_be_written_is_an_error_as_always() -> None:
    with FULL.open("w") as full:
        done = end("print('out'); leaving.code = 0", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 120
    assert "No space left" in done.stderr
