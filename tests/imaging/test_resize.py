from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from allsub_edge.imaging.resize import squash


def by_fractions(rgb: np.ndarray, size: int) -> np.ndarray:
    """The rule as it is written down, pixel by pixel in exact fractions."""

    def overlaps(index: int, length: int) -> list[tuple[int, Fraction]]:
        low, high = Fraction(index * length, size), Fraction((index + 1) * length, size)
        return [
            (at, min(high, Fraction(at + 1)) - max(low, Fraction(at)))
            for at in range(length)
            if min(high, at + 1) > max(low, at)
        ]

    height, width = rgb.shape[:2]
    area = Fraction(height * width, size * size)
    out = np.empty((size, size, 3), np.uint8)
    for i in range(size):
        for j in range(size):
            for channel in range(3):
                total = sum(
                    a * b * int(rgb[y, x, channel])
                    for y, a in overlaps(i, height)
                    for x, b in overlaps(j, width)
                )
                mean = total / area
                out[i, j, channel] = (2 * mean.numerator + mean.denominator) // (
                    2 * mean.denominator
                )
    return out


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(13, 9, 4), (4, 9, 5), (9, 4, 5), (3, 2, 7), (1, 1, 3), (1, 17, 4), (12, 8, 4), (5, 6, 5),
     (31, 30, 1)],
)  # fmt: skip
def test_every_pixel_is_the_exact_mean(height: int, width: int, size: int) -> None:
    rng = np.random.default_rng(height * 100 + width)
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    assert np.array_equal(squash(rgb, size), by_fractions(rgb, size))


def test_halves_round_up() -> None:
    rgb = np.zeros((2, 2, 3), np.uint8)
    rgb[0, 0] = (1, 2, 3)
    rgb[0, 1] = (1, 2, 3)  # means 0.5, 1, 1.5
    assert squash(rgb, 1).tolist() == [[[1, 1, 2]]]


def test_the_right_size_comes_back_as_it_is() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    assert squash(rgb) is rgb


@pytest.mark.parametrize("shape", [(380, 507), (2000, 3000), (3000, 3000), (70000, 40)])
def test_white_and_extremes_stay_exact_at_any_size(shape: tuple[int, int]) -> None:
    # 3000 x 3000 passes what 32 bits hold in the second pass, 70000 rows what 16 bits hold.
    assert (squash(np.full((*shape, 3), 255, np.uint8)) == 255).all()
    rgb = np.zeros((*shape, 3), np.uint8)
    rgb[:, :, 1] = 200
    assert (squash(rgb) == np.array([0, 200, 0], np.uint8)).all()


@pytest.mark.parametrize("shape", [(896, 1344), (2240, 4480)])
def test_whole_factors_are_block_means(shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    tall, wide = shape[0] // 224, shape[1] // 224
    sums = rgb.reshape(224, tall, 224, wide, 3).sum(axis=(1, 3), dtype=np.int64)
    assert np.array_equal(squash(rgb), (2 * sums + tall * wide) // (2 * tall * wide))


def test_a_view_gives_the_same_as_its_copy() -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (300, 400, 3), np.uint8)
    view = rgb[::-1, 5:, ::-1]
    assert np.array_equal(squash(view), squash(view.copy()))


@pytest.mark.parametrize(
    "bad",
    [np.zeros((5, 5, 3), np.float32), np.zeros((5, 5), np.uint8), np.zeros((0, 5, 3), np.uint8)],
)
def test_what_is_no_field_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        squash(bad)
