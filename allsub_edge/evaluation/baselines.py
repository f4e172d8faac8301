"""What can be told without looking at a cell, beside every accuracy.

The public data set was photographed class by class, so the light, the camera's white balance and
the burned-in scale bar give the class away. Each baseline is a support vector machine that sees
nothing but one such trait. It learns from the split's train role; where there is none it is
cross-validated over the groups of the evaluated fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.imaging.resize import squash
from allsub_edge.statistics import Rate
from allsub_edge.training.metrics import Labels
from allsub_edge.training.perturb import SCALE_BAR_CORNER
from allsub_edge.training.shortcuts import background_colour

Fields = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float64]

FOLDS: Final[int] = 5
_CORNER_SIDE: Final[int] = 8


def corner(field: Fields) -> Vector:
    """The bottom-right corner with the scale bar, averaged to 8 x 8: float64 [192]."""
    patch = np.ascontiguousarray(field[-SCALE_BAR_CORNER:, -SCALE_BAR_CORNER:])
    return squash(patch, _CORNER_SIDE).reshape(-1).astype(np.float64)


def colour_statistics(field: Fields) -> Vector:
    """Mean and standard deviation of red, green and blue over the whole field: float64 [6]."""
    pixels = field.reshape(-1, 3).astype(np.float64)
    return np.concatenate([pixels.mean(0), pixels.std(0)])


BASELINES: Final[dict[str, tuple[str, Callable[[Fields], Vector]]]] = {
    "background_colour": ("background colour alone, no cell seen", background_colour),
    "corner": ("scale-bar corner alone, no cell seen", corner),
    "colour_statistics": ("six colour statistics of the field", colour_statistics),
}
"""Key -> (what a report calls it, what the machine sees of a field)."""


def baselines(
    fields: Fields,
    labels: Labels,
    groups: Sequence[str],
    train_fields: Fields,
    train_labels: Labels,
) -> dict[str, Any]:
    """Accuracy of each baseline on ``fields`` [N, 224, 224, 3], as a rate with its interval.

    Without train fields of every class, predictions are made by stratified cross-validation over
    the groups; where a class has fewer than two groups that is impossible and the entry says so.
    """
    learned = len(np.unique(train_labels)) == len(np.unique(labels)) > 1
    result: dict[str, Any] = {}
    for key, (name, sees) in BASELINES.items():
        seen = np.stack([sees(f) for f in fields])
        if learned:
            machine = _machine().fit(np.stack([sees(f) for f in train_fields]), train_labels)
            predicted, how = machine.predict(seen), f"learned from {len(train_fields)} train fields"
        else:
            predicted, how = _cross_validated(seen, labels, groups)
        entry: dict[str, Any] = {"name": name, "how": how}
        if predicted is not None:
            entry |= Rate(int((predicted == labels).sum()), len(labels)).to_dict()
        result[key] = entry
    return result


def _machine() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(C=10.0, gamma="scale"))


def _cross_validated(
    seen: Vector, labels: Labels, groups: Sequence[str]
) -> tuple[npt.NDArray[Any] | None, str]:
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    names = np.asarray(groups)
    fewest = min(len(np.unique(names[labels == i])) for i in np.unique(labels))
    folds = min(FOLDS, fewest)
    if folds < 2 or len(np.unique(labels)) < 2:
        return None, "not measured: a class has fewer than two groups"
    splitter = StratifiedGroupKFold(folds)
    predicted = cross_val_predict(_machine(), seen, labels, groups=names, cv=splitter)
    return predicted, f"{folds}-fold over the groups of the evaluated fields"
