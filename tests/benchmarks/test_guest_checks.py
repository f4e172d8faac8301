from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest

from allsub_edge.imaging.render import render_field
from tests import toy_model

pytest.importorskip("onnx", reason="building a toy model needs the extra `export`")

from allsub_edge.benchmarks.guest_checks import link_fields, main, peak_mb
from allsub_edge.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    path.write_bytes(toy_model.sealed())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "fields"
    made.mkdir()
    for seed in range(2):
        cv2.imwrite(str(made / f"{seed}.png"), render_field(seed)[..., ::-1])
    return made


def test_memory_and_first_answer_are_measured(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.json"
    arguments = [str(folder), "--model", str(model), "--fields", "120", "--repeats", "1"]
    main([*arguments, "--threads", "1", "--pictures", "1", "-o", str(out)])
    found = {check["name"]: check for check in json.loads(out.read_text())["checks"]}
    few, many = found["peak memory, 100 fields, MB"], found["peak memory, 120 fields, MB"]
    # Python with OpenCV and an engine: no process is smaller, and the toy's is not much larger.
    assert 30 < few["measured"] < 150
    assert (few["limit"], few["direction"], few["met"]) == (150.0, "at most", True)
    assert found["growth between the two, MB"]["measured"] == pytest.approx(
        many["measured"] - few["measured"]
    )
    assert 0.05 < found["first answer, seconds"]["measured"] < 30
    assert "met" in capsys.readouterr().out


def test_a_run_that_fails_is_not_a_measurement(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), "--model", str(tmp_path / "no.onnx")]) == 2
    assert main([str(tmp_path / "none"), "--model", str(tmp_path / "no.onnx")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    with pytest.raises(DataError, match="infer"):
        peak_mb(folder, ["--model", str(tmp_path / "no.onnx")])


def test_links_repeat_the_fields(folder: Path, tmp_path: Path) -> None:
    fields = sorted(folder.iterdir())
    link_fields(fields, 5, tmp_path / "links")
    made = sorted((tmp_path / "links").iterdir())
    assert [path.resolve().name for path in made] == ["0.png", "1.png", "0.png", "1.png", "0.png"]
