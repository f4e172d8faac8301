from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from allsub_edge.imaging.render import render_field
from allsub_edge.model_file.manifest import Calibration
from allsub_edge.quality import LIMITS, REASONS, Quality, focus, judge, measure
from tests import toy_model

GOOD = Quality(focus=50.0, background=(240.0, 240.0, 240.0), cell_fraction=0.2, domain_distance=1.0)


def calibration(domain: float | None, **limits: float) -> Calibration:
    base = Calibration.from_dict(toy_model.manifest_dict()["calibration"])
    return replace(base, domain_threshold=domain, quality=limits)


def test_focus_equals_the_plain_formula() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    green = rgb[..., 1].astype(float)
    expected = []
    for y in range(1, 39):
        for x in range(1, 29):
            around = green[y - 1, x] + green[y + 1, x] + green[y, x - 1] + green[y, x + 1]
            expected.append(around - 4 * green[y, x])
    assert focus(rgb, 200.0) == pytest.approx(10_000 * np.var(expected) / 200.0**2, rel=1e-12)


def test_focus_of_nothing_is_zero() -> None:
    assert focus(np.full((224, 224, 3), 200, np.uint8), 200.0) == 0
    assert focus(np.zeros((224, 224, 3), np.uint8), 0.0) == 0


def test_a_blurred_field_is_less_sharp() -> None:
    sharp = render_field(4, "Pre")
    wide = sharp.astype(np.float64)
    for axis in (0, 1):
        wide = sum(np.roll(wide, shift, axis) for shift in range(-2, 3)) / 5
    blurred = wide.astype(np.uint8)
    assert focus(blurred, 240.0) < focus(sharp, 240.0) / 5


def test_focus_hardly_depends_on_exposure() -> None:
    field = render_field(4, "Pre")
    dim = (field * 0.6).round().astype(np.uint8)
    bright, darker = (measure(f, np.zeros((224, 224), np.uint8), 0.0) for f in (field, dim))
    assert darker.background[1] == pytest.approx(0.6 * bright.background[1], abs=1)
    assert darker.focus == pytest.approx(bright.focus, rel=0.05)


def test_measure_counts_the_mask() -> None:
    mask = np.zeros((224, 224), np.uint8)
    mask[:56] = 1
    seen = measure(render_field(1, "Pro"), mask, 2.5)
    assert seen.cell_fraction == 0.25
    assert seen.domain_distance == 2.5
    assert all(0 < value <= 255 for value in seen.background)


def test_a_good_field_has_no_reason() -> None:
    assert judge(GOOD, calibration(1.0, min_cell_fraction=0.2, min_focus=50.0)) == []


LIMITED = {
    "min_cell_fraction": 0.2,
    "min_cells": 3.0,
    "min_focus": 50.0,
    "min_brightness": 200.0,
    "max_black": 0.1,
    "max_clipped": 0.3,
    "min_stain": 0.4,
    "max_stain": 0.6,
    "min_cell_blue": 0.9,
    "max_cell_blue": 1.1,
    "min_red_cell_tint": -0.2,
    "max_red_cell_tint": -0.1,
    "max_cast": 0.2,
}
FIT = replace(
    GOOD,
    cells=3,
    brightness=200.0,
    black=0.1,
    clipped=0.3,
    stain=0.5,
    cell_blue=1.0,
    red_cell_tint=-0.15,
    cast=0.2,
)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"domain_distance": 1.01}, "out_of_domain"),
        ({"cell_fraction": 0.19}, "too_few_cells"),
        ({"cells": 2}, "too_few_cells"),
        ({"focus": 49.9}, "out_of_focus"),
        ({"brightness": 199.0}, "too_dark"),
        ({"black": 0.11}, "too_dark"),
        ({"clipped": 0.31}, "too_bright"),
        ({"stain": 0.39}, "wrong_stain"),
        ({"stain": 0.61}, "wrong_stain"),
        ({"cell_blue": 0.89}, "wrong_stain"),
        ({"cell_blue": 1.11}, "wrong_stain"),
        ({"red_cell_tint": -0.21}, "wrong_stain"),
        ({"red_cell_tint": -0.09}, "wrong_stain"),
        ({"cast": 0.21}, "colour_cast"),
    ],
)
def test_each_limit_gives_its_reason(change: dict[str, float], code: str) -> None:
    assert judge(FIT, calibration(1.0, **LIMITED)) == []
    seen = replace(FIT, **change)
    assert judge(seen, calibration(1.0, **LIMITED)) == [code]
    assert judge(seen, calibration(None)) == []


def test_every_limit_is_tested_and_every_reason_can_be_given() -> None:
    assert set(LIMITED) == {name for name, _, _ in LIMITS}
    assert set(REASONS) == {"out_of_domain"} | {reason for _, _, reason in LIMITS}
    assert all(hasattr(GOOD, attribute) for _, attribute, _ in LIMITS)


