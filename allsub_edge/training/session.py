"""One training from a data folder to a finished run: split, train, calibrate, evaluate."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CITATION, CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.errors import DataError, UsageError
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.resize import squash
from allsub_edge.training import calibrate
from allsub_edge.training.batches import even_batches
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.dataset import Sample, fingerprint, load_fields, read_dataset
from allsub_edge.training.distill import (
    check_teacher,
    joint_sha256,
    load_teacher,
    teacher_folders,
)
from allsub_edge.training.loop import (
    LabelledFields,
    Progress,
    Trainer,
    has_checkpoint,
    load_best,
    predict_logits,
    shifted_fields,
)
from allsub_edge.training.metrics import summarise
from allsub_edge.training.network import TwoChannelNetwork, build_network, check_buildable
from allsub_edge.training.quality_fit import fit_quality
from allsub_edge.training.run import SCHEMA, Run
from allsub_edge.training.shortcuts import background_baseline
from allsub_edge.training.split import Split, read_split, write_split
from allsub_edge.training.starting_weights import IMAGENET, resolve

Say = Callable[[str], None]
ALPHA = 0.05
"""Prediction sets miss the true class in at most this share of fields of each class."""

DOMAIN_QUANTILE = 0.99
"""Share of calibration fields whose domain distance the threshold lets pass before the margin."""

DOMAIN_MARGIN = 1.15
"""The threshold is widened by this factor, since calibration slides are few."""


@dataclass(frozen=True)
class Session:
    """Everything one training works on."""

    run: Run
    config: TrainConfig
    samples: list[Sample]
    split: Split
    fields: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def part(self, *roles: str) -> LabelledFields:
        """The fields of one or more roles, in the order of the split."""
        place = {sample.file: i for i, sample in enumerate(self.samples)}
        chosen = [place[row.file] for row in self.split.rows if row.role in roles]
        return LabelledFields(self.fields[chosen], self.masks[chosen], self.labels[chosen])

    def trained(self) -> LabelledFields:
        """The fields whose labels the network learns from."""
        return self.part("train", *(["validation"] if self.config.train_on_validation else []))


def make_masks(fields: npt.NDArray[np.uint8], recipe: str) -> npt.NDArray[np.uint8]:
    """Cell masks uint8 [N, S, S] of 0 and 1 for fields uint8 [N, S, S, 3]."""
    mask = get_recipe(recipe).mask
    return np.stack([mask(f) for f in fields])


def open_session(
    data: Path, run: Run, config: TrainConfig, split_file: Path | None, say: Say
) -> Session:
    """Read the data, take or make the split, store both with the configuration.

    Raises:
        DataError: the data, the split or an earlier run in the folder does not fit.
    """
    _check_before_reading(run, config, say)
    say(f"reading {data}")
    samples = read_dataset(data)
    if run.exists:
        stored = run.read_json("config.json")
        if stored["data_fingerprint"] != fingerprint(samples):
            raise DataError("data_changed", f"{data}: not the fields that {run.folder} began with")
        began, now = stored.get("sources", {}).get("weights"), _sources(config)["weights"]
        if None not in (began, now) and began != now:
            raise DataError(
                "weights_changed",
                f"{config.weights}: not the starting weights that {run.folder} began with",
            )
        split = read_split(run.split_path)
        if split_file is not None and read_split(split_file).rows != split.rows:
            raise UsageError(
                "other_run",
                f"{run.folder}: began with another split than {split_file}; choose another --out",
            )
    else:
        split = read_split(split_file) if split_file else _new_split(data, samples, config, say)
    split.check(samples)
    if config.teacher:
        check_teacher(config, split)
    say(f"loading {len(samples)} fields")
    fields = load_fields(data, samples)
    if config.size != fields.shape[1]:
        fields = np.stack([squash(f, config.size) for f in fields])
    masks = make_masks(fields, "cells")
    labels = np.array([CLASSES.index(s.label) for s in samples], dtype=np.int64)
    session = Session(run, config, samples, split, fields, masks, labels)
    if not run.exists:
        write_split(split, run.split_path)
        run.write_json(
            "config.json",
            {
                "schema": SCHEMA,
                "config": config.to_dict(),
                "data_fingerprint": fingerprint(samples),
                "protocol": split.protocol,
                "sources": _sources(config),
                "versions": _versions(),
                "notice": NOT_A_MEDICAL_DEVICE,
                "citation": CITATION,
            },
        )
    return session


def _check_before_reading(run: Run, config: TrainConfig, say: Say) -> None:
    """What can be found wrong without the data, found before it is read and compared."""
    backbone = check_buildable(config)
    for folder in teacher_folders(config.teacher):
        Run(folder).config()
    if has_checkpoint(run) or (run.folder / "done.json").is_file():
        return
    if config.weights == "none" and (config.frozen_blocks or config.frozen_batch_norm):
        say(
            "MIND: random starting weights, and part of them is frozen: give "
            "--frozen-blocks 0 --no-frozen-batch-norm, or --weights"
        )
    if resolve(config.weights, config.backbone) == IMAGENET and backbone.fetch is not None:
        say(f"ImageNet weights of {config.backbone}: downloading, unless Keras has them already")
        backbone.fetch()


def train(
    data: Path,
    out: Path,
    config: TrainConfig,
    *,
    split_file: Path | None = None,
    progress: Progress | None = None,
    say: Say = print,
) -> Run:
    """Train, calibrate and evaluate; continues where an earlier call on ``out`` stopped.

    Args:
        data: folder with the class folders, or with ``Original`` above them.
        out: run folder; made if absent. A run that was begun here is continued, and ``config``
            must then be the one it was begun with.
        config: what to train.
        split_file: a split to use; made by groups of neighbouring file numbers if absent.
        progress: called after each step.
        say: takes one line for each stage.

    Raises:
        DataError, UsageError: see the message.
    """
    run = Run(out)
    if run.exists and run.config().differences(config):
        raise UsageError(
            "other_run", f"{out}: holds a run with another configuration; choose another --out"
        )
    keras.utils.set_random_seed(config.seed)
    session = open_session(data, run, config, split_file, say)
    network = fit(
        session, None if config.train_on_validation else session.part("validation"), progress, say
    )
    say("calibrating")
    fit_after_training(session, network)
    say("evaluating on the test role")
    run.write_json("evaluation.json", evaluate(session, network))
    return run


def fit(
    session: Session,
    validation: LabelledFields | None,
    progress: Progress | None = None,
    say: Say = print,
) -> TwoChannelNetwork:
    """Train the session's network, from where it was left, unless that is done.

    Args:
        session: what to train on; its configuration says how.
        validation: fields that choose the epoch; without them the last one is kept.
        progress: called after each step.
        say: takes one line for each stage.

    Returns:
        The network in float32 with the averaged weights of the best epoch.

    Raises:
        DataError, UsageError: the starting weights, the teacher or the run are not usable.
    """
    config, run = session.config, session.run
    bare = replace(config, weights="none")
    if (run.folder / "done.json").is_file():
        network = build_network(bare)
    else:
        teacher = load_teacher(config, session.split) if config.teacher else None
        began = run.read_json("config.json").get("sources", {}).get("teacher")
        if teacher is not None and began != teacher.sha256:
            raise DataError(
                "teacher_changed",
                f"{config.teacher}: not the weights that {run.folder} began with; bring them back "
                "or begin a new run",
            )
        # A checkpoint replaces every weight, so a run can go on where its starting weights are not.
        start = bare if has_checkpoint(run) else config
        network = build_network(start, precision=config.precision)
        say(
            f"training {config.backbone} ({config.cut}), fusion {config.fusion}, "
            f"{network.model.count_params():,} parameters"
        )
        Trainer(replace(network, config=config), run, session.trained(), validation, teacher).fit(
            progress
        )
        run.write_json("done.json", {"finished": True})
        if config.precision != "float32":
            network = build_network(bare)
    load_best(network, run)
    return network


def fit_after_training(session: Session, network: TwoChannelNetwork) -> None:
    """Temperature, conformal, domain and quality thresholds; never from test fields."""
    held, trained = session.part("calibration"), session.trained()
    logits = predict_logits(network, held.fields)
    temperature = calibrate.fit_temperature(held.labels, logits)
    probabilities = calibrate.softmax(logits / np.float32(temperature))
    domain = calibrate.fit_domain(trained.labels, features_of(network, trained.fields))
    distance = domain.distance(features_of(network, held.fields))
    session.run.write_arrays("domain.npz", domain.to_arrays())
    session.run.write_json(
        "calibration.json",
        {
            "temperature": temperature,
            "alpha": ALPHA,
            "conformal": calibrate.fit_conformal(held.labels, probabilities, ALPHA),
            "domain_threshold": round(
                float(np.quantile(distance, DOMAIN_QUANTILE)) * DOMAIN_MARGIN, 5
            ),
            "quality": fit_quality(held.fields, make_masks(held.fields, session.config.recipe)),
            "fields": len(held.labels),
        },
    )


def evaluate(session: Session, network: TwoChannelNetwork) -> dict[str, Any]:
    """Metrics on the test role: plain, and with each channel's gain changed at random."""
    test, trained = session.part("test"), session.trained()
    temperature = session.run.read_json("calibration.json")["temperature"]

    def measure(fields: npt.NDArray[np.uint8]) -> dict[str, Any]:
        logits = predict_logits(network, fields)
        return summarise(test.labels, calibrate.softmax(logits / np.float32(temperature)))

    return {
        "protocol": session.split.protocol,
        "role": "test",
        "plain": measure(test.fields),
        "gains_10": measure(shifted_fields(test.fields, 0.10, seed=10)),
        "gains_20": measure(shifted_fields(test.fields, 0.20, seed=20)),
        "shortcut_background_colour": background_baseline(
            trained.fields, trained.labels, test.fields, test.labels
        ),
    }


