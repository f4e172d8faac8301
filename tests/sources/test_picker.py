from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable

import cv2
import numpy as np
import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import squash
from allsub_edge.imaging.white_balance import white_point
from allsub_edge.quality import focus
from allsub_edge.sources.picker import (
    Pick,
    Picker,
    PickerSettings,
    Thumb,
    distance,
    overlap,
    thumbnail,
)
from tests.sources.scenes import SIDE, Microscope, Moment, Rgb, rest, session, sweep, travel


def thumb(rgb: Rgb) -> Thumb:
    coded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return thumbnail(squash(cv2.imdecode(coded, cv2.IMREAD_COLOR)))


def picks(moments: Iterable[Moment], picker: Picker, scope: Microscope) -> list[Pick]:
    found = [picker.feed(scope.look(moment), index) for index, moment in enumerate(moments)]
    return [pick for pick in [*found, picker.finish()] if pick is not None]


def measure_distances(label: str, noise: float = 2.0) -> dict[str, float]:
    """The table in the module's text, for one label."""
    scope = Microscope(label, 2, noise)
    start = 100
    base = thumb(scope.look(Moment(start)))
    found = {"again": distance(base, thumb(scope.look(Moment(start))))}
    for step in (1, 2, 8, 32):
        found[f"moved {step}"] = distance(base, thumb(scope.look(Moment(start + step))))
    for sigma in (1, 4, 8):
        found[f"blur {sigma}"] = distance(base, thumb(scope.look(Moment(start, sigma))))
    return found


@pytest.mark.parametrize("label", CLASSES)
def test_the_thresholds_stand_between_what_was_measured(label: str) -> None:
    settings = PickerSettings()
    for noise in (2.0, 5.0):
        found = measure_distances(label, noise)
        assert found["again"] < settings.moving / 5
        assert found["moved 2"] > settings.moving
        assert found["moved 8"] > settings.drift > found["blur 8"]
        assert found["moved 32"] > 2 * settings.related
        assert found["blur 1"] < settings.moving


def test_a_lamp_that_flickers_is_no_movement() -> None:
    scope = Microscope("Pro", 1)
    bright, dim = (thumb(scope.look(Moment(0, lamp=lamp))) for lamp in (1.0, 0.85))
    assert distance(bright, dim) < PickerSettings().moving / 5


@pytest.mark.parametrize("step", [0, 24, 112, 200])
def test_the_overlap_is_the_true_one(step: int) -> None:
    scope = Microscope("Early", 2)
    one, other = (thumb(scope.look(Moment(x))) for x in (60, 60 + step))
    assert overlap(one, other) == pytest.approx(1 - step / SIDE, abs=0.025)
    assert overlap(other, one) == overlap(one, other)


def test_the_overlap_works_down_and_sideways() -> None:
    picture = render_field(4, "Pre", 640)
    one = thumb(picture[100 : 100 + SIDE, 20 : 20 + SIDE])
    other = thumb(picture[16 : 16 + SIDE, 160 : 160 + SIDE])
    true = (1 - 84 / SIDE) * (1 - 140 / SIDE)
    assert overlap(one, other) == pytest.approx(true, abs=0.04)


@pytest.mark.parametrize("label", CLASSES)
def test_other_fields_do_not_overlap(label: str) -> None:
    thumbs = [thumbnail(squash(render_field(seed, label))) for seed in range(5)]
    pairs = [(a, b) for i, a in enumerate(thumbs) for b in thumbs[i + 1 :]]
    assert [overlap(a, b) for a, b in pairs] == [0.0] * len(pairs)


def test_no_light_gives_a_thumbnail_all_the_same() -> None:
    dark = thumbnail(np.zeros((224, 224, 3), np.uint8))
    assert distance(dark, dark) == 0.0
    assert dark.min() == dark.max()


def test_each_field_is_picked_once_at_its_sharpest() -> None:
    planned = session()
    found = picks(planned.moments, Picker(), Microscope())
    assert [pick.index for pick in found] == planned.sharpest


def test_the_focus_is_that_of_records() -> None:
    scope = Microscope()
    [found] = picks(rest(0), Picker(), scope)
    small = squash(found.rgb)
    assert found.focus == focus(small, float(white_point(small)[1]))


def test_nothing_is_picked_while_the_stage_moves() -> None:
    scope = Microscope("Pro")
    assert picks(travel(0, 1300, 16), Picker(), scope) == []


