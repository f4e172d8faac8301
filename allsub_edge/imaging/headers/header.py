"""What a file announces, and what is wrong with one that announces nothing sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_HINTS: Final[dict[str, str]] = {
    "truncated": "copy or export it again",
    "unsupported": "convert it to PNG or 8-bit JPEG",
}


@dataclass(frozen=True)
class Header:
    """What a file announces.

    Attributes:
        format: ``jpeg``, ``png``, ``bmp`` or ``tiff``.
        width: columns as stored, before the orientation is applied.
        height: rows as stored, before the orientation is applied.
        orientation: Exif orientation 1..8; 1 for formats and files without one.
        colour: False if the file stores one grey channel.
        block: pixels of the largest piece that a decoder unpacks at once (TIFF tiles), else 0.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    colour: bool = True
    block: int = 0


class HeaderError(Exception):
    """The structure of a file is wrong.

    Attributes:
        code: as in :class:`allsub_edge.errors.FieldError`.
        message: what is wrong, to be read after the name of the file.
        hint: what to do next; None means what goes with the code.
    """

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = _HINTS.get(code, "give an image file") if hint is None else hint
