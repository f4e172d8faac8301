from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.cli.main import main
from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.render import render_field
from allsub_edge.model_file import container
from tests import toy_model

onnx = pytest.importorskip("onnx", reason="building a toy model needs the extra `export`")


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fields")
    for label in CLASSES:
        (folder / label).mkdir()
        for seed in (1, 2):
            image = encode_png(render_field(seed, label))
            (folder / label / f"f{seed}.png").write_bytes(image)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The toy, the toy under another name, and one whose classes stand in another order."""
    folder = tmp_path_factory.mktemp("models")
    data = toy_model.complete()
    manifest = container.parse(data).manifest
    model = onnx.load_model_from_string(data)
    last = next(n for n in model.graph.node if n.op_type == "Softmax")
    order = onnx.numpy_helper.from_array(np.array([3, 2, 1, 0]), "order")
    model.graph.initializer.append(order)
    turn = onnx.helper.make_node("Gather", [last.input[0], "order"], ["turned"], axis=1)
    model.graph.node.insert(list(model.graph.node).index(last), turn)
    last.input[0] = "turned"
    made = {
        "toy": data,
        "again": container.embed_manifest(data, replace(manifest, version="2")),
        "turned": container.embed_manifest(model.SerializeToString(), manifest),
    }
    for name, content in made.items():
        (folder / f"{name}.onnx").write_bytes(content)
    return {name: str(folder / f"{name}.onnx") for name in made}


def test_the_same_network_is_the_same(
    files: dict[str, str], fields: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [files["toy"], files["again"], "--data", str(fields), "--max-difference", "0"]
    assert main(["verify", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("A ") and "toy 0.1, float32, field, onnxruntime" in lines[0]
    assert "toy 2" in lines[1]
    assert "8 fields: same class on 100.00 %" in lines[2]
    assert lines[-2] == "the same"


def test_every_differing_field_is_told(
    files: dict[str, str], fields: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [files["toy"], files["turned"], "--data", str(fields), "--format", "json"]
    assert main(["verify", *given]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["same"] is False and report["parity"]["masks_equal"]
    told = {item["source"] for item in report["differing"]}
    assert len(told) == round(8 * (1 - report["parity"]["same_top"])) > 0
    assert report["farthest"] in {str(path) for path in fields.rglob("*.png")}
    labelled = report["labelled"]
    assert labelled["fields"] == 8 and labelled["accuracy_a"]["total"] == 8
    for key in "ab":
        assert report[key]["sha256"] and report[key]["threads"] >= 1


def test_fields_without_a_label_are_compared_all_the_same(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.png").write_bytes(encode_png(render_field(1)))
    assert main(["verify", files["toy"], files["toy"], "--data", str(tmp_path / "f.png")]) == 0
    out = capsys.readouterr().out
    assert "1 field: same class" in out and "accuracy" not in out


def test_what_cannot_be_compared_is_one_line(
    files: dict[str, str], fields: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = [files["toy"], files["toy"]]
    for arguments in (
        ["verify", *pair, "--data", str(tmp_path)],
        ["verify", *pair, "--data", str(fields), "--max-difference", "2"],
        ["verify", *pair, "--data", str(fields), "--engine-b", "litert"],
        ["verify", files["toy"], str(tmp_path / "none.onnx"), "--data", str(fields)],
    ):
        assert main(arguments) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
