"""What a subject said about many fields, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.prediction import Prediction

NO_LABEL: Final[int] = -1
"""Stands in ``Answers.labels`` where the device refuses."""


@dataclass(frozen=True)
class Answers:
    """What a subject said about N fields, in their order.

    Attributes:
        probabilities: float32 [N, 4], calibrated.
        labels: int64 [N], what the device stands behind; ``NO_LABEL`` where it refuses.
        sets: bool [N, 4], the prediction sets.
        statuses: ``ok``, ``uncertain`` or ``unfit`` for each.
        reasons: why a field is unfit, as codes of ``quality.REASONS``.
        distances: float32 [N], domain distance.
    """

    probabilities: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    sets: npt.NDArray[np.bool_]
    statuses: list[str]
    reasons: list[list[str]]
    distances: npt.NDArray[np.float32]

    @property
    def top(self) -> npt.NDArray[np.int64]:
        """Most probable classes int64 [N]; the first of equals, as in the records."""
        return np.asarray(self.probabilities.argmax(1), np.int64)

    def at(self, places: npt.NDArray[np.int64]) -> Answers:
        """The answers at these places, int64 [M]."""
        return Answers(
            self.probabilities[places],
            self.labels[places],
            self.sets[places],
            [self.statuses[i] for i in places],
            [self.reasons[i] for i in places],
            self.distances[places],
        )

    @classmethod
    def of(cls, records: Sequence[Prediction]) -> Answers:
        """Collect the records of fields that could be read."""
        return cls(
            np.array([[r.probabilities[c] for c in CLASSES] for r in records], np.float32),
            np.array([CLASSES.index(r.label) if r.label else NO_LABEL for r in records], np.int64),
            np.array([[c in r.prediction_set for c in CLASSES] for r in records], bool),
            [r.status for r in records],
            [list(r.reasons) for r in records],
            np.array([r.quality.domain_distance if r.quality else 0 for r in records], np.float32),
        )

    @classmethod
    def join(cls, parts: Sequence[Answers]) -> Answers:
        """One after the other."""
        return cls(
            np.concatenate([p.probabilities for p in parts]),
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.sets for p in parts]),
            [s for p in parts for s in p.statuses],
            [r for p in parts for r in p.reasons],
            np.concatenate([p.distances for p in parts]),
        )
