"""What ``allsub-edge export`` decides itself, without a run."""

from __future__ import annotations

from pathlib import Path

import pytest

for package in ("tensorflow", "tf2onnx", "onnx", "ai_edge_litert"):
    pytest.importorskip(package, reason="the export extra is not installed")

from allsub_edge.cli.main import main
from allsub_edge.export import pipeline
from allsub_edge.export.table import REFUSED, WRITTEN, Exported


def arguments(folder: Path, *more: str) -> list[str]:
    places = ["--data", str(folder / "data"), "--out", str(folder / "models")]
    return ["export", str(folder / "run"), *places, "--card", str(folder / "CARD.md"), *more]


@pytest.mark.parametrize(
    "more",
    [
        ["--formats", "onnx-float16"],
        ["--formats", "onnx-dynamic,tflite-float32"],
        ["--formats", "onnx", "--interfaces", "two-channel"],
    ],
)
def test_a_card_of_nothing_it_can_speak_of_is_refused_before_any_work(
    more: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pipeline, "open_run", lambda *rest: pytest.fail("the work began"))
    assert main(arguments(tmp_path, *more)) == 2
    assert "--card needs the interface field and one of the formats" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_a_file_that_passed_there_is_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        Exported("onnx-float16", "field", "float16", WRITTEN, "", Path("half.onnx")),
        Exported("onnx-int8", "field", "int8", REFUSED, "loses 2.00 points", Path("int8.onnx")),
    ]
    monkeypatch.setattr(pipeline, "open_run", lambda *rest: None)
    monkeypatch.setattr(pipeline, "export_subject", lambda *rest: rows)
    monkeypatch.setattr(pipeline, "report", lambda *rest: tmp_path / "table.txt")
    assert main(arguments(tmp_path, "--formats", "onnx-float16,onnx-int8")) == 1
    assert "card: not written, because no file that it speaks of was" in capsys.readouterr().out
    assert not (tmp_path / "CARD.md").exists()
