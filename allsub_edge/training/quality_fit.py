"""Quality limits from fields that are known to be fit to judge.

A limit starts from a quantile of the good fields and is moved outwards by a margin, because the
slides it was taken from are few and the next ones differ. What was measured on the public data
set, limits from four fifths of the groups of neighbouring fields and asked of the others, forty
times: 0.5 % of good fields refused on average, 1.8 % at most, nearly all for ``cell_blue``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from allsub_edge.quality import Quality, measure

QUANTILE: Final[float] = 0.01
"""Share of known good fields that lies beyond the value a limit starts from."""

MARGIN: Final[float] = 0.5
"""A lower limit is this share of its quantile: half as bright, half as many cells as the worst good
fields. Good fields made 0.4 times as bright fall below, 0.6 times do not."""

FOCUS_MARGIN: Final[float] = 0.3
"""The same for focus, which falls by a factor of eight with a blur of one pixel: on the public
data set a Gaussian blur of 2 pixels falls below for every field, of 0.7 for few."""

SHARE_MARGIN: Final[float] = 0.4
"""An upper limit of a share of pixels moves this part of the way from its quantile to 1. Good
fields made 1.6 times as bright are more than half clipped, which is beyond."""

CAST_MARGIN: Final[float] = 3.0
"""The limit of the colour cast is this many times its quantile: the white balance takes a cast
away, so only one far beyond that of any training slide is refused."""

STAIN_MARGIN: Final[float] = 0.5
"""The range of the cells' colour is widened by this part of its width on each side. It is a mean
over few pixels where cells are few, so it scatters more than that of the red cells."""

TINT_MARGIN: Final[float] = 0.25
"""The same for the colour of the red cells, which is a mean over two fifths of a field (median)."""


def fit_quality(fields: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Limits for ``allsub_edge.quality.judge``.

    Args:
        fields: uint8 [N, 224, 224, 3], good fields; N at least 1. None that is used to judge the
            result. The more slides the better: limits from few slides are too narrow for others.
        masks: uint8 [N, 224, 224] of 0 and 1.

    Returns:
        Limit name -> number, in the units of ``allsub_edge.quality.Quality``. A measure that no
        field gave (such as the stain, where no mask has a pixel) gets no limit.

    Raises:
        ValueError: no field, or not as many masks as fields.
    """
    if not len(fields):
        raise ValueError("quality limits need at least one field")
    return limits_of([measure(f, m, 0.0) for f, m in zip(fields, masks, strict=True)])


def limits_of(found: Sequence[Quality]) -> dict[str, float]:
    """The limits of :func:`fit_quality` from fields that were measured already."""
    limits: dict[str, float] = {}
    for name in ("cell_fraction", "cells", "focus", "brightness"):
        margin = FOCUS_MARGIN if name == "focus" else MARGIN
        for low, _ in _range(found, name):
            limits[f"min_{name}"] = margin * low
    for name in ("black", "clipped"):
        for _, high in _range(found, name):
            limits[f"max_{name}"] = high + SHARE_MARGIN * (1 - high)
    for _, high in _range(found, "cast"):
        limits["max_cast"] = CAST_MARGIN * high
    for name, margin in (
        ("stain", STAIN_MARGIN),
        ("cell_blue", STAIN_MARGIN),
        ("red_cell_tint", TINT_MARGIN),
    ):
        for low, high in _range(found, name):
            wider = margin * (high - low)
            limits[f"min_{name}"], limits[f"max_{name}"] = low - wider, high + wider
    return {name: round(value, 5) for name, value in limits.items()}


def _range(found: Sequence[Quality], name: str) -> list[tuple[float, float]]:
    """The two quantiles of one measure; empty if no field has it."""
    values = [getattr(quality, name) for quality in found]
    given = [value for value in values if value is not None]
    if not given:
        return []
    low, high = np.quantile(given, [QUANTILE, 1 - QUANTILE])
    return [(float(low), float(high))]
