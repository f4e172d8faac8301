"""Fields to measure with: rendered, so that everybody measures with the same bytes.

The cost of decoding depends on a picture's content only a little, and that of everything behind it
not at all; what a rendered field is called does not matter here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.imaging.render import render_field

CAMERA: Final[tuple[int, int]] = (4056, 3040)
"""Columns and rows of a 12-megapixel camera (Raspberry Pi HQ Camera)."""

KINDS: Final[dict[str, str]] = {
    "field224": "224x224 JPEG, as in the public data set",
    "camera12mp": f"{CAMERA[0]}x{CAMERA[1]} JPEG, a 12-megapixel camera",
}
"""Workload -> what it is."""


def pixels(count: int = 8) -> list[npt.NDArray[np.uint8]]:
    """``count`` different rendered fields, uint8 (224, 224, 3) each."""
    return [render_field(seed, CLASSES[seed % len(CLASSES)]) for seed in range(1, count + 1)]


def _jpeg(rgb: npt.NDArray[np.uint8], quality: int) -> bytes:
    good, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise RuntimeError("OpenCV cannot encode JPEG")
    return bytes(data)


def write(folder: Path, kind: str, count: int = 8) -> list[Path]:
    """Write the files of a workload.

    Args:
        folder: where to.
        kind: a key of :data:`KINDS`.
        count: how many different files.

    Raises:
        KeyError: an unknown kind.
    """
    if kind not in KINDS:
        raise KeyError(kind)
    paths = []
    for number, field in enumerate(pixels(count)):
        image = field
        if kind == "camera12mp":
            # Drawn at a quarter of the size and enlarged: drawing 12 megapixels takes seconds.
            drawn = render_field(number + 1, CLASSES[number % len(CLASSES)], 1024)
            image = np.asarray(cv2.resize(drawn, CAMERA, interpolation=cv2.INTER_LINEAR), np.uint8)
        paths.append(folder / f"{kind}-{number}.jpg")
        paths[-1].write_bytes(_jpeg(image, 90))
    return paths
