"""Fields changed as a microscope would change them, and the same field at other sizes.

Blur and exposure are those of :mod:`allsub_edge.training.perturb`. The other sizes are made from
the 224x224 file, since the public data set has no larger one: bicubic, to the wanted width and
height, which for 1024x768 undoes the squash that the data set was made with; then encoded to a
file, so that what is tested is the whole way from the file's bytes to the label, with its reduced
decoding of large JPEGs and the exact averaging.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from allsub_edge.training import perturb

Field = npt.NDArray[np.uint8]

CHANGES: Final[dict[str, Callable[[Field], Field]]] = {
    "blurred, sigma 3": lambda field: perturb.blur(field, 3.0),
    "exposed x1.6": lambda field: perturb.brightness(field, 1.6),
    "exposed x0.4": lambda field: perturb.brightness(field, 0.4),
}
"""What is done to a field that was sharp and well exposed -> how."""

SIZES: Final[tuple[tuple[int, int], ...]] = ((224, 224), (512, 512), (1024, 768), (4056, 3040))
"""Width and height; the last is the full sensor of the Raspberry Pi HQ camera."""

JPEG_QUALITY: Final[int] = 95
"""What cameras and OpenCV use by default."""


def enlarged(field: Field, width: int, height: int) -> Field:
    """A field uint8 (h, w, 3) at width x height, bicubic; the same size gives the same field."""
    if field.shape[:2] == (height, width):
        return field
    return np.asarray(
        cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8
    )


def encoded(field: Field, width: int, height: int, kind: str) -> bytes:
    """An image file of the field at width x height; ``kind`` is ``jpeg`` or ``png``."""
    options = {
        "jpeg": [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY],
        "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    }[kind]
    bgr = np.ascontiguousarray(enlarged(field, width, height)[..., ::-1])
    done, data = cv2.imencode("." + kind, bgr, options)
    if not done:
        raise ValueError(f"OpenCV cannot write {width}x{height} {kind}")
    return data.tobytes()


def files_of_all_sizes(field: Field) -> Iterator[tuple[str, bytes]]:
    """The field as a file in every one of ``SIZES``, as JPEG and as PNG; one is held at a time.

    Yields:
        Name such as ``1024x768 jpeg``, and the bytes of the file.
    """
    for width, height in SIZES:
        for kind in ("jpeg", "png"):
            yield f"{width}x{height} {kind}", encoded(field, width, height, kind)
