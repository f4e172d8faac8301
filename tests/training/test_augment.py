from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from allsub_edge.errors import UsageError
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.render import render_field, render_with_truth
from allsub_edge.training import augment
from allsub_edge.training.augment import PRESETS, AugmentConfig, Augmenter, sample_rng
from allsub_edge.training.background import background_colour, prepare_background
from allsub_edge.training.perturb import Field, hide_scale_bar


@pytest.fixture(scope="module")
def smear() -> tuple[Field, Field]:
    return render_with_truth(21, "Early")


@pytest.fixture(scope="module")
def donors() -> list[tuple[Field, Field]]:
    return [render_with_truth(seed, label) for seed, label in enumerate(("Benign", "Pre", "Pro"))]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_same_generator_same_field(
    preset: str, smear: tuple[Field, Field], donors: list[tuple[Field, Field]]
) -> None:
    config = AugmentConfig.preset(preset)
    first, second = Augmenter(config, donors=donors), Augmenter(config, donors=donors)
    field = smear[0].copy()
    field.flags.writeable = False
    for index in (3, 1, 2, 0):
        first(field, sample_rng(9, 1, index), smear[1])
    different = set()
    for index in range(12):
        a = first(field, sample_rng(7, 2, index), smear[1])
        b = second(field, sample_rng(7, 2, index), smear[1])
        assert np.array_equal(a, b)
        assert a.dtype == np.uint8 and a.shape == (224, 224, 3) and a.flags.c_contiguous
        a[:] = 0  # the result belongs to the caller
        different.add(b.tobytes())
    assert len(different) == (1 if preset == "none" else 12)
    assert np.array_equal(field, smear[0])


def test_none_changes_nothing(smear: tuple[Field, Field]) -> None:
    out = Augmenter(AugmentConfig.preset("none"))(smear[0], sample_rng(0, 0, 0))
    assert np.array_equal(out, smear[0]) and out is not smear[0]


def test_sample_rng_separates_seed_epoch_and_index() -> None:
    draws = {
        tuple(sample_rng(s, e, i).integers(0, 2**62, 2))
        for s in range(4)
        for e in range(4)
        for i in range(4)
    }
    assert len(draws) == 64


def test_gains_change_channel_means_within_the_asked_spread() -> None:
    grey = np.full((224, 224, 3), 150, np.uint8)
    augmenter = Augmenter(AugmentConfig(gain_p=1.0, gain=0.25))
    ratios = np.array([augmenter(grey, sample_rng(0, 0, i))[0, 0] / 150 for i in range(300)])
    assert ratios.min() >= 0.747 and ratios.max() <= 1.253
    assert (ratios.std(axis=0) > 0.1).all()
    assert np.abs(np.corrcoef(ratios.T)[np.triu_indices(3, 1)]).max() < 0.2


def test_brightening_is_capped_and_keeps_the_ratio_of_the_channels() -> None:
    grey = np.full((224, 224, 3), 190, np.uint8)
    capped = AugmentConfig(
        gain_p=1.0,
        gain=0.25,
        exposure_p=1.0,
        brightness=0.3,
        gamma=(0.6, 0.8),
        max_brightening=1.1,
    )
    free = dataclasses.replace(capped, max_brightening=9.0)
    limited = 0
    for index in range(60):
        low = Augmenter(capped)(grey, sample_rng(0, 0, index))[0, 0].astype(float)
        high = Augmenter(free)(grey, sample_rng(0, 0, index))[0, 0].astype(float)
        assert low.max() <= 190 * 1.1 + 1
        if high.max() < 255 and (low != high).any():
            limited += 1
            assert np.allclose(low / low.max(), high / high.max(), atol=0.01)
    assert limited > 5


def test_geometry_alone_keeps_the_pixels() -> None:
    field = render_field(5, "Pro")
    augmenter = Augmenter(AugmentConfig(flip=True, quarter_turns=True))
    outs = {augmenter(field, sample_rng(0, 0, i)).tobytes() for i in range(80)}
    views = [np.rot90(v, k) for v in (field, field[:, ::-1]) for k in range(4)]
    assert outs == {view.tobytes() for view in views}
    wide = field[:112]
    assert augmenter(wide, sample_rng(0, 0, 1)).shape == wide.shape


def test_replacement_keeps_the_cells_and_takes_the_donors_glass(
    smear: tuple[Field, Field], donors: list[tuple[Field, Field]]
) -> None:
    field, mask = smear
    augmenter = Augmenter(AugmentConfig(background_p=1.0), donors=donors)
    dim = tuple(background_colour(f) for f, _ in donors)
    for index in range(6):
        out = augmenter(field, sample_rng(0, 0, index), mask)
        assert np.array_equal(out[mask == 1], field[mask == 1])
        assert (out != field).any(axis=-1)[mask == 0].mean() > 0.5
        assert min(np.abs(background_colour(out) - colour).max() for colour in dim) < 6


