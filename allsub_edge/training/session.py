"""What a training works on: its configuration, split and fields, and the run folder they begin."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CITATION, CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.errors import AllsubError, DataError, UsageError
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.resize import squash
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.dataset import Sample, fingerprint, load_fields, read_dataset
from allsub_edge.training.distill import check_teacher, joint_sha256, teacher_folders
from allsub_edge.training.labelled import LabelledFields
from allsub_edge.training.loop import has_checkpoint
from allsub_edge.training.network import check_buildable
from allsub_edge.training.run import SCHEMA, Run
from allsub_edge.training.split import Split, read_split, write_split
from allsub_edge.training.starting_weights import IMAGENET, resolve

Say = Callable[[str], None]


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
    data: Path,
    run: Run,
    config: TrainConfig,
    split_file: Path | None,
    say: Say,
    needed: Sequence[str] = (),
) -> Session:
    """Read the data, take or make the split, store both with the configuration.

    Args:
        data: folder of labelled fields.
        run: where both are stored, or what was begun before.
        config: what is trained.
        split_file: a split to use instead of a new one.
        say: takes one line for each stage.
        needed: roles that must have fields, beside ``train``.

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
        split = read_split(run.split_path)
        if split_file is not None and read_split(split_file).rows != split.rows:
            raise UsageError(
                "other_run",
                f"{run.folder}: began with another split than {split_file}; choose another --out",
            )
    else:
        split = read_split(split_file) if split_file else _new_split(data, samples, config, say)
    split.check(samples)
    _check_roles(split, config, needed)
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


def _check_roles(split: Split, config: TrainConfig, needed: Sequence[str]) -> None:
    """What would otherwise stop a training at its beginning, or only after its last epoch."""
    learned = {"train", *(["validation"] if config.train_on_validation else [])}
    for name in CLASSES:
        if not any(row.role in learned and row.label == name for row in split.rows):
            raise DataError("no_fields", f"no training field of class {name} in the split")
    empty = [role for role in needed if not any(row.role == role for row in split.rows)]
    if empty:
        raise DataError(
            "no_fields",
            f"no field of the split has role {' or '.join(empty)}, and a training needs some: make "
            "another with allsub-edge split (--validation may be 0 only with train-on-validation), "
            "or train without fixed roles: allsub-edge crossfit",
        )


def check_continues(run: Run, config: TrainConfig) -> None:
    """Check that what was begun in a run folder, if anything, was begun with ``config``.

    Starting weights count by their content, wherever they lie. A run goes on where they are not at
    hand: its checkpoint holds every weight.

    Raises:
        UsageError: another configuration.
        DataError: other starting weights under the same name.
    """
    if not run.exists:
        return
    if run.config().differences(config):
        raise UsageError(
            "other_run",
            f"{run.folder}: holds a run with another configuration; choose another --out",
        )
    began = run.read_json("config.json").get("sources", {}).get("weights")
    try:
        now = _weights_sha256(config)
    except AllsubError:
        return
    if None not in (began, now) and began != now:
        raise DataError(
            "weights_changed",
            f"{config.weights}: not the starting weights that {run.folder} began with; bring them "
            "back or choose another --out",
        )


def _check_before_reading(run: Run, config: TrainConfig, say: Say) -> None:
    """What can be found wrong without the data, found before it is read and compared."""
    check_continues(run, config)
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
    if config.weights != "none" and backbone.imitates and not config.imitation_epochs:
        say(
            f"MIND: {len(backbone.imitates)} blocks of {backbone.name} begin at random: give "
            "--imitation-epochs 8"
        )
    if resolve(config.weights, config.backbone) == IMAGENET and backbone.fetch is not None:
        say(f"ImageNet weights of {config.backbone}: downloading, unless Keras has them already")
        backbone.fetch()


def _new_split(data: Path, samples: list[Sample], config: TrainConfig, say: Say) -> Split:
    from allsub_edge.training.split import split_dataset

    say("looking for duplicates and grouping neighbouring file numbers")
    return split_dataset(data, samples, seed=config.seed)


def _sources(config: TrainConfig) -> dict[str, str | None]:
    """SHA-256 of the files besides the data that a training starts from; None for none."""
    taught = [folder / "best.npz" for folder in teacher_folders(config.teacher)]
    there = [_sha256(path) for path in taught if path.is_file()]
    return {
        "weights": _weights_sha256(config),
        "teacher": joint_sha256(there) if there and len(there) == len(taught) else None,
    }


def _weights_sha256(config: TrainConfig) -> str | None:
    weights = resolve(config.weights, config.backbone)
    return _sha256(weights) if isinstance(weights, Path) else None


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
