"""The header of a BMP file, and whether its pixels are there (Microsoft's BITMAPINFOHEADER)."""

from __future__ import annotations

import struct

from allsub_edge.imaging.headers.header import Header, HeaderError


def read_bmp(data: bytes) -> Header:
    """Read the header and check that as many bytes follow as it announces."""
    offset, size = struct.unpack_from("<II", data, 10)
    compression = 0
    if size == 12:
        width, height, _planes, depth = struct.unpack_from("<HHHH", data, 18)
    elif size >= 40:
        width, height, _planes, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    else:
        raise HeaderError("not_an_image", "starts like a BMP image but is none")
    height = abs(height)  # negative: stored from the top down
    if width <= 0 or height == 0 or depth not in (1, 4, 8, 16, 24, 32):
        raise HeaderError("not_an_image", "starts like a BMP image but is none")
    packed = compression in (1, 2)
    if not packed and offset + (width * depth + 31) // 32 * 4 * height > len(data):
        raise HeaderError("truncated", "is cut off inside its BMP pixels")
    return Header("bmp", width, height)
