"""The header of a PNG file, and whether its chunks are whole (W3C PNG, third edition)."""

from __future__ import annotations

import struct
import zlib

from allsub_edge.imaging.headers.header import Header, HeaderError
from allsub_edge.imaging.headers.tiff import exif_orientation


def read_png(data: bytes) -> Header:
    """Follow the chunks to IEND and check each needed chunk's CRC.

    Args:
        data: the whole file.

    Raises:
        HeaderError: ``truncated``, or ``unsupported`` for an animated PNG.
        struct.error: cut off inside a chunk's head.
    """
    at = 8
    header: Header | None = None
    orientation = 1
    pixels = False
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise HeaderError("truncated", "is cut off inside its PNG data")
        # libpng ignores a wrong checksum of a chunk that the picture does not need.
        if kind[:1].isupper():
            (told,) = struct.unpack_from(">I", data, end)
            if zlib.crc32(memoryview(data)[at + 4 : end]) != told:
                raise HeaderError("truncated", "is damaged: a PNG checksum is wrong")
        if header is None:
            if kind != b"IHDR":
                raise HeaderError("truncated", "is a PNG without a header")
            width, height, _depth, colour_type = struct.unpack_from(">IIBB", data, at + 8)
            header = Header("png", width, height, colour=colour_type not in (0, 4))
        elif kind == b"eXIf":
            orientation = exif_orientation(data[at + 8 : end])
        elif kind == b"acTL" and not pixels:
            # OpenCV 5 shows the first frame of the animation; viewers of still pictures show the
            # default image, which need not be part of it, and may be quite another field.
            raise HeaderError("unsupported", "is an animated PNG", "give a still picture")
        elif kind == b"IDAT":
            pixels = True
        elif kind == b"IEND":
            break
        at = end + 4
    if not pixels:
        raise HeaderError("truncated", "is a PNG without a picture")
    return Header("png", header.width, header.height, orientation=orientation, colour=header.colour)
