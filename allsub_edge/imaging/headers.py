"""What an image file says about itself, read by our own code before any decoder sees the file.

Two reasons: a file of a few kilobytes can announce gigabytes of pixels, and decoders fill the
missing part of a cut file with grey and call it done. So size, depth, channels and orientation
are read here, and the structure is followed to its end. Nothing is decoded, nothing is allocated.

Sources: ITU-T T.81 (JPEG), W3C PNG 3rd edition, TIFF 6.0 and the BigTIFF design, CIPA DC-008
(Exif orientation), Microsoft's BITMAPINFOHEADER.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


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
    """The structure of a file is wrong; ``code`` as in :class:`allsub_edge.errors.FieldError`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


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


# --- JPEG ---------------------------------------------------------------------------------------

# In coded data FF 00 is a plain FF, FF D0..D7 are restart marks, FF FF is filling.
_MARKER_IN_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_STANDALONE: Final[frozenset[int]] = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES: Final[frozenset[int]] = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FRAMES_READ: Final[frozenset[int]] = frozenset({0xC0, 0xC1, 0xC2})


def _jpeg(data: bytes) -> Header:
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


def exif_orientation(block: bytes) -> int:
    """Orientation 1..8 of an Exif block (a small TIFF without pixels); 1 if there is none."""
    try:
        value = _Directory(block).number(274, 1)
    except (struct.error, OverflowError, HeaderError):
        return 1
    return value if 1 <= value <= 8 else 1


# --- PNG ----------------------------------------------------------------------------------------


def _png(data: bytes) -> Header:
    """Follow the chunks to IEND and check each chunk's CRC."""
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
        elif kind == b"IDAT":
            pixels = True
        elif kind == b"IEND":
            break
        at = end + 4
    if not pixels:
        raise HeaderError("truncated", "is a PNG without a picture")
    return Header("png", header.width, header.height, orientation=orientation, colour=header.colour)


# --- BMP ----------------------------------------------------------------------------------------


def _bmp(data: bytes) -> Header:
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


# --- TIFF ---------------------------------------------------------------------------------------


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


def _tiff(data: bytes) -> Header:
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


_READERS: Final[tuple[tuple[bytes, Callable[[bytes], Header]], ...]] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"BM", _bmp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"II+\0", _tiff),
    (b"MM\0+", _tiff),
)
