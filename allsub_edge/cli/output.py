"""Where the verbs write: standard output, or a file that is whole or not there, and no input."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from allsub_edge.errors import UsageError

Identity = tuple[int, int]
"""Device and inode: what tells a file from every other, whatever its names and links."""


@contextmanager
def opened(path: str | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears only when everything was written.

    A FIFO, a device or ``/dev/stdout`` is written to as it is.

    Raises:
        UsageError: ``path`` is a folder.
        OSError: it cannot be written.
    """
    if path is None:
        if getattr(sys.stdout, "name", None) == os.devnull:  # see main._open_streams
            raise UsageError("bad_output_path", "standard output is closed: name a file with -o")
        yield sys.stdout
        return
    from allsub_edge.atomic import is_stream, replacing, stream_to

    if Path(path).is_dir():
        raise UsageError("bad_output_path", f"{path}: is a folder: name a file for -o")
    if is_stream(path):
        with stream_to(path) as stream:
            yield stream
        return
    with (
        replacing(path) as temporary,
        # surrogateescape: a file name that is not valid UTF-8 is written back as it was.
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        yield stream


def check_place(path: str, option: str, *, text: bool = True) -> None:
    """Refuse what cannot be written to, before any work is done.

    Args:
        path: what the user wrote.
        option: the option it was written for.
        text: whether text is written, which FIFOs and devices take too.

    Raises:
        UsageError: ``bad_output_path``: a folder, a disk, a link that leads to itself, ...
    """
    from allsub_edge.atomic import destination, is_stream

    if text and is_stream(path):
        return
    try:
        destination(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            "bad_output_path", f"{path}: {reason}: name a file for {option}"
        ) from error


def same_place(one: str, other: str) -> bool:
    """Whether two names, of files that need not exist, stand for one place."""
    return os.path.realpath(one) == os.path.realpath(other)


def identity(path: str | os.PathLike[str] | int) -> Identity | None:
    """What a name (or an open file's number) leads to; None if that is no regular file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - takes numbers too
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


class Outputs:
    """The files that a run will put in place at its end, none of which may be an input."""

    def __init__(self, *names: str | None) -> None:
        self._names = [name for name in names if name is not None]

    def refuse(self, source: str | int | None) -> None:
        """Compare an input, by name or by the number of an open file, before it is read.

        Raises:
            UsageError: ``bad_output_path``: an output would overwrite it.
        """
        if source is None:
            return
        for name in self._names:
            # Looked up each time: a FAT stick gives a file another inode when the old one was
            # forgotten, and the file may be there only since the run began.
            there = identity(name)
            if there is not None and there == identity(source):
                raise UsageError(
                    "bad_output_path", f"{name}: is one of the inputs; choose another output name"
                )
