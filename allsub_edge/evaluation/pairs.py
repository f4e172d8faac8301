"""Two subjects on the same fields: is the difference more than chance?

McNemar's test looks at the fields that only one of two gets right; if both were equally good, each
such field would be a coin toss. The exact form sums the binomial tail (McNemar, Psychometrika
1947; recommended for small counts by Dietterich, Neural Computation 1998). Several pairs are
several chances to be wrong, so p values are also given after Holm's correction (Scandinavian
Journal of Statistics 1979). Fields of one slide are not independent, which makes every p value here
too small; the interval of the difference draws whole groups and is the safer one to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.evaluation.bootstrap import percentiles
from allsub_edge.evaluation.measures import number

Hits = npt.NDArray[np.bool_]


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p value of ``only_first`` against ``only_second`` discordant fields."""
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(only_first, total, 0.5).pvalue) if total else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """p values after Holm's step-down correction, in the order given."""
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = highest
    return adjusted


def compared(
    names: Sequence[str], hits: Sequence[Hits], drawn: npt.NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Every pair: discordant fields, p values, and the difference with its interval.

    Args:
        names: of the subjects.
        hits: bool [N] for each, true where its class is right; the same fields in the same order.
        drawn: bootstrap weights [B, N].
    """
    rows: list[dict[str, Any]] = []
    for a, b in combinations(range(len(names)), 2):
        only_a, only_b = int((hits[a] & ~hits[b]).sum()), int((hits[b] & ~hits[a]).sum())
        gap = hits[a].astype(np.float64) - hits[b]
        low, high = percentiles(drawn @ gap / drawn.sum(1))
        rows.append(
            {
                "first": names[a],
                "second": names[b],
                "only_first_right": only_a,
                "only_second_right": only_b,
                "difference": number(float(gap.mean())),
                "difference95": [number(low), number(high)],
                "p": mcnemar(only_a, only_b),
            }
        )
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return rows
