"""The files of a cross-fit are judged by the files of its folds, on fields those never saw."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")
pytest.importorskip("tf2onnx", reason="the export extra is not installed")

from allsub_edge.atomic import write_bytes
from allsub_edge.classes import CLASSES
from allsub_edge.cli.main import main
from allsub_edge.errors import DataError, ModelFileError
from allsub_edge.export import formats as known
from allsub_edge.export import out_of_fold
from allsub_edge.export.material import load_material
from allsub_edge.export.onnx_int8 import Quantisation
from allsub_edge.export.parity import Parity
from allsub_edge.export.pooled import Pooled
from allsub_edge.export.subject import FoldSource, fold_runs
from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.render import render_field
from allsub_edge.model_file.container import read
from allsub_edge.training import backbones, crossfit
from allsub_edge.training.calibrate import softmax
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.run import Run
from allsub_edge.training.split import read_split
from tests.training.toy import TOY

CONFIG = TrainConfig(
    backbone="toy", epochs=4, head_epochs=0, batch_size=8, frozen_blocks=0, dense=8, dropout=0.0,
    frozen_batch_norm=False, learning_rate=5e-3, warmup_steps=2, augment="none", ema=0.5,
)  # fmt: skip
FORMATS = ("onnx-float32", "onnx-int8", "tflite-int8")
LOOSE = ["--max-drop", "0.9", "--allow-new-misses", "--no-timing"]


@dataclasses.dataclass(frozen=True)
class Made:
    data: Path
    folder: Path
    models: Path
    code: int

    @property
    def final(self) -> Path:
        return self.folder / "final"

    def arguments(self, out: Path, *more: str) -> list[str]:
        places = ["--data", str(self.data), "--out", str(out), "--name", "toy"]
        return ["export", str(self.final), *places, *more]

    def table(self) -> list[dict[str, str]]:
        with (self.folder / out_of_fold.TABLE).open(newline="") as stream:
            return list(csv.DictReader(stream))


@pytest.fixture(autouse=True, scope="module")
def _toy_backbone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "toy", TOY)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, _toy_backbone: None) -> Made:
    folder = tmp_path_factory.mktemp("crossfit")
    data, out, models = folder / "data", folder / "runs", folder / "models"
    for label in CLASSES:
        for stretch in range(6):
            image = encode_png(render_field(stretch, label))
            write_bytes(data / label / f"WBC-{label}-{30 * stretch + 1:03d}.png", image)
    crossfit.crossfit(data, out, CONFIG, folds=2, say=lambda line: None)
    whole = Made(data, out, models, 0)
    card = ["--card", str(models / "CARD.md")]
    code = main(whole.arguments(models, "--formats", ",".join(FORMATS), *card, *LOOSE))
    return dataclasses.replace(whole, code=code)


def test_every_field_is_answered_once_by_a_network_that_did_not_see_it(made: Made) -> None:
    assert made.code == 0
    rows = made.table()
    assert len(rows) == len({row["file"] for row in rows}) == 24
    for row in rows:
        learned = {
            r.file
            for r in read_split(made.folder / f"fold{row['fold']}" / "split.csv").rows
            if r.role == "train"
        }
        assert row["file"] not in learned and row["file"].startswith(row["class"])


def test_the_table_holds_what_the_networks_said(made: Made) -> None:
    rows = made.table()
    for number in (1, 2):
        run = Run(made.folder / f"fold{number}")
        logits = run.read_arrays(crossfit.ANSWERS)["logits_plain"]
        wanted = softmax(logits / np.float32(run.read_json("calibration.json")["temperature"]))
        mine = [row for row in rows if row["fold"] == str(number)]
        found = np.array([[float(row[f"network:{c}"]) for c in CLASSES] for row in mine])
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    exact = np.array([[float(row[f"onnx-float32:{c}"]) for c in CLASSES] for row in rows])
    network = np.array([[float(row[f"network:{c}"]) for c in CLASSES] for row in rows])
    np.testing.assert_allclose(exact, network, atol=1e-3)
    assert np.ptp(network, axis=0).max() > 0.1, "networks that always answer alike prove nothing"
    assert {row["onnx-int8:status"] for row in rows} <= {"ok", "uncertain", "unfit"}


def test_the_manifest_counts_the_folds_answers_and_says_so(made: Made) -> None:
    rows = made.table()
    for name, file in (("onnx-int8", "toy-1-int8.onnx"), ("tflite-int8", "toy-1-int8.tflite")):
        metrics = read(made.models / file).manifest.metrics
        assert "test" not in metrics
        found = metrics["out_of_fold"]
        assert found["folds"] == 2 and "out-of-fold, 2 folds" in found["how"]
        answers = np.array([[float(row[f"{name}:{c}"]) for c in CLASSES] for row in rows])
        labels = np.array([CLASSES.index(row["class"]) for row in rows])
        right = answers.argmax(1) == labels
        assert found["accuracy"]["count"] == right.sum() and found["accuracy"]["total"] == 24
        assert found["all_called_benign"]["total"] == 18
        said = Counter(row[f"{name}:status"] for row in rows)
        assert {s: rate["count"] for s, rate in found["said"].items()} == {
            s: said[s] for s in ("ok", "uncertain", "unfit")
        }
        assert sum(rate["total"] for rate in found["by_fold"]) == 24
        assert (
            sum(rate["count"] for rate in found["coverage"].values()) == (found["covered"]["count"])
        )
        assert 0 <= found["mean_set_size"] <= 4
        for entry in ("gains_10", "gains_20", "scale_bar_hidden"):
            assert metrics[f"out_of_fold_{entry}"]["fields"] == 24
        assert metrics["parity_with_trained_network"]["fields"] == 24
        # This very file, against its own network, on fields that it learned from.
        assert metrics["parity_on_training_fields"]["masks_equal"]
    evaluation = Run(made.final).read_json("evaluation.json")
    exact = read(made.models / "toy-1-float32.onnx").manifest.metrics
    assert exact["out_of_fold"]["accuracy"] == evaluation["plain"]["accuracy"]
    assert exact["out_of_fold"]["mean_set_size"] == evaluation["mean_set_size"]


def test_the_reports_and_the_card_tell_whose_answers_these_are(made: Made) -> None:
    report = json.loads((made.models / "validation" / "toy-1-validation.json").read_text())
    assert report["folds"] == 2 and report["test_fields"] == 0
    assert all(row["folds"] == 2 for row in report["rows"])
    text = (made.models / "validation" / "toy-1-validation.txt").read_text()
    assert "each by a file of the one of 2 folds that did not learn its group" in text
    card = (made.models / "CARD.md").read_text()
    assert "| out of fold, 2 folds | float32, onnx | int8, tflite | int8, onnx |" in card
    assert "| fold 2 | 12 |" in card and "## Confusion matrix, int8, out of fold" in card
    assert "on unseen groups. This very file cannot be measured: its network has seen" in card
    # Rendered fields: the public data set and what is known of it are not named.
    assert "\n\nA data set of 24 fields in 24 groups. Split protocol" in card
    assert "2 folds, each of them in every class one run of neighbouring whole groups, cut" in card
    assert "Trained and tested on one data set." in card and "like those it learned from" in card
    assert not any(word in card for word in ("mehradaria", "public", "laboratory", "1024x768"))
    assert "| accuracy, fold 2 |" in card and "| accuracy, fold 3 |" not in card
    assert ("## Latency" in card) is ("--no-timing" not in LOOSE)
    assert "test role" not in card and "calibration role" not in card


def test_ranges_and_agreement_come_from_training_fields_evenly_over_classes(made: Made) -> None:
    material = load_material(Run(made.final), made.data, calibration_fields=8)
    assert material.seen and len(material.calibration) == 8
    assert np.bincount(material.labels).tolist() == [4, 4, 4, 4]
    both = {f.tobytes() for f in material.calibration} & {f.tobytes() for f in material.test}
    assert not both
    fold = load_material(Run(made.folder / "fold1"), made.data)
    assert not fold.seen and len(fold.labels) == 12


def test_a_format_that_fails_on_unseen_fields_is_not_written(made: Made, tmp_path: Path) -> None:
    rows = made.table()
    network = np.array([[row[f"network:{c}"] for c in CLASSES] for row in rows], np.float32)
    labels = np.array([CLASSES.index(row["class"]) for row in rows])

    def worse(self: Any, entry: Any, kept: Any = ()) -> Pooled:
        spoiled = entry.precision != "float32"
        if spoiled:
            asked.append(list(kept))
        # Nought fields stands for spoiled, see the verdict below.
        return Pooled(
            labels=labels,
            fold=np.repeat([1, 2], 12),
            reference=network,
            probabilities=network,
            changed={},
            status=np.full(24, "ok"),
            sets=np.ones((24, 4), bool),
            parity=Parity(0 if spoiled else 24, 0.0, 1.0, 0.0, True, int(spoiled)),
            share=1.0 if spoiled else None,
        )

    asked: list[list[int]] = []
    more = ["--formats", "onnx-float32,onnx-int8", "--no-timing"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out_of_fold.OutOfFold, "pooled", worse)
        patch.setattr("allsub_edge.export.attempt.RETRIES", 1)
        patch.setattr(
            "allsub_edge.export.attempt.Gate.verdict",
            lambda self, precision, before, after, parity: "" if parity.fields else "spoiled",
        )
        assert main(made.arguments(tmp_path, *more)) == 1
    assert [path.name for path in tmp_path.glob("*.onnx")] == ["toy-1-float32.onnx"]
    report = json.loads((tmp_path / "validation" / "toy-1-validation.json").read_text())
    assert report["rows"][1]["note"].startswith("spoiled, none with a label (out of fold)")
    # The folds' files are made again with the same layers in float.
    assert [len(places) for places in asked] == [0, 1]


def test_a_new_miss_counts_as_labelled_if_the_device_stands_for_it() -> None:
    benign, early = [0.6, 0.4, 0, 0], [0.4, 0.6, 0, 0]
    pooled = Pooled(
        labels=np.array([1, 1, 1, 1, 0]),
        fold=np.ones(5, np.int64),
        reference=np.array([early, early, benign, early, early], np.float32),
        probabilities=np.array([benign, benign, benign, early, benign], np.float32),
        changed={},
        # New with a label, new without one, not new, not missed, not ALL.
        status=np.array(["ok", "uncertain", "ok", "ok", "ok"]),
        sets=np.ones((5, 4), bool),
        parity=Parity(5, 0.0, 1.0, 0.0, True, 2),
        share=1.0,
    )
    assert pooled.labelled_misses() == 1


def test_a_fold_that_cannot_be_opened_fails_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = np.full((4, 4), 0.25, np.float32), np.ones(4), np.ones((4, 2, 2))
    fields = SimpleNamespace(labels=np.arange(4), test=[None] * 4, calibration=[])
    about = {"recipe": {"name": "cells"}}
    subject = SimpleNamespace(
        material=fields, network=None, temperature=1.0, domain={}, about=about
    )
    opened: list[str] = []

    def open_run(folder: Path, *rest: Any) -> Any:
        opened.append(folder.name)
        if folder.name == broken:
            raise DataError("bad_calibration", "a field of it is damaged")
        return subject

    part = out_of_fold._Part(answer, {}, ["ok"] * 4, [[True] * 4] * 4, 1.0)
    monkeypatch.setattr(out_of_fold, "open_run", open_run)
    monkeypatch.setattr(out_of_fold, "_stored", lambda *rest: answer)
    monkeypatch.setattr(out_of_fold, "MODELS", {"field": lambda *rest: None})
    monkeypatch.setattr(out_of_fold, "fusable", lambda *rest: None)
    monkeypatch.setattr(out_of_fold, "makers_of", lambda *rest: {"onnx": None, "tflite": None})
    monkeypatch.setattr(out_of_fold.OutOfFold, "_part", lambda *rest: part)
    names = ["onnx-int8", "tflite-int8"]
    runs = tuple(Run(tmp_path / f"fold{number}") for number in (1, 2, 3))

    def judge() -> out_of_fold.OutOfFold:
        source = FoldSource(runs, tmp_path)
        return out_of_fold.OutOfFold(source, names, "field", Quantisation(), lambda line: None)

    broken = "fold3"
    folds = judge()
    for name in names:
        with pytest.raises(DataError, match="a field of it is damaged"):
            folds.pooled(known.FORMATS[name])
    assert opened == ["fold1", "fold2", "fold3"]
    broken, folds = "", judge()
    for name in names:
        pooled = folds.pooled(known.FORMATS[name])
        assert len(pooled.labels) == 12 and pooled.metrics()["out_of_fold"]["folds"] == 3


def test_answers_of_too_few_folds_are_not_joined(tmp_path: Path) -> None:
    source = FoldSource((Run(tmp_path / "fold1"), Run(tmp_path / "fold2")), tmp_path)
    judge = out_of_fold.OutOfFold(source, ["onnx-int8"], "field", Quantisation(), print)
    with pytest.raises(ModelFileError, match="0 of 2 folds answered"):
        judge._joined([])


def test_a_final_run_without_its_folds_cannot_be_judged(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.final, tmp_path / "alone" / "final")
    with pytest.raises(DataError, match="nothing unseen could judge"):
        fold_runs(Run(tmp_path / "alone" / "final"))
    shutil.copytree(made.final, tmp_path / "half" / "final")
    shutil.copytree(made.folder / "fold1", tmp_path / "half" / "fold1")
    with pytest.raises(DataError, match="exactly once"):
        fold_runs(Run(tmp_path / "half" / "final"))
    shutil.copytree(made.folder / "fold2", tmp_path / "half" / "fold2")
    assert len(fold_runs(Run(tmp_path / "half" / "final"))) == 2
    stored = json.loads((tmp_path / "half" / "fold2" / "config.json").read_text())
    stored["config"]["dense"] = 16
    (tmp_path / "half" / "fold2" / "config.json").write_text(json.dumps(stored))
    with pytest.raises(DataError, match="another configuration"):
        fold_runs(Run(tmp_path / "half" / "final"))
