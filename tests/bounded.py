"""Waiting for a process, but not for ever: a test that would hang fails instead."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

SECONDS: Final[float] = 60.0
"""Longer than any process of a quick test takes on a busy machine."""


@contextmanager
def bounded(process: subprocess.Popen[Any], seconds: float = SECONDS) -> Iterator[None]:
    """Kill a process that a block of reads from its pipes still waits for after some seconds.

    The reads then meet the end of the pipe, and the assertions that follow say what is missing.
    """
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
