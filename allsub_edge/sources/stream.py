"""Standard input as a source: one image, or the names of many.

``-`` is one image file, whole: what ``curl`` or ``ssh`` write. Several images one after another
cannot be told apart without decoding each, so many fields come as names: one per line, or each
ended by NUL. Names are taken one at a time as they arrive, so a program that goes on writing names
is answered as it goes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from allsub_edge.errors import FieldError, UsageError
from allsub_edge.sources.base import Capture, Fault, PathSource
from allsub_edge.sources.paths import expand

STDIN: Final[str] = "<stdin>"
"""How records name a field that came through standard input."""

MAX_NAME: Final[int] = 4096
"""Longest name in bytes, Linux' own limit (PATH_MAX)."""

_CHUNK: Final[int] = 2**16


class _Stream:
    """What both have: a binary stream that is closed only if it was opened here."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._cleanup = ExitStack()
        self._closed = False

    def close(self) -> None:
        """Stop giving fields; may be called twice. Standard input itself stays open."""
        self._closed = True
        self._cleanup.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ImageStream(_Stream):
    """One image file, read to its end.

    Args:
        stream: binary; None means standard input.

    Raises:
        UsageError: standard input is a terminal.
    """

    def __init__(self, stream: BinaryIO | None = None) -> None:
        super().__init__(_standard_input("an image") if stream is None else stream)

    def __iter__(self) -> Iterator[Capture | Fault]:
        from allsub_edge.imaging.decode import MAX_BYTES

        if self._closed:
            return
        try:
            data = self._stream.read(MAX_BYTES + 1)
        except OSError as error:
            reason = error.strerror or str(error)
            yield Fault(STDIN, FieldError("unreadable", f"{STDIN}: cannot be read ({reason})"))
            return
        if not data:
            text = f"{STDIN}: there were no bytes; pipe an image file into it"
            yield Fault(STDIN, FieldError("empty", text))
        elif len(data) > MAX_BYTES:
            text = f"{STDIN}: more than {MAX_BYTES // 10**6} MB; pipe one image file into it"
            yield Fault(STDIN, FieldError("too_large", text))
        else:
            yield Capture(STDIN, data)

    def __enter__(self) -> ImageStream:
        return self


class NameStream(_Stream):
    """Files, folders and globs named in a file or on standard input.

    A name is looked up as if it had been given on the command line; empty names are passed over.

    Args:
        file: the file with the names, or ``-`` for standard input.
        separator: one byte that ends a name; with ``\\n`` a ``\\r`` before it is dropped too.
        recursive: also look into the subfolders of folders that are named.
        stream: binary, in place of ``file``.

    Raises:
        UsageError: the file cannot be opened, or standard input is a terminal.
    """

    def __init__(
        self,
        file: str,
        *,
        separator: bytes = b"\n",
        recursive: bool = True,
        stream: BinaryIO | None = None,
    ) -> None:
        cleanup = ExitStack()
        if stream is None and file == "-":
            stream = _standard_input("names of files")
        elif stream is None:
            try:
                opened = Path(file).open("rb")  # noqa: SIM115 - closed by close()
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise UsageError("bad_names", f"{file}: cannot be read ({reason})") from None
            stream = cleanup.enter_context(opened)
        super().__init__(stream)
        self._cleanup = cleanup
        self._name = STDIN if file == "-" else file
        self._separator = separator
        self._recursive = recursive

    def __iter__(self) -> Iterator[Capture | Fault]:
        for name in self._names():
            if isinstance(name, Fault):
                yield name
                continue
            for item in PathSource(expand([name], recursive=self._recursive)):
                if self._closed:
                    return
                yield item

    def _names(self) -> Iterator[str | Fault]:
        rest = b""
        skipping = False  # within a name that was already refused for its length
        while not self._closed:
            # read1 gives what is there; read would wait for a full chunk.
            read = getattr(self._stream, "read1", self._stream.read)
            try:
                chunk = read(_CHUNK)
            except OSError as error:
                reason = error.strerror or str(error)
                text = f"{self._name}: cannot be read on ({reason})"
                yield Fault(self._name, FieldError("unreadable", text))
                return
            *whole, rest = (rest + chunk).split(self._separator)
            if not chunk and rest:
                whole, rest = [*whole, rest], b""
            for raw in whole:
                if skipping:
                    skipping = False
                    continue
                name = raw.removesuffix(b"\r") if self._separator == b"\n" else raw
                if len(name) > MAX_NAME:
                    yield self._too_long()
                elif name:
                    yield os.fsdecode(name)
            if len(rest) > MAX_NAME + 1:
                if not skipping:
                    yield self._too_long()
                skipping, rest = True, b""
            if not chunk:
                return

    def _too_long(self) -> Fault:
        text = f"{self._name}: a name of more than {MAX_NAME} bytes; is this a list of file names?"
        return Fault(self._name, FieldError("unsupported", text))

    def __enter__(self) -> NameStream:
        return self


def _standard_input(what: str) -> BinaryIO:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("usage", f"standard input has no data: pipe {what} into it")
    return sys.stdin.buffer
