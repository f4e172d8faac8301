from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

from allsub_edge.export.card import latency
from allsub_edge.export.table import WRITTEN, Exported


def test_latency_is_told_for_the_files_that_were_timed() -> None:
    timed = Exported(
        *("onnx-int8", "field", "int8", WRITTEN, "", Path("models/net-1-int8.onnx")),
        engine="onnxruntime 1.32.0",
        threads=1,
        p50_ms=5.75,
        peak_mib=75.8,
    )
    untimed = Exported(*("onnx-float32", "field", "float32", WRITTEN, "", Path("net.onnx")))
    text = latency([untimed, timed], "a board, neon")
    assert "| net-1-int8.onnx | onnxruntime 1.32.0 | 1 | 5.8 | 76 |" in text
    assert "on a board, neon;" in text
    assert text.startswith("## Latency") and "net.onnx" not in text
    assert latency([untimed], "a board") == ""
