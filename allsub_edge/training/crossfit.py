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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.quality import Quality, measure
from allsub_edge.training import calibrate
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.dataset import Sample, read_dataset
from allsub_edge.training.labelled import LabelledFields, predict_logits, shifted_fields
from allsub_edge.training.loop import Progress
from allsub_edge.training.metrics import Rate, summarise
from allsub_edge.training.network import TwoChannelNetwork
from allsub_edge.training.quality_fit import limits_of
from allsub_edge.training.run import Run
from allsub_edge.training.session import Session, check_continues, open_session
from allsub_edge.training.shortcuts import background_predictions
from allsub_edge.training.split import Split, fold_dataset, read_split, write_split
from allsub_edge.training.train import ALPHA, DOMAIN_MARGIN, DOMAIN_QUANTILE, features_of, fit

Say = Callable[[str], None]
Floats = npt.NDArray[np.float32]

ANSWERS: Final = "out_of_fold.npz"
SPREADS: Final[dict[str, float]] = {"plain": 0.0, "gains_10": 0.10, "gains_20": 0.20}
"""What every fold answers: its test fields as they are, and with changed channel gains."""

PROTOCOL: Final = "grouped-cross-validation"


@dataclass(frozen=True)
class OutOfFold:
    """What the networks of the folds said about fields whose groups they did not learn from.

    Attributes:
        logits: name of :data:`SPREADS` -> float32 [N, 4], before the temperature.
        labels: int64 [N].
        distance: float32 [N], domain distance of the plain fields.
        shortcut: int64 [N], the class that a classifier of the background colour names.
        fold: int64 [N], which fold a field was in, from 0.
        quality: N measures of the plain fields, for the limits of quality.
    """

    logits: dict[str, Floats]
    labels: npt.NDArray[np.int64]
    distance: Floats
    shortcut: npt.NDArray[np.int64]
    fold: npt.NDArray[np.int64]
    quality: list[Quality]


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
    config = replace(config, train_on_validation=True)
    splits = fold_splits(data, read_dataset(data), folds, config.seed, say)
    runs = []
    for number, split in enumerate(splits, 1):
        run = Run(out / f"fold{number}")
        say(f"fold {number} of {folds}")
        _fold(data, run, config, split, progress, say)
        runs.append(run)
    found, limits = _settle(data, runs, config, alpha, say)
    everything = Split([replace(row, role="train") for row in splits[0].rows], PROTOCOL)
    final = Run(out / "final")
    say("the final network, on all groups")
    session, network = _trained(data, final, config, everything, progress, say)
    trained = session.trained()
    domain = calibrate.fit_domain(trained.labels, features_of(network, trained.fields))
    final.write_arrays("domain.npz", domain.to_arrays())
    every = np.ones(len(found.labels), dtype=bool)
    final.write_json("calibration.json", _limits(found, every, alpha))
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
    limits = [_limits(found, found.fold != fold, alpha) for fold in range(len(runs))]
    for fold, run in enumerate(runs):
        run.write_json("calibration.json", limits[fold])
        run.write_json("evaluation.json", evaluation(found, limits, found.fold == fold))
    right = found.logits["plain"].argmax(1) == found.labels
    say(f"out of fold {int(right.sum())} of {len(right)} fields are right")
    return found, limits


def gather(session: Session, runs: Sequence[Run]) -> OutOfFold:
    """Join the answers of the folds.

    Raises:
        DataError: a field was in no fold's test role, or in two.
    """
    tests: list[LabelledFields] = []
    files: list[str] = []
    parts: list[dict[str, npt.NDArray[Any]]] = []
    for run in runs:
        fold = replace(session, run=run, split=read_split(run.split_path))
        tests.append(fold.part("test"))
        files += [row.file for row in fold.split.rows if row.role == "test"]
        parts.append(run.read_arrays(ANSWERS))
    if sorted(files) != sorted(sample.file for sample in session.samples):
        raise DataError(
            "bad_folds", f"{runs[0].folder.parent}: the folds do not test every field exactly once"
        )

    mask = get_recipe(session.config.recipe).mask

    def joined(name: str) -> npt.NDArray[Any]:
        return np.concatenate([part[name] for part in parts])

    return OutOfFold(
        logits={name: joined(f"logits_{name}") for name in SPREADS},
        labels=np.concatenate([test.labels for test in tests]),
        distance=joined("distance"),
        shortcut=joined("shortcut"),
        fold=np.repeat(np.arange(len(tests)), [len(test.labels) for test in tests]),
        quality=[measure(field, mask(field), 0.0) for test in tests for field in test.fields],
    )


def _limits(found: OutOfFold, chosen: npt.NDArray[np.bool_], alpha: float) -> dict[str, Any]:
    """What a run's ``calibration.json`` holds, fitted on the chosen out-of-fold answers."""
    labels, logits = found.labels[chosen], found.logits["plain"][chosen]
    temperature = calibrate.fit_temperature(labels, logits)
    probabilities = calibrate.softmax(logits / np.float32(temperature))
    return {
        "temperature": temperature,
        "alpha": alpha,
        "conformal": calibrate.fit_conformal(labels, probabilities, alpha),
        "domain_threshold": round(_reach(found, chosen) * DOMAIN_MARGIN, 5),
        "quality": limits_of(
            [q for q, wanted in zip(found.quality, chosen, strict=True) if wanted]
        ),
        "fields": len(labels),
    }


def _reach(found: OutOfFold, chosen: npt.NDArray[np.bool_]) -> float:
    """How far the fold that lies farthest from what its network learned reaches.

    Fields come in slides and slides in runs of one day's stain and light, so the next laboratory
    day is like a fold, not like a field drawn from all of them: a quantile over all folds would
    refuse most of a day that is as far as the farthest one here.
    """
    folds = np.unique(found.fold[chosen])
    return max(
        float(np.quantile(found.distance[chosen & (found.fold == fold)], DOMAIN_QUANTILE))
        for fold in folds
    )


def evaluation(
    found: OutOfFold, limits: Sequence[dict[str, Any]], chosen: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """Metrics of the chosen out-of-fold answers, each judged by what the other folds fitted.

    Args:
        found: answers of all folds.
        limits: for each fold, thresholds that its own fields had no part in.
        chosen: bool [N], the fields to count.
    """
    labels, fold = found.labels[chosen], found.fold[chosen]
    temperature = np.array([fitted["temperature"] for fitted in limits], np.float32)[fold]
    probabilities = {
        name: calibrate.softmax(logits[chosen] / temperature[:, None])
        for name, logits in found.logits.items()
    }
    conformal = np.array([[fitted["conformal"][name] for name in CLASSES] for fitted in limits])
    inside = 1 - probabilities["plain"] <= conformal[fold]
    covered = inside[np.arange(len(labels)), labels]
    threshold = np.array([fitted["domain_threshold"] for fitted in limits])
    near = found.distance[chosen] <= threshold[fold]
    right = probabilities["plain"].argmax(1) == labels
    return {
        "protocol": PROTOCOL,
        "role": "out-of-fold",
        **{name: summarise(labels, p) for name, p in probabilities.items()},
        "by_fold": [_rate(right[fold == number]) for number in np.unique(fold)],
        "coverage": {name: _rate(covered[labels == i]) for i, name in enumerate(CLASSES)},
        "mean_set_size": round(float(inside.sum(1).mean()), 4),
        "within_domain": _rate(near),
        "shortcut_background_colour": _rate(found.shortcut[chosen] == labels),
    }


def _rate(hits: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return Rate(int(hits.sum()), len(hits)).to_dict()
