"""Every measure of a report as a function of one confusion matrix, so that the same code gives the
value and, on resampled matrices, its interval.

"One versus rest, macro" is how the paper tells its results: each class is held against the other
three, and the four numbers are averaged. For accuracy that flatters: a field that is called the
wrong class is an error for two of the four questions only, so the macro one-versus-rest error is
exactly half of the error that a reader thinks of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import BENIGN, CLASSES
from allsub_edge.statistics import Rate
from allsub_edge.training.metrics import Labels, Probabilities, calibration_error

Matrix = npt.NDArray[Any]
"""Counts [..., 4, 4]: row = true class, column = predicted class."""

Floats = npt.NDArray[np.float64]

NAMES: Final[dict[str, str]] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "all_sensitivity": "ALL versus Benign: sensitivity",
    "all_specificity": "ALL versus Benign: specificity",
    "macro_sensitivity": "one-vs-rest sensitivity, macro (the paper's way)",
    "macro_specificity": "one-vs-rest specificity, macro (the paper's way)",
    "macro_accuracy": "one-vs-rest accuracy, macro (the paper's way; halves the error)",
    "auroc_macro": "AUROC, one-vs-rest, macro",
    "auroc_all": "AUROC, ALL versus Benign",
    "calibration_error": "expected calibration error (15 bins)",
    **{f"sensitivity_{c}": f"{c}: sensitivity" for c in CLASSES},
    **{f"specificity_{c}": f"{c}: specificity" for c in CLASSES},
    **{f"auroc_{c}": f"{c}: AUROC, one-vs-rest" for c in CLASSES},
}
"""Key of a measure -> what a report calls it, in the order of a report."""

HEADLINES: Final[tuple[str, ...]] = tuple(list(NAMES)[:10])
"""The measures of the first table; the others stand in the table of the classes."""


def _share(part: Matrix, whole: Matrix) -> Floats:
    """part / whole, NaN where there is nothing to count."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole > 0, part / whole, np.nan), np.float64)


def from_matrix(matrix: Matrix) -> dict[str, Floats]:
    """Measures that follow from counts alone; each has the leading shape of ``matrix``.

    ``balanced_accuracy`` is the mean of the classes' sensitivities, and so is
    ``macro_sensitivity``: two names of one number, kept because readers look for both. A row of
    NaN, a class of which nothing is known, makes NaN of the measures that need this class and of
    no other.
    """
    total = matrix.sum((-2, -1))
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    sensitivity = _share(right, matrix.sum(-1))
    # From the other rows alone: what is taken from a total needs the class itself too.
    others = [np.delete(matrix, i, axis=-2) for i in range(len(CLASSES))]
    negatives = np.stack([rows.sum((-2, -1)) for rows in others], -1)
    called = np.stack([rows[..., i].sum(-1) for i, rows in enumerate(others)], -1)
    specificity = _share(negatives - called, negatives)
    versus_rest = _share(right + negatives - called, total[..., None])
    found: dict[str, Floats] = {
        "accuracy": _share(right.sum(-1), total),
        "balanced_accuracy": sensitivity.mean(-1),
        "all_sensitivity": specificity[..., BENIGN],
        "all_specificity": sensitivity[..., BENIGN],
        "macro_sensitivity": sensitivity.mean(-1),
        "macro_specificity": specificity.mean(-1),
        "macro_accuracy": versus_rest.mean(-1),
    }
    for i, name in enumerate(CLASSES):
        found[f"sensitivity_{name}"] = sensitivity[..., i]
        found[f"specificity_{name}"] = specificity[..., i]
    return found


def counted(matrix: Matrix) -> dict[str, Rate]:
    """Those measures that are a count out of a total, with their Wilson intervals."""
    total = int(matrix.sum())
    right = np.diagonal(matrix)
    positives, called = matrix.sum(1), matrix.sum(0)
    sick = total - int(positives[BENIGN])
    missed = int(called[BENIGN] - right[BENIGN])
    found = {
        "accuracy": Rate(int(right.sum()), total),
        "all_sensitivity": Rate(sick - missed, sick),
        "all_specificity": Rate(int(right[BENIGN]), int(positives[BENIGN])),
    }
    for i, name in enumerate(CLASSES):
        others = total - int(positives[i])
        found[f"sensitivity_{name}"] = Rate(int(right[i]), int(positives[i]))
        found[f"specificity_{name}"] = Rate(others - int(called[i] - right[i]), others)
    return found


def auroc(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Areas under the ROC curve by scikit-learn; NaN where one side of the question is empty.

    ``auroc_CLASS`` holds each class against the rest by its own probability, ``auroc_macro`` is
    their mean, ``auroc_all`` ranks fields by the probability that they are not Benign.
    """
    from sklearn.metrics import roc_auc_score

    found = {}
    for key, positive, score in roc_questions(labels, probabilities):
        both = positive.any() and not positive.all()
        found[key] = float(roc_auc_score(positive, score)) if both else float("nan")
    found["auroc_macro"] = float(np.mean([found[f"auroc_{c}"] for c in CLASSES]))
    return found


def roc_questions(
    labels: Labels, probabilities: Probabilities
) -> list[tuple[str, npt.NDArray[np.bool_], Floats]]:
    """(key, which fields are positive bool [N], score float64 [N]) of each area."""
    wide = probabilities.astype(np.float64)
    questions = [
        (f"auroc_{name}", labels == i, wide[:, i].copy()) for i, name in enumerate(CLASSES)
    ]
    return [*questions, ("auroc_all", labels != BENIGN, 1 - wide[:, BENIGN])]


def values(labels: Labels, probabilities: Probabilities, matrix: Matrix) -> dict[str, float]:
    """Every measure of ``NAMES``."""
    found = {key: float(value) for key, value in from_matrix(matrix).items()}
    found |= auroc(labels, probabilities)
    found["calibration_error"] = calibration_error(labels, probabilities)
    return {key: found[key] for key in NAMES}


def table(
    found: Mapping[str, float],
    rates: Mapping[str, Rate],
    intervals: Mapping[str, tuple[float, float]],
) -> dict[str, dict[str, Any]]:
    """JSON-ready: value, count and Wilson interval where there is one, bootstrap interval."""
    rows: dict[str, dict[str, Any]] = {}
    for key in NAMES:
        row: dict[str, Any] = {"name": NAMES[key], "value": number(found[key])}
        if key in rates:
            given = rates[key].to_dict()
            row |= {"count": given["count"], "total": given["total"]}
            row["wilson95"] = [number(end) for end in given["interval95"]]
        row["bootstrap95"] = [number(end) for end in intervals[key]]
        rows[key] = row
    return rows


def rate_of(count: int, total: int) -> dict[str, Any] | None:
    """JSON-ready rate with its Wilson interval; None where there is nothing to count."""
    return Rate(count, total).to_dict() if total else None


def number(value: float) -> float | None:
    """Six decimals; None for NaN, which JSON does not know."""
    return None if np.isnan(value) else round(float(value), 6)
