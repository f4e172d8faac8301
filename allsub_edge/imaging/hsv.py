"""8-bit HSV by integer arithmetic: the same values on every processor.

OpenCV's 8-bit ``cvtColor`` is not the same everywhere: its ARM64 build differs from its x86-64
build in S by 1 for 6582 colours. These few lines are what the x86-64 build computes (fixed point
with 12 fractional bits and two reciprocal tables, ``modules/imgproc/src/color_hsv.simd.hpp``),
with no mismatch on any of the 2^24 colours.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

SHIFT: Final[int] = 12
"""Fractional bits of the fixed-point reciprocals."""

HUE_RANGE: Final[int] = 180
"""Hue counts half degrees, 0..179, so that it fits in 8 bits."""


def _reciprocals(numerator: int) -> npt.NDArray[np.int32]:
    """``rint(numerator / i)`` for i in 0..255, with 0 at i = 0."""
    table = np.zeros(256, np.int32)
    table[1:] = np.rint(numerator / np.arange(1, 256))
    return table


_SATURATION: Final = _reciprocals(255 << SHIFT)
_HUE: Final = _reciprocals((HUE_RANGE << SHIFT) // 6)


def rgb_to_hsv(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert RGB to HSV exactly as x86-64 OpenCV's ``COLOR_RGB2HSV`` does.

    Args:
        rgb: uint8 array of shape (..., 3), channels red, green, blue.

    Returns:
        uint8 array of the same shape: hue 0..179 (half degrees), saturation 0..255, value 0..255.

    Raises:
        ValueError: the array is not uint8 or its last axis is not 3 long.
    """
    if rgb.dtype != np.uint8 or rgb.ndim == 0 or rgb.shape[-1] != 3:
        raise ValueError(f"rgb must be uint8 of shape (..., 3), not {rgb.dtype} {rgb.shape}")
    # Contiguous planes: the steps below run several times faster on them than on strided views.
    red, green, blue = np.moveaxis(rgb, -1, 0).astype(np.int32, order="C")
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    saturation = (chroma * _SATURATION[value] + (1 << (SHIFT - 1))) >> SHIFT
    sector = np.where(
        value == red,
        green - blue,
        np.where(value == green, blue - red + 2 * chroma, red - green + 4 * chroma),
    )
    hue = (sector * _HUE[chroma] + (1 << (SHIFT - 1))) >> SHIFT
    hue += HUE_RANGE * (hue < 0)
    return np.stack([hue, saturation, value], axis=-1).astype(np.uint8)
