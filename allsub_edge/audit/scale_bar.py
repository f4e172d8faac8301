"""The scale bar in the bottom-right corner: which kind each field has, and how it goes with class.

The public data set was exported with three kinds of bar, and a class was exported in few sittings,
so the kind of bar alone narrows the class down. The rules below look at fixed places of the
224x224 field and were set on its 2509 development fields, where the kinds lie far apart: a large
bar darkens its row over its whole length (share 1.0, next below 0.3), the small box has 6 to 9
dark pixels and the others none, red lettering has at least 5 red pixels and the others none. On
other data a bar elsewhere, or of another form, reads as ``none``.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.statistics import Rate

KINDS: Final[tuple[str, ...]] = ("none", "large box", "small box", "red lettering")
"""Kinds of scale bar, in the order of the numbers that :func:`kinds` gives."""

_DARK: Final[int] = 110
_WHITE: Final[int] = 240


def kinds(fields: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Kind of scale bar of each field.

    Args:
        fields: uint8 RGB (N, 224, 224, 3).

    Returns:
        int64 (N,), indices into :data:`KINDS`.
    """
    line = fields[:, 206:222, 196:224].max(axis=3) < _DARK
    large = line.mean(axis=2).max(axis=1) > 0.6
    box = fields[:, 207:216, 195:217]
    ticks = (fields[:, 207:217, 195:217].max(axis=3) < _DARK).sum(axis=(1, 2)) >= 4
    small = ticks & ((box.min(axis=3) >= _WHITE).mean(axis=(1, 2)) >= 0.5)
    corner = fields[:, 204:221, 192:220].astype(np.int16)
    red = (corner[..., 0] - corner[..., 1] > 50) & (corner[..., 0] - corner[..., 2] > 25)
    lettering = red.sum(axis=(1, 2)) >= 3
    chosen = np.select([large, small, lettering], [1, 2, 3], default=0)
    return np.asarray(chosen, dtype=np.int64)


def by_class(
    kind: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
) -> dict[str, dict[str, int]]:
    """Kind -> class -> fields; kinds that no field has are left out."""
    table = {}
    for number, name in enumerate(KINDS):
        if (kind == number).any():
            table[name] = {
                label: int(((kind == number) & (labels == place)).sum())
                for place, label in enumerate(CLASSES)
            }
    return table


def best_guess(table: dict[str, dict[str, int]]) -> Rate:
    """How often the commonest class of each kind is right: all that the kind of bar tells."""
    right = sum(max(row.values()) for row in table.values())
    return Rate(right, sum(sum(row.values()) for row in table.values()))


def alarming(table: dict[str, dict[str, int]]) -> list[str]:
    """Sentences for people: kinds that a class never has, or always."""
    said = []
    totals: dict[str, int] = dict.fromkeys(CLASSES, 0)
    for row in table.values():
        for label, count in row.items():
            totals[label] += count
    for label in CLASSES:
        have = [name for name, row in table.items() if row[label]]
        never = [name for name in table if name not in have]
        if len(have) == 1 and len(table) > 1:
            said.append(f"{label} has {have[0]} only ({totals[label]} fields)")
        elif never and totals[label]:
            said.append(f"{label} never has {' or '.join(never)}")
    return said


def summary(kind: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Everything above, for JSON."""
    table = by_class(kind, labels)
    return {
        "by_class": table,
        "best_guess_from_kind": best_guess(table).to_dict(),
        "differences": alarming(table),
    }
