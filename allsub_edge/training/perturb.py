"""Controlled changes to a field: what another lamp, camera, focus or file format would do.

Each function takes one uint8 RGB field (H, W, 3) and returns a new one of the same dtype and
channel order; the input is never written to. The result depends on the arguments alone (and on the
state of ``rng`` where there is one), so a robustness test can be repeated. They are for training
and evaluation on a workstation: OpenCV's interpolation and JPEG encoder may round differently on
another architecture.

Values saturate at 0 and 255 as they do in a camera. The empty background of the public data set
lies at 236..254 in every channel, so most gains above 1.05 clip it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.uint8]

LEVELS: Final[npt.NDArray[np.float32]] = np.arange(256, dtype=np.float32)
"""Every grey level, the input of a look-up table."""

_NORMAL: Final[npt.NDArray[np.float64]] = np.array(
    [NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)]
)


def to_uint8(values: npt.NDArray[np.floating]) -> Field:
    """Round half to even, clip to 0..255, uint8. Any shape."""
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


def apply_table(field: Field, table: Field) -> Field:
    """Replace every value by its entry: ``table`` uint8 (256,) or, one a channel, (256, 3)."""
    return np.asarray(cv2.LUT(field, table.reshape(256, 1, -1)), dtype=np.uint8)


def gains(field: Field, factors: Sequence[float]) -> Field:
    """Multiply red, green and blue by ``factors`` (each >= 0, 1 changes nothing)."""
    return apply_table(field, to_uint8(LEVELS[:, None] * np.asarray(factors, np.float32)))


def random_gains(field: Field, spread: float, rng: np.random.Generator) -> Field:
    """Multiply each channel by its own factor, uniform in ``1 - spread .. 1 + spread``."""
    return gains(field, rng.uniform(1 - spread, 1 + spread, 3).tolist())


def brightness(field: Field, factor: float) -> Field:
    """Multiply all channels by ``factor`` (>= 0, 1 changes nothing)."""
    return apply_table(field, to_uint8(LEVELS * np.float32(factor)))


def gamma(field: Field, g: float) -> Field:
    """Tone curve ``255 (v / 255)^g`` with ``g`` > 0: above 1 darkens the middle, 1 changes nothing.

    Raises:
        ValueError: ``g`` is not above 0.
    """
    if not g > 0:
        raise ValueError(f"gamma must be above 0, not {g}")
    return apply_table(field, to_uint8(255 * (LEVELS / 255) ** np.float32(g)))


def saturation(field: Field, factor: float) -> Field:
    """Move every pixel away from (``factor`` > 1) or towards (< 1) its own grey (Rec. 601 luma)."""
    return colour_matrix(field, saturation_matrix(factor))


def hue(field: Field, degrees: float) -> Field:
    """Rotate all colours about the grey axis; a full turn is 360 degrees."""
    return colour_matrix(field, hue_matrix(degrees))


def saturation_matrix(factor: float) -> npt.NDArray[np.float64]:
    """The 3x3 matrix of :func:`saturation`, for column vectors (r, g, b)."""
    luma = np.array([0.299, 0.587, 0.114])
    return factor * np.eye(3) + (1 - factor) * np.tile(luma, (3, 1))


def hue_matrix(degrees: float) -> npt.NDArray[np.float64]:
    """The 3x3 matrix of :func:`hue`: Rodrigues' rotation about (1, 1, 1) / sqrt(3)."""
    axis = np.full((3, 1), 3**-0.5)
    x = axis[0, 0]
    cross = np.array([[0, -x, x], [x, 0, -x], [-x, x, 0]])
    angle = np.deg2rad(degrees)
    rotation = np.cos(angle) * np.eye(3) + np.sin(angle) * cross
    return np.asarray(rotation + (1 - np.cos(angle)) * axis @ axis.T, dtype=np.float64)


