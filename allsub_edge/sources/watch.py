"""A watched folder: image files, offered once they are completely written.

The folder is polled. Notifications of the kernel would save little on one folder and do not
arrive for what another machine writes to a network share, which is how microscopes deliver.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePath
from typing import Final

from allsub_edge.sources.paths import IMAGE_SUFFIXES

SETTLE: Final[float] = 1.0
"""Seconds for which size and time of a file must stay the same. The times of a FAT card have steps
of two seconds, but a file that is being written also grows."""

PATIENCE: Final[float] = 10.0
"""Seconds after which a file that settled but is not a whole image is taken as it is: a copy over
a network may pause for longer than SETTLE."""

TEMPORARY: Final[frozenset[str]] = frozenset({".part", ".partial", ".tmp", ".temp", ".crdownload"})
"""A name with one of these as any of its suffixes is not looked at, nor is one that begins with a
dot or ``~``: programs write under such a name and rename when done."""


_GONE: Final[frozenset[int]] = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What looking at an entry says that went away meanwhile or is a broken link."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that settled.

    Attributes:
        path: the watched folder joined with the name below it.
        size: bytes when it was looked at.
        mtime_ns: time of its last change then, in nanoseconds.
        last: it will not be offered again as it is: take it even if it is broken.
    """

    path: str
    size: int
    mtime_ns: int
    last: bool


@dataclass(slots=True)
class _Waiting:
    size: int
    mtime_ns: int
    since: float
    tried: bool = False


def is_field_name(name: str) -> bool:
    """True if a file of this name is an image that was not written under a temporary name."""
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    return (
        not name.startswith((".", "~"))
        and bool(suffixes)
        and suffixes[-1] in IMAGE_SUFFIXES
        and not TEMPORARY.intersection(suffixes)
    )


class FolderWatch:
    """Polls a folder and its subfolders; call ``scan`` now and then.

    A file is offered when its size and time of change were the same in two scans at least
    ``settle`` seconds apart. Call ``done`` for a file that was dealt with: it is offered again
    only after a change. A file that was offered and not reported as done is offered once more,
    with ``last`` set, when it has not changed for ``patience`` seconds.

    For each file that was dealt with 16 bytes are kept (some 100 with Python's overhead), for each
    that waits its path. Links to folders are not followed, so a loop cannot occur.

    Args:
        folder: what to watch.
        settle: seconds, 0 or more.
        patience: seconds.
        known: asked once for each file and state of it: True if it was dealt with earlier, by a
            process that is gone.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        folder: str,
        *,
        settle: float = SETTLE,
        patience: float = PATIENCE,
        known: Callable[[str, int, int], bool] = lambda path, size, mtime_ns: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._settle = settle
        self._patience = max(patience, settle)
        self._known = known
        self._clock = clock
        self._done: set[bytes] = set()
        self._waiting: dict[str, _Waiting] = {}
        self._unread: dict[str, str] = {}

    @property
    def unread(self) -> dict[str, str]:
        """Folders that the last scan could not read, or not all that is in them: path -> reason."""
        return dict(self._unread)

    @property
    def waiting(self) -> int:
        """Files seen that were not dealt with yet."""
        return len(self._waiting)

    def scan(self) -> list[Found]:
        """Look once; gives the files that settled, the oldest change first.

        Files that are gone are forgotten. A subfolder that cannot be read counts as empty, is
        listed in ``unread``, and its files are asked of ``known`` again when they come back.

        Raises:
            OSError: the watched folder itself cannot be read; nothing is forgotten.
        """
        now = self._clock()
        done: set[bytes] = set()
        waiting: dict[str, _Waiting] = {}
        ready: list[Found] = []
        unread: dict[str, str] = {}
        for path, status in _files(self.folder, unread):
            size, mtime_ns = status.st_size, status.st_mtime_ns
            mark = _fingerprint(path, size, mtime_ns)
            if mark in self._done:
                done.add(mark)
                continue
            before = self._waiting.get(path)
            if before is None or (before.size, before.mtime_ns) != (size, mtime_ns):
                if self._known(path, size, mtime_ns):
                    done.add(mark)
                else:
                    waiting[path] = _Waiting(size, mtime_ns, now)
                continue
            waiting[path] = before
            age = now - before.since
            last = age >= self._patience
            if age >= self._settle and (last or not before.tried):
                ready.append(Found(path, size, mtime_ns, last))
        self._done, self._waiting, self._unread = done, waiting, unread
        ready.sort(key=lambda found: (found.mtime_ns, found.path))
        return ready

    def done(self, found: Found) -> None:
        """The file was dealt with, in the state in which it was found."""
        self._done.add(_fingerprint(found.path, found.size, found.mtime_ns))
        self._waiting.pop(found.path, None)

    def not_yet(self, found: Found) -> None:
        """The file is not a whole image yet: it comes again with ``last`` set, or changed."""
        entry = self._waiting.get(found.path)
        if entry is not None:
            entry.tried = True


def _fingerprint(path: str, size: int, mtime_ns: int) -> bytes:
    text = f"{size} {mtime_ns} ".encode() + os.fsencode(path)
    return blake2b(text, digest_size=16).digest()


def _files(folder: str, unread: dict[str, str]) -> Iterator[tuple[str, os.stat_result]]:
    """Fields below a folder, in no particular order; only the watched folder's errors rise.

    Args:
        folder: absolute or not; paths are given as it is.
        unread: receives the folders that cannot be read, wholly or in part: path -> reason.
    """
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            if not entry.name.startswith("."):
                                pending.append(entry.path)
                        elif is_field_name(entry.name) and entry.is_file():
                            yield entry.path, entry.stat()
                    except OSError as error:
                        # A folder may be listed whose files may not be looked at.
                        if error.errno not in _GONE:
                            unread[current] = error.strerror or str(error)
        except OSError as error:
            if current == folder:
                raise
            if error.errno not in _GONE:
                unread[current] = error.strerror or str(error)
