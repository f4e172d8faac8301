"""How far probabilities, prediction sets and labels can be taken at their word."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.evaluation.answers import NO_LABEL, Answers
from allsub_edge.evaluation.bootstrap import rate_interval
from allsub_edge.evaluation.measures import number, rate_of
from allsub_edge.model_file.entries import Calibration
from allsub_edge.statistics import Rate
from allsub_edge.training.calibrate import fit_conformal, fit_temperature, softmax
from allsub_edge.training.metrics import Labels, Probabilities, calibration_error, log_loss

BINS: Final[int] = 15

_LEAST: Final[float] = 5e-7
"""Half a unit of the last decimal of a record's probabilities; what is rounded to 0 is this."""


def reliability(labels: Labels, probabilities: Probabilities) -> list[dict[str, Any]]:
    """Confidence against accuracy in equal-width bins of the top probability; empty ones left out.

    The bins are those of ``training.metrics.calibration_error``.
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "from": round(b / BINS, 6),
            "to": round((b + 1) / BINS, 6),
            "confidence": round(float(confidence[place == b].mean()), 6),
            **Rate(int(right[place == b].sum()), int((place == b).sum())).to_dict(),
        }
        for b in range(BINS)
        if (place == b).any()
    ]


def scaled_logits(probabilities: Probabilities, temperature: float) -> npt.NDArray[np.float32]:
    """Logits before temperature scaling, up to a constant for each field: float32 [N, 4]."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) * temperature
    return np.asarray(logits, np.float32)


def calibration(
    labels: Labels,
    answers: Answers,
    given: Calibration,
    drawn: npt.NDArray[np.float64],
    fitted_on: str,
    held_labels: Labels | None,
    held: Answers | None,
) -> dict[str, Any]:
    """Temperature and prediction sets: what was promised and what was found.

    Args:
        labels: int64 [N].
        answers: to the evaluated fields.
        given: the subject's stored calibration, fitted after training.
        drawn: bootstrap weights [B, N].
        fitted_on: on what, in words.
        held_labels: of the calibration role's fields, where the folder has them.
        held: answers to these; temperature and thresholds are fitted on them again, and nowhere
            else, to show that the stored ones came from there.
    """
    probabilities = answers.probabilities
    bare = softmax(scaled_logits(probabilities, given.temperature))
    covered = answers.sets[np.arange(len(labels)), labels]
    sizes = answers.sets.sum(1)
    result: dict[str, Any] = {
        "temperature": given.temperature,
        "fitted_on": fitted_on,
        "error_before": number(calibration_error(labels, bare)),
        "error_after": number(calibration_error(labels, probabilities)),
        "log_loss_before": number(log_loss(labels, bare)),
        "log_loss_after": number(log_loss(labels, probabilities)),
        "alpha": given.alpha,
        "conformal": given.conformal,
        "coverage": {
            name: _coverage(covered, labels == i, drawn) for i, name in enumerate(CLASSES)
        },
        "coverage_all": _coverage(covered, labels >= 0, drawn),
        "set_sizes": {str(size): int((sizes == size).sum()) for size in range(len(CLASSES) + 1)},
        "mean_set_size": number(float(sizes.mean())),
        "reliability": reliability(labels, probabilities),
    }
    if held is not None and held_labels is not None:
        logits = scaled_logits(held.probabilities, given.temperature)
        result["fitted_again"] = {
            "fields": len(held_labels),
            "temperature": fit_temperature(held_labels, logits),
            "conformal": fit_conformal(held_labels, held.probabilities, given.alpha),
        }
    return result


def _coverage(
    covered: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_], drawn: npt.NDArray[np.float64]
) -> dict[str, Any]:
    rate = Rate(int(covered[inside].sum()), int(inside.sum()))
    if not rate.total:
        return {"count": 0, "total": 0, "value": None}
    ends = rate_interval(covered[inside], drawn[:, inside])
    return {**rate.to_dict(), "bootstrap95": [number(end) for end in ends]}


def decisions(labels: Labels, answers: Answers, drawn: npt.NDArray[np.float64]) -> dict[str, Any]:
    """What the device stood behind: labels given, labels right, and why the others were not."""
    given = answers.labels != NO_LABEL
    right = answers.labels == labels
    statuses = Counter(answers.statuses)
    reasons = Counter(code for codes in answers.reasons for code in codes)
    ends = rate_interval(given, drawn)
    labelled = Rate(int(given.sum()), len(labels))
    return {
        "labels_given": {**labelled.to_dict(), "bootstrap95": [number(end) for end in ends]},
        "labels_right": rate_of(int((given & right).sum()), labelled.count),
        "statuses": {name: statuses[name] for name in ("ok", "uncertain", "unfit")},
        "reasons": dict(sorted(reasons.items())),
    }