def features_of(
    network: TwoChannelNetwork, fields: npt.NDArray[np.uint8], batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """Features before the dense block, float32 [N, F], of fields uint8 [N, S, S, 3]."""
    parts = [
        np.asarray(network.core.predict_on_batch(network.channels(batch))[1])
        for batch in even_batches(fields, batch_size)
    ]
    return np.concatenate(parts)[: len(fields)]


def _new_split(data: Path, samples: list[Sample], config: TrainConfig, say: Say) -> Split:
    from allsub_edge.training.split import split_dataset

    say("looking for duplicates and grouping neighbouring file numbers")
    return split_dataset(data, samples, seed=config.seed)


def _sources(config: TrainConfig) -> dict[str, str | None]:
    """SHA-256 of the files besides the data that a training starts from; None for none."""
    weights = resolve(config.weights, config.backbone)
    taught = [folder / "best.npz" for folder in teacher_folders(config.teacher)]
    there = [_sha256(path) for path in taught if path.is_file()]
    return {
        "weights": _sha256(weights) if isinstance(weights, Path) else None,
        "teacher": joint_sha256(there) if there and len(there) == len(taught) else None,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("allsub-edge", "keras", "tensorflow", "tensorflow-cpu", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["keras_backend"] = keras.backend.backend()
    return found
