"""What can be told without looking at a cell: the baseline that stands beside every accuracy.

The public data set was photographed class by class, so the colour of the empty background gives
the class away. An accuracy near this baseline proves nothing about cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.training.metrics import Labels, Rate


def background_colour(field: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Mean RGB float64 [3] of the brightest 30 % of a field's pixels by minimum channel."""
    pixels = field.reshape(-1, 3)
    darkest = pixels.min(1)
    return np.asarray(pixels[darkest >= np.quantile(darkest, 0.7)].mean(0), dtype=np.float64)


def background_baseline(
    train_fields: npt.NDArray[np.uint8],
    train_labels: Labels,
    test_fields: npt.NDArray[np.uint8],
    test_labels: Labels,
) -> dict[str, Any]:
    """Accuracy of :func:`background_predictions`, as a rate with its interval."""
    predicted = background_predictions(train_fields, train_labels, test_fields)
    return Rate(int((predicted == test_labels).sum()), len(test_labels)).to_dict()


def background_predictions(
    train_fields: npt.NDArray[np.uint8],
    train_labels: Labels,
    test_fields: npt.NDArray[np.uint8],
) -> Labels:
    """Classes int64 [N] that a support vector machine names from the background colour alone."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    machine = make_pipeline(StandardScaler(), SVC(C=10.0, gamma="scale"))
    machine.fit(np.stack([background_colour(f) for f in train_fields]), train_labels)
    predicted = machine.predict(np.stack([background_colour(f) for f in test_fields]))
    return np.asarray(predicted, dtype=np.int64)
