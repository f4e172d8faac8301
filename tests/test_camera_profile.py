from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from allsub_edge.camera_profile import (
    GRID,
    SCHEMA,
    CameraProfile,
    DriftWatch,
    drift,
    measure_profile,
)
from allsub_edge.errors import DataError, FieldError
from allsub_edge.imaging.render import render_field, render_with_truth
from tests.sources.scenes import Rgb, white_field


def profile(**changes: Any) -> CameraProfile:
    frames = [white_field(seed=seed, **changes) for seed in range(8)]
    return measure_profile(frames, "camera:0", {"exposure": 157.0})


@pytest.fixture(scope="module")
def stored() -> CameraProfile:
    return profile()


def lit(rgb: Rgb, light: Rgb, seed: int = 9) -> Rgb:
    """A field that transmits ``rgb`` / 255 of a white field's light."""
    return np.asarray(np.rint(rgb.astype(float) / 255 * light), np.uint8)


def test_what_is_stored(stored: CameraProfile) -> None:
    assert (stored.camera, stored.width, stored.height) == ("camera:0", 320, 240)
    assert stored.shading.shape == (*GRID, 3)
    # The brightest part is where the light is centred, all but 16 times the level.
    assert stored.white == pytest.approx((228, 232, 214), abs=1)
    assert stored.gains == pytest.approx([240 / value for value in stored.white], abs=1e-3)
    assert datetime.fromisoformat(stored.created).tzinfo == UTC


def test_the_white_field_becomes_flat_and_white(stored: CameraProfile) -> None:
    clean = white_field(noise=0.0)
    spread = float((clean.max(axis=(0, 1)).astype(int) - clean.min(axis=(0, 1))).max())
    assert spread > 30
    corrected = stored.correct(clean)
    assert np.abs(corrected.astype(int) - 240).max() <= 3
    assert np.abs(corrected.mean(axis=(0, 1)) - 240).max() < 1


def test_a_field_comes_back_as_under_even_light(stored: CameraProfile) -> None:
    true = np.asarray(render_field(3, "Pre", 240))
    light = white_field(240, 240, noise=0.0)
    here = measure_profile([white_field(240, 240, seed=seed) for seed in range(8)], "camera:0")
    seen = lit(true, light)
    even = np.minimum(240 / 255 * true, 255)
    before = np.abs(seen - even).mean()
    after = np.abs(here.correct(seen) - even).mean()
    assert before > 10
    assert after < 1


def test_the_correction_is_whole_numbers_and_close_to_the_formula(stored: CameraProfile) -> None:
    random = np.random.default_rng(2)
    rgb = random.integers(0, 256, (97, 131, 3), dtype=np.uint8)
    out = stored.correct(rgb)
    assert out.dtype == np.uint8
    assert np.array_equal(out, stored.correct(rgb.copy()))
    # In floating point, by the formula: 240 / level, bilinear between the centres of cells, and on
    # in a straight line beyond the outermost.
    wider = np.pad(stored.shading, ((1, 1), (1, 1), (0, 0)), mode="reflect", reflect_type="odd")
    gain = 240 * 16 / np.minimum(wider, 4080)
    y, x = (
        (np.arange(n) + 0.5) * parts / n + 0.5 for n, parts in zip((97, 131), GRID, strict=True)
    )
    top, left = y.astype(int), x.astype(int)
    down, right = (y - top)[:, None, None], (x - left)[:, None]
    rows = gain[top] * (1 - down) + gain[top + 1] * down
    full = rows[:, left] * (1 - right) + rows[:, left + 1] * right
    assert np.abs(out - np.minimum(rgb * full, 255)).max() < 0.6


def test_the_darkest_grid_does_not_overflow(stored: CameraProfile) -> None:
    dark = replace(stored, shading=np.full((*GRID, 3), 16, np.int64))
    bright = np.full((100, 100, 3), 255, np.uint8)
    assert dark.correct(bright).min() == 255
    assert dark.correct(np.full((100, 100, 3), 10, np.uint8)).tolist()[0][0] == [80, 80, 80]


