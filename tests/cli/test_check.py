from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.cli.main import main
from allsub_edge.model_file import container
from allsub_edge.model_file.manifest import Manifest
from tests import toy_model


def write(folder: Path, data: bytes) -> str:
    path = folder / "toy.onnx"
    path.write_bytes(data)
    return str(path)


def with_golden(**changes: object) -> bytes:
    """The complete toy with its golden entry changed, sealed again as a maker would."""
    raw = container.parse(toy_model.complete()).manifest.to_dict()
    raw["golden"] |= changes
    return container.embed_manifest(toy_model.complete(), Manifest.from_dict(raw))


def test_a_good_file_passes_with_one_line_per_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", write(tmp_path, toy_model.complete())]) == 0
    lines = capsys.readouterr().out.splitlines()
    cases = [line for line in lines if line.startswith(("PASS", "FAIL"))]
    assert [line.split()[:2] for line in cases] == [["PASS", label] for label in CLASSES]
    assert any("onnxruntime" in line for line in lines)
    assert lines[-1].startswith("4 of 4 golden cases passed")


def test_another_answer_fails_its_case_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = container.parse(toy_model.complete()).manifest.golden.to_dict()["cases"]
    cases[2]["probabilities"][0] += 0.01
    assert main(["check", write(tmp_path, with_golden(cases=cases))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [x.split()[0] for x in lines if x.startswith(("PASS", "FAIL"))] == [
        *("PASS", "PASS", "FAIL", "PASS")
    ]
    assert lines[-1].startswith("3 of 4")


def test_another_network_under_the_same_manifest_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = container.parse(toy_model.complete()).manifest
    other = container.embed_manifest(toy_model.graph(broken=True), manifest)
    assert main(["check", write(tmp_path, other)]) == 1
    assert "0 of 4" in capsys.readouterr().out


def test_no_golden_case_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(tmp_path, with_golden(cases=[]))]) == 1
    assert "0 of 0" in capsys.readouterr().out


UNUSABLE: dict[str, Callable[[], bytes | None]] = {
    "absent": lambda: None,
    "empty": lambda: b"",
    "text": lambda: b"text",
    "cut short": lambda: toy_model.complete()[:-10],
    "plain onnx": toy_model.graph,
}


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("verb", ["check", "info"])
def test_unusable_files_exit_with_two(
    kind: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = UNUSABLE[kind]()
    path = str(tmp_path / "none.onnx") if data is None else write(tmp_path, data)
    assert main([verb, path]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert path in err


def test_info_tells_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, toy_model.complete())
    assert main(["info", path]) == 0
    out = capsys.readouterr().out
    for expected in (path, "toy 0.1", "Benign, Early, Pre, Pro", "calibration.alpha", "Apache-2.0"):
        assert expected in out


def test_info_tells_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = toy_model.complete()
    assert main(["info", write(tmp_path, data), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == len(data)
    assert Manifest.from_dict(told["manifest"]) == container.parse(data).manifest


def test_info_needs_no_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    path = write(tmp_path, toy_model.complete())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["info", path]) == 0


def test_check_without_an_engine_gives_the_pip_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from allsub_edge import engines

    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    assert main(["check", write(tmp_path, toy_model.complete())]) == 2
    assert "pip install onnxruntime" in capsys.readouterr().err
