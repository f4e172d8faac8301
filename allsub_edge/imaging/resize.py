"""The squash to the network's input size: an exact area average in integer arithmetic.

The rule is named ``area-exact/1`` and never changes once a model file has been written with it.
Aspect ratio is not kept, because the public training data were squashed to squares too.

Output pixel (i, j) is the mean of the source over the rectangle ``[i*H/size, (i+1)*H/size)`` x
``[j*W/size, (j+1)*W/size)``. Measured in units of 1/size of a source pixel every overlap is an
integer, so sums are exact, the order of summation is free, and each platform gives the same bytes.
The total weight is ``H*W``; the division by it rounds half up.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

RESIZE_RULE: Final[str] = "area-exact/1"
"""Name of the rule; model files state it, so that a reader can refuse one it does not know."""

FIELD_SIZE: Final[int] = 224
"""Side of the network's input in pixels."""

# 257 rows of 255 are the most that still fit 16 bits; summing in 16 bits is the fastest.
_ROWS_IN_16_BITS: Final[int] = 65535 // 255

# A small field is widened once, which saves a conversion in every band; 8 MB at the most.
_WIDEN_BELOW: Final[int] = 2**21


def squash(rgb: NDArray[np.uint8], size: int = FIELD_SIZE) -> NDArray[np.uint8]:
    """Average a field over a ``size`` x ``size`` grid, exactly (rule ``area-exact/1``).

    Works for shrinking and for enlarging, in each direction on its own. Beside the result it needs
    two arrays of ``size * W * 3`` integers (33 MB for a field of 4056 x 3040 pixels).

    Args:
        rgb: uint8 (H, W, 3), any H and W of at least 1.
        size: side of the square result, pixels.

    Returns:
        uint8 (size, size, 3). A field that is ``size`` x ``size`` already is returned as it is,
        not copied.

    Raises:
        ValueError: ``rgb`` is not a uint8 (H, W, 3) array with pixels, or ``size`` is below 1.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ValueError(f"a field is a uint8 (H, W, 3) array, not {rgb.dtype} {rgb.shape}")
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    height, width = int(rgb.shape[0]), int(rgb.shape[1])
    if (height, width) == (size, size):
        return rgb
    # 32 bits hold every sum up to 8.4 megapixels; beyond that the second pass needs 64.
    wide: DTypeLike = np.int32 if 255 * height * width < 2**31 else np.int64
    rows = _sum_bands(rgb.reshape(height, width * 3), size, np.int32)
    columns = rows.reshape(size, width, 3).transpose(1, 0, 2).astype(wide, order="C")
    sums = _sum_bands(columns.reshape(width, size * 3), size, wide).astype(np.int64)
    total = height * width
    mean = (2 * sums + total) // (2 * total)
    return np.ascontiguousarray(mean.astype(np.uint8).reshape(size, size, 3).transpose(1, 0, 2))


def _sum_bands(rows: NDArray[Any], size: int, dtype: DTypeLike) -> NDArray[Any]:
    """Weighted sums of ``rows`` (n, m) over ``size`` equal bands of its n rows.

    Band i covers ``[i*n, (i+1)*n)`` where row r covers ``[r*size, (r+1)*size)``; a row's weight is
    the length of the overlap, so that the weights of a band add up to n.
    """
    count = int(rows.shape[0])
    out = np.empty((size, int(rows.shape[1])), dtype)
    if rows.dtype == np.uint8 and rows.size <= _WIDEN_BELOW:
        rows = rows.astype(dtype)
    most = -(-count // size) + 1
    narrow = rows.dtype == np.uint8 and most <= _ROWS_IN_16_BITS
    partial: DTypeLike = np.uint16 if narrow else dtype
    for band in range(size):
        low, high = band * count, (band + 1) * count
        first, last = low // size, (high - 1) // size
        target = out[band]
        if first == last:
            np.multiply(rows[first], count, out=target, dtype=dtype)
            continue
        # Every row in full, then less the part of the two outer rows that lies outside the band.
        whole = np.add.reduce(rows[first : last + 1], axis=0, dtype=partial)
        np.multiply(whole, size, out=target, dtype=dtype)
        before = low - first * size
        after = (last + 1) * size - high
        if before:
            target -= np.multiply(rows[first], before, dtype=dtype)
        if after:
            target -= np.multiply(rows[last], after, dtype=dtype)
    return out
