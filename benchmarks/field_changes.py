"""Fields changed as a microscope would change them, and the same field at other sizes.

Blur and exposure are those of :mod:`allsub_edge.training.perturb`. The other sizes are made from
the 224x224 file, since the public data set has no larger one, and encoded to a file, so that what
is tested is the whole way from the file's bytes to the label, with its reduced decoding of large
JPEGs and the exact averaging. Not square, 1024x768 undoes the squash that the data set was made
with.

A camera's pixel adds up the light that falls on it, so a sensor with more of them takes a picture
whose means over the coarser pixels are the picture of the coarser sensor. Bicubic enlargement is
no such picture: its means are blurred. :func:`enlarged` takes that blur out again.
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


SHARPENINGS: Final[int] = 3
"""Rounds of back-projection. Over 120 fields of the public data set the means are then off by 0.05
grey levels, instead of 0.5 without any."""


def enlarged(field: Field, width: int, height: int, sharpenings: int = SHARPENINGS) -> Field:
    """A field at width x height, as a sensor with so many pixels would have taken it.

    Bicubic, of a field to which what its means had lost was added before: back-projection (Irani
    and Peleg, Improving resolution by image registration, CVGIP 53, 1991).

    Args:
        field: uint8 (h, w, 3).
        width, height: at least those of the field.
        sharpenings: rounds of back-projection; 0 is bicubic enlargement alone.

    Returns:
        uint8 (height, width, 3); the same size gives the same field.
    """
    size = field.shape[1::-1]
    if size == (width, height):
        return field
    wanted = field.astype(np.float32)
    source, large = wanted, _bicubic(wanted, width, height)
    for _ in range(sharpenings):
        source = source + (wanted - cv2.resize(large, size, interpolation=cv2.INTER_AREA))
        large = _bicubic(source, width, height)
    return np.rint(large).astype(np.uint8)


def _bicubic(field: npt.NDArray[np.float32], width: int, height: int) -> npt.NDArray[np.float32]:
    large = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    # In place: at 12 megapixels one more copy takes 150 MB.
    return np.clip(np.asarray(large, np.float32), 0, 255, out=np.asarray(large))


def encoded(field: Field, kind: str) -> bytes:
    """An image file of a field; ``kind`` is ``jpeg`` or ``png``."""
    options = {
        "jpeg": [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY],
        "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    }[kind]
    done, data = cv2.imencode("." + kind, np.ascontiguousarray(field[..., ::-1]), options)
    if not done:
        raise ValueError(f"OpenCV cannot write {field.shape[1]}x{field.shape[0]} {kind}")
    return data.tobytes()


def files_of_all_sizes(field: Field, sharpenings: int = SHARPENINGS) -> Iterator[tuple[str, bytes]]:
    """The field as a file in every one of ``SIZES``, as JPEG and as PNG; one is held at a time.

    Yields:
        Name such as ``1024x768 jpeg``, and the bytes of the file.
    """
    for width, height in SIZES:
        large = enlarged(field, width, height, sharpenings)
        for kind in ("jpeg", "png"):
            yield f"{width}x{height} {kind}", encoded(large, kind)
