from fractions import Fraction
from math import floor
from pathlib import Path

import cv2
import numpy as np
import pytest

from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.white_balance import MAX_GAIN, TARGET, balance, white_point

LABELS = ("Benign", "Early", "Pre", "Pro")


def exactly(rgb: np.ndarray) -> np.ndarray:
    """The definition in the module's docstring, in fractions and plain loops."""
    height, width, _ = rgb.shape
    sums = [
        rgb[top : top + 4, left : left + 4].reshape(16, 3).astype(int).sum(axis=0)
        for top in range(0, height, 4)
        for left in range(0, width, 4)
    ]
    darkest = sorted((min(block) for block in sums), reverse=True)
    threshold = darkest[max(1, len(sums) * 30 // 100) - 1]
    chosen = [block for block in sums if min(block) >= threshold]
    out = np.empty_like(rgb)
    for channel in range(3):
        mean = Fraction(sum(int(block[channel]) for block in chosen), len(chosen))
        point = max(Fraction(floor(mean + Fraction(1, 2)), 16), Fraction(TARGET, MAX_GAIN))
        gain = Fraction(floor(TARGET * 4096 / point + Fraction(1, 2)), 4096)
        table = [min(255, floor(level * gain + Fraction(1, 2))) for level in range(256)]
        out[..., channel] = np.array(table, np.uint8)[rgb[..., channel]]
    return out


@pytest.mark.parametrize("label", LABELS)
def test_follows_its_definition_on_smears(label: str) -> None:
    field = render_field(11, label)
    assert np.array_equal(balance(field), exactly(field))


@pytest.mark.parametrize("shape", [(4, 4), (8, 4), (12, 20), (64, 48)])
def test_follows_its_definition_on_noise_of_any_size(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    for top in (2, 40, 256):
        field = rng.integers(0, top, (*shape, 3), dtype=np.uint8)
        assert np.array_equal(balance(field), exactly(field))


def test_white_point_is_the_colour_of_the_glass() -> None:
    field = np.full((40, 40, 3), (250, 200, 150), np.uint8)
    field[:20, :24] = (90, 40, 120)
    assert white_point(field).tolist() == [250.0, 200.0, 150.0]
    assert white_point(field).dtype == np.float32
    assert (balance(field)[30, 30] == TARGET).all()


@pytest.mark.parametrize("gains", [(0.8, 1.0, 1.1), (1.1, 0.8, 0.9), (0.6, 0.6, 0.6)])
def test_takes_the_colour_of_the_light_away(gains: tuple[float, float, float]) -> None:
    field = np.minimum(render_field(3, "Early"), 225).astype(np.uint8)
    tinted = np.rint(field * np.array(gains)).astype(np.uint8)
    before = np.abs(tinted.astype(int) - field).mean()
    after = np.abs(balance(tinted).astype(int) - balance(field)).mean()
    assert after < 1.0 < before


def test_every_gain_is_the_same_in_float32() -> None:
    """The graph divides in float32; here the integers and that division meet for all points."""
    points = np.arange(TARGET * 16 // MAX_GAIN, 255 * 16 + 1)
    numerator = TARGET << 16
    in_integers = (2 * numerator + points) // (2 * points)
    quotient = np.float32(numerator) / points.astype(np.float32)
    in_float32 = np.floor(quotient + np.float32(0.5))
    assert quotient.dtype == np.float32 and np.array_equal(in_float32, in_integers)
    assert in_integers.max() * 255 < 2**24


@pytest.mark.parametrize(("level", "balanced"), [(0, 0), (1, 8), (30, 240), (29, 232), (255, 240)])
def test_flat_fields(level: int, balanced: int) -> None:
    field = np.full((224, 224, 3), level, np.uint8)
    assert (balance(field) == balanced).all()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((6, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
    ],
)
def test_refuses_other_arrays(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8|multiples of 4"):
        balance(wrong)


def test_coarse_grid_is_close_to_the_exact_percentile(shared: Path) -> None:
    folder = shared / "data" / "all-smears" / "Original"
    for label in LABELS:
        for path in sorted((folder / label).glob("*.jpg"))[::90][:5]:
            field = cv2.imread(str(path))[..., ::-1]
            darkest = field.min(axis=-1)
            exact = field[darkest >= np.percentile(darkest, 70)].mean(axis=0)
            assert np.abs(white_point(field) - exact).max() < 3
