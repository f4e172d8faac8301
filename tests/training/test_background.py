from __future__ import annotations

import numpy as np
import pytest

from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.render import render_with_truth
from allsub_edge.training import background
from allsub_edge.training.perturb import Field, gains


@pytest.fixture(scope="module")
def smear() -> tuple[Field, Field]:
    return render_with_truth(11, "Pro")


@pytest.fixture(scope="module")
def donor() -> tuple[Field, Field]:
    field, truth = render_with_truth(12, "Pre")
    return gains(field, (0.85, 0.95, 0.9)), truth


def far_from(mask: Field, pixels: int) -> np.ndarray:
    return background._grow(mask, pixels) == 0


@pytest.mark.parametrize("match", [False, True])
def test_cells_stay_and_the_rest_changes(
    smear: tuple[Field, Field], donor: tuple[Field, Field], match: bool
) -> None:
    field, mask = smear
    out = background.replace_background(
        field, mask, *donor, np.random.default_rng(0), match_colour=match
    )
    assert out.dtype == np.uint8 and out.shape == field.shape
    assert np.array_equal(out[mask == 1], field[mask == 1])
    rest = far_from(mask, 8)
    assert rest.mean() > 0.3
    changed = (out != field).any(axis=-1)[rest].mean()
    assert changed > 0.9


def test_the_new_glass_has_the_donors_colour_or_the_fields_own(
    smear: tuple[Field, Field], donor: tuple[Field, Field]
) -> None:
    field, mask = smear
    theirs = background.background_colour(donor[0])
    own = background.background_colour(field)
    assert np.abs(theirs - own).max() > 15
    rng = np.random.default_rng(0)
    plain = background.replace_background(field, mask, *donor, rng)
    matched = background.replace_background(field, mask, *donor, rng, match_colour=True)
    assert np.abs(background.background_colour(plain) - theirs).max() < 5
    assert np.abs(background.background_colour(matched) - own).max() < 5


def test_the_margin_has_no_halo_of_the_old_glass() -> None:
    """A dark disc on bright glass, moved to dim glass: the margin is not as bright as the old."""
    y, x = np.mgrid[:96, :96]
    disc = ((y - 48) ** 2 + (x - 48) ** 2 <= 15**2).astype(np.uint8)
    field = np.where(disc[..., None] == 1, (120, 60, 160), (250, 250, 250)).astype(np.uint8)
    dim = np.full((96, 96, 3), 180, np.uint8)
    out = background.replace_background(
        field, disc, dim, np.zeros_like(disc), np.random.default_rng(0)
    )
    assert out[disc == 0].max() <= 215
    assert out[far_from(disc, 2)].max() <= 190


def test_donor_cells_are_painted_over(donor: tuple[Field, Field]) -> None:
    field, mask = donor
    prepared = background.prepare_background(field, mask)
    recipe = get_recipe("cells")
    assert recipe.mask(field)[mask == 1].mean() > 0.5
    assert recipe.mask(prepared.pixels).mean() < 0.1 * mask.mean()
    far = far_from(mask, background.DONOR_MARGIN + 8)
    far[-48:, -48:] = False
    assert far.any()
    assert np.array_equal(prepared.pixels[far], field[far])
    assert mask.mean() < prepared.painted < 1


def test_a_donor_full_of_cells_is_filled_from_what_is_left() -> None:
    field = np.full((64, 64, 3), (230, 225, 235), np.uint8)
    mask = np.ones((64, 64), np.uint8)
    mask[:, :12] = 0
    field[mask == 1] = (90, 40, 150)
    prepared = background.prepare_background(field, mask)
    assert prepared.painted > background.MARGIN / 64
    assert prepared.pixels[..., 1].min() > 150


def test_the_generator_decides_how_the_donor_is_turned(
    smear: tuple[Field, Field], donor: tuple[Field, Field]
) -> None:
    prepared = background.prepare_background(*donor)
    outs = {
        background.place_cells(*smear, prepared, np.random.default_rng(seed)).tobytes()
        for seed in range(40)
    }
    assert len(outs) == 8
    first = background.place_cells(*smear, prepared, np.random.default_rng(3))
    again = background.place_cells(*smear, prepared, np.random.default_rng(3))
    assert np.array_equal(first, again)


def test_recolouring_keeps_cells_and_reaches_the_target(smear: tuple[Field, Field]) -> None:
    field, mask = smear
    target = np.array([225.0, 240.0, 230.0])
    out = background.recolour_background(field, mask, np.random.default_rng(0), target=target)
    assert np.array_equal(out[mask == 1], field[mask == 1])
    assert np.abs(background.background_colour(out) - target).max() < 3
    drawn = background.recolour_background(field, mask, np.random.default_rng(1))
    other = background.recolour_background(field, mask, np.random.default_rng(2))
    assert not np.array_equal(drawn, other)


def test_random_glass_is_plausible() -> None:
    rng = np.random.default_rng(0)
    colours = np.array([background.random_background_colour(rng) for _ in range(500)])
    assert (colours.max(axis=1) >= 225).all() and colours.max() <= 254
    red, blue = colours[:, 0] / colours[:, 1], colours[:, 2] / colours[:, 1]
    assert red.min() >= 0.91 - 1e-9 and red.max() <= 1.03 + 1e-9 and np.ptp(red) > 0.1
    assert blue.min() >= 0.91 - 1e-9 and blue.max() <= 1.04 + 1e-9 and np.ptp(blue) > 0.1


def test_shapes_that_do_not_fit_are_refused(
    smear: tuple[Field, Field], donor: tuple[Field, Field]
) -> None:
    field, mask = smear
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="mask must be uint8"):
        background.recolour_background(field, mask[:10], rng)
    with pytest.raises(ValueError, match="mask must be uint8"):
        background.prepare_background(field, mask.astype(bool))
    small = background.prepare_background(donor[0][:64, :64], donor[1][:64, :64])
    with pytest.raises(ValueError, match="donor has shape"):
        background.place_cells(field, mask, small, rng)