def test_what_was_not_measured_is_not_held_against_a_field() -> None:
    assert judge(GOOD, calibration(1.0, **LIMITED)) == []


def test_reasons_keep_their_order() -> None:
    seen = Quality(
        0.0, (0.0, 0.0, 0.0), 0.0, 9.0, cells=0, brightness=0.0, clipped=1.0, stain=2.0, cast=9.0
    )
    assert judge(seen, calibration(1.0, **LIMITED)) == list(REASONS)


def smear(background: tuple[int, int, int] = (240, 240, 240)) -> tuple[np.ndarray, np.ndarray]:
    """Flat background, a large bluish red cell, two purple squares and a speck in the mask."""
    rgb = np.empty((224, 224, 3), np.uint8)
    rgb[:] = background
    mask = np.zeros((224, 224), np.uint8)
    for rows, columns, share in (
        (slice(100, 160), slice(100, 160), (0.5, 0.6, 0.75)),
        (slice(10, 30), slice(10, 30), (0.5, 0.25, 1.0)),
        (slice(10, 30), slice(60, 80), (0.75, 0.5, 1.0)),
        (slice(200, 204), slice(200, 204), (0.5, 0.25, 1.0)),
    ):
        rgb[rows, columns] = np.multiply(share, background).round()
        mask[rows, columns] = 1
    mask[100:160, 100:160] = 0
    return rgb, mask


def test_colours_are_relative_to_the_background() -> None:
    seen = measure(*smear(), 0.0)
    assert seen.cells == 2
    assert seen.cell_fraction == pytest.approx(816 / 224**2, abs=1e-6)
    assert seen.stain == pytest.approx((416 * 1.0 + 400 * 0.75) / 816, abs=2e-4)
    assert seen.cell_blue == 1.0
    assert seen.red_cell_tint == -0.25
    assert (seen.brightness, seen.cast, seen.clipped, seen.black) == (240.0, 0.0, 0.0, 0.0)
    # Half the light, and a lamp that is warmer by far: the stain is the same.
    for light in ((120, 120, 120), (240, 200, 160)):
        other = measure(*smear(light), 0.0)
        assert other.stain == pytest.approx(seen.stain, abs=0.02)
        assert other.cell_blue == pytest.approx(1.0, abs=0.01)
        assert other.red_cell_tint == pytest.approx(-0.25, abs=0.01)
        assert other.brightness == pytest.approx(sum(light) / 3, abs=0.1)
        assert other.cast == pytest.approx(max(light) / min(light) - 1, abs=2e-3)


def test_clipped_and_black_want_every_channel() -> None:
    rgb, mask = smear()
    rgb[:56] = 255
    rgb[0, :, 1] = 254
    rgb[-56:] = 29
    rgb[-1, :, 2] = 30
    seen = measure(rgb, mask, 0.0)
    assert seen.clipped == pytest.approx(55 / 224, abs=1e-6)
    assert seen.black == pytest.approx(55 / 224, abs=1e-6)


def test_over_exposure_clips_and_under_exposure_darkens() -> None:
    field = render_field(4, "Pre")
    mask = np.zeros((224, 224), np.uint8)
    normal, bright, dark = (
        measure(np.clip(field * factor, 0, 255).astype(np.uint8), mask, 0.0)
        for factor in (1.0, 1.6, 0.4)
    )
    assert normal.clipped is not None
    assert bright.clipped is not None
    assert normal.clipped < 0.1 < 0.5 < bright.clipped
    assert dark.brightness == pytest.approx(0.4 * (normal.brightness or 0), abs=1)


def test_nothing_to_see_gives_no_colour_rather_than_a_wrong_one() -> None:
    nothing = np.zeros((224, 224), np.uint8)
    for level in (0, 200, 255):
        seen = measure(np.full((224, 224, 3), level, np.uint8), nothing, 0.0)
        assert (seen.cells, seen.stain, seen.cell_blue, seen.cast) == (0, None, None, 0.0)
    assert measure(np.full((224, 224, 3), 200, np.uint8), nothing, 0.0).red_cell_tint is None


def test_an_old_quality_is_read_and_a_new_one_comes_back_the_same() -> None:
    old = {"focus": 1, "background": [1, 2, 3], "cell_fraction": 0.5, "domain_distance": 2}
    read = Quality.from_dict(old)
    assert read == Quality(1.0, (1.0, 2.0, 3.0), 0.5, 2.0)
    assert (read.cells, read.stain) == (None, None)
    seen = measure(*smear(), 1.5)
    assert Quality.from_dict(asdict(seen)) == seen
    with pytest.raises(KeyError):
        Quality.from_dict({"focus": 1})


def test_measuring_reads_only() -> None:
    rgb, mask = smear()
    rgb.setflags(write=False)
    mask.setflags(write=False)
    assert measure(rgb, mask, 0.0) == measure(rgb.copy(), mask.copy(), 0.0)
