"""What image decoders say on standard error, caught: their only word on damaged data.

OpenCV hands out a picture with a grey or garbled remainder when libjpeg or libtiff meet damaged
data; that it is damaged is only written to standard error.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import cv2

_STDERR: Final[int] = 2
# From which of OpenCV's log levels on libtiff's errors are told: LOG_LEVEL_ERROR since 4.13, where
# the functions moved too; LOG_LEVEL_DEBUG before.
_MOVED: Final[bool] = not hasattr(cv2, "setLogLevel")
_TELLING: Final[int] = 2 if _MOVED else 5
_one_at_a_time = threading.Lock()

_OF_DECODERS: Final = re.compile(
    r"\[ ?(WARN|ERROR|INFO|DEBUG|VERB):\d+@|OpenCV TIFF: |libpng |Corrupt JPEG|Premature end|"
    r"Invalid JPEG|Invalid SOS|Inconsistent progression|Unsupported marker|Warning: unknown JFIF"
)
_DAMAGE: Final = re.compile(
    r"Premature end|premature end|bad Huffman code|TIFF_Error|found marker 0x|"
    r"libpng error(?!: .*[Mm]emory)|"
    r"OpenCV TIFF: .*(Decoding error|Not enough data)"
)
_EXTRANEOUS: Final = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes")
# Encoders pad by a few bytes; more than this is picture data that was passed over.
_PADDING: Final[int] = 16


def speaks_of_damage(said: str) -> bool:
    """Tell whether decoders complained of damaged pixels, rather than of a trifle.

    Args:
        said: what :func:`listening` caught.
    """
    extra = (int(count) for count in _EXTRANEOUS.findall(said))
    return _DAMAGE.search(said) is not None or any(count > _PADDING for count in extra)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Catch what C libraries write to standard error; give it as a list, filled at the end.

    libjpeg and libpng write to the file descriptor, beyond Python's reach, so the descriptor
    itself is turned into a pipe for the while. That is a matter of the whole process, hence one
    decoder at a time; lines that no decoder wrote are passed on afterwards.

    Raises:
        OSError: the process may open no more files. Damage would go unheard, so nothing is decoded.
    """
    heard: list[str] = []
    with _one_at_a_time, ExitStack() as open_ends:
        kept = _standard_error()
        open_ends.callback(os.close, kept)
        read_end, write_end = os.pipe()
        open_ends.callback(os.close, read_end)
        open_ends.callback(os.close, write_end)
        # A full pipe must not block the decoder: it loses text instead. And a child process that
        # was started meanwhile may keep the other end open: reading must not wait for it.
        os.set_blocking(write_end, False)
        os.set_blocking(read_end, False)
        level = _log_level(_TELLING)
        try:
            os.dup2(write_end, _STDERR)
            yield heard
        finally:
            _log_level(level)
            os.dup2(kept, _STDERR)
            lines = _waiting(read_end).decode("utf-8", "replace").splitlines(keepends=True)
            heard.extend(line for line in lines if _OF_DECODERS.match(line))
            others = "".join(line for line in lines if not _OF_DECODERS.match(line))
            if others:
                # Whoever read standard error may have gone; the field is none the worse for it.
                with suppress(OSError):
                    os.write(_STDERR, others.encode())


def _standard_error() -> int:
    """A copy of the descriptor of standard error; one that is closed leads to nowhere from now on.

    Some service managers close it. It stays open then, so that no file that is opened later gets
    its number and with it what libraries write there.
    """
    try:
        return os.dup(_STDERR)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != _STDERR:
        try:
            os.dup2(nowhere, _STDERR)
        finally:
            os.close(nowhere)
    return os.dup(_STDERR)


def _log_level(level: int) -> int:
    """Set what OpenCV itself logs, and give what it was before."""
    place: Any = cv2.utils.logging if _MOVED else cv2
    before: int = place.getLogLevel()
    place.setLogLevel(level)
    return before


def _waiting(end: int) -> bytes:
    """Everything that waits in a pipe that does not block; a pipe holds 64 KiB at most."""
    try:
        return os.read(end, 1 << 16)
    except BlockingIOError:
        return b""
