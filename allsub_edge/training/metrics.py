"""Rates with their intervals, from labels and probabilities alone (numpy only)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import BENIGN, CLASSES
from allsub_edge.statistics import Rate

__all__ = [
    "Labels",
    "Probabilities",
    "Rate",
    "calibration_error",
    "confusion",
    "log_loss",
    "summarise",
]

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]


def confusion(labels: Labels, predicted: Labels) -> npt.NDArray[np.int64]:
    """Confusion matrix int64 [4, 4]: row = true class, column = predicted class."""
    k = len(CLASSES)
    return np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k).astype(np.int64)


def calibration_error(labels: Labels, probabilities: Probabilities, bins: int = 15) -> float:
    """Expected calibration error of the top class, equal-width bins (Guo et al., ICML 2017)."""
    top = probabilities.argmax(1)
    confidence = probabilities.max(1)
    right = (top == labels).astype(np.float64)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for b in range(bins):
        inside = place == b
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)


def log_loss(labels: Labels, probabilities: Probabilities) -> float:
    """Mean negative log-likelihood of the true class, natural logarithm."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(chosen.astype(np.float64), 1e-12, 1.0)).mean())


def summarise(labels: Labels, probabilities: Probabilities) -> dict[str, Any]:
    """Everything that is reported about one set of fields.

    Args:
        labels: int64 [N], indices into CLASSES.
        probabilities: float32 [N, 4], rows sum to one.
    """
    predicted = probabilities.argmax(1)
    matrix = confusion(labels, predicted)
    total = int(matrix.sum())
    sick = labels != BENIGN
    called_benign = predicted == BENIGN
    per_class = {}
    for i, name in enumerate(CLASSES):
        positives, negatives = int(matrix[i].sum()), int(total - matrix[i].sum())
        false_positives = int(matrix[:, i].sum() - matrix[i, i])
        per_class[name] = {
            "sensitivity": Rate(int(matrix[i, i]), positives).to_dict(),
            "specificity": Rate(negatives - false_positives, negatives).to_dict(),
        }
    return {
        "fields": total,
        "accuracy": Rate(int(np.trace(matrix)), total).to_dict(),
        "all_called_benign": Rate(int((sick & called_benign).sum()), int(sick.sum())).to_dict(),
        "benign_called_all": Rate(
            int((~sick & ~called_benign).sum()), int((~sick).sum())
        ).to_dict(),
        "per_class": per_class,
        "calibration_error": round(calibration_error(labels, probabilities), 6),
        "log_loss": round(log_loss(labels, probabilities), 6),
        "confusion": matrix.tolist(),
    }
