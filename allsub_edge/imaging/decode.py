"""Image files to fields: JPEG, PNG, BMP and TIFF to uint8 RGB, or a clear refusal.

A file's structure is checked by :mod:`allsub_edge.imaging.headers` before OpenCV sees it. JPEG
files much larger than needed are decoded at a half, quarter or eighth, which libjpeg does while
it decodes. What the decoders would write to standard error is caught: it is how a JPEG whose
coded data are damaged is told from a sound one.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from allsub_edge.errors import FieldError
from allsub_edge.imaging.headers import Header, HeaderError, read_header
from allsub_edge.imaging.listening import listening, speaks_of_damage
from allsub_edge.imaging.memory import could_hold, enough_memory, no_memory

MAX_PIXELS: Final[int] = 100_000_000
"""Largest field by default. Microscope cameras deliver 2 to 25 megapixels, stitched fields a few
times that, and 100 megapixels take 300 MB decoded, which a board with 1 GB still holds."""

MAX_BYTES: Final[int] = 8 * MAX_PIXELS + 2**20
"""Largest file: what MAX_PIXELS take in the bulkiest form (16 bit, four channels, not packed)."""

MIN_SIDE: Final[int] = 32
"""Smallest side of a field: a cell would have fewer than 4 pixels across on anything smaller."""

# OpenCV refuses more pixels by itself (OPENCV_IO_MAX_IMAGE_PIXELS).
_OPENCV_MAX_PIXELS: Final[int] = 2**30

_REDUCED: Final[dict[int, int]] = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

# Exif orientation 2..8 -> the quarter turns and flips of cv2 that undo it.
_UPRIGHT: Final[dict[int, tuple[int | None, int | None]]] = {
    2: (None, 1),
    3: (cv2.ROTATE_180, None),
    4: (None, 0),
    5: (cv2.ROTATE_90_CLOCKWISE, 1),
    6: (cv2.ROTATE_90_CLOCKWISE, None),
    7: (cv2.ROTATE_90_COUNTERCLOCKWISE, 1),
    8: (cv2.ROTATE_90_COUNTERCLOCKWISE, None),
}


@dataclass(frozen=True)
class Decoded:
    """A field as it came from its file.

    Attributes:
        rgb: uint8 (H, W, 3), upright; smaller than the file says if ``reduction`` is above 1.
        width: columns of the field in the file, after its orientation was applied.
        height: rows of the field in the file, after its orientation was applied.
        reduction: 1, 2, 4 or 8: by how much a JPEG was decoded smaller.
        format: ``jpeg``, ``png``, ``bmp`` or ``tiff``.
    """

    rgb: NDArray[np.uint8]
    width: int
    height: int
    reduction: int
    format: str


def read_field(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, smallest_side: int | None = 224
) -> Decoded:
    """Read and decode one file; see :func:`read_bytes` and :func:`decode`."""
    return decode(
        read_bytes(path), source=str(path), max_pixels=max_pixels, smallest_side=smallest_side
    )


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a whole file.

    Raises:
        FieldError: ``missing``, ``unreadable``, ``empty``, ``too_large`` (above MAX_BYTES) or
            ``no_memory``.
    """
    try:
        # Opening a pipe would wait for a writer, so what it is comes before opening it.
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise FieldError("unreadable", f"{path}: is {kind}; give an image file")
        if status.st_size > MAX_BYTES:
            raise FieldError(
                "too_large",
                f"{path}: {status.st_size / 1e6:.0f} MB is more than the {MAX_BYTES / 1e6:.0f} MB "
                "that a field may have; cut it into fields first",
            )
        with enough_memory(str(path)):
            data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FieldError("missing", f"{path}: there is no such file; check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FieldError("unreadable", f"{path}: cannot be read ({reason})") from None
    if not data:
        raise FieldError("empty", f"{path}: the file is empty; copy it again")
    return data


def decode(
    data: bytes,
    *,
    source: str = "bytes",
    max_pixels: int = MAX_PIXELS,
    smallest_side: int | None = 224,
) -> Decoded:
    """Decode one image file to RGB.

    16-bit values v become ``v * 255 / 65535``, rounded; alpha is dropped; of a TIFF the first page
    is read. A JPEG is decoded at the largest of 1/8, 1/4, 1/2 whose sides both stay at least
    ``smallest_side``.

    Args:
        data: the whole file.
        source: how errors name the input.
        max_pixels: fields with more pixels are refused before anything is allocated; OpenCV
            itself stops at 2**30.
        smallest_side: pixels that the caller needs; None decodes at full size always.

    Raises:
        FieldError: ``empty``, ``not_an_image``, ``unsupported``, ``truncated`` (cut off or
            damaged), ``too_large``, ``too_small`` (below MIN_SIDE), ``grey`` (one channel, or
            three equal ones), ``no_memory`` (it may be sound; the machine could not hold it) or
            ``unreadable`` (the process may open no more files, so damage would go unheard).
    """
    if not data:
        raise FieldError("empty", f"{source}: there are no bytes")
    with enough_memory(source):
        return _field(data, source, max_pixels, smallest_side)


def _field(data: bytes, source: str, max_pixels: int, smallest_side: int | None) -> Decoded:
    try:
        header = read_header(data)
    except HeaderError as error:
        raise FieldError(error.code, f"{source}: {error.message}; {error.hint}") from None
    width, height = header.width, header.height
    if header.orientation >= 5:
        width, height = height, width
    _check_size(header, source, max_pixels)
    if not header.colour:
        raise _grey(source)
    reduction = _reduction(header, smallest_side)
    rgb = _to_rgb(_decoded(data, header, reduction, source), source)
    if header.format != "tiff":  # OpenCV's TIFF reader turns the picture itself, always
        rgb = _upright(rgb, header.orientation)
    expected = (-(-height // reduction), -(-width // reduction))
    if rgb.shape[:2] != expected:
        raise FieldError(
            "truncated",
            f"{source}: is damaged (its header says {width}x{height}, its pixels say "
            f"{rgb.shape[1]}x{rgb.shape[0]}); copy or export it again",
        )
    if _is_grey(rgb):
        raise _grey(source)
    return Decoded(rgb, width, height, reduction, header.format)


def _check_size(header: Header, source: str, max_pixels: int) -> None:
    width, height = header.width, header.height
    limit = min(max_pixels, _OPENCV_MAX_PIXELS)
    if width * height > limit or header.block > limit:
        raise FieldError(
            "too_large",
            f"{source}: {width}x{height} pixels are more than the limit of {limit / 1e6:g} "
            "megapixels; cut it into fields first",
        )
    if min(width, height) < MIN_SIDE:
        raise FieldError(
            "too_small",
            f"{source}: {width}x{height} pixels are too few for a field (at least "
            f"{MIN_SIDE}x{MIN_SIDE}); give the whole field",
        )


def _reduction(header: Header, smallest_side: int | None) -> int:
    if header.format != "jpeg" or smallest_side is None:
        return 1
    side = min(header.width, header.height)
    return next((part for part in (8, 4, 2) if -(-side // part) >= smallest_side), 1)


def _decoded(data: bytes, header: Header, reduction: int, source: str) -> NDArray[Any]:
    """Let OpenCV decode to BGR, as stored; refuse what it or its libraries complain about."""
    flags = _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    if header.format in ("png", "tiff"):
        flags |= cv2.IMREAD_ANYDEPTH
    decoded: Any = None
    try:
        with listening() as heard, suppress(cv2.error), enough_memory(source):
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except OSError as error:
        raise FieldError(
            "unreadable",
            f"{source}: cannot be checked for damage ({error.strerror}); close some files",
        ) from None
    damaged = speaks_of_damage("".join(heard))
    # What libtiff says without memory sounds like damage; libpng and libjpeg can be believed.
    told = damaged and header.format != "tiff"
    if decoded is None and not told and not could_hold(header.width * header.height, header.format):
        raise no_memory(source)
    if decoded is None or damaged:
        raise FieldError(
            "truncated",
            f"{source}: is a damaged {header.format.upper()}, or one of a kind that OpenCV does "
            "not read; copy or export it again",
        )
    return np.asarray(decoded)


def _to_rgb(bgr: NDArray[Any], source: str) -> NDArray[np.uint8]:
    if bgr.dtype == np.uint16:
        eight = np.empty(bgr.shape, np.uint8)
        for top in range(0, bgr.shape[0], 64):  # strips, so that 32 bits are never needed in full
            strip = bgr[top : top + 64].astype(np.uint32)
            eight[top : top + 64] = (strip + 128) // 257  # 65535 = 255 * 257
        bgr = eight
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3:
        raise FieldError(
            "unsupported",
            f"{source}: its pixels are {bgr.dtype}, only 8 and 16 bit are read; "
            "convert it to PNG or 8-bit JPEG",
        )
    # A swap of channels is the same on every platform, unlike OpenCV's other colour conversions.
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _upright(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    turn, flip = _UPRIGHT.get(orientation, (None, None))
    if turn is not None:
        rgb = np.asarray(cv2.rotate(rgb, turn), np.uint8)
    if flip is not None:
        rgb = np.asarray(cv2.flip(rgb, flip), np.uint8)
    return rgb


def _is_grey(rgb: NDArray[np.uint8]) -> bool:
    # Almost every field shows colour in the coarse look, which costs 1/256 of the full one.
    for part in (rgb[::16, ::16], rgb):
        red = part[:, :, 0]
        if (red != part[:, :, 1]).any() or (red != part[:, :, 2]).any():
            return False
    return True


def _grey(source: str) -> FieldError:
    return FieldError(
        "grey",
        f"{source}: is a grey image; the stain's colour is needed, so give the colour original",
    )
