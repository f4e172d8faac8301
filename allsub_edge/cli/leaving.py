"""How the command ends: at once, when everything is done.

Python takes its modules apart before a process ends. With OpenCV, numpy and an engine imported that
is a tenth of what one field costs from start to exit, spent on memory that the kernel takes back at
one stroke.
"""

from __future__ import annotations

import atexit
import os
import sys


class Leaving:
    """Ends the process as the last of its exit functions, with the code that was noted.

    Make it before anything else registers an exit function: they are called last one first, after
    the threads that must be waited for. Without a code the interpreter ends as it always does, so
    that an error nobody caught is told.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        atexit.register(self._leave)

    def _leave(self) -> None:
        if self.code is None:
            return
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except (OSError, ValueError):
            return  # full or closed: the interpreter tries once more, and says so in its exit code
        os._exit(self.code)
