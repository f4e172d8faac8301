"""The program that holds an example's records against the package's."""

from __future__ import annotations

import json
import math
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
main: Callable[[list[str]], int] = runpy.run_path(str(ROOT / "examples" / "compare.py"))["main"]


def record(name: str, **changes: Any) -> dict[str, Any]:
    sure = {"Benign": 0.01, "Early": 0.97, "Pre": 0.01, "Pro": 0.01}
    given = {"source": name, "status": "ok", "label": "Early", "top": "Early"}
    return given | {"probabilities": sure, "prediction_set": ["Early"], "reasons": []} | changes


def written(path: Path, *records: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return str(path)


def test_records_belong_together_by_file_name(tmp_path: Path, capsys: Any) -> None:
    near = record("b/f.png", probabilities={"Benign": 0.0, "Early": 0.98, "Pre": 0.01, "Pro": 0.01})
    one = written(tmp_path / "one", record("a/f.png"), record("g.png"))
    assert main([one, written(tmp_path / "other", record("c\\g.png"), near)]) == 0
    assert "2 fields, 0 differences in words, largest" in capsys.readouterr().out
    assert main([one, str(tmp_path / "other"), "--tolerance", "0.001"]) == 1


def test_no_number_is_no_equal_number(tmp_path: Path) -> None:
    given = record("f.png")
    nothing = given | {"probabilities": dict.fromkeys(given["probabilities"], math.nan)}
    one = written(tmp_path / "one", record("f.png"))
    assert main([one, written(tmp_path / "other", nothing)]) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"status": "unfit", "label": None, "reasons": ["out_of_focus"]},
        {"prediction_set": ["Early", "Pre"]},
        {"probabilities": {"Benign": 0.5, "Early": 0.5, "Pre": 0.0, "Pro": 0.0}},
        {"probabilities": {}},
        {"status": "error"},
    ],
)
def test_another_answer_is_told(tmp_path: Path, capsys: Any, change: dict[str, Any]) -> None:
    one = written(tmp_path / "one", record("f.png"), record("g.png"))
    other = written(tmp_path / "other", record("f.png"), record("g.png", **change))
    assert main([one, other]) == 1
    told = capsys.readouterr().out
    assert "f.png" not in told and ("g.png" in told or "probabilities" in change)


def test_errors_agree_by_their_status_alone(tmp_path: Path) -> None:
    one = written(tmp_path / "one", record("f.png", status="error", label=None, probabilities={}))
    small = {"source": "f.png", "status": "error", "error": "cut short"}
    assert main([one, written(tmp_path / "other", small)]) == 0


@pytest.mark.parametrize("expected", sorted(VECTORS.glob("expected-*.json")), ids=lambda p: p.stem)
def test_expectations_are_a_reference(tmp_path: Path, expected: Path) -> None:
    fields = json.loads(expected.read_text("ascii"))["fields"]
    other = written(tmp_path / "other", *({"source": f["file"]} | f for f in fields))
    assert main([str(expected), other]) == 0
    fields[3]["top"] = "none"
    other = written(tmp_path / "other", *({"source": f["file"]} | f for f in fields))
    assert main([str(expected), other]) == 1


def test_what_does_not_fit_is_said_in_one_line(tmp_path: Path, capsys: Any) -> None:
    one = written(tmp_path / "one", record("f.png"))
    cases = {
        "not the same fields": written(tmp_path / "more", record("f.png"), record("g.png")),
        "two records": written(tmp_path / "twice", record("f.png"), record("a/f.png")),
        "not a record": str(ROOT / "LICENSE"),
        "No such file": str(tmp_path / "none"),
    }
    for words, other in cases.items():
        assert main([one, other]) == 2
        told = capsys.readouterr().err
        assert words in told and told.count("\n") == 1
