"""The programs in examples/python answer as the package does, without the package."""

from __future__ import annotations

import ast
import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from allsub_edge import models
from allsub_edge.classes import CLASSES
from allsub_edge.classifier import Classifier
from allsub_edge.imaging.decode import read_field
from allsub_edge.imaging.render import render_field
from allsub_edge.model_file.container import embed_manifest
from allsub_edge.model_file.manifest import Manifest
from allsub_edge.quality import LIMITS
from tests import toy_model
from tests.examples import toy_tflite

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
PROGRAMS = {name: ROOT / "examples" / "python" / f"infer_{name}.py" for name in ("onnx", "litert")}
LINES = 60
TIMEOUT = 120
TOLERANCE = 0.02

# None in sys.modules makes an import fail, although the packages are installed beside.
ALONE = """\
import runpy, sys
for name in ("allsub_edge", "cv2", {blocked}):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(name: str, model: Path, *fields: Path | str, blocked: str = "") -> Any:
    """Run a program isolated from this package, in another folder."""
    command = [sys.executable, "-I", "-c", ALONE.format(blocked=blocked), str(PROGRAMS[name])]
    return subprocess.run(
        [*command, str(model), *map(str, fields)],
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=TIMEOUT,
        check=False,
    )


def answers(name: str, model: Path, *fields: Path | str, blocked: str = "") -> list[dict[str, Any]]:
    done = run(name, model, *fields, blocked=blocked)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(got: list[dict[str, Any]], model: Path, fields: list[Path]) -> float:
    """Hold answers against the package's; gives the largest difference of a probability."""
    largest = 0.0
    with Classifier.load(model, threads=1) as classifier:
        for record, field in zip(got, fields, strict=True):
            wanted = classifier.predict(field).to_dict()
            assert record["source"] == str(field)
            same = ("status", "label", "top", "prediction_set", "reasons")
            assert {k: record[k] for k in same} == {k: wanted[k] for k in same}
            assert list(record["probabilities"]) == list(wanted["probabilities"])
            largest = max(
                largest,
                *(abs(p - wanted["probabilities"][k]) for k, p in record["probabilities"].items()),
            )
    assert largest <= TOLERANCE
    return largest


def shipped(pattern: str) -> Path:
    found = sorted(Path(models.__file__).parent.glob(pattern))
    if not found:
        pytest.skip(f"no {pattern} is shipped with this installation")
    return found[-1]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    path.write_bytes(toy_model.complete())
    return path


@pytest.fixture(scope="module")
def fields() -> list[Path]:
    return sorted((VECTORS / "fields").glob("*.png"))


def strict_manifest(**calibration: Any) -> dict[str, Any]:
    manifest = toy_model.manifest_dict()
    return manifest | {"calibration": manifest["calibration"] | calibration}


