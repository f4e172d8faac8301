from __future__ import annotations

import numpy as np
import pytest

from allsub_edge.imaging.render import render_field
from allsub_edge.training import perturb, stain
from allsub_edge.training.perturb import Field


@pytest.fixture(scope="module")
def field() -> Field:
    return render_field(3, "Pre")


def mean_rgb(field: Field) -> np.ndarray:
    return field.reshape(-1, 3).mean(axis=0)


def test_no_function_writes_to_its_input(field: Field) -> None:
    frozen = field.copy()
    frozen.flags.writeable = False
    rng = np.random.default_rng(0)
    for out in (
        perturb.gains(frozen, (0.9, 1.0, 1.1)),
        perturb.random_gains(frozen, 0.1, rng),
        perturb.brightness(frozen, 0.8),
        perturb.gamma(frozen, 1.3),
        perturb.saturation(frozen, 0.5),
        perturb.hue(frozen, 10),
        perturb.blur(frozen, 1.0),
        perturb.jpeg(frozen, 60),
        perturb.noise(frozen, 5.0, rng),
        perturb.rotate90(frozen, 1),
        perturb.flip(frozen),
        perturb.affine(frozen, 1.1, 3, -2, 15),
        perturb.hide_scale_bar(frozen),
        perturb.randomise_scale_bar(frozen, rng),
        stain.hed_jitter(frozen, rng, 0.2, 0.1),
        stain.lab_jitter(frozen, rng),
    ):
        assert out.dtype == np.uint8 and out.shape == field.shape
        assert out.flags.writeable and not np.array_equal(out, frozen)
    assert np.array_equal(frozen, field)


def test_gains_scale_each_channel_and_saturate() -> None:
    grey = np.full((8, 8, 3), 200, np.uint8)
    assert perturb.gains(grey, (0.5, 1.0, 1.5))[0, 0].tolist() == [100, 200, 255]
    assert perturb.brightness(grey, 0.9)[0, 0].tolist() == [180, 180, 180]


def test_random_gains_are_independent_and_within_the_spread() -> None:
    grey = np.full((4, 4, 3), 200, np.uint8)
    rng = np.random.default_rng(5)
    ratios = np.array([perturb.random_gains(grey, 0.1, rng)[0, 0] / 200 for _ in range(400)])
    assert ratios.min() >= 0.9 - 0.003 and ratios.max() <= 1.1 + 0.003
    assert (ratios.min(axis=0) < 0.91).all() and (ratios.max(axis=0) > 1.09).all()
    assert abs(np.corrcoef(ratios.T)[np.triu_indices(3, 1)]).max() < 0.2


def test_gamma_keeps_the_ends_and_darkens_above_one() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    dark = perturb.gamma(ramp, 2.0)[0, :, 0]
    assert dark[[0, 255]].tolist() == [0, 255]
    assert dark[128] == round(255 * (128 / 255) ** 2)
    assert np.array_equal(perturb.gamma(ramp, 1.0), ramp)
    with pytest.raises(ValueError, match="gamma"):
        perturb.gamma(ramp, 0.0)


def test_colour_matrices_leave_grey_alone() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for out in (perturb.saturation(grey, 1.7), perturb.hue(grey, 25)):
        assert np.abs(out.astype(int) - grey).max() <= 1
    purple = np.array([[[140, 80, 170]]], np.uint8)
    assert np.ptp(perturb.saturation(purple, 0.0).astype(int)) <= 1
    assert np.abs(perturb.hue(purple, 360).astype(int) - purple).max() <= 1
    # A third of a turn moves each channel into the next.
    assert perturb.hue(purple, 120)[0, 0].tolist() == [170, 140, 80]


def test_blur_removes_detail_and_keeps_the_mean(field: Field) -> None:
    blurred = perturb.blur(field, 2.0)
    assert (
        np.abs(np.diff(blurred.astype(int), axis=1)).mean()
        < 0.7 * np.abs(np.diff(field.astype(int), axis=1)).mean()
    )
    assert np.allclose(mean_rgb(blurred), mean_rgb(field), atol=0.6)
    assert np.array_equal(perturb.blur(field, 0), field)


def test_jpeg_keeps_channel_order_and_loses_more_at_low_quality(field: Field) -> None:
    errors = [
        np.abs(perturb.jpeg(field, quality).astype(int) - field).mean() for quality in (95, 70, 20)
    ]
    assert 0 < errors[0] < errors[1] < errors[2] < 12
    assert np.allclose(mean_rgb(perturb.jpeg(field, 90)), mean_rgb(field), atol=1.0)
    with pytest.raises(ValueError, match="quality"):
        perturb.jpeg(field, 0)


def test_noise_has_the_asked_spread() -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    difference = perturb.noise(grey, 6.0, np.random.default_rng(1)).astype(float) - 128
    assert abs(difference.mean()) < 0.1
    assert difference.std() == pytest.approx(6.0, rel=0.03)
    same = perturb.noise(grey, 6.0, np.random.default_rng(1)).astype(float) - 128
    assert np.array_equal(difference, same)
    assert not np.array_equal(difference[..., 0], difference[..., 1])
    black = perturb.noise(np.zeros((16, 16, 3), np.uint8), 6.0, np.random.default_rng(1))
    assert black.max() < 20


