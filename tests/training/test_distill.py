"""Learning from a teacher: the loss, whom it may learn from, and resuming with one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

import keras

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError, UsageError
from allsub_edge.training import backbones
from allsub_edge.training.calibrate import softmax
from allsub_edge.training.distill import DistillationLoss, Ensemble, Teacher, load_teacher
from allsub_edge.training.labelled import LabelledFields
from allsub_edge.training.loop import Trainer
from allsub_edge.training.network import build_network
from allsub_edge.training.run import SCHEMA, Run
from allsub_edge.training.split import Split, SplitRow, write_split

from .test_loop import CONFIG
from .toy import TOY, toy_fields


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)


def test_the_loss_by_hand() -> None:
    rng = np.random.default_rng(1)
    student, teacher = (rng.normal(size=(5, 4)).astype(np.float32) for _ in range(2))
    labels = rng.integers(0, 4, 5)
    target = np.concatenate([np.eye(4, dtype=np.float32)[labels], teacher], axis=1)
    loss = DistillationLoss(0.3, 2.0, 0.0)
    hard = -np.log(softmax(student)[np.arange(5), labels])
    p, q = softmax(teacher / 2), softmax(student / 2)
    soft = 4 * (p * np.log(p / q)).sum(1)
    np.testing.assert_allclose(
        float(loss(target, student)), (0.7 * hard + 0.3 * soft).mean(), rtol=1e-5
    )
    agreeing = np.concatenate([target[:, :4], student], axis=1)
    assert float(DistillationLoss(1.0, 3.0, 0.0)(agreeing, student)) == pytest.approx(0, abs=1e-6)
    again = DistillationLoss.from_config(loss.get_config())
    assert float(again(target, student)) == float(loss(target, student))


def _split(roles: dict[str, str]) -> Split:
    rows = [
        SplitRow(file=f"{CLASSES[i % 4]}/{name}", sha256=f"{i:064x}", label=CLASSES[i % 4],
                 group=name, role=role)
        for i, (name, role) in enumerate(roles.items())
    ]  # fmt: skip
    return Split(rows=rows, protocol="grouped")


def _teacher_run(folder: Path, roles: dict[str, str], **changes: object) -> Run:
    run = Run(folder)
    config = replace(CONFIG, **changes)
    keras.utils.set_random_seed(9)
    network = build_network(config)
    weights = network.model.get_weights()
    run.write_arrays("best.npz", {f"w{i:04d}": w for i, w in enumerate(weights)})
    run.write_json("config.json", {"schema": SCHEMA, "config": config.to_dict()})
    run.write_json("done.json", {"finished": True})
    write_split(_split(roles), run.split_path)
    return run


ROLES = {"a": "train", "b": "validation", "c": "calibration", "d": "test"}


def test_a_teacher_may_not_have_learned_what_is_held_out(tmp_path: Path) -> None:
    run = _teacher_run(tmp_path / "teacher", ROLES)
    config = replace(CONFIG, teacher=str(run.folder))
    found = load_teacher(config, _split(ROLES))
    assert len(found.sha256) == 64 and found.network.config.weights == "none"
    with pytest.raises(UsageError, match=r"learned from 1 fields.*/a is for test.*--split .*csv"):
        load_teacher(config, _split({**ROLES, "a": "test"}))
    # Validation fields that the teacher was trained on count as learned too.
    final = _teacher_run(tmp_path / "final", ROLES, train_on_validation=True)
    config = replace(CONFIG, teacher=str(final.folder))
    with pytest.raises(UsageError, match="/b is for validation"):
        load_teacher(config, _split(ROLES))
    load_teacher(replace(config, train_on_validation=True), _split(ROLES))


def test_a_teacher_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    run = _teacher_run(tmp_path / "teacher", ROLES)
    with pytest.raises(UsageError, match="64 px, not 96"):
        load_teacher(replace(CONFIG, teacher=str(run.folder), size=96), _split(ROLES))
    (run.folder / "done.json").unlink()
    with pytest.raises(DataError, match=r"not trained to its end.*--resume"):
        load_teacher(replace(CONFIG, teacher=str(run.folder)), _split(ROLES))
    with pytest.raises(UsageError, match="names no run folder"):
        load_teacher(replace(CONFIG, teacher=" , "), _split(ROLES))
    with pytest.raises(DataError, match="is this a run folder"):
        load_teacher(replace(CONFIG, teacher=str(tmp_path / "none")), _split(ROLES))


class _Killed(Exception):
    pass


def test_a_student_follows_its_teacher_and_resumes_alike(tmp_path: Path) -> None:
    run = _teacher_run(tmp_path / "teacher", ROLES, recipe="aria2022", fusion="branches")
    config = replace(
        CONFIG,
        teacher=str(run.folder),
        teacher_weight=1.0,
        epochs=3,
        head_epochs=0,
        ema=0.0,
        augment="none",
    )
    teacher = load_teacher(config, _split(ROLES))
    # Opinions a student can follow, whatever the labels say.
    weights = teacher.network.model.get_weights()
    weights[-2] *= 8
    teacher.network.model.set_weights(weights)
    training = LabelledFields(*toy_fields())

    def fit(folder: str, progress: object = None) -> list[dict[str, object]]:
        keras.utils.set_random_seed(config.seed)
        network = build_network(config)
        trainer = Trainer(network, Run(tmp_path / folder), training, None, teacher)
        return trainer.fit(progress)  # type: ignore[arg-type]

    def kill(epoch: int, step: int, steps: int, loss: float) -> None:
        if (epoch, step) == (1, 2):
            raise _Killed

    whole = fit("whole")
    # With weight 1 the loss is the distance from the teacher; labels play no part.
    assert whole[-1]["loss"] < 0.8 * whole[0]["loss"]  # type: ignore[operator]
    with pytest.raises(_Killed):
        fit("killed", kill)
    assert [e["loss"] for e in fit("killed")] == [e["loss"] for e in whole]
    a, b = (Run(tmp_path / name).read_arrays("best.npz") for name in ("whole", "killed"))
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def test_a_teacher_is_asked_about_the_augmented_fields(tmp_path: Path) -> None:
    run = _teacher_run(tmp_path / "teacher", ROLES)
    config = replace(CONFIG, teacher=str(run.folder), epochs=1, augment="none")
    asked: list[np.ndarray] = []

    class Listening(Teacher):
        def channels(self, fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            asked.append(fields)
            return super().channels(fields)

    found = load_teacher(config, _split(ROLES))
    teacher = Listening(found.run, found.network, found.sha256)
    training = LabelledFields(*toy_fields())
    Trainer(build_network(config), Run(tmp_path / "s"), training, None, teacher).fit()
    known = {field.tobytes() for field in training.fields}
    assert {field.tobytes() for batch in asked for field in batch} == known


def test_several_teachers_answer_with_their_mean(tmp_path: Path) -> None:
    one = _teacher_run(tmp_path / "one", ROLES)
    # Another recipe: each teacher is given channels of its own.
    two = _teacher_run(tmp_path / "two", ROLES, recipe="aria2022", fusion="branches")
    config = replace(CONFIG, teacher=f"{one.folder}, {two.folder}")
    both = load_teacher(config, _split(ROLES))
    assert isinstance(both, Ensemble)
    fields = toy_fields()[0][:5]
    answers = softmax(both.logits(both.channels(fields)))
    alone = [
        load_teacher(replace(CONFIG, teacher=str(run.folder)), _split(ROLES)) for run in (one, two)
    ]
    each = [softmax(teacher.logits(teacher.channels(fields))) for teacher in alone]
    assert np.abs(each[0] - each[1]).max() > 0.01
    np.testing.assert_allclose(answers, (each[0] + each[1]) / 2, atol=1e-6)
    # Other members, or the same in another order, are another teacher.
    turned = load_teacher(replace(CONFIG, teacher=f"{two.folder},{one.folder}"), _split(ROLES))
    assert len({both.sha256, turned.sha256, *(teacher.sha256 for teacher in alone)}) == 4


def test_a_student_learns_from_several_teachers(tmp_path: Path) -> None:
    runs = [_teacher_run(tmp_path / name, ROLES) for name in ("one", "two")]
    names = ",".join(str(run.folder) for run in runs)
    config = replace(CONFIG, teacher=names, epochs=1, augment="none")
    teacher = load_teacher(config, _split(ROLES))
    training = LabelledFields(*toy_fields())
    history = Trainer(build_network(config), Run(tmp_path / "s"), training, None, teacher).fit()
    assert np.isfinite(history[0]["loss"])


def test_every_one_of_several_teachers_is_held_against_the_split(tmp_path: Path) -> None:
    good = _teacher_run(tmp_path / "good", ROLES)
    leaking = _teacher_run(tmp_path / "leaking", {**ROLES, "d": "train"})
    with pytest.raises(UsageError, match="leaking: the teacher learned from 1 fields"):
        load_teacher(replace(CONFIG, teacher=f"{good.folder},{leaking.folder}"), _split(ROLES))
