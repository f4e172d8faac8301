from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import squash
from allsub_edge.model_file.manifest import Calibration
from allsub_edge.quality import LIMITS, Quality, judge, measure
from allsub_edge.training import perturb
from allsub_edge.training.quality_fit import fit_quality, limits_of

MASK = get_recipe("cells").mask
PLAIN = Quality(
    focus=10.0,
    background=(200.0, 200.0, 200.0),
    cell_fraction=0.1,
    domain_distance=0.0,
    cells=4,
    brightness=200.0,
    clipped=0.0,
    black=0.0,
    cast=0.1,
    stain=0.5,
    cell_blue=1.0,
    red_cell_tint=-0.1,
)


def calibration(limits: dict[str, float]) -> Calibration:
    return Calibration(1.0, 0.05, None, None, limits)


def reasons(fields: list[np.ndarray], limits: dict[str, float]) -> list[list[str]]:
    return [judge(measure(f, MASK(f), 0.0), calibration(limits)) for f in fields]


def test_limits_follow_the_documented_rules() -> None:
    # 101 evenly spread values: the 1 % and 99 % quantiles are the second and the last but one.
    found = [
        replace(
            PLAIN,
            focus=float(i),
            brightness=100.0 + i,
            clipped=i / 200,
            cast=i / 100,
            stain=i / 100,
            cell_blue=1 + i / 100,
            red_cell_tint=-i / 100,
        )
        for i in range(101)
    ]
    limits = limits_of(found)
    assert set(limits) == {name for name, _, _ in LIMITS}
    assert limits["min_focus"] == pytest.approx(0.3 * 1)
    assert limits["min_brightness"] == pytest.approx(0.5 * 101)
    assert limits["max_clipped"] == pytest.approx(0.495 + 0.4 * 0.505)
    assert limits["max_cast"] == pytest.approx(3 * 0.99)
    assert limits["min_stain"] == pytest.approx(0.01 - 0.5 * 0.98)
    assert limits["max_cell_blue"] == pytest.approx(1.99 + 0.5 * 0.98)
    assert limits["min_red_cell_tint"] == pytest.approx(-0.99 - 0.25 * 0.98)
    assert limits["max_red_cell_tint"] == pytest.approx(-0.01 + 0.25 * 0.98)
    assert not any(judge(quality, calibration(limits)) for quality in found[1:])
    assert judge(found[0], calibration(limits)) == ["out_of_focus"]


def test_a_measure_that_no_field_has_gets_no_limit() -> None:
    limits = limits_of([replace(PLAIN, stain=None, cell_blue=None)] * 3)
    assert not {"min_stain", "max_stain", "min_cell_blue", "max_cell_blue"} & set(limits)
    assert "max_red_cell_tint" in limits


def test_no_field_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        fit_quality(np.empty((0, 224, 224, 3), np.uint8), np.empty((0, 224, 224), np.uint8))
    with pytest.raises(ValueError):
        fit_quality(np.zeros((2, 224, 224, 3), np.uint8), np.zeros((1, 224, 224), np.uint8))


def test_rendered_fields_are_fit_and_spoilt_ones_are_not() -> None:
    fields = np.stack([render_field(seed, "Pre") for seed in range(12)])
    limits = fit_quality(fields, np.stack([MASK(f) for f in fields]))
    good = [render_field(seed, "Pre") for seed in range(20, 30)]
    assert sum(map(bool, reasons(good, limits))) <= 1
    for spoil, code in (
        (lambda f: perturb.blur(f, 3), "out_of_focus"),
        (lambda f: perturb.brightness(f, 1.6), "too_bright"),
        (lambda f: perturb.brightness(f, 0.4), "too_dark"),
        (lambda f: f[..., ::-1].copy(), "wrong_stain"),
    ):
        assert all(code in found for found in reasons([spoil(f) for f in good], limits)), code


@pytest.mark.slow
def test_real_fields(shared: Path) -> None:
    """Limits from the first two thirds of each class, asked of the rest and of other pictures."""
    from allsub_edge.imaging.decode import read_field

    held: list[np.ndarray] = []
    known: list[np.ndarray] = []
    for folder in sorted((shared / "data/all-smears/Original").iterdir()):
        files = sorted(folder.iterdir())
        for i, path in enumerate(files[::4]):
            (known if i < len(files[::4]) * 2 // 3 else held).append(squash(read_field(path).rgb))
    limits = fit_quality(np.stack(known), np.stack([MASK(f) for f in known]))
    assert np.mean([bool(r) for r in reasons(held, limits)]) <= 0.02
    for spoil in (
        lambda f: perturb.blur(f, 3),
        lambda f: perturb.brightness(f, 1.6),
        lambda f: perturb.brightness(f, 0.4),
    ):
        assert np.mean([bool(r) for r in reasons([spoil(f) for f in held], limits)]) >= 0.99
    foreign = [
        squash(read_field(path).rgb)
        for name in ("malaria-smears", "normal-smears", "single-cells")
        for path in sorted((shared / "data/not-in-domain" / name).rglob("*"))[::4]
        if path.suffix.lower() in (".jpg", ".png")
    ]
    assert len(foreign) > 30
    assert np.mean([bool(r) for r in reasons(foreign, limits)]) >= 0.95
