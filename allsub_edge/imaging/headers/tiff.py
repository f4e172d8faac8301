"""The first directory of a TIFF file, and whether its strips or tiles are there.

The orientation of JPEG and PNG files is read here too: an Exif block is a small TIFF.

Sources: TIFF 6.0 and the BigTIFF design, CIPA DC-008 (Exif orientation).
"""

from __future__ import annotations

import struct
from typing import Final

from allsub_edge.imaging.headers.header import Header, HeaderError


class _Directory:
    """The first directory of a TIFF (or of an Exif block): numbers by tag."""

    # bytes and struct letter of the integer types BYTE, SHORT, LONG, LONG8, IFD8
    _TYPES: Final = {
        1: (1, "B"),
        3: (2, "H"),
        4: (4, "I"),
        13: (4, "I"),
        16: (8, "Q"),
        18: (8, "Q"),
    }

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = "<" if data[:2] == b"II" else ">"
        (version,) = self._read("H", 2)
        self._big = version == 43
        if data[:2] not in (b"II", b"MM") or version not in (42, 43):
            raise HeaderError("not_an_image", "starts like a TIFF image but is none")
        start = self._read("Q", 8)[0] if self._big else self._read("I", 4)[0]
        count = self._read("Q" if self._big else "H", start)[0]
        if count > 4096:
            raise HeaderError("truncated", "is damaged: its TIFF directory has too many entries")
        first, step = (start + 8, 20) if self._big else (start + 2, 12)
        self._entries: dict[int, tuple[int, int, int]] = {}
        for at in range(first, first + count * step, step):
            tag, kind = self._read("HH", at)
            many = self._read("Q" if self._big else "I", at + 4)[0]
            # Decoders disagree on which of two equal tags counts: refuse such a file.
            if tag in self._entries:
                raise HeaderError("truncated", "is damaged: a TIFF tag is there twice")
            self._entries[tag] = (kind, many, at + (12 if self._big else 8))

    def _read(self, letters: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self._order + letters, self._data, at)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """All values of an integer tag, or none if it is absent."""
        if tag not in self._entries:
            return ()
        kind, many, at = self._entries[tag]
        if kind not in self._TYPES:
            raise HeaderError("truncated", f"is damaged: TIFF tag {tag} has a wrong type")
        size, letter = self._TYPES[kind]
        if many * size > (8 if self._big else 4):
            at = self._read("Q" if self._big else "I", at)[0]
        if at + many * size > len(self._data):
            raise HeaderError("truncated", "is cut off: TIFF values lie behind the end of the file")
        return self._read(f"{many}{letter}", at)

    def number(self, tag: int, default: int) -> int:
        values = self.numbers(tag)
        return values[0] if values else default


def read_tiff(data: bytes) -> Header:
    """Read the first page's directory and check that all its strips or tiles are in the file."""
    page = _Directory(data)
    width, height = page.number(256, 0), page.number(257, 0)
    if not width or not height:
        raise HeaderError("truncated", "is a TIFF without a size")
    depths = page.numbers(258) or (1,)
    formats = page.numbers(339) or (1,)
    channels, photometric = page.number(277, 1), page.number(262, 1)
    if set(depths) - {1, 2, 4, 8, 16} or set(formats) != {1}:
        raise HeaderError(
            "unsupported", "is a TIFF of a kind that is not read (only 8 or 16 bit whole numbers)"
        )
    tiled = bool(page.numbers(322))
    offsets = page.numbers(324 if tiled else 273)
    lengths = page.numbers(325 if tiled else 279)
    if not offsets or len(offsets) != len(lengths):
        raise HeaderError("truncated", "is a TIFF without a picture")
    if any(start + size > len(data) for start, size in zip(offsets, lengths, strict=True)):
        raise HeaderError("truncated", "is cut off inside its TIFF pixels")
    if tiled:
        block_width, block_height = page.number(322, 0), page.number(323, 0)
    else:
        block_width, block_height = width, min(height, page.number(278, height))
    if not block_width or not block_height:
        raise HeaderError("truncated", "is damaged: its TIFF strips or tiles have no size")
    # With planes apart (284 is 2) each channel has blocks of its own.
    planes = channels if page.number(284, 1) == 2 else 1
    if len(offsets) < -(-width // block_width) * -(-height // block_height) * planes:
        raise HeaderError("truncated", "is damaged: TIFF strips or tiles are missing")
    orientation = page.number(274, 1)
    return Header(
        "tiff",
        width,
        height,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        # 0 and 1: grey, white or black is zero; palettes (3) are coloured with one channel
        colour=photometric not in (0, 1),
        block=block_width * block_height if tiled else 0,
    )


def exif_orientation(block: bytes) -> int:
    """Orientation 1..8 of an Exif block (a small TIFF without pixels); 1 if there is none."""
    try:
        value = _Directory(block).number(274, 1)
    except (struct.error, OverflowError, HeaderError):
        return 1
    return value if 1 <= value <= 8 else 1