@pytest.mark.parametrize("shape", [(24, 32), (33, 65), (1080, 1920)])
def test_any_size_is_corrected(stored: CameraProfile, shape: tuple[int, int]) -> None:
    out = stored.correct(white_field(shape[1], shape[0], noise=0.0))
    assert np.abs(out.astype(int) - 240).max() <= 4


def test_a_mote_of_dust_does_not_leave_a_mark(stored: CameraProfile) -> None:
    frames = [white_field(seed=seed) for seed in range(8)]
    for frame in frames:
        frame[100:107, 150:157] = 90
    dusty = measure_profile(frames, "camera:0")
    # The cell beneath it is only one of nine: the median passes it over.
    assert np.abs(dusty.shading / stored.shading - 1).max() < 0.01


@pytest.mark.parametrize(
    ("frames", "code", "told"),
    [
        ([], "no_fields", "no frame"),
        ([white_field(level=(254, 254, 250), falloff=0.0)], "overexposed", "230"),
        ([white_field(level=(200, 210, 90))], "too_dark", "blue"),
        ([white_field(falloff=0.6)], "uneven", "condenser"),
        ([render_field(2, "Pro", 320)], "not_empty", "empty part"),
        ([white_field(), white_field(level=(205, 209, 193))], "unsteady", "automatic exposure"),
        ([np.full((20, 20, 3), 230, np.uint8)], "too_small", "20x20"),
        ([np.zeros((240, 320, 3), np.uint8)], "too_dark", "red"),
    ],
)
def test_what_is_no_white_field_is_refused(frames: list[Rgb], code: str, told: str) -> None:
    if code == "not_empty":  # rendered backgrounds are nearly clipped; a camera's would not be
        frames = [lit(frame, np.full(3, 230)) for frame in frames]
    with pytest.raises(FieldError) as caught:
        measure_profile(frames, "camera:0")
    assert caught.value.code == code
    assert told in caught.value.message


@pytest.mark.parametrize("label", ["Benign", "Early", "Pre", "Pro"])
def test_a_single_white_cell_is_enough_to_refuse(label: str) -> None:
    field, truth = render_with_truth(2, label, 448)
    down, right = (int(np.median(places)) for places in np.nonzero(_largest(truth)))
    y, x = np.clip((down - 24, right - 24), 0, 400)
    frames = [white_field(448, 448, seed=seed) for seed in range(4)]
    for frame in frames:
        frame[60:108, 300:348] = lit(field[y : y + 48, x : x + 48], np.full(3, 225))
    with pytest.raises(FieldError, match="stand out"):
        measure_profile(frames, "camera:0")


