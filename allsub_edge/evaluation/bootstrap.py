"""Intervals by resampling whole groups: fields of one slide are not independent.

In each class as many groups as there are are drawn with replacement (a stratified cluster
bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8), and
every measure is computed anew; the interval lies between the 2.5th and 97.5th percentiles.

Three limits, which a report must tell: where no error was seen every resample is perfect too and
the interval shrinks to a point, which Wilson's does not; with few groups in a class percentiles are
too narrow; and from a single group nothing can be drawn but itself, so a measure that needs a class
with fewer than two groups has no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.evaluation.measures import Floats, from_matrix, roc_questions
from allsub_edge.training.metrics import Labels, Probabilities

RESAMPLES: Final[int] = 2000
SEED: Final[int] = 20251

LEAST: Final[int] = 2
"""Groups that a class needs for an interval."""

_BINS: Final[int] = 15
_CHUNK: Final[int] = 250


def weights(
    labels: Labels, groups: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED
) -> npt.NDArray[np.float64]:
    """How often each field counts in each resample, float64 [resamples, N].

    NaN for the fields of a class with one group: every resample would be this group again, and
    what is computed from it must not pass for something that was varied.
    """
    rng = np.random.default_rng(seed)
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    found = np.zeros((resamples, len(labels)))
    for i in range(len(CLASSES)):
        inside = np.flatnonzero(labels == i)
        if not len(inside):
            continue
        own = np.unique(place[inside])
        if len(own) < LEAST:
            found[:, inside] = np.nan
            continue
        drawn = rng.integers(len(own), size=(resamples, len(own)))
        counts = np.zeros((resamples, len(names)))
        for column in range(drawn.shape[1]):
            counts[np.arange(resamples), own[drawn[:, column]]] += 1
        found[:, inside] = counts[:, place[inside]]
    return found


def intervals(
    labels: Labels, probabilities: Probabilities, drawn: npt.NDArray[np.float64]
) -> dict[str, tuple[float, float]]:
    """95 % interval of every measure of ``measures.NAMES`` under weights [B, N].

    NaN twice for a measure that needs a class whose weights are NaN.
    """
    measured = _measures(labels, probabilities, drawn)
    return {key: percentiles(found) for key, found in measured.items()}


def percentiles(values: Floats) -> tuple[float, float]:
    """2.5th and 97.5th percentile, leaving NaN out; NaN twice where nothing is left."""
    good = values[~np.isnan(values)]
    if not len(good):
        return (float("nan"), float("nan"))
    low, high = np.percentile(good, [2.5, 97.5])
    return (float(low), float(high))


def rate_interval(
    hits: npt.NDArray[np.bool_], drawn: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """95 % interval of the share of hits, bool [N], under weights [B, N]."""
    total = drawn.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return percentiles(np.where(total > 0, drawn @ hits.astype(np.float64) / total, np.nan))


def _measures(
    labels: Labels, probabilities: Probabilities, drawn: npt.NDArray[np.float64]
) -> dict[str, Floats]:
    called = np.eye(len(CLASSES))[probabilities.argmax(1)]
    # Class by class, because NaN times 0 is NaN: one without weights must not spoil the others.
    rows = [drawn[:, labels == i] @ called[labels == i] for i in range(len(CLASSES))]
    found = dict(from_matrix(np.stack(rows, 1)))
    areas = {
        key: _weighted_areas(positive, score, drawn)
        for key, positive, score in roc_questions(labels, probabilities)
    }
    areas["auroc_macro"] = np.mean([areas[f"auroc_{c}"] for c in CLASSES], axis=0)
    found |= areas
    found["calibration_error"] = _weighted_calibration(labels, probabilities, drawn)
    return found


def _weighted_areas(
    positive: npt.NDArray[np.bool_], score: Floats, drawn: npt.NDArray[np.float64]
) -> Floats:
    """AUROC of every resample, float64 [B]: the weighted share of rightly ordered pairs.

    A pair with equal scores counts one half (Hanley and McNeil, Radiology 1982).
    """
    ranks = np.sign(score[positive][:, None] - score[~positive][None]).astype(np.float32)
    ordered = (ranks + 1) / 2
    result = []
    for start in range(0, len(drawn), _CHUNK):
        part = drawn[start : start + _CHUNK].astype(np.float32)
        ups, downs = part[:, positive], part[:, ~positive]
        pairs = (ups @ ordered * downs).sum(1, dtype=np.float64)
        possible = ups.sum(1, dtype=np.float64) * downs.sum(1, dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            result.append(np.where(possible > 0, pairs / possible, np.nan))
    return np.concatenate(result)


def _weighted_calibration(
    labels: Labels, probabilities: Probabilities, drawn: npt.NDArray[np.float64]
) -> Floats:
    """``training.metrics.calibration_error`` of every resample, float64 [B]."""
    confidence = probabilities.max(1)
    right = (probabilities.argmax(1) == labels).astype(np.float64)
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    member = np.eye(_BINS)[place]
    gap = drawn @ (member * (right - confidence)[:, None])
    return np.asarray(np.abs(gap).sum(1) / drawn.sum(1), np.float64)
