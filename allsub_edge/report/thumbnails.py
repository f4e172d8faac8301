"""Small pictures of fields with their cells outlined, for pages that hold everything."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from allsub_edge.imaging.draw import overlay
from allsub_edge.imaging.resize import squash

SIDE: Final[int] = 160
"""Side in pixels: shown 21 mm wide on paper, that is about 190 dots per inch."""

QUALITY: Final[int] = 85


def thumbnail(rgb: NDArray[np.uint8], mask: NDArray[np.uint8], side: int = SIDE) -> bytes:
    """A small square JPEG of a field with the mask's outline.

    Args:
        rgb: uint8 (H, W, 3).
        mask: uint8 (h, w), non-zero where a cell is; its size may differ from the field's.
        side: side of the result in pixels.

    Returns:
        JPEG bytes, colour at full resolution (4:4:4), because the outline is thin.

    Raises:
        ValueError: wrong dtype or shape, or OpenCV could not write it.
    """
    small = squash(rgb, side)
    spread = np.repeat((mask != 0).astype(np.uint8)[:, :, None] * 255, 3, axis=2)
    inside = (squash(spread, side)[:, :, 0] >= 128).astype(np.uint8)
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, QUALITY),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ]
    picture = np.ascontiguousarray(overlay(small, inside)[:, :, ::-1])
    done, data = cv2.imencode(".jpg", picture, options)
    if not done:
        raise ValueError(f"OpenCV could not write {picture.shape} as JPEG")
    return bytes(data.tobytes())
