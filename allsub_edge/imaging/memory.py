"""Memory that ran out while a picture was read, told from a picture that is damaged.

Whether a field could be read then says something about the machine at that moment, and nothing
about the field: such an answer must not be kept as the field's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import cv2
import numpy as np

from allsub_edge.errors import FieldError

# cv2.Error.StsNoMem, written out: the stubs of some releases lack it.
_CV_NO_MEMORY: Final[int] = -4

_BYTES_FOR_A_PIXEL: Final[dict[str, int]] = {"tiff": 12, "jpeg": 9, "png": 6, "bmp": 6}
"""What decoding takes at most, by format: a TIFF in one strip 12.5 bytes for each pixel, a
progressive JPEG 6 to 9, a PNG 6 (measured with OpenCV 5)."""


def no_memory(source: str) -> FieldError:
    """The refusal of a field for want of memory, code ``no_memory``."""
    return FieldError(
        "no_memory",
        f"{source}: there is too little memory to read it; give a smaller picture, or free memory "
        "and try again",
    )


@contextmanager
def enough_memory(source: str) -> Iterator[None]:
    """Turn a want of memory inside the block, in Python, numpy or OpenCV, into ``no_memory``.

    Args:
        source: how the error names the input.

    Raises:
        FieldError: ``no_memory``.
    """
    try:
        yield
    except MemoryError:
        raise no_memory(source) from None
    except cv2.error as error:
        # An exception of the C++ library itself comes without a code.
        if getattr(error, "code", None) == _CV_NO_MEMORY or "bad_alloc" in str(error):
            raise no_memory(source) from None
        raise


def could_hold(pixels: int, kind: str) -> bool:
    """Tell whether decoding that many pixels of a format would find its memory now.

    libjpeg says nothing and libtiff many things when memory runs out, so once they failed this is
    asked instead. Nothing is written to what is allocated here, so it costs no time.
    """
    try:
        np.empty(pixels * _BYTES_FOR_A_PIXEL[kind], np.uint8)
    except MemoryError:
        return False
    return True
