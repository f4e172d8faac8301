"""What is timed and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="no engine is installed")

from allsub_edge.atomic import write_bytes
from allsub_edge.evaluation import latency
from tests.toy_model import manifest_dict, sealed


def test_a_model_file_is_timed_however_its_suffix_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "ROUNDS", 1)
    paths = [tmp_path / "m1.onnx", tmp_path / "M2.ONNX"]
    for path in paths:
        write_bytes(path, sealed(manifest_dict()))
    small, large = latency.measure(paths)
    assert small["p50_ms"] > 0 and large["p50_ms"] > 0, large["how"]
    assert small["how"] == large["how"] and small["how"].startswith("onnx, ")
