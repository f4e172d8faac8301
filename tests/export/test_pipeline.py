"""The whole way once, on rendered fields and a toy extractor: train, calibrate, export, infer."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")
pytest.importorskip("tf2onnx", reason="the export extra is not installed")

import allsub_edge
from allsub_edge.atomic import write_bytes
from allsub_edge.classes import CLASSES
from allsub_edge.cli.main import main
from allsub_edge.engines.base import two_channels
from allsub_edge.errors import DataError, ModelFileError, UsageError
from allsub_edge.export import makers
from allsub_edge.export.formats import FORMATS
from allsub_edge.export.fuse import fuse_file
from allsub_edge.export.pipeline import export_run, load_material
from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.render import render_field
from allsub_edge.model_file.container import read
from allsub_edge.training import backbones
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.dataset import read_dataset
from allsub_edge.training.groups import assign_groups
from allsub_edge.training.run import Run
from allsub_edge.training.split import make_split, write_split
from allsub_edge.training.train import train
from tests.training.toy import TOY

CONFIG = TrainConfig(
    backbone="toy",
    epochs=12,
    patience=12,
    head_epochs=0,
    batch_size=8,
    frozen_blocks=0,
    frozen_batch_norm=False,
    dense=8,
    dropout=0.0,
    learning_rate=5e-3,
    warmup_steps=2,
    augment="none",
    ema=0.5,
)


LOOSE = ["--max-drop", "0.5", "--allow-new-misses"]


@dataclasses.dataclass(frozen=True)
class Made:
    data: Path
    run: Path
    models: Path
    told: str
    code: int

    def arguments(self, out: Path, *more: str) -> list[str]:
        places = ["--data", str(self.data), "--out", str(out), "--name", "toy"]
        return ["export", str(self.run), *places, *more]

    def report(self) -> dict[str, Any]:
        path = self.models / "validation" / "toy-1-validation.json"
        return json.loads(path.read_text())

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["format"]: row for row in self.report()["rows"]}


@pytest.fixture(autouse=True, scope="module")
def _toy_backbone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "toy", TOY)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, _toy_backbone: None) -> Made:
    folder = tmp_path_factory.mktemp("whole")
    data, run, models = folder / "data", folder / "run", folder / "models"
    for label in CLASSES:
        for number in range(1, 25):
            image = encode_png(render_field(number, label))
            write_bytes(data / label / f"WBC-{label}-{number:03d}.png", image)
    samples = read_dataset(data)
    split = make_split(samples, assign_groups(samples, [], block=2), seed=1)
    write_split(split, folder / "split.csv")
    train(data, run, CONFIG, split_file=folder / "split.csv", say=lambda line: None)
    whole = Made(data, run, models, "", 0)
    told = io.StringIO()
    with contextlib.redirect_stdout(told), pytest.MonkeyPatch.context() as patch:
        patch.setattr("allsub_edge.export.pipeline.TIMED_S", 0.05)
        code = main(whole.arguments(models, "--formats", "all", "--explain", *LOOSE))
    return dataclasses.replace(whole, told=told.getvalue(), code=code)


def test_the_run_folder_is_whole(made: Made) -> None:
    run = Run(made.run)
    assert run.config() == CONFIG
    evaluation = run.read_json("evaluation.json")
    assert evaluation["protocol"] == "grouped"
    assert 0 <= evaluation["plain"]["accuracy"]["interval95"][0] <= 1
    assert "shortcut_background_colour" in evaluation
    calibration = run.read_json("calibration.json")
    assert set(calibration["conformal"]) == set(CLASSES)
    assert calibration["domain_threshold"] > 0
    assert not list(made.run.glob("*.part*"))


def test_another_configuration_does_not_overwrite_a_run(made: Made) -> None:
    other = dataclasses.replace(CONFIG, epochs=6)
    with pytest.raises(UsageError, match="another --out"):
        train(made.data, made.run, other, say=lambda line: None)


def test_changed_data_is_noticed(made: Made, tmp_path: Path) -> None:
    for path in made.data.rglob("*.png"):
        write_bytes(tmp_path / path.relative_to(made.data), path.read_bytes())
    write_bytes(tmp_path / "Pro" / "WBC-Pro-001.png", encode_png(render_field(99, "Pro")))
    with pytest.raises(DataError, match="not the fields"):
        train(tmp_path, made.run, CONFIG, say=lambda line: None)


def test_every_format_is_written_and_is_the_trained_network(made: Made) -> None:
    assert made.code == 0, made.told
    rows = made.rows()
    assert list(rows) == list(FORMATS)
    for name, row in rows.items():
        parity = row["parity_with_trained_network"]
        assert row["status"] == "written" and row["file"], name
        assert parity["masks_equal"], name
        if "float" in name:
            assert parity["largest_probability_difference"] < (1e-4 if "32" in name else 0.05)
        # Eight bits for one scale are few for a network of four layers, trained on 60 fields.
        assert parity["same_top"] >= 0.75, name
        assert (made.models / row["file"]).stat().st_size == row["size"]
    assert rows["onnx-float32"]["parity_with_trained_network"]["same_top"] == 1.0
    # A parity test on a network that always says 0.25 would prove nothing.
    assert rows["onnx-float32"]["metrics"]["accuracy"]["value"] > 0.5


def test_integer_files_are_integer(made: Made) -> None:
    rows = made.rows()
    for name in ("onnx-int8", "onnx-int8-per-tensor", "onnx-dynamic"):
        assert rows[name]["share"] == 1.0, name
    for name in ("tflite-int8", "tflite-int8-per-tensor", "tflite-int16x8"):
        assert rows[name]["share"] == 1.0, name
    assert rows["onnx-float16"]["share"] is None
    size = {name: row["size"] for name, row in rows.items()}
    assert size["onnx-float16"] < size["onnx-float32"]


def test_latency_and_memory_are_measured(made: Made) -> None:
    for row in made.rows().values():
        assert 0 < row["p50_ms"] < 10_000 and row["threads"] == 1
        assert row["peak_mib"] is None or 30 < row["peak_mib"] < 1000, "of a process of its own"
    engines = {name: row["engine"].split()[0] for name, row in made.rows().items()}
    assert {e for n, e in engines.items() if n.startswith("onnx")} == {"onnxruntime"}
    assert {e for n, e in engines.items() if n.startswith("tflite")} == {"litert"}


def test_the_table_and_its_reports(made: Made) -> None:
    text = (made.models / "validation" / "toy-1-validation.txt").read_text()
    head = next(line for line in text.splitlines() if line.startswith("format"))
    for column in ("status", "MB", "accuracy %", "same class %", "max dp", "new misses", "p50 ms"):
        assert column in head
    assert all(f"\n{name} " in text for name in FORMATS)
    assert head in made.told
    image = cv2.imread(str(made.models / "validation" / "toy-1-validation.png"))
    assert image is not None and np.ptp(image) > 0


def test_explain_shows_every_layer_of_the_static_files(made: Made) -> None:
    rows = made.rows()
    for name in ("onnx-int8", "tflite-int8", "tflite-int16x8"):
        layers = {layer["layer"]: layer for layer in rows[name]["layers"]}
        assert len(layers) == 4, name
        assert all(0 < layer["error"] < 1 for layer in layers.values()), name
    wide = max(layer["error"] for layer in rows["tflite-int16x8"]["layers"])
    assert wide <= 1.1 * max(layer["error"] for layer in rows["tflite-int8"]["layers"])
    assert "own: what the layer adds" in made.told


def test_the_files_check_themselves(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for row in made.rows().values():
        engine = ["--engine", "litert"] if row["file"].endswith("tflite") else []
        assert main(["check", str(made.models / row["file"]), *engine]) == 0
    assert "FAIL" not in capsys.readouterr().out


def test_every_onnx_file_passes_the_full_checker(made: Made) -> None:
    import onnx

    files = sorted(made.models.glob("*.onnx"))
    assert len(files) == 5
    for path in files:
        onnx.checker.check_model(str(path), full_check=True)


def test_the_manifest_tells_where_the_model_comes_from(made: Made) -> None:
    manifest = read(made.models / "toy-1-int8.onnx").manifest
    assert manifest.training["protocol"] == "grouped"
    assert manifest.training["config"]["weights"] == "none"
    quantisation, conversion = manifest.extra["quantisation"], manifest.extra["conversion"]
    assert quantisation["integer_convolutions"] == 1.0 and quantisation["kept_in_float"] == []
    assert quantisation["per_channel"] and quantisation["activation_type"] == "uint8"
    assert (conversion["opset"], conversion["ir_version"]) == (17, 8)
    test = made.rows()["onnx-int8"]["metrics"]
    assert manifest.metrics["test"]["accuracy"] == test["accuracy"]
    operators = read(made.models / "toy-1-dynamic-int8.tflite").manifest.extra["conversion"]
    # tflite-runtime 2.14 does not have version 12.
    assert operators["operators"]["FULLY_CONNECTED"] < 12


def test_a_field_goes_in_and_an_answer_comes_out(made: Made) -> None:
    for name in ("toy-1-int8.onnx", "toy-1-int8.tflite"):
        with allsub_edge.load(made.models / name, threads=1) as classifier:
            answers = [classifier.predict(render_field(3, label)) for label in CLASSES]
        assert all(abs(sum(a.probabilities.values()) - 1) < 1e-3 for a in answers)
        assert len({a.top for a in answers}) > 1


def test_verify_compares_formats(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (str(made.models / f"toy-1-float32.{kind}") for kind in ("onnx", "tflite"))
    data = ["--data", str(made.data / "Pre"), str(made.data / "Pro"), "--threads", "1"]
    assert main(["verify", a, b, *data, "--max-difference", "0.001"]) == 0
    told = capsys.readouterr().out
    assert "48 fields: same class on 100.00 %" in told and "the same" in told
    assert "onnxruntime" in told and "litert" in told and "accuracy B" in told


def test_the_two_channel_files_answer_as_the_field_files_do(made: Made, tmp_path: Path) -> None:
    more = ["--interfaces", "two-channel", "--formats", "onnx-float32,onnx-int8,tflite-float32"]
    assert main(made.arguments(tmp_path, *more, "--no-timing", *LOOSE)) == 0
    fields = np.stack([render_field(5, label) for label in CLASSES])
    from allsub_edge.engines import open_engine

    with contextlib.ExitStack() as stack:

        def answer(path: Path) -> Any:
            engine = open_engine(read(path), threads=1)
            stack.callback(engine.close)
            return engine

        expected = answer(made.models / "toy-1-float32.onnx").run(fields)
        for kind in ("onnx", "tflite"):
            engine = answer(tmp_path / f"toy-1-two-channel-float32.{kind}")
            found = engine.run(fields)
            np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
            np.testing.assert_array_equal(found.mask, expected.mask)
            # A program that feeds its own channels gets the same.
            own = engine.run_feed(two_channels(fields[:1], "cells"))
            np.testing.assert_array_equal(own.probabilities[0], found.probabilities[0])
    manifest = read(tmp_path / "toy-1-two-channel-int8.onnx").manifest
    assert manifest.interface == "two-channel"
    assert manifest.input["names"] == ["original", "segmented"]


def test_calibration_fields_may_come_from_elsewhere_but_not_from_the_test_role(
    made: Made, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for number in range(4):
        write_bytes(other / f"{number}.png", encode_png(render_field(200 + number, "Pre")))
    more = ["--formats", "onnx-int8", "--no-timing", *LOOSE, "--calibration"]
    assert main(made.arguments(tmp_path / "out", *more, str(other))) == 0
    manifest = read(tmp_path / "out" / "toy-1-int8.onnx").manifest
    assert manifest.extra["quantisation"]["calibration_fields"] == 4
    with pytest.raises(DataError, match="test fields"):
        load_material(Run(made.run), made.data, calibration=made.data)
    with pytest.raises(DataError, match="--calibration"):
        load_material(Run(made.run), made.data, calibration=tmp_path / "out")


def test_a_file_that_lost_too_much_is_not_written(made: Made, tmp_path: Path) -> None:
    tried: list[tuple[str, ...]] = []

    def spoiled(self: Any, entry: Any, keep_float: Sequence[str] = ()) -> Any:
        result = real(self, entry, keep_float)
        if entry.precision != "int8":
            return result
        tried.append(tuple(keep_float))
        return dataclasses.replace(result, data=_turned(result.data))

    real = makers.OnnxMaker.make
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(makers.OnnxMaker, "make", spoiled)
        assert main(made.arguments(tmp_path, "--no-timing")) == 1
        with pytest.raises(ModelFileError, match="int8"):
            export_run(made.run, made.data, tmp_path / "run", name="toy", say=lambda line: None)
    assert [p.name for p in tmp_path.glob("*.*")] == ["toy-1-float32.onnx"]
    report = json.loads((tmp_path / "validation" / "toy-1-validation.json").read_text())
    refused = report["rows"][1]
    assert refused["status"] == "refused" and "loses" in refused["note"]
    assert refused["file"] is None and refused["attempts"] == 4
    # Tried again with more and more layers in float, the worst first.
    assert tried[0] == () and [len(kept) for kept in tried[:4]] == [0, 1, 1, 1]
    assert tried[1][0] == max(refused["layers"], key=lambda x: x["own"])["layer"] or tried[1]


def test_a_file_can_be_left_as_it_was_converted(made: Made, tmp_path: Path) -> None:
    more = ["--formats", "onnx-float32", "--no-timing", "--as-converted"]
    assert main(made.arguments(tmp_path, *more)) == 0
    path = tmp_path / "toy-1-float32.onnx"
    assert read(path).manifest.extra["conversion"]["fused"] == []
    assert fuse_file(path)


def test_layers_kept_in_float_can_save_a_file(made: Made, tmp_path: Path) -> None:
    def spoiled(self: Any, entry: Any, keep_float: Sequence[str] = ()) -> Any:
        result = real(self, entry, keep_float)
        return result if keep_float else dataclasses.replace(result, data=_turned(result.data))

    real = makers.OnnxMaker.make
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(makers.OnnxMaker, "make", spoiled)
        patch.setattr("allsub_edge.export.pipeline.MAX_DROP", 0.5)
        gate = ["--max-drop", "0.2", "--allow-new-misses"]
        more = ["--formats", "onnx-int8", "--no-timing", *gate]
        assert main(made.arguments(tmp_path, *more)) == 0
    told = read(tmp_path / "toy-1-int8.onnx").manifest.extra["quantisation"]
    assert len(told["kept_in_float"]) == 1 and told["attempts"] == 2
    assert told["integer_convolutions"] == 0.75


def test_a_format_that_cannot_be_is_a_row(made: Made, tmp_path: Path) -> None:
    def fails(*args: Any, **options: Any) -> Any:
        raise RuntimeError("HARD_SWISH knows no\nint16")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("allsub_edge.export.makers.tflite_int8.quantise_extractor", fails)
        formats = ["--formats", "tflite-float32,tflite-int16x8", "--no-timing"]
        assert main(made.arguments(tmp_path, *formats)) == 1
    report = json.loads((tmp_path / "validation" / "toy-1-validation.json").read_text())
    row = report["rows"][1]
    assert (row["status"], row["note"]) == ("cannot", "RuntimeError: HARD_SWISH knows no int16")
    assert [p.name for p in tmp_path.glob("*.*")] == ["toy-1-float32.tflite"]


def test_an_unknown_format_is_refused_before_any_work(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(made.arguments(tmp_path, "--formats", "onnx-int4")) == 2
    assert "choose from all, onnx, tflite, onnx-float32" in capsys.readouterr().err


def test_the_module_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "allsub_edge.export", "--help"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "--formats" in done.stdout


def _turned(data: bytes) -> bytes:
    """The model with its classes in the opposite order."""
    import onnx

    model = onnx.load_model_from_string(data)
    last = next(n for n in model.graph.node if n.op_type == "Softmax")
    order = onnx.helper.make_tensor("order", onnx.TensorProto.INT64, [4], [3, 2, 1, 0])
    model.graph.initializer.append(order)
    turned = onnx.helper.make_node("Gather", [last.input[0], "order"], ["turned"], axis=1)
    model.graph.node.insert(list(model.graph.node).index(last), turned)
    last.input[0] = "turned"
    return model.SerializeToString()
