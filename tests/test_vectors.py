"""The committed test vectors are what this version of the project makes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from allsub_edge import engines
from allsub_edge.case import CASE_REASONS
from allsub_edge.classes import CLASSES
from allsub_edge.classifier import Classifier
from allsub_edge.errors import FieldError, ModelFileError
from allsub_edge.imaging.decode import decode
from tests import toy_model, toy_tflite

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "vectors"
BUDGET = 600_000
SAME = 1e-6
AGAIN = "run: python scripts/make_vectors.py"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_vectors", ROOT / "scripts" / "make_vectors.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / "vectors.json").read_text("ascii"))
    return content


def test_everything_is_made_again(maker: ModuleType, document: dict[str, Any]) -> None:
    fields, made = maker.build()
    stored = dict(document, fields=[dict(entry) for entry in document["fields"]])
    refused = stored.pop("refused")
    for entry in stored["fields"]:
        data = (FOLDER / entry["file"]).read_bytes()
        assert entry.pop("sha256") == maker.sha256(data)
        assert np.array_equal(decode(data).rgb, fields[Path(entry["file"]).stem])
    assert stored == made
    assert {Path(entry["file"]).name for entry in refused} == set(maker.REFUSED)


def test_no_file_is_unlisted_or_too_much(document: dict[str, Any]) -> None:
    listed = {entry["file"] for entry in (*document["fields"], *document["refused"])}
    found = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {p.relative_to(FOLDER).as_posix() for p in found if p.suffix == ".png"} == listed
    assert sum(path.stat().st_size for path in found) < BUDGET


def test_the_fields_exercise_the_resize(document: dict[str, Any]) -> None:
    sizes = {(entry["width"], entry["height"]) for entry in document["fields"]}
    assert any(width > 224 and height > 224 for width, height in sizes)
    assert any(width < 224 and height < 224 for width, height in sizes)
    assert any(width > 224 > height for width, height in sizes)
    assert len({entry["mask_sha256"] for entry in document["fields"]}) > len(sizes)


def test_the_cases_exercise_the_rule(document: dict[str, Any]) -> None:
    decisions = [case["expected"] for case in document["case_vectors"]]
    assert {code for given in decisions for code in given["reasons"]} == set(CASE_REASONS)
    assert {given["status"] for given in decisions} == {"ok", "uncertain", "unfit"}
    assert {given["label"] for given in decisions} == {None, *CLASSES}


def test_spoilt_files_are_refused_with_their_code(maker: ModuleType, document: Any) -> None:
    for entry in document["refused"]:
        data = (FOLDER / entry["file"]).read_bytes()
        assert maker.sha256(data) == entry["sha256"]
        with pytest.raises(FieldError) as refusal:
            decode(data, source=entry["file"])
        assert refusal.value.code == entry["code"]


def test_a_wrong_pixel_is_noticed(maker: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    right = maker.build()[1]
    other = maker.render_field(9, "Pro")
    monkeypatch.setitem(maker.FIELDS, "pro-224x224", lambda: other)
    assert maker.build()[1] != right


def test_json_keeps_its_values(maker: ModuleType) -> None:
    values = {"a": [1, -2.5, 3], "b": [], "c": {"d": [0.25]}, "e": ["x", "y"], "f": 1e-7}
    text = maker.to_text(values)
    assert json.loads(text) == values
    assert '"a": [1, -2.5, 3]' in text


def test_one_command_writes_it_all(maker: ModuleType, tmp_path: Path, monkeypatch: Any) -> None:
    model = tmp_path / "toy.onnx"
    model.write_bytes(toy_model.complete())
    (tmp_path / "out").mkdir()
    stale = tmp_path / "out" / "expected-older-0.json"
    stale.write_text("{}")
    arguments = ["make_vectors.py", "--model", str(model), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", arguments)
    assert maker.main() == 0
    first = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert maker.main() == 0
    assert first == {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert not stale.exists()
    expected = json.loads((tmp_path / "out" / "expected-toy-0.1.json").read_text())
    assert len(expected["fields"]) == len(maker.FIELDS)
    assert len({str(entry["probabilities"]) for entry in expected["fields"]}) == len(maker.FIELDS)


def test_a_missing_model_is_said(maker: ModuleType, tmp_path: Path, monkeypatch: Any, capsys: Any):  # type: ignore[no-untyped-def]
    gone = str(tmp_path / "none.onnx")
    monkeypatch.setattr("sys.argv", ["make_vectors.py", "--model", gone, "--out", str(tmp_path)])
    assert maker.main() == 2
    assert gone in capsys.readouterr().err


def differences(stored: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """Files on which two expectations do not agree, as far as engines and chips may differ."""
    tolerance, found = stored["tolerance"], []
    for there, here in zip(stored["fields"], got["fields"], strict=True):
        far = max(abs(here["probabilities"][k] - p) for k, p in there["probabilities"].items())
        distance = there["quality"]["domain_distance"]
        away = abs(here["quality"]["domain_distance"] - distance) / max(abs(distance), 1.0)
        exact = ["file", "mask_sha256"]
        # Near a threshold another chip may land on the other side, so the words are only held
        # where its numbers are the same.
        if far <= SAME and away <= SAME:
            exact += ["status", "label", "top", "prediction_set", "reasons"]
        same = all(here[k] == there[k] for k in exact) and all(
            here["quality"][k] == value
            for k, value in there["quality"].items()
            if k != "domain_distance"
        )
        if not (same and far <= tolerance and away <= tolerance):
            found.append(there["file"])
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda field: field["probabilities"].update(Pro=field["probabilities"]["Pro"] + 0.1),
        lambda field: field["quality"].update(domain_distance=99.0),
        lambda field: field["quality"].update(focus=0.0),
        lambda field: field.update(mask_sha256="0" * 64),
        lambda field: field.update(label="Benign", status="ok"),
    ],
)
def test_another_answer_is_noticed(maker: ModuleType, tmp_path: Path, change: Any) -> None:
    model = tmp_path / "toy.onnx"
    model.write_bytes(toy_model.complete())
    with Classifier.load(model, threads=1) as classifier:
        stored = maker.expectations(classifier)
        got = maker.expectations(classifier)
    assert differences(stored, got) == []
    change(got["fields"][4])
    assert differences(stored, got) == [stored["fields"][4]["file"]]


def test_each_format_has_its_own_file(maker: ModuleType, tmp_path: Path) -> None:
    if not engines.installed("litert"):
        pytest.skip("no LiteRT package is installed")
    onnx, tflite = tmp_path / "toy.onnx", tmp_path / "toy.tflite"
    onnx.write_bytes(toy_model.complete())
    tflite.write_bytes(toy_tflite.complete())
    maker.write(tmp_path)
    written = maker.write_expected([onnx, tflite], tmp_path)
    stored = [json.loads(path.read_text("ascii"))["model"]["sha256"] for path in written]
    assert len(set(stored)) == 2
    assert [path.name for path in written][1].endswith("-tflite.json")
    # Of a model that is left out nothing stays, so that no file answers for another.
    assert maker.write_expected([tflite], tmp_path) == written[1:]
    assert list(tmp_path.glob("expected-*.json")) == written[1:]


def test_the_shipped_files_answer_as_stored(maker: ModuleType) -> None:
    try:
        files = maker.shipped()
    except ModelFileError as error:
        pytest.skip(f"no expectations to check: {error.message}")
    names = set()
    for file in files:
        if file.suffix == ".tflite" and not engines.installed("litert"):
            continue
        with Classifier.load(file, threads=1) as classifier:
            path = FOLDER / maker.expected_name(classifier, file)
            got = maker.expectations(classifier)
        names.add(path.name)
        stored = json.loads(path.read_text("ascii"))
        assert stored["model"] == got["model"], AGAIN
        assert differences(stored, got) == []
        # Answers of one kind would not show that another program follows the rules.
        assert {entry["status"] for entry in stored["fields"]} == {"ok", "uncertain", "unfit"}
    found = {path.name for path in FOLDER.glob("expected-*.json")}
    assert names <= found and len(found) == len(files), AGAIN
