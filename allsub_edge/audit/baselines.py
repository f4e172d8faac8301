"""How much of the class can be told without looking at a cell, by cross-validation.

Each baseline sees a handful of numbers that have nothing to do with leukaemia. It is scored twice:
with whole groups held out (:mod:`allsub_edge.training.groups`), and with fields held out at random,
where neighbours of a test field stand among the training fields. The difference is what a random
split leaks. An accuracy of a network is worth what it has above the grouped figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.evaluation.baselines import colour_statistics, corner
from allsub_edge.statistics import Rate
from allsub_edge.training.dataset import Progress, Sample
from allsub_edge.training.metrics import Labels, confusion
from allsub_edge.training.perturb import SCALE_BAR_CORNER
from allsub_edge.training.shortcuts import background_colour
from allsub_edge.training.split import make_folds

Folds = Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
"""(training places, test places) of each fold."""

Features = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float64]]


def _background_and_spread(field: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    pixels = field.reshape(-1, 3)
    darkest = pixels.min(1)
    spread = pixels[darkest >= np.quantile(darkest, 0.7)].std(0)
    return np.concatenate([background_colour(field), spread])


def _corner_grey(field: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return np.asarray(corner(field).reshape(-1, 3).mean(axis=1))


BASELINES: Final[dict[str, tuple[str, Features]]] = {
    "background_colour": (
        "background colour only: mean red, green, blue of the brightest 30 % of pixels",
        background_colour,
    ),
    "background_colour_and_spread": (
        "the same with the standard deviation of each channel there",
        _background_and_spread,
    ),
    "corner": (
        f"scale-bar corner only: {SCALE_BAR_CORNER}x{SCALE_BAR_CORNER} pixels, bottom right",
        corner,
    ),
    "corner_grey": ("the same corner without its colour", _corner_grey),
    "six_colour_statistics": (
        "six numbers: mean and standard deviation of red, green and blue of the whole field",
        colour_statistics,
    ),
}
"""Name -> (what it sees, field uint8 (224, 224, 3) -> numbers)."""


@dataclass(frozen=True)
class Score:
    """One way of cross-validation of one baseline.

    Attributes:
        accuracy: over all fields, each predicted by the fold that held it out.
        folds: accuracy of each fold.
        confusion: int64 (4, 4): row = true class, column = predicted class.
    """

    accuracy: Rate
    folds: tuple[Rate, ...]
    confusion: npt.NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "accuracy": self.accuracy.to_dict(),
            "folds": [round(rate.value, 6) for rate in self.folds],
            "confusion": self.confusion.tolist(),
        }


@dataclass(frozen=True)
class Baseline:
    """One shortcut, scored in both ways."""

    name: str
    sees: str
    grouped: Score
    random: Score

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "sees": self.sees,
            "grouped": self.grouped.to_dict(),
            "random": self.random.to_dict(),
        }


def grouped_folds(samples: Sequence[Sample], groups: Sequence[str], folds: int, seed: int) -> Folds:
    """Folds of whole groups, contiguous in every class.

    Raises:
        DataError: ``too_few_groups``, naming the class.
    """
    splits = make_folds(samples, groups, folds, seed, {})
    return [(split.indices("train"), split.indices("test")) for split in splits]


def random_folds(labels: Labels, folds: int, seed: int) -> Folds:
    """Folds of single fields at random, in every class on its own; optimistic on purpose."""
    generator = np.random.default_rng(seed)
    fold = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        fold[generator.permutation(members)] = np.arange(len(members)) % folds
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]


def cross_validate(
    features: npt.NDArray[np.floating], labels: Labels, folds: Folds, machine: Callable[[], Any]
) -> Score:
    """Predict every field by a machine that was fitted without its fold.

    Args:
        features: (N, F).
        labels: int64 (N,).
        folds: together they hold out every field once.
        machine: makes an unfitted scikit-learn classifier.
    """
    predicted = np.full(len(labels), -1, np.int64)
    rates = []
    for train, test in folds:
        predicted[test] = machine().fit(features[train], labels[train]).predict(features[test])
        rates.append(Rate(int((predicted[test] == labels[test]).sum()), len(test)))
    if (predicted < 0).any():
        raise ValueError("the folds do not hold out every field")
    right = int((predicted == labels).sum())
    return Score(Rate(right, len(labels)), tuple(rates), confusion(labels, predicted))


def _machine() -> Any:
    """An unfitted support vector machine, the one of ``training.shortcuts``."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(C=10.0, gamma="scale"))


def measure_baselines(
    fields: npt.NDArray[np.uint8],
    labels: Labels,
    grouped: Folds,
    at_random: Folds,
    *,
    progress: Progress | None = None,
) -> list[Baseline]:
    """Score every baseline in both ways.

    Args:
        fields: uint8 RGB (N, 224, 224, 3).
        labels: int64 (N,), indices into CLASSES.
        grouped: folds of whole groups.
        at_random: folds of single fields.
        progress: called after each baseline and way.
    """
    found = []
    for done, (name, (sees, numbers)) in enumerate(BASELINES.items()):
        features = np.stack([numbers(field) for field in fields])
        scores = []
        for way, folds in enumerate((grouped, at_random)):
            scores.append(cross_validate(features, labels, folds, _machine))
            if progress is not None:
                progress(2 * done + way + 1, 2 * len(BASELINES))
        found.append(Baseline(name, sees, scores[0], scores[1]))
    return found
