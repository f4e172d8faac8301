"""Where the verbs write: standard output, or a file that is whole or not there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from allsub_edge.errors import UsageError


@contextmanager
def opened(path: str | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears only when everything was written.

    Raises:
        UsageError: ``path`` is a folder.
    """
    if path is None:
        yield sys.stdout
        return
    from allsub_edge.atomic import replacing

    if Path(path).is_dir():
        raise UsageError("bad_output_path", f"{path}: is a folder: name a file for -o")
    with (
        replacing(path) as temporary,
        # surrogateescape: a file name that is not valid UTF-8 is written back as it was.
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        yield stream
