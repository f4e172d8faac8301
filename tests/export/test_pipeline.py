"""The whole way once, on rendered fields and a toy extractor: train, calibrate, export, infer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")
pytest.importorskip("tf2onnx", reason="the export extra is not installed")

import allsub_edge
from allsub_edge.atomic import write_bytes
from allsub_edge.classes import CLASSES
from allsub_edge.cli.main import main
from allsub_edge.errors import DataError, ModelFileError, UsageError
from allsub_edge.export.pipeline import Exported, export_run
from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.render import render_field
from allsub_edge.model_file.container import read
from allsub_edge.training import backbones
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.dataset import read_dataset
from allsub_edge.training.groups import assign_groups
from allsub_edge.training.run import Run
from allsub_edge.training.session import train
from allsub_edge.training.split import make_split, write_split
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


@dataclasses.dataclass(frozen=True)
class Made:
    data: Path
    run: Path
    models: Path
    exported: list[Exported]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("whole")
    data, run, models = folder / "data", folder / "run", folder / "models"
    for label in CLASSES:
        for number in range(1, 25):
            image = encode_png(render_field(number, label))
            write_bytes(data / label / f"WBC-{label}-{number:03d}.png", image)
    samples = read_dataset(data)
    split = make_split(samples, assign_groups(samples, [], block=2), seed=1)
    write_split(split, folder / "split.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "toy", TOY)
        train(data, run, CONFIG, split_file=folder / "split.csv", say=lambda line: None)
        exported = export_run(
            run, data, models, name="toy", max_drop=0.5, no_new_misses=False, say=lambda line: None
        )
    return Made(data, run, models, exported)


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


def test_both_files_are_the_trained_network(made: Made) -> None:
    plain, small = made.exported
    assert (plain.precision, small.precision) == ("float32", "int8")
    assert plain.parity.masks_equal and small.parity.masks_equal
    assert plain.parity.same_top == 1.0
    assert plain.parity.largest_probability_difference < 1e-4
    assert small.parity.largest_probability_difference < 0.2
    # A parity test on a network that always says 0.25 would prove nothing.
    assert plain.metrics["accuracy"]["value"] > 0.5


def test_the_files_check_themselves(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for item in made.exported:
        assert main(["check", str(item.path)]) == 0
    assert "FAIL" not in capsys.readouterr().out


def test_the_manifest_tells_where_the_model_comes_from(made: Made) -> None:
    manifest = read(made.exported[1].path).manifest
    assert manifest.training["protocol"] == "grouped"
    assert manifest.training["config"]["weights"] == "none"
    assert manifest.extra["quantisation"]["integer_convolutions"] == 1.0
    assert manifest.metrics["test"]["accuracy"] == made.exported[1].metrics["accuracy"]


def test_a_field_goes_in_and_an_answer_comes_out(made: Made) -> None:
    classifier = allsub_edge.load(made.exported[1].path, threads=1)
    answers = [classifier.predict(render_field(3, label)) for label in CLASSES]
    assert all(abs(sum(a.probabilities.values()) - 1) < 1e-3 for a in answers)
    assert len({a.top for a in answers}) > 1


def test_a_file_that_lost_too_much_is_not_written(made: Made, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "toy", TOY)
        patch.setattr("allsub_edge.export.pipeline.quantise", _spoiled)
        with pytest.raises(ModelFileError, match="int8"):
            export_run(made.run, made.data, tmp_path, name="toy", say=lambda line: None)
    assert [p.name for p in tmp_path.iterdir()] == ["toy-1-float32.onnx"]


def _spoiled(source: Path, target: Path, *args: object, **options: object) -> int:
    """A quantiser that turns the class order round."""
    import onnx

    model = onnx.load(str(source))
    last = next(n for n in model.graph.node if n.op_type == "Softmax")
    order = onnx.helper.make_tensor("order", onnx.TensorProto.INT64, [4], [3, 2, 1, 0])
    model.graph.initializer.append(order)
    turned = onnx.helper.make_node("Gather", [last.input[0], "order"], ["turned"], axis=1)
    at = list(model.graph.node).index(last)
    model.graph.node.insert(at, turned)
    last.input[0] = "turned"
    onnx.save(model, str(target))
    from allsub_edge.export import onnx_int8

    real = onnx_int8.quantise
    spoiled = target.with_name("spoiled.onnx")
    onnx.save(model, str(spoiled))
    return real(spoiled, target, np.asarray(args[0]))