def colour_matrix(field: Field, matrix: npt.NDArray[np.float64]) -> Field:
    """Apply a 3x3 or 3x4 matrix (last column: offset in grey levels) to every pixel (r, g, b)."""
    return np.asarray(cv2.transform(field, matrix), dtype=np.uint8)


def blur(field: Field, sigma: float) -> Field:
    """Gaussian blur; ``sigma`` in pixels, 0 returns a copy. Edges are mirrored."""
    if sigma <= 0:
        return field.copy()
    blurred = cv2.GaussianBlur(field, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, dtype=np.uint8)


def jpeg(field: Field, quality: int) -> Field:
    """Write as JPEG (4:2:0 chroma, ``quality`` 1..100) and read back.

    Raises:
        ValueError: quality outside 1..100.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality must be 1..100, not {quality}")
    bgr = cv2.cvtColor(field, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def noise(field: Field, sigma: float, rng: np.random.Generator) -> Field:
    """Add independent Gaussian noise of ``sigma`` grey levels to every value.

    The noise takes the 256 mid-quantiles of the normal distribution (standard deviation 0.994, at
    most 2.9 sigma): one random byte a value is several times faster than exact normal numbers.
    """
    if sigma <= 0:
        return field.copy()
    levels = np.rint(_NORMAL * sigma).astype(np.int16)
    draws = np.frombuffer(rng.bytes(field.size), np.uint8).reshape(field.shape)
    grain = cv2.LUT(draws, levels)
    return np.asarray(cv2.add(field, grain, dtype=cv2.CV_8U), dtype=np.uint8)


def rotate90(field: Field, k: int) -> Field:
    """Rotate by ``k`` quarter turns against the clock; an odd ``k`` swaps height and width."""
    if k % 4 == 0:
        return field.copy()
    codes = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
    return np.asarray(cv2.rotate(field, codes[k % 4 - 1]), dtype=np.uint8)


def flip(field: Field) -> Field:
    """Mirror left and right."""
    return np.asarray(cv2.flip(field, 1), dtype=np.uint8)


def affine_matrix(
    shape: tuple[int, int], scale: float, dx: float, dy: float, angle: float
) -> npt.NDArray[np.float64]:
    """The 2x3 matrix from input to output coordinates (x, y) of :func:`affine`."""
    height, width = shape
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.array(cv2.getRotationMatrix2D(centre, angle, scale), dtype=np.float64)
    matrix[:, 2] += (dx, dy)
    return matrix


def affine(
    field: Field,
    scale: float = 1.0,
    dx: float = 0.0,
    dy: float = 0.0,
    angle: float = 0.0,
) -> Field:
    """Scale and rotate about the centre, then shift; what comes in from outside is mirrored.

    Args:
        field: uint8 (H, W, 3).
        scale: above 1 magnifies.
        dx: shift to the right in pixels.
        dy: shift downwards in pixels.
        angle: degrees against the clock.

    Returns:
        uint8 field of the same shape (bilinear interpolation).

    Raises:
        ValueError: ``scale`` is not above 0.
    """
    if not scale > 0:
        raise ValueError(f"scale must be above 0, not {scale}")
    height, width = field.shape[:2]
    return warp(field, affine_matrix((height, width), scale, dx, dy, angle))


def warp(field: Field, matrix: npt.NDArray[np.float64]) -> Field:
    """Apply a 2x3 matrix (input to output coordinates), bilinear, mirrored border, same size."""
    height, width = field.shape[:2]
    warped = cv2.warpAffine(
        field,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(warped, dtype=np.uint8)


SCALE_BAR_CORNER: Final[int] = 32
"""Side in pixels, at 224x224, of the bottom-right corner that holds every scale bar burnt into the
public data set. Measured over its 2509 fields: a large white box (rows 194..221, columns 193..223)
in 392, a small one (rows 206..216, columns 194..217) in about 1250, red text without a box (rows
209..217, columns 193..218) in the rest. The corner is a multiple of 16, so the ringing of the JPEG
blocks is inside it too. The kind of bar goes with the class (pro-B: small box only; early: never;
large box: benign and early only), so a network may read the bar instead of the cells."""

_SEAM: Final[int] = 6


def _corner(field: Field) -> tuple[int, int]:
    """Height and width of the scale-bar corner for a field of this size."""
    height, width = field.shape[:2]
    return -(-height * SCALE_BAR_CORNER // 224), -(-width * SCALE_BAR_CORNER // 224)


@lru_cache(maxsize=8)
def _left_weight(h: int, w: int) -> npt.NDArray[np.float32]:
    rows, columns = np.mgrid[:h, :w]
    slope = 0.5 + (rows / h - columns / w) * h / (2 * _SEAM)
    return np.asarray(np.clip(slope, 0, 1), dtype=np.float32)


def hide_scale_bar(field: Field) -> Field:
    """Fill the corner of :data:`SCALE_BAR_CORNER` with what lies beside it.

    Next to its upper edge the corner mirrors the pixels above, next to its left edge the pixels on
    the left, with a soft change along the diagonal, so there is no seam and no new colour.
    Hiding again changes nothing.

    Args:
        field: uint8 (H, W, 3), at least 8x8, or a mask (H, W) of 0 and 1 that belongs to one; the
            corner scales with the size.

    Returns:
        uint8 array of the same shape.
    """
    h, w = _corner(field)
    out = field.copy()
    left = np.ascontiguousarray(field[-h:, -2 * w : -w][:, ::-1])
    above = np.ascontiguousarray(field[-2 * h : -h, -w:][::-1])
    weight = _left_weight(h, w)
    out[-h:, -w:] = cv2.blendLinear(left, above, weight, 1 - weight)
    return out


def randomise_scale_bar(field: Field, rng: np.random.Generator) -> Field:
    """Hide the scale bar, then :func:`stamp_scale_bar`."""
    return stamp_scale_bar(hide_scale_bar(field), rng)


def stamp_scale_bar(field: Field, rng: np.random.Generator) -> Field:
    """Burn in nothing, or one of three look-alikes of the data set's bars, each with odds 1:4.

    Args:
        field: uint8 (H, W, 3), at least 64x64; look-alikes have the data set's size at 224x224
            whatever the size of the field.
        rng: decides kind, place (up to 2 or 3 pixels off) and lettering.

    Returns:
        uint8 field of the same shape; only the corner differs.
    """
    out = field.copy()
    kind = rng.integers(4)
    if kind == 1:
        _large_bar(out, rng)
    elif kind > 1:
        _small_bar(out, rng, boxed=bool(kind == 2))
    return out


def _large_bar(out: Field, rng: np.random.Generator) -> None:
    """White box with large digits and a thick line, cut off by the edge of the field."""
    patch = np.full((28, 31, 3), 255, np.uint8)
    digits = str(rng.choice(["100", "200", "500"]))
    cv2.putText(patch, digits, (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0))
    patch[21:23, 1:] = 0
    patch[17:26, 1] = 0
    bottom = out.shape[0] - int(rng.integers(0, 4))
    out[bottom - 28 : bottom, -31:] = patch


def _small_bar(out: Field, rng: np.random.Generator, *, boxed: bool) -> None:
    """Tiny lettering between two ticks, black on a white box or red on the field itself.

    At 224x224 the data set's own lettering is unreadable strokes, so random strokes stand for it.
    """
    down, right = rng.integers(-2, 3, 2)
    bottom, end = out.shape[0] - 7 + int(down), out.shape[1] - 6 + int(right)
    patch = out[bottom - 11 : bottom, end - 24 : end]
    if boxed:
        patch[:] = 255
    ink = np.array([40, 40, 40] if boxed else [215, 60, 70], np.float32)
    cover = np.zeros((11, 24, 1), np.float32)
    cover[4:8, 6:19, 0] = rng.random((4, 13)) * (rng.random(13) < 0.7)
    cover[7:11, (0, 23), 0] = 0.9
    patch[:] = to_uint8(cover * ink + (1 - cover) * patch)
