"""What the networks of a cross-fit said of the fields that they did not learn from, and its worth.

Thresholds are fitted on these answers, and every rate is counted on them; those of a fold never by
its own fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.quality import Quality, measure
from allsub_edge.training import calibrate
from allsub_edge.training.labelled import LabelledFields
from allsub_edge.training.metrics import Rate, summarise
from allsub_edge.training.quality_fit import limits_of
from allsub_edge.training.run import Run
from allsub_edge.training.session import Session
from allsub_edge.training.split import read_split
from allsub_edge.training.split_file import CROSS_FIT
from allsub_edge.training.train import DOMAIN_MARGIN, DOMAIN_QUANTILE

Floats = npt.NDArray[np.float32]

ANSWERS: Final = "out_of_fold.npz"
SPREADS: Final[dict[str, float]] = {"plain": 0.0, "gains_10": 0.10, "gains_20": 0.20}
"""What every fold answers: its test fields as they are, and with changed channel gains."""


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


def limits_on(found: OutOfFold, chosen: npt.NDArray[np.bool_], alpha: float) -> dict[str, Any]:
    """What a run's ``calibration.json`` holds, fitted on the chosen out-of-fold answers."""
    labels, logits = found.labels[chosen], found.logits["plain"][chosen]
    temperature = calibrate.fit_temperature(labels, logits)
    probabilities = calibrate.softmax(logits / np.float32(temperature))
    return {
        "temperature": temperature,
        "alpha": alpha,
        "conformal": calibrate.fit_conformal(labels, probabilities, alpha),
        "domain_threshold": round(reach(found, chosen) * DOMAIN_MARGIN, 5),
        "quality": limits_of(
            [q for q, wanted in zip(found.quality, chosen, strict=True) if wanted]
        ),
        "fields": len(labels),
    }


def reach(found: OutOfFold, chosen: npt.NDArray[np.bool_]) -> float:
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
        "protocol": CROSS_FIT,
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
