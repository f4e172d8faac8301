"""The header of a JPEG file, and whether all its scans are there (ITU-T T.81)."""

from __future__ import annotations

import re
import struct
from typing import Final

from allsub_edge.imaging.headers.header import Header, HeaderError
from allsub_edge.imaging.headers.tiff import exif_orientation

# In coded data FF 00 is a plain FF, FF D0..D7 are restart marks, FF FF is filling.
_MARKER_IN_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_STANDALONE: Final[frozenset[int]] = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES: Final[frozenset[int]] = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FRAMES_READ: Final[frozenset[int]] = frozenset({0xC0, 0xC1, 0xC2})


def read_jpeg(data: bytes) -> Header:
    """Follow the segments, scan by scan, to the end marker that belongs to the picture itself.

    A thumbnail inside the Exif segment has an end marker of its own, and cameras append bytes
    after the last one, so neither searching for the marker nor looking at the end of the file
    would do.
    """
    frame: Header | None = None
    orientation = 1
    scans = 0
    at = 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        if data[at] != 0xFF:
            raise HeaderError("truncated", "is damaged: a JPEG marker is missing")
        marker = data[at + 1]
        at += 2
        if marker == 0xD9:
            break
        if marker in _STANDALONE:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2 or at + length > len(data):
            raise HeaderError("truncated", "is cut off inside a JPEG segment")
        if marker in _FRAMES:
            if frame is not None:
                raise HeaderError("unsupported", "is a JPEG with more than one frame")
            frame = _jpeg_frame(data, at, marker)
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", at + 2) and orientation == 1:
            orientation = exif_orientation(data[at + 8 : at + length])
        at += length
        if marker == 0xDA:
            scans += 1
            found = _MARKER_IN_SCAN.search(data, at)
            if found is None:
                raise HeaderError("truncated", "is cut off: the end of the JPEG is missing")
            at = found.start()
    if frame is None or not scans:
        raise HeaderError("truncated", "is a JPEG without a picture")
    return Header("jpeg", frame.width, frame.height, orientation=orientation, colour=frame.colour)


def _jpeg_frame(data: bytes, at: int, marker: int) -> Header:
    precision, height, width, channels = struct.unpack_from(">BHHB", data, at + 2)
    if marker not in _FRAMES_READ or precision != 8 or channels not in (1, 3) or not height:
        raise HeaderError(
            "unsupported",
            "is a JPEG of a kind that is not read (only 8-bit baseline or progressive YCbCr/RGB)",
        )
    return Header("jpeg", width, height, colour=channels == 3)
