"""``allsub-edge bench`` on toy models: everything it promises is in the result."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from allsub_edge.benchmarks import compare
from allsub_edge.cli.main import main
from tests import toy_model

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "bench.schema.json").read_text(encoding="utf-8")
)
FAST = ["--seconds", "0.05", "--count", "10", "--quiet"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("matplotlib", reason="the chart needs matplotlib")
    folder = tmp_path_factory.mktemp("bench")
    for name in ("a.onnx", "b.onnx"):
        (folder / name).write_bytes(toy_model.sealed())
    out = [str(folder / "out.json"), str(folder / "out.md"), str(folder / "out.png")]
    arguments = ["bench", str(folder / "a.onnx"), str(folder / "b.onnx"), *FAST]
    arguments += ["--threads", "1,2", "--batch", "1,2"]
    assert main([*arguments, "--json", out[0], "--markdown", out[1], "--chart", out[2]]) == 0
    found: dict[str, Any] = json.loads(Path(out[0]).read_text())
    return {"json": found, "md": Path(out[1]).read_text(), "png": Path(out[2]).read_bytes()}


def problems(value: Any, schema: dict[str, Any], where: str = "result") -> list[str]:
    """What contradicts a JSON schema, as far as ours uses the language."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if "const" in schema and value != schema["const"]:
        return [f"{where} is {value!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where} is {value!r}"]
    types = {"object": dict, "array": list, "string": str, "integer": int, "null": type(None)}
    wanted = schema.get("type", [])
    allowed = tuple({**types, "number": (int, float)}[t] for t in
                    ([wanted] if isinstance(wanted, str) else wanted))  # fmt: skip
    if allowed and not any(isinstance(value, kind) for kind in allowed):
        return [f"{where} is a {type(value).__name__}"]
    found = [f"{where} lacks {key}" for key in schema.get("required", []) if key not in value]
    if isinstance(value, dict):
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties", {}))
            found += problems(item, inner, f"{where}.{key}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += problems(item, schema.get("items", {}), f"{where}[{index}]")
    return found


def test_the_result_fits_its_schema(result: dict[str, Any]) -> None:
    assert problems(result["json"], SCHEMA) == []
    broken = copy.deepcopy(result["json"])
    del broken["models"][0]["steady"]["field224"]["p90_ms"]
    assert problems(broken, SCHEMA) == ["result.models[0].steady.field224 lacks p90_ms"]


def test_everything_promised_is_measured(result: dict[str, Any]) -> None:
    found = result["json"]
    assert [row["name"] for row in found["models"]] == ["a.onnx", "b.onnx"]
    for row in found["models"]:
        assert set(row["steady"]) == {"field224", "camera12mp"}
        assert row["steady"]["camera12mp"]["p50_ms"] > row["steady"]["field224"]["p50_ms"]
        assert row["bytes"] > 1000
        assert row["fresh"]["peak_mb"] > 20
        assert len(row["fresh"]["warm_up_ms"]) == 6
        assert set(row["stages"]["field224"]) == {
            *("read", "decode", "resize", "network", "after", "total")
        }
        assert set(row["batches"]) == {"1", "2"}
        assert set(row["threads_compared"]) == {"1", "2"}
    assert [r["workload"] for r in found["ratios"]] == ["field224", "camera12mp"]


def test_a_ratio_comes_with_its_interval(result: dict[str, Any]) -> None:
    for ratio in result["json"]["ratios"]:
        assert (ratio["of"], ratio["against"]) == ("b.onnx", "a.onnx")
        assert 0 < ratio["interval95"][0] <= ratio["ratio"] <= ratio["interval95"][1]


def test_tables_and_chart_are_made(result: dict[str, Any]) -> None:
    assert "| a.onnx |" in result["md"]
    assert "**p90**" in result["md"]
    assert result["png"].startswith(b"\x89PNG")


def test_a_slower_run_is_noticed_and_fails_beyond_the_limit(result: dict[str, Any]) -> None:
    old, new = result["json"], copy.deepcopy(result["json"])
    new["models"][1]["steady"]["field224"]["p90_ms"] *= 1.25
    found = {(c["name"], c["workload"]): c["percent"] for c in compare.changes(old, new)}
    assert found[("b.onnx", "field224")] == pytest.approx(25, abs=0.1)
    assert found[("a.onnx", "field224")] == 0
    new["machine"]["cpu"] = "another"
    assert any("another cpu" in line for line in compare.warnings(old, new))


def test_fail_over_decides_the_exit_code(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, then = tmp_path / "a.onnx", tmp_path / "then.json"
    model.write_bytes(toy_model.sealed())
    arguments = ["bench", str(model), *FAST, "--fields", "field224", "--threads", "1"]
    arguments += ["--batch", "1", "--compare", str(then), "--fail-over", "10"]
    for factor, code, word in ((100.0, 0, "ok"), (0.01, 1, "SLOWER")):
        old = copy.deepcopy(result["json"])
        old["models"][0]["steady"]["field224"]["p90_ms"] *= factor
        then.write_text(json.dumps(old))
        assert main(arguments) == code
        assert word in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fail-over", "5"], "--compare"),
        (["--compare", "nowhere.json"], "no such file"),
        (["nowhere.onnx", *FAST], "no such model file"),
        (["--threads", "0"], "whole numbers"),
        (["--densenet", "nowhere.onnx", *FAST], "densenet_int8"),
    ],
)
def test_bad_usage_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1


def test_a_file_that_is_no_result_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.json"
    for text in ("[]", "{}", "no json"):
        path.write_text(text)
        assert main(["bench", "--compare", str(path)]) == 2
        assert "old.json" in capsys.readouterr().err


WHOLE = {
    "schema": compare.SCHEMA,
    "machine": {"cpu": "one", "versions": {"numpy": "2"}},
    "models": [{"name": "a", "word": "ours", "steady": {"field224": {"p90_ms": 5.0}}}],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": None}, "lacks machine.versions"),
        ({"machine": {"cpu": "one"}}, "lacks machine.versions"),
        ({"models": {}}, "lacks models"),
        ({"models": ["a"]}, "models[0] lacks name or steady"),
        ({"models": [{"name": "a", "word": "ours"}]}, "models[0] lacks name or steady"),
        ({"models": [{"steady": {}}]}, "models[0] lacks name or steady"),
        ({"models": [{"name": "a", "steady": {"field224": {}}}]}, "field224.p90_ms is not a time"),
        ({"models": [{"name": "a", "steady": {"x": {"p90_ms": 0}}}]}, "x.p90_ms is not a time"),
    ],
)
def test_a_result_that_lacks_what_is_compared_is_refused_when_it_is_read(
    change: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(WHOLE))
    assert compare.load(path) == WHOLE
    assert compare.warnings(WHOLE, WHOLE) == []
    path.write_text(json.dumps({**WHOLE, **change}))
    assert main(["bench", "--compare", str(path), *FAST]) == 2
    err = capsys.readouterr().err
    assert "old.json: is no whole result of allsub-edge bench" in err and words in err
    assert len(err.splitlines()) == 1
