"""Whole processes: starting, growing, and the steps of fusing, on toy models."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from allsub_edge.benchmarks import growth, model_only, starting, steps
from allsub_edge.errors import UsageError
from tests import toy_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    path.write_bytes(toy_model.sealed())
    return str(path)


def test_starting_tells_time_memory_and_imports(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out.json"
    # Other tests are using the environment's files.
    monkeypatch.setattr(starting, "environment", lambda: [])
    assert starting.main([model, "--runs", "2", "--cold", "1", "--json", str(out)]) == 0
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    infer, bare = rows["toy.onnx"], rows["python -c pass"]
    assert infer["runs"] == 2
    assert infer["wall_ms_p50"] > bare["wall_ms_p50"] > 0
    assert infer["peak_mb"] > bare["peak_mb"] > 1
    assert {"numpy", "cv2", "onnxruntime", "allsub_edge"} <= infer["imports_ms"].keys()
    assert "ai_edge_litert" not in infer["imports_ms"]
    assert infer["cold"]["runs"] == 1 and infer["cold"]["wall_ms_p50"] > bare["wall_ms_p50"]
    assert bare["cold"] is None
    assert "| toy.onnx |" in capsys.readouterr().out


def test_what_is_measured_may_keep_what_python_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    starting.one([sys.executable, "-c", "import sys; sys.exit(sys.flags.dont_write_bytecode)"])


def test_files_are_forgotten_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "a" / "b.bin"
    deep.parent.mkdir()
    deep.write_bytes(b"1")
    (tmp_path / "link").symlink_to(deep)
    single = tmp_path / "c.bin"
    single.write_bytes(b"2")
    asked: list[int] = []
    monkeypatch.setattr(
        starting.os, "posix_fadvise", lambda fd, *_: asked.append(os.fstat(fd).st_ino)
    )
    starting.forget([tmp_path / "a", single, tmp_path / "absent", tmp_path / "link"])
    assert asked == [deep.stat().st_ino, single.stat().st_ino]


def test_the_environment_is_where_python_reads_from() -> None:
    import numpy

    found = starting.environment()
    assert all(path.exists() for path in found)
    assert any(Path(numpy.__file__).resolve().is_relative_to(path) for path in found)
    assert any(Path(os.__file__).resolve().is_relative_to(path) for path in found)


def test_a_process_that_fails_is_told() -> None:
    with pytest.raises(UsageError, match="no such model file"):
        starting.measure(["nowhere.onnx"], 1)


def test_growth_measures_every_count_with_every_number_of_workers(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    arguments = ["--model", model, "--counts", "1,9", "--workers", "1,2", "--json", str(out)]
    assert growth.main(arguments) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["fields"], row["workers"]) for row in rows] == [(1, 1), (1, 2), (9, 1), (9, 2)]
    assert all(row["seconds"] > 0 for row in rows)
    assert rows[3]["peak_mb"] > 20
    assert "| 9 | 2 |" in capsys.readouterr().out


def test_a_file_that_no_pass_changes_is_told(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx", reason="the passes need onnx")
    assert steps.main([model]) == 2
    assert "no pass changes it" in capsys.readouterr().err


def test_the_model_alone_is_told_beside_the_published_network(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The published network takes half a minute to build; the slow tests of the package do that.
    told: list[int | None] = []

    def reference(threads: int | None) -> Callable[[int], object]:
        told.append(threads)
        return lambda number: sum(range(1000))

    monkeypatch.setattr(model_only, "_keras", reference)
    out = tmp_path / "out.json"
    asked = [model, "--seconds", "0.1", "--count", "3", "--json", str(out)]
    assert model_only.main(asked) == 0
    result = json.loads(out.read_text())
    assert [row["name"] for row in result["rows"]] == ["toy.onnx", model_only.PUBLISHED]
    assert result["threads"] == 1 and result["rows"][0]["ratio"] > 0
    assert "all cores" in capsys.readouterr().out
    assert model_only.main([*asked, "--reference-threads", "2"]) == 0
    assert told == [None, 2] and json.loads(out.read_text())["reference_threads"] == 2
    table = capsys.readouterr().out.splitlines()
    assert table[-1].endswith("| - |") and table[-2].startswith("| toy.onnx |")
    assert model_only.main([model, model]) == 2
    assert "same name" in capsys.readouterr().err
