"""Every field is answered once, by a network that did not learn from its group."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

from allsub_edge.atomic import write_bytes
from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError, UsageError
from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.render import render_field
from allsub_edge.quality import measure
from allsub_edge.training import backbones, crossfit, out_of_fold, session
from allsub_edge.training.calibrate import softmax
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.run import Run
from allsub_edge.training.split import read_split
from tests.training.toy import TOY

CONFIG = TrainConfig(
    backbone="toy", epochs=1, head_epochs=0, batch_size=8, size=64, frozen_blocks=0,
    frozen_batch_norm=False, dense=8, augment="none", ema=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for label in CLASSES:
        for stretch in range(6):
            for number in (10 * stretch + 1, 10 * stretch + 2):
                image = encode_png(render_field(number, label))
                write_bytes(folder / label / f"WBC-{label}-{number:03d}.png", image)
    return folder


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("crossfit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "toy", TOY)
        crossfit.crossfit(data, out, CONFIG, folds=2, alpha=0.2, say=lambda line: None)
    return out


def test_a_fold_learns_from_all_other_groups_and_the_final_from_everything(made: Path) -> None:
    tested: list[str] = []
    for number in (1, 2):
        rows = read_split(made / f"fold{number}" / "split.csv").rows
        groups = {role: {r.group for r in rows if r.role == role} for role in ("train", "test")}
        assert {row.role for row in rows} == {"train", "test"}
        assert not groups["train"] & groups["test"]
        tested += [row.file for row in rows if row.role == "test"]
    final = read_split(made / "final" / "split.csv")
    assert {row.role for row in final.rows} == {"train"}
    assert sorted(tested) == sorted(row.file for row in final.rows)


def test_thresholds_and_rates_come_from_the_answers_of_the_folds(made: Path) -> None:
    parts = [Run(made / f"fold{n}").read_arrays(out_of_fold.ANSWERS) for n in (1, 2)]
    logits = np.concatenate([part["logits_plain"] for part in parts])
    assert logits.shape == (48, 4)
    assert not np.allclose(logits, np.concatenate([p["logits_gains_20"] for p in parts]))
    final = Run(made / "final")
    evaluation = final.read_json("evaluation.json")
    assert evaluation["plain"]["fields"] == 48
    assert sum(rate["total"] for rate in evaluation["by_fold"]) == 48
    labels = np.concatenate(
        [
            [CLASSES.index(r.label) for r in read_split(made / f"fold{n}" / "split.csv").rows
             if r.role == "test"]
            for n in (1, 2)
        ]
    )  # fmt: skip
    right = int((softmax(logits).argmax(1) == labels).sum())
    assert evaluation["plain"]["accuracy"]["count"] == right
    fitted = final.read_json("calibration.json")
    assert fitted["alpha"] == 0.2
    assert set(fitted["conformal"]) == set(CLASSES)
    assert fitted["quality"]
    assert fitted["domain_threshold"] > 0


def test_a_fold_is_a_complete_run_judged_by_the_other_folds(made: Path) -> None:
    folds = [Run(made / f"fold{n}") for n in (1, 2)]
    fitted = [run.read_json("calibration.json") for run in folds]
    tested = [run.read_json("evaluation.json")["plain"]["fields"] for run in folds]
    assert [f["fields"] for f in fitted] == tested[::-1], "its thresholds are the other fold's"
    assert sum(tested) == 48


def test_the_domain_reaches_as_far_as_the_farthest_fold() -> None:
    found = out_of_fold.OutOfFold(
        logits={},
        labels=np.zeros(300, np.int64),
        distance=np.repeat(np.float32([1.0, 5.0, 2.0]), 100),
        shortcut=np.zeros(300, np.int64),
        fold=np.repeat([0, 1, 2], 100),
        quality=[],
    )
    assert out_of_fold.reach(found, found.fold >= 0) == 5
    assert out_of_fold.reach(found, found.fold != 1) == 2, "the fold that is judged has no say"


def test_the_rates_of_a_fold_do_not_use_its_own_thresholds() -> None:
    # Fold 0 is answered with certainty, fold 1 at random: thresholds that fold 1 takes from fold 0
    # are too narrow for it, which a threshold from all fields would hide.
    rng = np.random.default_rng(1)
    labels = np.tile(np.arange(4), 20).astype(np.int64)
    sure = 20 * np.eye(4, dtype=np.float32)[labels[:40]]
    logits = np.concatenate([sure, 3 * rng.normal(size=(40, 4)).astype(np.float32)])
    found = out_of_fold.OutOfFold(
        logits=dict.fromkeys(out_of_fold.SPREADS, logits),
        labels=labels,
        distance=np.repeat(np.float32([1.0, 9.0]), 40),
        shortcut=np.zeros(80, np.int64),
        fold=np.repeat([0, 1], 40),
        quality=[measure(render_field(1), np.ones((224, 224), np.uint8), 0.0)] * 80,
    )
    limits = [out_of_fold.limits_on(found, found.fold != fold, 0.1) for fold in (0, 1)]
    result = out_of_fold.evaluation(found, limits, np.ones(80, bool))
    assert result["within_domain"]["count"] == 40, "fold 1 lies beyond what fold 0 calls near"
    assert sum(rate["count"] for rate in result["coverage"].values()) < 70
    assert result["shortcut_background_colour"]["count"] == 20


def test_it_goes_on_where_it_stopped(
    data: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)

    def trained_again(*arguments: object) -> None:
        raise AssertionError("a finished network was trained again")

    monkeypatch.setattr("allsub_edge.training.train.Trainer.fit", trained_again)
    before = (made / "final" / "calibration.json").read_bytes()
    crossfit.crossfit(data, made, CONFIG, folds=2, alpha=0.2, say=lambda line: None)
    assert (made / "final" / "calibration.json").read_bytes() == before


def test_what_the_folds_say_is_known_before_the_final_network(
    data: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)
    settled = ("calibration.json", "evaluation.json")
    for name in ("fold1", "fold2"):
        shutil.copytree(made / name, tmp_path / name, ignore=shutil.ignore_patterns(*settled))

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("allsub_edge.training.train.Trainer.fit", killed)
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        crossfit.crossfit(data, tmp_path, CONFIG, folds=2, alpha=0.2, say=said.append)
    for name in ("fold1", "fold2"):
        for file in settled:
            assert (tmp_path / name / file).read_bytes() == (made / name / file).read_bytes()
    rate = Run(made / "final").read_json("evaluation.json")["plain"]["accuracy"]
    assert f"out of fold {rate['count']} of 48 fields are right" in said


def test_another_configuration_is_refused(
    data: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)
    other = dataclasses.replace(CONFIG, dense=16)
    with pytest.raises(UsageError, match="another configuration"):
        crossfit.crossfit(data, made, other, folds=2, say=lambda line: None)


def test_other_starting_weights_under_the_same_name_are_refused(
    data: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)
    began = made / "fold1" / "config.json"
    stored = began.read_text()
    run = Run(made / "fold1")
    weights = tmp_path / "start.h5"
    weights.write_bytes(b"other weights")
    config = dataclasses.replace(CONFIG, weights=str(weights), train_on_validation=True)
    elsewhere = dataclasses.replace(config, weights="elsewhere/start.h5").to_dict()
    run.write_json(
        "config.json",
        {**run.read_json("config.json"), "config": elsewhere, "sources": {"weights": "0" * 64}},
    )
    refused = r"not the starting weights that .*fold1 began with"
    try:
        with pytest.raises(DataError, match=refused):
            session.open_session(data, run, config, None, lambda line: None)
        with pytest.raises(DataError, match=refused):
            # This fold is finished, and is not opened again.
            crossfit.crossfit(data, made, config, folds=2, say=lambda line: None)
        # Where they are not at hand, a run can go on: its checkpoint holds every weight.
        weights.unlink()
        session.open_session(data, run, config, None, lambda line: None)
    finally:
        began.write_text(stored)


def test_what_lies_there_of_another_crossfit_is_noticed_before_any_training(
    data: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)

    def attempt(folder: Path, folds: int = 2, **changes: object) -> None:
        config = dataclasses.replace(CONFIG, **changes)
        crossfit.crossfit(folder, made, config, folds=folds, alpha=0.2, say=lambda line: None)

    with pytest.raises(UsageError, match="the folds were cut otherwise"):
        attempt(data, folds=3)
    (made / "fold3").mkdir()
    try:
        with pytest.raises(UsageError, match="holds more than 2 folds"):
            attempt(data)
    finally:
        (made / "fold3").rmdir()
    changed = Path(shutil.copytree(data, tmp_path / "changed"))
    write_bytes(changed / "Pro" / "WBC-Pro-001.png", encode_png(render_field(99, "Pro")))
    with pytest.raises(DataError, match=r"not the fields that .*fold1 began with"):
        attempt(changed)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 5.0, -0.1, float("nan")])
def test_a_share_out_of_range_is_refused(data: Path, tmp_path: Path, alpha: float) -> None:
    with pytest.raises(UsageError, match="alpha"):
        crossfit.crossfit(data, tmp_path / "x", CONFIG, alpha=alpha, say=lambda line: None)
    assert not (tmp_path / "x").exists()


def test_too_few_groups_for_the_folds(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="groups"):
        crossfit.crossfit(data, tmp_path / "x", CONFIG, folds=40, say=lambda line: None)
    assert not (tmp_path / "x").exists()
