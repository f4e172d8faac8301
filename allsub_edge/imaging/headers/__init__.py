"""What an image file says about itself, read by our own code before any decoder sees the file.

Two reasons: a file of a few kilobytes can announce gigabytes of pixels, and decoders fill the
missing part of a cut file with grey and call it done. So size, depth, channels and orientation
are read here, and the structure is followed to its end. Nothing is decoded, nothing is allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from allsub_edge.imaging.headers.bmp import read_bmp
from allsub_edge.imaging.headers.header import Header, HeaderError
from allsub_edge.imaging.headers.jpeg import read_jpeg
from allsub_edge.imaging.headers.png import read_png
from allsub_edge.imaging.headers.tiff import read_tiff

__all__ = ["Header", "HeaderError", "read_header"]

_READERS: Final[tuple[tuple[bytes, Callable[[bytes], Header]], ...]] = (
    (b"\xff\xd8\xff", read_jpeg),
    (b"\x89PNG\r\n\x1a\n", read_png),
    (b"BM", read_bmp),
    (b"II*\0", read_tiff),
    (b"MM\0*", read_tiff),
    (b"II+\0", read_tiff),
    (b"MM\0+", read_tiff),
)
_UNSUPPORTED: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftypheic", "a HEIC image"),
    (4, b"ftypmif1", "a HEIF image"),
    (4, b"jP  \r\n\x87\n", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"II\xbc\x01", "a JPEG XR image"),
    (128, b"DICM", "a DICOM file"),
)


def read_header(data: bytes) -> Header:
    """Tell the format by the first bytes, read the header and follow the structure to its end.

    Args:
        data: the whole file.

    Raises:
        HeaderError: ``not_an_image``, ``unsupported`` (a known format or kind that is not read)
            or ``truncated`` (the structure ends early or contradicts itself).
    """
    for magic, reader in _READERS:
        if data.startswith(magic):
            try:
                return reader(data)
            except (struct.error, IndexError, OverflowError):
                raise HeaderError("truncated", "is cut off inside its header") from None
    for offset, magic, name in _UNSUPPORTED:
        if data.startswith(magic, offset):
            raise HeaderError("unsupported", f"is {name}")
    raise HeaderError("not_an_image", "is not a JPEG, PNG, BMP or TIFF image")