def test_turns_and_mirrors_are_exact(field: Field) -> None:
    for k in range(-1, 5):
        assert np.array_equal(perturb.rotate90(field, k), np.rot90(field, k))
    assert np.array_equal(perturb.flip(field), field[:, ::-1])
    wide = field[:100]
    assert np.array_equal(perturb.rotate90(wide, 1), np.rot90(wide))


def test_affine_moves_as_documented(field: Field) -> None:
    assert np.array_equal(perturb.affine(field), field)
    shifted = perturb.affine(field, dx=5, dy=3)
    assert np.array_equal(shifted[3:, 5:], field[:-3, :-5])
    assert np.array_equal(shifted[:, 5:][0], field[3, :-5])  # mirrored, not black
    dot = np.zeros((101, 101, 3), np.uint8)
    dot[50, 70] = 255
    turned = perturb.affine(dot, angle=90)
    assert np.unravel_index(turned[..., 0].argmax(), (101, 101)) == (30, 50)
    larger = perturb.affine(dot, scale=2.0)
    assert np.unravel_index(larger[..., 0].argmax(), (101, 101)) == (50, 90)
    with pytest.raises(ValueError, match="scale"):
        perturb.affine(field, scale=0)


def test_hiding_removes_the_bar_and_touches_only_the_corner(field: Field) -> None:
    marked = field.copy()
    marked[194:222, 193:224] = (0, 255, 0)
    hidden = perturb.hide_scale_bar(marked)
    corner = perturb.SCALE_BAR_CORNER
    assert np.array_equal(hidden[:-corner], field[:-corner])
    assert np.array_equal(hidden[:, :-corner], field[:, :-corner])
    assert not (hidden == (0, 255, 0)).all(axis=-1).any()
    assert np.array_equal(hidden, perturb.hide_scale_bar(field))
    assert np.array_equal(hidden, perturb.hide_scale_bar(hidden))


def test_the_hidden_corner_continues_its_neighbours() -> None:
    ramp = np.zeros((224, 224, 3), np.uint8)
    ramp[...] = (np.arange(224) // 2)[None, :, None]
    ramp[192:, 192:] = 255
    hidden = perturb.hide_scale_bar(ramp).astype(int)
    assert np.abs(hidden[200:, 192] - hidden[200:, 191]).max() <= 1
    assert np.abs(hidden[192, 200:] - hidden[191, 200:]).max() <= 1


def test_hiding_works_on_masks_and_other_sizes() -> None:
    mask = np.zeros((224, 224), np.uint8)
    mask[170:224, 160:224] = 1
    assert set(np.unique(perturb.hide_scale_bar(mask))) <= {0, 1}
    large = np.full((448, 300, 3), 9, np.uint8)
    large[448 - 64 :, 300 - 43 :] = 255
    assert (perturb.hide_scale_bar(large) == 9).all()


def test_random_bars_come_in_four_kinds(field: Field) -> None:
    hidden = perturb.hide_scale_bar(field)
    corner = perturb.SCALE_BAR_CORNER
    seen = {"none": 0, "large": 0, "box": 0, "red": 0}
    for seed in range(200):
        out = perturb.randomise_scale_bar(field, np.random.default_rng(seed))
        again = perturb.randomise_scale_bar(field, np.random.default_rng(seed))
        assert np.array_equal(out, again)
        assert np.array_equal(out[:-corner], hidden[:-corner])
        assert np.array_equal(out[:, :-corner], hidden[:, :-corner])
        white = int((out[-corner:, -corner:] == 255).all(axis=-1).sum())
        changed = bool((out != hidden).any())
        kind = (
            "none" if not changed else "large" if white > 500 else "box" if white > 100 else "red"
        )
        seen[kind] += 1
    assert all(25 <= count <= 80 for count in seen.values()), seen


def test_hed_jitter_without_spread_changes_nothing(field: Field) -> None:
    for stains in (stain.HED, stain.GIEMSA):
        out = stain.hed_jitter(field, np.random.default_rng(0), 0.0, 0.0, stains=stains)
        assert np.abs(out.astype(int) - field).max() <= 1


def test_hed_jitter_changes_one_stain_as_the_formula_says() -> None:
    class Chosen:
        """Stands for a generator: more haematoxylin, nothing else."""

        def uniform(self, low: float, high: float, size: int) -> np.ndarray:
            return np.array([1.5, 1.0, 1.0]) if high >= 1 else np.zeros(size)

    vector = stain.HED[0] / np.linalg.norm(stain.HED[0])
    pure = np.rint(256 * np.exp(-0.8 * vector) - 1).astype(np.uint8).reshape(1, 1, 3)
    expected = 256 * np.exp(-1.2 * vector) - 1
    out = stain.hed_jitter(pure, Chosen())  # type: ignore[arg-type]
    assert np.abs(out[0, 0] - expected).max() <= 1.5


def test_stain_jitters_depend_on_the_generator_alone(field: Field) -> None:
    for jitter in (stain.hed_jitter, stain.lab_jitter):
        first, second, other = (jitter(field, np.random.default_rng(s)) for s in (4, 4, 5))
        assert np.array_equal(first, second)
        assert not np.array_equal(first, other)


def test_lab_jitter_without_spread_changes_almost_nothing(field: Field) -> None:
    out = stain.lab_jitter(field, np.random.default_rng(0), 0.0, 0.0)
    assert np.abs(out.astype(int) - field).mean() < 1.0
