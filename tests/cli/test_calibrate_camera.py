"""``calibrate-camera`` and ``camera``, from real files and from stand-in cameras."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from allsub_edge.camera_profile import CameraProfile
from allsub_edge.cli.main import main
from allsub_edge.imaging.decode import read_field
from allsub_edge.imaging.draw import encode_png
from allsub_edge.prediction import Prediction
from allsub_edge.sources import camera as v4l2
from tests.sources.scenes import FakeCapture, Microscope, Rgb, Session, session, white_field
from tests.sources.test_camera import HAS
from tests.sources.test_video import write

Plug = Callable[..., FakeCapture]


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Plug:
    """Puts a stand-in in the place of /dev/video0."""

    def plugged(frames: Iterator[Rgb], **options: Any) -> FakeCapture:
        shots = (np.ascontiguousarray(frame[..., ::-1]) for frame in frames)
        warm = np.full((64, 64, 3), 90, np.uint8)
        fake = FakeCapture(shots, warm=warm, has=HAS, **options)
        monkeypatch.setattr(v4l2, "unusable", lambda _: None)
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: fake)
        return fake

    return plugged


@pytest.fixture(scope="module")
def planned() -> Session:
    return session((0, 448, 896))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, planned: Session) -> str:
    return str(write(tmp_path_factory.mktemp("film") / "smear.avi", planned))


def white(**changes: Any) -> Iterator[Rgb]:
    return (white_field(seed=seed, **changes) for seed in range(60))


def test_store_then_check(plug: Plug, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scope.json"
    fake = plug(white())
    assert main(["calibrate-camera", "0", "--out", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    stored = CameraProfile.load(path)
    assert stored.camera == "camera:0"
    assert stored.controls == {"exposure": 157.0, "wb_temperature": 4600.0}
    assert stored.white == pytest.approx((228, 232, 214), abs=1)  # RGB from a BGR camera
    assert fake.opened is False

    # The next day: the driver starts with another exposure and is told the stored one.
    fake = plug(white())
    fake.values[cv2.CAP_PROP_EXPOSURE] = 30.0
    assert main(["calibrate-camera", "/dev/video0", "--check", str(path)]) == 0
    assert "no drift since" in capsys.readouterr().out
    assert fake.values[cv2.CAP_PROP_EXPOSURE] == 157.0

    plug(white(level=(228, 232, 190)))
    assert main(["calibrate-camera", "0", "--check", str(path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("drift: the colour")
    assert "blue" in out


def test_a_field_with_cells_is_refused_and_nothing_is_written(
    plug: Plug, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scope = Microscope()
    moment = session().moments[5]
    plug((scope.look(moment) * np.float32(0.9)).astype(np.uint8) for _ in repeat(0))
    assert main(["calibrate-camera", "0", "--out", str(tmp_path / "p.json")]) == 2
    err = capsys.readouterr().err
    assert "empty part of the slide" in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_camera_that_fails_meanwhile(
    plug: Plug, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plug(iter([np.zeros((240, 320, 3), np.uint8)] * 40))
    assert main(["calibrate-camera", "0", "--out", str(tmp_path / "p.json")]) == 2
    assert "black" in capsys.readouterr().err


def test_from_an_image_and_from_a_film(tmp_path: Path) -> None:
    image = tmp_path / "white.png"
    image.write_bytes(encode_png(white_field()))
    assert main(["calibrate-camera", str(image), "--out", str(tmp_path / "a.json")]) == 0
    assert main(["calibrate-camera", str(image), "--check", str(tmp_path / "a.json")]) == 0
    film = tmp_path / "white.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 25, (320, 240))
    for frame in white():
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    assert main(["calibrate-camera", str(film), "--out", str(tmp_path / "b.json")]) == 0
    one, other = (CameraProfile.load(tmp_path / name) for name in ("a.json", "b.json"))
    assert one.white == pytest.approx(other.white, abs=1.5)


@pytest.mark.parametrize(
    "arguments",
    [
        ["0"],
        ["0", "--out", "a.json", "--check", "b.json"],
        ["0", "--check", "gone.json"],
        ["0", "--out", "."],
        ["gone.png", "--out", "a.json"],
        ["0", "--out", "a.json", "--size", "big"],
        ["0", "--out", "a.json"],
    ],
)
def test_what_cannot_work_is_one_line(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(v4l2, "unusable", lambda path: f"there is no {path}")
    assert main(["calibrate-camera", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_camera_verb_answers_for_each_field_of_a_film(
    model: str, film: str, planned: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["camera", film, "--model", model, "--format", "ndjson"]) == 0
    out, err = capsys.readouterr()
    records = [Prediction.from_dict(json.loads(line)) for line in out.splitlines()]
    assert [record.source for record in records] == [
        f"{film}#frame={index}" for index in planned.sharpest
    ]
    assert len({tuple(record.probabilities.values()) for record in records}) == 3
    assert "3 fields" in err


def test_the_record_is_that_of_the_saved_field(
    model: str, film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fields"
    arguments = ["--model", model, "--format", "csv", "--quiet"]
    for _ in range(2):  # a second run writes beside, not over
        assert main(["camera", film, "--save", str(folder), "--count", "2", *arguments]) == 0
    out = capsys.readouterr().out
    assert len(list(folder.iterdir())) == 4
    live = [row for row in csv.reader(io.StringIO(out)) if row[0] != "source"]
    assert main(["infer", *[row[0] for row in live], *arguments]) == 0
    again = list(csv.reader(io.StringIO(capsys.readouterr().out)))[1:]
    answers = slice(0, 12)  # without the milliseconds
    assert [row[answers] for row in live] == [row[answers] for row in again]


def test_a_profile_corrects_what_is_judged_and_saved(
    model: str, plug: Plug, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scope, planned = Microscope(noise=1.0), session((0, 448))
    light = white_field(448, 448, noise=0.0, level=(230, 236, 180)).astype(np.float32) / 255
    path = tmp_path / "scope.json"
    plug(white(width=448, height=448, level=(230, 236, 180)))
    assert main(["calibrate-camera", "0", "--out", str(path)]) == 0
    plug((scope.look(moment) * light).astype(np.uint8) for moment in planned.moments)
    arguments = ["--profile", str(path), "--model", model, "--count", "2", "--quiet"]
    assert main(["camera", "0", *arguments, "--save", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == ""
    for place, file in zip((0, 448), sorted((tmp_path / "out").iterdir()), strict=True):
        even = scope.slide[:, place : place + 448] * np.float32(240 / 255)
        off = np.abs(read_field(file, smallest_side=None).rgb - even).mean(axis=(0, 1))
        assert off.max() < 3, "yellow light and shadows must be gone"


def test_drift_is_told_while_it_runs(
    model: str, plug: Plug, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scope.json"
    plug(white(width=448, height=448))
    assert main(["calibrate-camera", "0", "--out", str(path)]) == 0
    scope = Microscope(fields=6)
    planned = session(tuple(range(0, 5 * 448 + 1, 448)))
    dim = np.float32(0.6)  # somebody turned the lamp down after the calibration
    plug((scope.look(moment) * dim).astype(np.uint8) for moment in planned.moments)
    main(["camera", "0", "--profile", str(path), "--model", model, "--count", "6", "--quiet"])
    err = capsys.readouterr().err
    assert err.count("warning: camera:0: the lamp drifted") == 1


def test_a_camera_that_goes_away_is_a_record_and_exit_code_1(
    model: str,
    plug: Plug,
    planned: Session,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scope = Microscope()
    plug(scope.look(moment) for moment in planned.moments[:20])
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert main(["camera", "0", "--model", model, "--format", "csv"]) == 1
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["error_code"] for row in rows] == ["", "camera_lost", "camera_gone"]
    assert "2 error" in err


def test_ctrl_c_ends_a_session_with_its_summary(
    model: str, plug: Plug, planned: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    def frames() -> Iterator[Rgb]:
        scope = Microscope()
        yield from (scope.look(moment) for moment in planned.moments[:20])
        raise KeyboardInterrupt

    fake = plug(frames())
    assert main(["camera", "0", "--model", model, "--format", "json"]) == 130
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 1, "the document is ended"
    assert "1 field:" in err
    assert fake.opened is False


@pytest.mark.parametrize(
    "arguments",
    [["--count", "0"], ["--every", "-1"], ["--every", "nan"], ["--size", "1x"], ["--profile", "x"]],
)
def test_camera_options_out_of_range(
    arguments: list[str], model: str, film: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["camera", film, "--model", model, *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