def test_the_first_frames_after_a_movement_are_passed_over() -> None:
    scope = Microscope()
    moments = [*travel(0, 448), *rest(448, 20)]
    [found] = picks(moments, Picker(PickerSettings(settle=6)), scope)
    assert found.index >= len(travel(0, 448)) + 7


def test_a_stage_that_creeps_is_waited_for() -> None:
    scope = Microscope()
    creeping = [Moment(x, speed=2) for x in range(100)]  # one pixel a frame
    [found] = picks([*creeping, *rest(100, 20)], Picker(), scope)
    assert found.index >= 98


def test_a_field_that_stays_is_not_picked_again() -> None:
    moments = [
        Moment(0, lamp=1 - 0.03 * (index % 4), blur=0.3 * (index % 2)) for index in range(120)
    ]
    assert len(picks(moments, Picker(), Microscope())) == 1


def test_coming_back_or_moving_a_little_gives_no_new_field() -> None:
    moments: list[Moment] = []
    for place in (0, 500, 0, 150, 480):
        if moments:
            moments += travel(moments[-1].x, place)
        moments += rest(place)
    found = picks(moments, Picker(), Microscope())
    assert [moments[pick.index].x for pick in found] == [0, 500]


def test_a_field_that_is_mostly_new_is_picked() -> None:
    moments = [*rest(0), *travel(0, 270), *rest(270)]
    found = picks(moments, Picker(), Microscope())
    assert [moments[pick.index].x for pick in found] == [0, 270]


def test_only_the_last_fields_are_remembered() -> None:
    moments: list[Moment] = []
    for place in (0, 448, 896, 0):
        moments += rest(place)
    settings = PickerSettings(memory=2)
    assert len(picks(moments, Picker(settings), Microscope())) == 4


def test_a_field_that_is_focused_late_is_picked_again() -> None:
    # Resting so long out of focus, the field is picked as it is; then somebody turns the knob.
    moments = [*rest(0, 20, 4.0), *sweep(0), *rest(0, 12, 3.0)]
    found = picks(moments, Picker(), Microscope())
    assert [moments[pick.index].blur for pick in found] == [4.0, 0.0]
    assert found[1].focus > 4 * found[0].focus


def test_fields_below_the_focus_limit_are_waited_out() -> None:
    moments = [*rest(0, 20, 4.0), *sweep(0), *rest(0, 12, 3.0)]
    [found] = picks(moments, Picker(PickerSettings(min_focus=20.0)), Microscope())
    assert moments[found.index].blur == 0.0


def test_patience_ends() -> None:
    # Each frame sharper than the one before by more than the margin: never past the peak.
    moments = [Moment(0, 5.0 - 0.1 * index) for index in range(45)]
    picker = Picker(PickerSettings(patience=20, moving=0.05))
    scope = Microscope(noise=0.5)
    first = next(
        index
        for index, moment in enumerate(moments)
        if picker.feed(scope.look(moment), index) is not None
    )
    assert first == 20


def test_hold_picks_nothing_and_forgets_nothing() -> None:
    scope, picker = Microscope(), Picker()
    held = [picker.feed(scope.look(moment), i, hold=True) for i, moment in enumerate(sweep(0) * 2)]
    assert not any(held)
    late = picker.feed(scope.look(Moment(0, 3.0)), 99)
    assert late is not None
    assert late.index % 10 == 5


def test_a_short_rest_at_the_end_counts_from_half_a_window() -> None:
    assert len(picks(rest(0, 6), Picker(), Microscope())) == 1
    assert len(picks(rest(0, 3), Picker(), Microscope())) == 0


def test_empty_glass_is_one_field_however_noisy() -> None:
    random = np.random.default_rng(3)
    picker = Picker()
    found = [
        picker.feed(np.clip(random.normal(236, 3, (300, 400, 3)), 0, 255).astype(np.uint8), index)
        for index in range(60)
    ]
    assert sum(pick is not None for pick in found) == 1


def test_one_frame_is_held_at_a_time() -> None:
    scope, picker = Microscope(), Picker()
    alive = []
    for index, moment in enumerate(session().moments):
        rgb = scope.look(moment)
        alive.append(weakref.ref(rgb))
        picker.feed(rgb, index)
        del rgb
        gc.collect()
        assert sum(ref() is not None for ref in alive) <= 1


@pytest.mark.parametrize("wrong", [{"window": 1}, {"settle": -1}, {"patience": 3}, {"memory": 0}])
def test_settings_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="window"):
        PickerSettings(**wrong)  # type: ignore[arg-type]
