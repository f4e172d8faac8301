"""Cross-fitting: one model from all groups, with thresholds and metrics from fields it never saw.

A data set of a hundred groups is too small to give a fifth of it away for thresholds. So the same
configuration is trained once for each fold of a grouped cross-validation, on the other folds; the
fold's fields are answered by the network that did not learn from their groups. Those out-of-fold
answers cover every field exactly once: temperature, conformal, domain and quality thresholds are
fitted on them, and every rate is counted on them. The network that ships learns from all groups
under the same configuration (cross-fitting: Chernozhukov et al., Econometrics J. 2018; out-of-fold
calibration as in Zadrozny & Elkan, KDD 2002).

A cross-fit is a folder: ``fold1`` ... ``foldK`` and ``final``, each a complete run; the thresholds
of a fold are those that the other folds gave. It goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.errors import DataError, UsageError
from allsub_edge.training import calibrate
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.dataset import Sample, fingerprint, read_dataset
from allsub_edge.training.labelled import predict_logits, shifted_fields
from allsub_edge.training.loop import Progress
from allsub_edge.training.network import TwoChannelNetwork
from allsub_edge.training.out_of_fold import (
    ANSWERS,
    SPREADS,
    OutOfFold,
    evaluation,
    gather,
    limits_on,
)
from allsub_edge.training.run import Run
from allsub_edge.training.session import Session, check_continues, open_session
from allsub_edge.training.shortcuts import background_predictions
from allsub_edge.training.split import Split, fold_dataset, read_split, write_split
from allsub_edge.training.split_file import CROSS_FIT
from allsub_edge.training.train import ALPHA, features_of, fit

Say = Callable[[str], None]


def crossfit(
    data: Path,
    out: Path,
    config: TrainConfig,
    *,
    folds: int = 5,
    alpha: float = ALPHA,
    progress: Progress | None = None,
    say: Say = print,
) -> Run:
    """Train the folds and the final network, and fit its thresholds on the folds' answers.

    Args:
        data: folder of labelled fields.
        out: folder of the cross-fit; an interrupted one goes on.
        config: of every network. Epochs are fixed: there is no validation role to stop by.
        folds: at least 2.
        alpha: prediction sets miss the true class in at most this share of fields of each class.
        progress: called after each step.
        say: takes one line for each stage.

    Returns:
        The final run; ``allsub-edge export`` takes it.

    Raises:
        DataError, UsageError: the data, an earlier run in ``out`` or the configuration.
    """
    if not 0 < alpha < 1:
        raise UsageError(
            "usage", f"alpha is a share above 0 and below 1, such as 0.05, not {alpha}"
        )
    config = replace(config, train_on_validation=True)
    samples = read_dataset(data)
    splits = fold_splits(data, samples, folds, config.seed, say)
    runs = [Run(out / f"fold{number}") for number in range(1, folds + 1)]
    _check_begun(out, runs, splits, samples)
    for number, (run, split) in enumerate(zip(runs, splits, strict=True), 1):
        say(f"fold {number} of {folds}")
        _fold(data, run, config, split, progress, say)
    found, limits = _settle(data, runs, config, alpha, say)
    everything = Split([replace(row, role="train") for row in splits[0].rows], CROSS_FIT)
    final = Run(out / "final")
    say("the final network, on all groups")
    session, network = _trained(data, final, config, everything, progress, say)
    trained = session.trained()
    domain = calibrate.fit_domain(trained.labels, features_of(network, trained.fields))
    final.write_arrays("domain.npz", domain.to_arrays())
    every = np.ones(len(found.labels), dtype=bool)
    final.write_json("calibration.json", limits_on(found, every, alpha))
    final.write_json("evaluation.json", evaluation(found, limits, every))
    return final


def fold_splits(
    data: Path, samples: Sequence[Sample], folds: int, seed: int, say: Say
) -> list[Split]:
    """One split for each fold, in which every field outside the fold is for training."""
    say("looking for duplicates and grouping neighbouring file numbers")
    made = fold_dataset(data, samples, folds=folds, seed=seed)
    return [
        replace(
            split,
            rows=[replace(r, role="test" if r.role == "test" else "train") for r in split.rows],
        )
        for split in made
    ]


def _check_begun(
    out: Path, runs: Sequence[Run], splits: Sequence[Split], samples: Sequence[Sample]
) -> None:
    """Check, before anything is trained, that what lies in ``out`` belongs to this cross-fit."""
    if (out / f"fold{len(runs) + 1}").exists():
        raise UsageError(
            "other_run", f"{out}: holds more than {len(runs)} folds; choose another --out"
        )
    for run, split in zip(runs, splits, strict=True):
        if not run.exists:
            continue
        if run.read_json("config.json")["data_fingerprint"] != fingerprint(samples):
            raise DataError("data_changed", f"not the fields that {run.folder} began with")
        if read_split(run.split_path).rows != split.rows:
            raise UsageError(
                "other_run",
                f"{run.folder}: the folds were cut otherwise (seed or number of folds); choose "
                "another --out",
            )


def _trained(
    data: Path, run: Run, config: TrainConfig, split: Split, progress: Progress | None, say: Say
) -> tuple[Session, TwoChannelNetwork]:
    """Train one network, or load it when it is there already."""
    keras.utils.set_random_seed(config.seed)
    run.folder.mkdir(parents=True, exist_ok=True)
    wanted = run.folder / "wanted-split.csv"
    begun = run.exists
    if not begun:
        write_split(split, wanted)
    session = open_session(data, run, config, None if begun else wanted, say)
    wanted.unlink(missing_ok=True)
    return session, fit(session, None, progress, say)


def _fold(
    data: Path, run: Run, config: TrainConfig, split: Split, progress: Progress | None, say: Say
) -> None:
    if (run.folder / ANSWERS).is_file():
        check_continues(run, config)
        return
    session, network = _trained(data, run, config, split, progress, say)
    trained, test = session.trained(), session.part("test")
    domain = calibrate.fit_domain(trained.labels, features_of(network, trained.fields))
    run.write_arrays("domain.npz", domain.to_arrays())
    answers: dict[str, npt.NDArray[Any]] = {
        "distance": domain.distance(features_of(network, test.fields)),
        "shortcut": background_predictions(trained.fields, trained.labels, test.fields),
    }
    for name, spread in SPREADS.items():
        seen = shifted_fields(test.fields, spread, seed=round(100 * spread))
        answers[f"logits_{name}"] = predict_logits(network, seen if spread else test.fields)
    run.write_arrays(ANSWERS, answers)


def _settle(
    data: Path, runs: Sequence[Run], config: TrainConfig, alpha: float, say: Say
) -> tuple[OutOfFold, list[dict[str, Any]]]:
    """Fit every fold's thresholds on the other folds' answers and write them beside its network.

    They need nothing of the final network, so what the folds say is known, and their files can be
    exported, while that one still learns.
    """
    say("thresholds from the answers of the folds")
    found = gather(open_session(data, runs[-1], config, None, say), runs)
    limits = [limits_on(found, found.fold != fold, alpha) for fold in range(len(runs))]
    for fold, run in enumerate(runs):
        run.write_json("calibration.json", limits[fold])
        run.write_json("evaluation.json", evaluation(found, limits, found.fold == fold))
    right = found.logits["plain"].argmax(1) == found.labels
    say(f"out of fold {int(right.sum())} of {len(right)} fields are right")
    return found, limits
