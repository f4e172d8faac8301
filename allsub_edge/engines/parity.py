"""Is this file still the same model? Two ways to answer the same fields, compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import BENIGN

Answer = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]
"""probabilities [N, 4], domain_distance [N], mask [N, S, S]."""

Run = Callable[[npt.NDArray[np.uint8]], Answer]


@dataclass(frozen=True)
class Parity:
    """How far two answers to the same fields are apart.

    Attributes:
        fields: how many fields were compared.
        largest_probability_difference: absolute, over all fields and classes.
        same_top: share of fields with the same most probable class.
        largest_distance_difference: of the domain distance, relative to the reference.
        masks_equal: every pixel of every mask is equal.
        new_missed: fields of an ALL class that only the candidate calls Benign; None where no
            labels were given.
    """

    fields: int
    largest_probability_difference: float
    same_top: float
    largest_distance_difference: float
    masks_equal: bool
    new_missed: int | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def collect(run: Run, fields: npt.NDArray[np.uint8], batch_size: int = 16) -> Answer:
    """Run fields batch by batch and join the answers."""
    parts = [run(fields[i : i + batch_size]) for i in range(0, len(fields), batch_size)]
    return (
        np.concatenate([p[0] for p in parts]),
        np.concatenate([p[1] for p in parts]),
        np.concatenate([p[2] for p in parts]),
    )


def compare(
    reference: Answer, candidate: Answer, labels: npt.NDArray[np.int64] | None = None
) -> Parity:
    """Compare two answers to the same fields."""
    top_a, top_b = reference[0].argmax(1), candidate[0].argmax(1)
    missed = None
    if labels is not None:
        sick = labels != BENIGN
        missed = int((sick & (top_b == BENIGN) & (top_a != BENIGN)).sum())
    relative = np.abs(reference[1] - candidate[1]) / np.maximum(np.abs(reference[1]), 1e-6)
    return Parity(
        fields=len(top_a),
        largest_probability_difference=float(np.abs(reference[0] - candidate[0]).max()),
        same_top=float((top_a == top_b).mean()),
        largest_distance_difference=float(relative.max()),
        masks_equal=bool(np.array_equal(reference[2], candidate[2])),
        new_missed=missed,
    )
