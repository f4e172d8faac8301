"""What is fitted after training, on fields that took no part in it and are never test fields."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.training.metrics import Labels, log_loss

Floats = npt.NDArray[np.float32]


def softmax(logits: Floats) -> Floats:
    """Rows of ``logits`` [N, K] to probabilities [N, K]."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    result: Floats = (shifted / shifted.sum(1, keepdims=True)).astype(np.float32)
    return result


def fit_temperature(labels: Labels, logits: Floats) -> float:
    """Temperature that minimises the log loss (Guo et al., ICML 2017), within 0.25 to 10.

    A golden-section search on the logarithm; the loss is unimodal in it.
    """
    low, high = math.log(0.25), math.log(10.0)
    ratio = (math.sqrt(5) - 1) / 2

    def loss(position: float) -> float:
        return log_loss(labels, softmax(logits / np.float32(math.exp(position))))

    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return round(math.exp((low + high) / 2), 4)


def fit_conformal(
    labels: Labels, probabilities: Floats, alpha: float, *, floor: float | None = None
) -> dict[str, float]:
    """Class-conditional conformal thresholds (Vovk 2012; Angelopoulos & Bates 2021).

    The score of a field is one minus the probability of its true class; the threshold of a class
    is the ceil((n + 1)(1 - alpha))-th smallest score of its calibration fields. A class belongs
    to the prediction set of a field when one minus its probability is at most its threshold.
    With fewer fields than the rank asks for, the threshold is 1: the class is never excluded.

    No threshold is below ``floor``: with the default only what has a calibrated probability below
    ``alpha`` is ever excluded. The score's quantile alone holds for fields exchangeable with the
    calibration ones, and those come from few slides: with a network that is nearly always right it
    lies at a score of a thousandth, which the next slide misses, and most sets that miss are then
    empty (``python -m allsub_edge.benchmarks.set_coverage`` measures it). A threshold is only ever
    raised, so the guarantee stays.

    Args:
        labels: int64 [N] of the calibration fields.
        probabilities: float32 [N, 4], calibrated.
        alpha: share of fields of each class whose set may miss it, 0..1.
        floor: least threshold; None means ``1 - alpha``, 0 the quantile alone.

    Returns:
        Class -> threshold, ``floor`` to 1.
    """
    least = 1 - alpha if floor is None else floor
    thresholds = {}
    for i, name in enumerate(CLASSES):
        scores = np.sort(1.0 - probabilities[labels == i, i].astype(np.float64))
        rank = math.ceil((len(scores) + 1) * (1 - alpha))
        quantile = float(scores[rank - 1]) if 0 < rank <= len(scores) else 1.0
        thresholds[name] = round(max(quantile, least), 6)
    return thresholds


@dataclass(frozen=True)
class Domain:
    """Distance of features to the nearest training class (Lee et al., NeurIPS 2018).

    ``z = (features - centre) @ whiten``; the distance is the root mean square of the difference
    between ``z`` and the nearest class mean, about 1 for a training field.

    Attributes:
        centre: float32 [F].
        whiten: float32 [F, D]; tied within-class covariance, shrunk and inverted, on the D
            directions of largest variance.
        means: float32 [4, D], class means in the whitened space.
    """

    centre: Floats
    whiten: Floats
    means: Floats

    def distance(self, features: Floats) -> Floats:
        """Domain distance float32 [N] of features float32 [N, F]."""
        z = (features - self.centre) @ self.whiten
        square = ((z[:, None, :] - self.means[None]) ** 2).mean(-1)
        result: Floats = np.sqrt(square.min(1)).astype(np.float32)
        return result

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the run folder."""
        return {"centre": self.centre, "whiten": self.whiten, "means": self.means}


def fit_domain(
    labels: Labels, features: Floats, *, directions: int = 64, shrinkage: float = 0.05
) -> Domain:
    """Fit the domain distance on training features.

    Args:
        labels: int64 [N].
        features: float32 [N, F].
        directions: how many principal directions of the within-class scatter are kept.
        shrinkage: share of the mean variance that is added to every direction.
    """
    x = features.astype(np.float64)
    centre = x.mean(0)
    means = np.stack([x[labels == i].mean(0) for i in range(len(CLASSES))])
    inner = x - means[labels]
    covariance = inner.T @ inner / len(x)
    values, vectors = np.linalg.eigh(covariance)
    keep = np.argsort(values)[::-1][: min(directions, len(values))]
    scale = 1.0 / np.sqrt(values[keep] + shrinkage * values.mean())
    whiten = vectors[:, keep] * scale
    return Domain(
        centre.astype(np.float32),
        whiten.astype(np.float32),
        ((means - centre) @ whiten).astype(np.float32),
    )
