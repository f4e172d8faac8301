"""Keeps the memory of one training step for the next one.

glibc asks the kernel for every large block anew and gives it back when it is freed. A training step
frees and takes feature maps of 20 to 150 MB dozens of times, and each time the kernel hands out
fresh pages, filled with zeros one by one: that took a quarter of the step (docs/training.md).
"""

from __future__ import annotations

import ctypes
from typing import Final

# Names and numbers of <malloc.h>; see mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_MAX: Final = -4

_NEVER: Final = 2**31 - 1
"""Largest int: the heap shrinks only when more than 2 GB at its end are free."""

_STEP: Final = 256 * 2**20
"""The heap grows by this many bytes at a time."""


def keep_freed_memory() -> bool:
    """Make this process's allocator reuse large blocks instead of asking the kernel for them.

    For programs that take and free the same large blocks again and again; peak memory does not
    fall until the process ends. Results do not change.

    Returns:
        Whether the C library took the settings; False, and nothing is changed, where it is not
        glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018 - only glibc has this symbol
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _STEP))
    return all(mallopt(name, value) == 1 for name, value in settings)
