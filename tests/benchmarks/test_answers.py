"""``benchmarks.answers``: equal to the bit is told from close, and from not the same fields."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from allsub_edge.benchmarks import answers
from allsub_edge.errors import DataError
from tests import toy_model


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    (folder / "toy.onnx").write_bytes(toy_model.sealed())
    arguments = ["record", "--count", "3", "--out", str(folder / "here.json")]
    assert answers.main([*arguments, str(folder / "toy.onnx")]) == 0
    return folder / "here.json"


def test_a_machine_equals_itself(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = answers.load(str(recorded))
    (row,) = answers.compare(found, found)
    assert (row["fields"], row["bit_equal"], row["pixels_equal"], row["masks_equal"]) == (3,) * 4
    assert row["golden"] == {"cases": 0, "passed": 0}
    assert row["largest_probability_difference"] == 0
    assert answers.main(["compare", str(recorded), str(recorded)]) == 0
    assert "| **3** | 3 | 0 / 0 |" in capsys.readouterr().out


def test_one_bit_is_seen(recorded: Path) -> None:
    found = answers.load(str(recorded))
    other = copy.deepcopy(found)
    first = other["rows"][0]["answers"]["rendered-0"]
    first["probabilities"][0] += 2**-20
    first["mask"] = "0" * 64
    other["rows"][0]["answers"]["rendered-1"]["quality"]["focus"] += 0.0001
    (row,) = answers.compare(found, other)
    assert (row["bit_equal"], row["masks_equal"], row["quality_equal"]) == (2, 2, 2)
    assert row["same_class"] == row["fields"] == 3
    assert row["largest_probability_difference"] == pytest.approx(2**-20)


def test_other_fields_and_other_files_are_refused(recorded: Path, tmp_path: Path) -> None:
    found = answers.load(str(recorded))
    other = copy.deepcopy(found)
    other["rows"][0]["answers"].pop("rendered-0")
    with pytest.raises(DataError, match="record both again"):
        answers.compare(found, other)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"schema": "x"}))
    assert answers.main(["compare", str(bad), str(bad)]) == 2
