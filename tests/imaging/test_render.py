from __future__ import annotations

import hashlib

import numpy as np
import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.imaging.decode import decode
from allsub_edge.imaging.dice import Dice, mix
from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.render import RENDERER, render_field, render_with_truth


@pytest.mark.parametrize(
    ("seed", "label", "size", "digest"),
    [
        (1, "Pro", 224, "e78461b75752a373e9985992045cc3e59ceabe0ef2c8549d0acdccc5856efec9"),
        (7, "Pre", 224, "b1381c1aaee4e6b95540a2141cff9eb54471d8110205e54a07b702706faaa5e5"),
        (3, "Benign", 100, "eed768aca26ea6b1316ed1b0245e3da43e136d8af7b1c7964c884a90578627ee"),
    ],
)
def test_pixels_never_change(seed: int, label: str, size: int, digest: str) -> None:
    # Released model files hold such digests. Another picture needs another name than render/1.
    assert RENDERER == "render/1"
    assert hashlib.sha256(render_field(seed, label, size).tobytes()).hexdigest() == digest


def test_the_generator_is_splitmix64() -> None:
    # First outputs for seed 1234567, as Vigna's reference in C prints them.
    dice = Dice(1234567)
    assert [dice.bits() for _ in range(3)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
    ]  # fmt: skip


def test_an_array_of_dice_follows_the_same_formula() -> None:
    state = Dice(5).bits()
    expected = [-3 + ((mix(state + n * 0x9E3779B97F4A7C15) >> 32) * 8 >> 32) for n in range(1, 13)]
    assert Dice(5).array(-3, 4, (3, 4)).ravel().tolist() == expected
    thrown = Dice(9).array(2, 5, (4000,))
    assert np.unique(thrown).tolist() == [2, 3, 4, 5]
    assert {Dice(seed).between(-1, 1) for seed in range(60)} == {-1, 0, 1}


@pytest.mark.parametrize("label", CLASSES)
def test_the_cells_recipe_finds_the_blasts(label: str) -> None:
    for seed in range(12):
        rgb, truth = render_with_truth(seed, label)
        mask = get_recipe("cells").mask(rgb)
        assert truth.dtype == np.uint8
        assert set(np.unique(truth)) == {0, 1}
        found = int((mask & truth).sum())
        assert found > 0.65 * int(truth.sum()), seed
        assert found > 0.9 * int(mask.sum()), seed


def test_a_field_looks_like_a_smear() -> None:
    for label in CLASSES:
        rgb, truth = render_with_truth(2, label)
        assert rgb.shape == (224, 224, 3)
        assert rgb.dtype == np.uint8
        # Bright empty glass; blasts darker in green, the more so than in blue.
        assert np.median(rgb.min(axis=2)) > 200
        blast = rgb[truth == 1].mean(axis=0)
        assert blast[1] < 170
        assert blast[2] > blast[1] + 40
        assert 0.005 < truth.mean() < 0.3
        assert truth[206:, 195:218].sum() == 0  # the scale bar hides what lies there
        assert len(encode_png(rgb)) < 60_000


def test_seed_label_and_size_all_matter() -> None:
    assert not np.array_equal(render_field(1), render_field(2))
    assert not np.array_equal(render_field(1, "Pro"), render_field(1, "Benign"))
    assert np.array_equal(render_field(1), render_field(1))
    coarse, fine = render_with_truth(4, "Pre", 224)[1], render_with_truth(4, "Pre", 448)[1]
    blocks = fine.reshape(224, 2, 224, 2).mean(axis=(1, 3)) > 0.5
    assert (blocks == coarse).mean() > 0.99  # the same scene, drawn finer


def test_a_png_of_a_field_comes_back() -> None:
    rgb = render_field(2**63 - 1, "Early", 500)
    assert np.array_equal(decode(encode_png(rgb)).rgb, rgb)


@pytest.mark.parametrize(
    ("seed", "label", "size"),
    [(-1, "Pro", 224), (2**63, "Pro", 224), (1, "pro", 224), (1, "Pro", 8)],
)
def test_wrong_wishes_are_refused(seed: int, label: str, size: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        render_field(seed, label, size)
