"""Light that varies slowly over a field, as means of a coarse grid's cells and between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

GRID: Final[tuple[int, int]] = (24, 32)
"""Rows and columns of the white field's grid."""

_BAND: Final[int] = 64
"""Rows that are interpolated at once, so that a large field needs little memory."""


def cell_means(total: NDArray[np.uint32], count: int) -> NDArray[np.int64]:
    """Means of the grid's cells in sixteenths, each the median of its 3 x 3 neighbours' too.

    Args:
        total: sum of frames (H, W, 3), at least as large as the grid.
        count: how many frames.

    Returns:
        int64 (24, 32, 3).
    """
    height, width = total.shape[:2]
    tops, lefts = _edges(height, GRID[0]), _edges(width, GRID[1])
    sums = np.add.reduceat(total.astype(np.int64), tops[:-1], axis=0)
    sums = np.add.reduceat(sums, lefts[:-1], axis=1)
    area = (np.diff(tops)[:, None] * np.diff(lefts))[:, :, None] * count
    means = (16 * sums + area // 2) // area
    # The median takes out a mote of dust that a mean would smear.
    padded = extended(means)
    around = np.stack(
        [padded[y : y + GRID[0], x : x + GRID[1]] for y in range(3) for x in range(3)]
    )
    return np.asarray(np.sort(around, axis=0)[4], np.int64)


def _edges(length: int, parts: int) -> NDArray[np.int64]:
    return np.asarray(np.arange(parts + 1) * length // parts, np.int64)


def extended(grid: NDArray[np.int64]) -> NDArray[np.int64]:
    """The grid with one more cell on each side, in a straight line from the two next to it.

    Args:
        grid: int64 (24, 32, 3) of sixteenths.

    Returns:
        int64 (26, 34, 3) of 1..4080.
    """
    wider = np.pad(grid, ((1, 1), (1, 1), (0, 0)), mode="reflect", reflect_type="odd")
    return np.asarray(np.clip(wider, 1, 16 * 255), np.int64)


def bands(grid: NDArray[Any], height: int, width: int) -> Iterator[tuple[slice, NDArray[Any]]]:
    """An extended grid at every pixel, bilinearly between the centres of its cells.

    Args:
        grid: (26, 34, 3) of whole numbers whose 2^16-fold its type holds.
        height: rows of the field.
        width: columns of the field.

    Yields:
        A slice of rows, and the values there (rows, W, 3) in the grid's type, rounded down.
    """
    rows, row_part = _between(height, GRID[0])
    columns, column_part = _between(width, GRID[1])
    left, right = (256 - column_part)[:, None], column_part[:, None]
    wide: NDArray[Any] = grid[:, columns] * left + grid[:, columns + 1] * right  # 8 bits more
    for top in range(0, height, _BAND):
        band = slice(top, top + _BAND)
        part = row_part[band, None, None]
        here: NDArray[Any] = wide[rows[band]] * (256 - part) + wide[rows[band] + 1] * part
        yield band, here >> 16


def _between(length: int, parts: int) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """For each pixel the cell of an extended grid before it, and how far the next is, 0..255.

    Cell i of the extended grid has its centre at (i - 1/2) * length / parts.
    """
    # In units of 1 / (2 * length) of a cell.
    spot = (2 * np.arange(length, dtype=np.int64) + 1) * parts + length
    cell, rest = np.divmod(spot, 2 * length)
    return cell, (rest * 256 // (2 * length)).astype(np.uint32)
