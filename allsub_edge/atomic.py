"""Files written whole or not at all: write beside the target, flush to disk, then rename.

What is there to be written to and never to be replaced - a FIFO, a terminal, ``/dev/null``,
``/dev/stdout`` - takes text straight, and is refused for anything else.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TextIO

_DESCRIPTORS: Final = (Path("/proc/self/fd"), Path("/dev/fd"))
_MAX_LINKS: Final[int] = 40
"""As many as Linux follows."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the target's folder; rename it over ``path`` on success.

    The temporary file keeps the target's suffix, because image and Keras writers choose the
    format by it. A link stays: what it leads to is replaced. On any exception the temporary file
    is removed and ``path`` is left untouched.

    Raises:
        OSError: the folder cannot be written, the disk is full, or ``path`` is no regular file;
            ``path`` is unchanged, and the error names it as it was given.
    """
    target = destination(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = _temporary(target)
    except OSError as error:
        _rename(error, path)
        raise
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        # mkstemp makes the file private; the result should follow the user's umask instead.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        # Whoever reads "no space left" needs to know where. What else went on in the block, such
        # as the writing of another file, names its own.
        if isinstance(error, OSError) and error.filename in (None, name):
            _rename(error, path)
        raise


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8 with ``\\n`` line ends, whole or not at all.

    Straight to it if ``path`` is a stream; see ``is_stream``.
    """
    if is_stream(path):
        with stream_to(path) as stream:
            stream.write(text)
    else:
        write_bytes(path, text.encode("utf-8"))


def destination(path: str | os.PathLike[str]) -> Path:
    """The file that ``replacing`` puts in place: ``path``, or what it leads to if it is a link.

    Raises:
        OSError: a folder, a FIFO, a device or the like is there, or it cannot be looked at.
    """
    target = Path(path)
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        pass  # to be made; also at the end of a link that leads nowhere yet
    else:
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder", os.fspath(path))
        if not stat.S_ISREG(mode) or _descriptor(target) is not None:
            raise OSError(
                errno.EINVAL, "is no regular file and cannot be replaced", os.fspath(path)
            )
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether text goes straight to ``path``: a FIFO, a character device, a standard stream."""
    target = Path(path)
    try:
        mode = target.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or _descriptor(target) is not None


@contextmanager
def stream_to(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open what ``is_stream`` for UTF-8 with ``\\n`` line ends; waits for a FIFO's reader.

    Raises:
        OSError: it cannot be opened or written; names ``path``.
    """
    number = _descriptor(Path(path))
    try:
        # A duplicate: opened by its name, a file that the shell appends to would be cut to nothing.
        where = os.fspath(path) if number is None else os.dup(number)
        # surrogateescape: a file name that is not valid UTF-8 is written back as it was.
        with open(where, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:  # noqa: PTH123 - takes numbers too
            yield stream
    except OSError as error:
        if error.filename is None:
            _rename(error, path)
        raise


def _temporary(target: Path) -> tuple[int, str]:
    """A new hidden file beside the target: its handle and its name."""
    # File systems allow 255 bytes, some 143: this stays below whatever the target's name is. No
    # writer knows a format by a longer suffix.
    stem = target.stem.encode("utf-8", "surrogateescape")[:80].decode("utf-8", "ignore")
    suffix = target.suffix if len(os.fsencode(target.suffix)) <= 40 else ""
    return tempfile.mkstemp(prefix=f".{stem}.", suffix=f".part{suffix}", dir=target.parent)


def _descriptor(path: Path) -> int | None:
    """The number of the open file that ``path`` is a name of, as ``/dev/stdout`` is; or None."""
    for _ in range(_MAX_LINKS):
        if path.parent in _DESCRIPTORS and path.name.isdecimal():
            return int(path.name)
        try:
            path = path.parent / path.readlink()
        except OSError:
            return None
    return None


def _rename(error: OSError, path: str | os.PathLike[str]) -> None:
    """Let an error name ``path``, and no second file."""
    if error.errno is None:
        return  # a message of a library's own, which Python would no longer show
    error.filename = os.fspath(path)
    del error.filename2  # None would be printed