def test_donors_may_be_prepared_or_bare(
    smear: tuple[Field, Field], donors: list[tuple[Field, Field]]
) -> None:
    config = AugmentConfig(background_p=1.0)
    field, mask = donors[0]
    paired = Augmenter(config, donors=[(field, mask)])
    prepared = Augmenter(config, donors=[prepare_background(field, mask)])
    bare = Augmenter(config, donors=[field])
    found = Augmenter(config, donors=[(field, get_recipe("cells").mask(field))])
    rng = [sample_rng(0, 0, 0) for _ in range(4)]
    a, b, c, d = (
        augmenter(*smear[:1], rng.pop(), smear[1]) for augmenter in (paired, prepared, bare, found)
    )
    assert np.array_equal(a, b) and np.array_equal(c, d)


def test_a_missing_mask_is_found_by_the_recipe(
    smear: tuple[Field, Field], donors: list[tuple[Field, Field]]
) -> None:
    augmenter = Augmenter(AugmentConfig(background_p=1.0, recolour_p=0.5), donors=donors)
    given = augmenter(smear[0], sample_rng(0, 0, 4), get_recipe("cells").mask(smear[0]))
    assert np.array_equal(given, augmenter(smear[0], sample_rng(0, 0, 4)))


def test_fields_without_cells_and_donors_full_of_cells_are_left_alone(
    smear: tuple[Field, Field], donors: list[tuple[Field, Field]]
) -> None:
    config = AugmentConfig(background_p=1.0)
    field, mask = smear
    empty = Augmenter(config, donors=donors)(field, sample_rng(0, 0, 0), np.zeros_like(mask))
    assert np.array_equal(empty, field)
    full = [(field, np.ones_like(mask))]
    assert np.array_equal(Augmenter(config, donors=full)(field, sample_rng(0, 0, 0), mask), field)
    assert np.array_equal(Augmenter(config)(field, sample_rng(0, 0, 0), mask), field)


def test_scale_bar_modes(smear: tuple[Field, Field]) -> None:
    field, _ = smear
    hidden = hide_scale_bar(field)
    hide = Augmenter(AugmentConfig(scale_bar="hide"))
    assert np.array_equal(hide(field, sample_rng(0, 0, 0)), hidden)
    redraw = Augmenter(AugmentConfig(scale_bar="random"))
    outs = [redraw(field, sample_rng(0, 0, i)) for i in range(40)]
    untouched = sum(np.array_equal(out, hidden) for out in outs)
    assert 2 <= untouched <= 20
    assert all(np.array_equal(out[:192], field[:192]) for out in outs)


def test_the_mask_is_hidden_with_the_bar(smear: tuple[Field, Field]) -> None:
    """Violet lettering taken for a cell must not keep the old glass in the corner."""
    field, _ = smear
    lettering = np.zeros((224, 224), np.uint8)
    lettering[205:218, 195:220] = 1
    augmenter = Augmenter(AugmentConfig(recolour_p=1.0, scale_bar="hide"))
    out = augmenter(field, sample_rng(0, 0, 0), lettering)
    nothing = augmenter(field, sample_rng(0, 0, 0), np.zeros_like(lettering))
    assert np.array_equal(out, nothing) and not np.array_equal(out, hide_scale_bar(field))


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_round_trip_through_json(preset: str) -> None:
    config = AugmentConfig.preset(preset)
    assert AugmentConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_every_option_is_described() -> None:
    for option in dataclasses.fields(AugmentConfig):
        assert len(option.metadata["help"]) > 10, option.name


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"gian": 0.2}, "gian"),
        ({"gain": "much"}, "gain"),
        ({"gain": True}, "gain"),
        ({"flip": 1}, "flip"),
        ({"gain": 1.5}, "gain"),
        ({"gain": float("nan")}, "gain"),
        ({"blur_p": 1.2}, "blur_p"),
        ({"noise": -1}, "noise"),
        ({"gamma": [1.4, 0.7]}, "gamma"),
        ({"gamma": [1.4]}, "gamma"),
        ({"jpeg": [0, 50]}, "jpeg"),
        ({"jpeg": [50.5, 80]}, "jpeg"),
        ({"max_brightening": 0.5}, "max_brightening"),
        ({"scale_bar": "paint"}, "scale_bar"),
    ],
)
def test_bad_options_are_named(values: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        AugmentConfig.from_dict(values)
    assert caught.value.code == "bad_augmentation"
    assert "\n" not in caught.value.message


def test_whole_numbers_pass_for_decimals() -> None:
    config = AugmentConfig.from_dict({"rotation": 20, "gamma": [1, 2]})
    assert config.rotation == 20.0 and isinstance(config.rotation, float)
    assert config.gamma == (1.0, 2.0)


def test_unknown_preset_is_named() -> None:
    with pytest.raises(UsageError, match="fierce"):
        AugmentConfig.preset("fierce")


def test_no_deep_learning_framework_is_imported() -> None:
    code = (
        f"import sys, {augment.__name__}; assert not {{'tensorflow', 'keras'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