def _largest(truth: Rgb) -> Rgb:
    """The largest connected piece of a mask."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(truth)
    return np.asarray(pieces == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()), np.uint8)


def test_nothing_drifted(stored: CameraProfile) -> None:
    again = measure_profile([white_field(seed=seed + 100) for seed in range(8)], "camera:0")
    assert drift(stored, again) == []
    assert drift(stored, profile(level=(228 * 0.95, 232 * 0.95, 214 * 0.95))) == []
    assert drift(stored, profile(level=(228 * 1.02, 232, 214))) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"level": (228 * 1.045, 232, 214)}, ["colour"]),
        ({"level": (228, 232, 214 * 0.95)}, ["colour"]),
        ({"level": (228 * 0.85, 232 * 0.85, 214 * 0.85)}, ["lamp"]),
        ({"falloff": 0.4}, ["light falls"]),
        ({"level": (200, 190, 170), "falloff": 0.4}, ["colour", "lamp", "light falls"]),
    ],
)
def test_drift_is_named(stored: CameraProfile, changes: dict[str, Any], told: list[str]) -> None:
    found = drift(stored, profile(**changes))
    assert len(found) == len(told)
    assert all(word in text for word, text in zip(told, found, strict=True))


def test_the_watch_speaks_once_of_a_lasting_change() -> None:
    watch = DriftWatch()
    good = [np.full((64, 64, 3), (240, 240, 240), np.uint8)] * 6
    odd = [np.full((64, 64, 3), (240, 200, 200), np.uint8)]
    said = [watch.look(field) for field in good + odd + good]
    assert not any(said), "one odd field is no drift"
    said = [watch.look(field) for field in odd * 12]
    assert [bool(texts) for texts in said] == [False, False, True] + [False] * 9
    assert "colour" in said[2][0]
    for field in good:
        watch.look(field)
    assert any(watch.look(field) for field in odd * 6), "it was well in between"


def test_the_watch_says_nothing_of_rendered_fields() -> None:
    watch = DriftWatch()
    for label in ("Benign", "Early", "Pre", "Pro"):
        for seed in range(6):
            assert watch.look(render_field(seed, label)) == []


def test_there_and_back(stored: CameraProfile, tmp_path: Path) -> None:
    path = tmp_path / "scope.json"
    stored.save(path)
    again = CameraProfile.load(path)
    assert np.array_equal(again.shading, stored.shading)
    assert replace(again, shading=stored.shading).__dict__ == stored.__dict__
    assert json.loads(path.read_text())["schema"] == SCHEMA
    assert [child.name for child in tmp_path.iterdir()] == ["scope.json"]
    assert max(len(line) for line in path.read_text().splitlines()) < 1000


def damaged(text: str) -> dict[str, str]:
    raw = json.loads(text)

    def changed(**changes: Any) -> str:
        return json.dumps(raw | changes)

    return {
        "empty": "",
        "cut": text[: len(text) // 2],
        "list": "[1, 2]",
        "other": '{"schema": "something/1"}',
        "none": "{}",
        "deep": "[" * 100_000,
        "shape": changed(shading=raw["shading"][:-1]),
        "float": changed(shading=(np.array(raw["shading"]) / 2).tolist()),
        "zero": changed(shading=(np.array(raw["shading"]) * 0).tolist()),
        "huge": changed(shading=(np.array(raw["shading"]) * 10**6).tolist()),
        "ragged": changed(shading=[[1], [2, 3]]),
        "white": changed(white=[1, 2]),
        "negative": changed(gains=[1, -1, 1]),
        "size": changed(size=[0, 10]),
        "date": changed(created="yesterday"),
        "camera": changed(camera=3),
        "controls": changed(controls={"exposure": "long"}),
        "nan": changed(controls={"exposure": float("nan")}),
        "controls' kind": changed(controls=[]),
        "no controls": changed(controls=None),
    }


def test_a_damaged_file_is_refused_with_the_next_step(
    stored: CameraProfile, tmp_path: Path
) -> None:
    path = tmp_path / "scope.json"
    stored.save(path)
    for name, text in damaged(path.read_text()).items():
        path.write_text(text)
        with pytest.raises(DataError, match="calibrate-camera") as caught:
            CameraProfile.load(path)
        assert caught.value.code == "damaged_profile", name
        assert len(caught.value.message.splitlines()) == 1
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="damaged"):
        CameraProfile.load(path)


def test_other_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such profile"):
        CameraProfile.load(tmp_path / "gone.json")
    with pytest.raises(DataError, match="cannot be read"):
        CameraProfile.load(tmp_path)
    with pytest.raises(DataError, match="not a regular file") as caught:
        CameraProfile.load("/dev/zero")
    assert caught.value.code == "unreadable"
    huge = tmp_path / "huge.json"
    with huge.open("wb") as stream:
        stream.truncate(2**40)  # sparse: takes no room
    with pytest.raises(DataError, match="no camera profile") as caught:
        CameraProfile.load(huge)
    assert caught.value.code == "damaged_profile"
    newer = tmp_path / "newer.json"
    newer.write_text('{"schema": "allsub-edge/camera-profile/9"}')
    with pytest.raises(DataError, match="this version reads") as caught:
        CameraProfile.load(newer)
    assert caught.value.code == "unknown_schema"


def test_another_shape_of_frames_is_refused(stored: CameraProfile) -> None:
    stored.check_size(640, 480, "camera:0")
    stored.check_size(641, 480, "camera:0")
    with pytest.raises(DataError, match="calibrate again"):
        stored.check_size(640, 360, "camera:0")