@pytest.mark.parametrize(
    ("calibration", "told"),
    [
        ({}, {"ok", "uncertain"}),
        ({"conformal": None}, {"ok"}),
        ({"conformal": {"Benign": 0.55, "Early": 0.8, "Pre": 0.75, "Pro": 0.7}}, {"uncertain"}),
        ({"domain_threshold": 1.2}, {"unfit"}),
        ({"domain_threshold": None}, {"ok", "uncertain"}),
        ({"quality": {"min_cell_fraction": 0.2}}, {"unfit"}),
        ({"quality": {"min_focus": 110.0}}, {"unfit"}),
    ],
)
def test_every_rule_of_the_manifest_is_followed(
    tmp_path: Path, fields: list[Path], calibration: dict[str, Any], told: set[str]
) -> None:
    model = tmp_path / "toy.onnx"
    model.write_bytes(toy_model.sealed(strict_manifest(**calibration)))
    got = answers("onnx", model, *fields)
    compare(got, model, fields)
    statuses = {record["status"] for record in got}
    assert told <= statuses
    # A limit that refuses everything, or nothing, would not show that it was read.
    assert "unfit" not in told or len(statuses) > 1


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit[0])
def test_every_quality_limit_is_followed(
    tmp_path: Path, fields: list[Path], limit: tuple[str, str, str]
) -> None:
    name, attribute, reason = limit
    model = tmp_path / "toy.onnx"
    model.write_bytes(toy_model.complete())
    with Classifier.load(model, threads=1) as classifier:
        qualities = [classifier.predict(field).quality for field in fields]
    values = sorted({v for q in qualities if (v := getattr(q, attribute)) is not None})
    # Between two fields, so that neither side hangs on a last digit.
    middle = (values[len(values) // 2 - 1] + values[len(values) // 2]) / 2
    model.write_bytes(toy_model.sealed(strict_manifest(quality={name: middle})))
    got = answers("onnx", model, *fields)
    compare(got, model, fields)
    assert {tuple(record["reasons"]) for record in got} == {(), (reason,)}


def test_litert_answers_as_the_package_does(fields: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
    model = tmp_path / "toy.tflite"
    model.write_bytes(toy_tflite.sealed(tmp_path / "saved"))
    compare(answers("litert", model, *fields), model, fields)
    model.write_bytes(model.read_bytes().replace(b'"version": "0.1"', b'"version": "9.9"'))
    done = run("litert", model, fields[0])
    assert done.returncode == 1 and "damaged" in done.stderr


def test_arrays_need_no_other_package(toy: Path, fields: list[Path], tmp_path: Path) -> None:
    arrays = [tmp_path / f"{field.stem}.npy" for field in fields]
    for array, field in zip(arrays, fields, strict=True):
        np.save(array, read_field(field).rgb)
    plain = answers("onnx", toy, *fields)
    for record, other in zip(plain, answers("onnx", toy, *arrays, blocked='"PIL"'), strict=True):
        assert record | {"source": ""} == other | {"source": ""}


def test_jpeg_is_read_as_the_package_reads_it(
    toy: Path, fields: list[Path], tmp_path: Path
) -> None:
    # Below twice the network's input: larger JPEGs the package decodes at a reduced size.
    pictures = [tmp_path / f"{field.stem}.jpg" for field in fields if "512" not in field.name]
    for picture in pictures:
        cv2.imwrite(str(picture), cv2.imread(str(VECTORS / "fields" / f"{picture.stem}.png")))
    assert compare(answers("onnx", toy, *pictures), toy, pictures) < 1e-3


def test_bad_files_do_not_stop_the_others(toy: Path, fields: list[Path], tmp_path: Path) -> None:
    spoilt = [*sorted((VECTORS / "refused").iterdir()), tmp_path / "missing.png"]
    got = answers("onnx", toy, *spoilt, fields[0])
    assert [record["status"] for record in got[:-1]] == ["error"] * len(spoilt)
    assert all(record["error"] for record in got[:-1])
    assert got[-1]["top"] is not None


def test_arrays_that_are_no_fields_do_not_stop_the_others(
    toy: Path, fields: list[Path], tmp_path: Path
) -> None:
    whole = read_field(fields[0]).rgb
    wrong = {
        "flat": whole[..., 0],
        "alpha": np.dstack([whole, whole[..., :1]]),
        "empty": whole[:0],
        "small": whole[:20, :20],
        "shares": whole / 255,
        "wide": whole.astype(np.uint16),
        "grey": np.repeat(whole[..., :1], 3, 2),
    }
    for name, array in wrong.items():
        np.save(tmp_path / f"{name}.npy", array)
    got = answers("onnx", toy, *(tmp_path / f"{name}.npy" for name in wrong), fields[0])
    assert [record["status"] for record in got[:-1]] == ["error"] * len(wrong)
    assert got[-1]["top"] is not None


def test_an_answer_that_is_no_number_is_no_answer() -> None:
    # Both programs have the same rules, which a test below holds.
    tree = ast.parse(PROGRAMS["onnx"].read_text("utf-8"))
    rules = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    found: dict[str, Any] = {"np": np, "reasons": lambda *_: []}
    exec(compile(ast.Module(rules, []), "infer_onnx.py", "exec"), found)
    manifest = {"classes": CLASSES, "calibration": {"conformal": None}}
    assert found["answer"](None, [0.1, 0.7, 0.1, 0.1], 1.0, None, manifest)["label"] == "Early"
    for probabilities, distance in (([0.1, np.nan, 0.1, 0.1], 1.0), ([0.1, 0.7, 0.1, 0.1], np.inf)):
        with pytest.raises(ValueError, match="no number"):
            found["answer"](None, probabilities, distance, None, manifest)


def test_a_limit_that_is_not_known_is_not_applied() -> None:
    reasons = runpy.run_path(str(ROOT / "examples" / "python" / "quality.py"))["reasons"]
    limits = {"max_cell_fraction": 0.0, "max_focus": 0.0, "min_happiness": 3.0}
    for known, told in (({}, []), ({"max_clipped": -1.0}, ["too_bright"])):
        calibration = {"quality": limits | known, "domain_threshold": None}
        mask = np.ones((224, 224), np.uint8)
        assert reasons(render_field(1), mask, 0.5, calibration) == told


def test_a_damaged_model_is_refused(toy: Path, fields: list[Path], tmp_path: Path) -> None:
    data = bytearray(toy.read_bytes())
    data[len(data) // 3] ^= 1
    for name, content in (("edited.onnx", bytes(data)), ("other.onnx", toy_model.graph())):
        (tmp_path / name).write_bytes(content)
        done = run("onnx", tmp_path / name, fields[0])
        assert done.returncode == 1 and name in done.stderr
        assert "Traceback" not in done.stderr and not done.stdout


@pytest.mark.parametrize(
    "change",
    [{"schema": "allsub-edge/model/9"}, {"interface": "two-channel"}, {"resize": "bilinear/1"}],
    ids=lambda change: next(iter(change)),
)
def test_a_model_of_another_kind_is_refused(
    tmp_path: Path, fields: list[Path], change: dict[str, Any]
) -> None:
    manifest = replace(Manifest.from_dict(toy_model.manifest_dict()), **change)
    model = tmp_path / "other.onnx"
    model.write_bytes(embed_manifest(toy_model.graph(), manifest))
    done = run("onnx", model, fields[0])
    assert done.returncode == 1 and "another version" in done.stderr and not done.stdout


def test_the_resize_vectors_hold() -> None:
    tree = ast.parse(PROGRAMS["onnx"].read_text("utf-8"))
    wanted = [node for node in tree.body if getattr(node, "name", "") == "bands"]
    scope: dict[str, Any] = {"np": np}
    exec(compile(ast.Module(wanted, []), "infer_onnx.py", "exec"), scope)
    bands = scope["bands"]
    for case in json.loads((VECTORS / "vectors.json").read_text("ascii"))["resize_vectors"]:
        rgb = np.array(case["rgb"], np.int64).reshape(case["height"], case["width"], 3)
        sums = bands(bands(rgb, case["size"]).swapaxes(0, 1), case["size"]).swapaxes(0, 1)
        count = case["height"] * case["width"]
        assert ((2 * sums + count) // (2 * count)).ravel().tolist() == case["expected"]


def test_the_shipped_model_answers_alike(fields: list[Path]) -> None:
    model = shipped("*int8*.onnx")
    compare(answers("onnx", model, *fields), model, fields)


def test_the_shipped_tflite_file_answers_alike(fields: list[Path]) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
    model = shipped("*int8*.tflite")
    compare(answers("litert", model, *fields), model, fields)


def test_the_shipped_model_answers_alike_on_real_fields(shared: Path) -> None:
    model = shipped("*int8*.onnx")
    found = sorted((shared / "data" / "all-smears" / "Original").rglob("*.jpg"))
    real = [found[i] for i in np.linspace(0, len(found) - 1, 100).astype(int)]
    compare(answers("onnx", model, *real), model, real)


def test_the_shipped_tflite_model_answers_alike(fields: list[Path]) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
    model = shipped("*.tflite")
    compare(answers("litert", model, *fields), model, fields)


def test_the_shipped_tflite_model_answers_alike_on_real_fields(shared: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
    model = shipped("*.tflite")
    found = sorted((shared / "data" / "all-smears" / "Original").rglob("*.jpg"))
    real = [found[i] for i in np.linspace(0, len(found) - 1, 100).astype(int)]
    compare(answers("litert", model, *real), model, real)


def _code(path: Path) -> tuple[ast.Module, int]:
    """The parsed program and its lines of code: no blank line, comment or docstring."""
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    documents: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            documents |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), 1)
    return tree, sum(
        bool(line.strip()) and not line.strip().startswith("#") and at not in documents
        for at, line in lines
    )


def test_the_programs_stay_small_and_share_their_rules() -> None:
    rules = []
    for path in PROGRAMS.values():
        tree, count = _code(path)
        assert count < LINES
        rules.append([ast.dump(node) for node in tree.body if isinstance(node, ast.FunctionDef)])
    assert rules[0] == rules[1] and len(rules[0]) == 4
