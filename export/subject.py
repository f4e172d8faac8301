"""What is exported: a trained network, what belongs to it, and the fields that judge its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.engines.base import Feed, two_channels
from allsub_edge.errors import DataError
from allsub_edge.export.about import about_run
from allsub_edge.export.material import Material, load_material
from allsub_edge.export.parity import Answer
from allsub_edge.imaging.resize import FIELD_SIZE
from allsub_edge.training.loop import load_best
from allsub_edge.training.network import TwoChannelNetwork, build_network
from allsub_edge.training.run import Run
from allsub_edge.training.split import read_split

Say = Callable[[str], None]

FOLD = "fold"
"""Folders of a cross-fit's folds begin so, beside the one of the final run."""


@dataclass(frozen=True)
class FoldSource:
    """The folds of a cross-fit, which judge the files of its final run.

    Attributes:
        runs: complete runs, in order; together their test roles hold every field once.
        data: the data set.
        calibration: see ``material.load_material``.
    """

    runs: tuple[Run, ...]
    data: Path
    calibration: Path | None = None


@dataclass(frozen=True)
class Subject:
    """What is exported.

    Attributes:
        network: with its trained weights.
        temperature: see ``graph.field_model``.
        domain: see ``graph.field_model``.
        material: fields for calibration and proof.
        about: manifest entries, see ``about.about_run``.
        folds: of a cross-fit; None for a run with a test role of its own.
    """

    network: TwoChannelNetwork
    temperature: float
    domain: Mapping[str, npt.NDArray[np.float32]]
    material: Material
    about: dict[str, Any]
    folds: FoldSource | None = None


def open_run(folder: Path, data: Path, calibration: Path | None, say: Say) -> Subject:
    """The subject of a finished run.

    Args:
        folder: the run; of a cross-fit, its folder ``final``.
        data: the data set it was trained on.
        calibration: see ``material.load_material``.
        say: takes one line for each stage.

    Raises:
        DataError: the run is not finished, of another field size, has neither a test role nor
            folds beside it, or the data does not fit.
    """
    run = Run(folder)
    config, fitted = run.config(), run.read_json("calibration.json")
    if config.size != FIELD_SIZE:
        raise DataError(
            "bad_run",
            f"{folder}: trained on {config.size}x{config.size} pixels, model files take "
            f"{FIELD_SIZE}x{FIELD_SIZE}: train with --size {FIELD_SIZE}",
        )
    about = about_run(run)
    tested = any(row.role == "test" for row in read_split(run.split_path).rows)
    folds = None if tested else FoldSource(fold_runs(run), data, calibration)
    # The run's own weights replace the starting weights, which need not be here any more.
    network = build_network(dataclasses.replace(config, weights="none"))
    load_best(network, run)
    say(f"reading {data}")
    material = load_material(run, data, calibration=calibration)
    arrays = run.read_arrays("domain.npz")
    return Subject(network, fitted["temperature"], arrays, material, about, folds)


def fold_runs(final: Run) -> tuple[Run, ...]:
    """The folds beside the final run of a cross-fit.

    Raises:
        DataError: ``no_test_fields``, there are none; ``bad_folds``, they are not those of this
            run: another configuration, or together not every field of it exactly once.
    """
    folder = final.folder.resolve().parent
    numbers = [path.name.removeprefix(FOLD) for path in folder.glob(f"{FOLD}*")]
    runs = [Run(folder / f"{FOLD}{n}") for n in sorted(map(int, filter(str.isdecimal, numbers)))]
    if not runs:
        raise DataError(
            "no_test_fields",
            f"{final.folder}: its split has no test role and no folds of a cross-fit lie beside "
            "it, so nothing unseen could judge the files: train with a test role, or name the "
            "folder final of allsub-edge crossfit where it was made",
        )
    wanted = final.config()
    files: list[str] = []
    for run in runs:
        if run.config().differences(wanted):
            raise DataError(
                "bad_folds", f"{run.folder}: of another configuration than {final.folder}"
            )
        files += [row.file for row in read_split(run.split_path).rows if row.role == "test"]
    if sorted(files) != sorted(row.file for row in read_split(final.split_path).rows):
        raise DataError(
            "bad_folds",
            f"{folder}: its folds do not test every field of {final.folder.name} exactly once: "
            "finish it with the allsub-edge crossfit command that began it",
        )
    return tuple(runs)


def feeder(interface: str, recipe: str) -> Callable[[npt.NDArray[np.uint8]], Feed]:
    """How fields uint8 [N, S, S, 3] become the inputs of a Keras model of ``graph``."""
    if interface == "field":
        return lambda fields: {"field": fields}
    return lambda fields: two_channels(fields, recipe)


def fusable(about: dict[str, Any], interface: str) -> Mapping[str, int | float] | None:
    """What ``fuse.fuse`` may be told: the recipe's parameters where the graph segments itself."""
    known = about["recipe"]["name"] == "cells" and about["white_balance"] == "background/1"
    params: dict[str, int | float] = about["recipe"]["params"]
    return params if known and interface == "field" else None


def keras_answers(
    model: Any, feed: Callable[[npt.NDArray[np.uint8]], Feed]
) -> Callable[[npt.NDArray[np.uint8]], Answer]:
    """A Keras model of ``graph`` as something that answers fields."""

    def run(fields: npt.NDArray[np.uint8]) -> Answer:
        given = feed(fields)
        answer = model.predict_on_batch(given.get("field", given))
        return answer["probabilities"], answer["domain_distance"], answer["mask"]

    return run
