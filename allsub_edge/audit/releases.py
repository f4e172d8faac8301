"""The counts of a folder against the releases of the public data set that people quote.

Three totals are in circulation. 3256 fields were published as ``Original``; the same download holds
as many ``Segmented`` images, and whoever counts both arrives at 6512. A second release has 3242.
The paper's abstract says 3562, which was never published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from allsub_edge.classes import CLASSES
from allsub_edge.training.dataset import Sample, split_name

FIRST: Final[Mapping[str, int]] = {"Benign": 504, "Early": 985, "Pre": 963, "Pro": 804}
"""Fields per class of the first release (Kaggle ``mehradaria/leukemia``), 3256 together."""

TOTALS: Final[Mapping[int, str]] = {
    3256: "the first release: its original fields",
    3242: "the second release",
    6512: "the first release with Original and Segmented counted together",
    3562: "the count in the paper's abstract, which was never published",
}
"""Known totals and what they are."""


@dataclass(frozen=True)
class Gap:
    """File numbers ``first``..``last`` of a class that no file has."""

    label: str
    first: int
    last: int

    @property
    def size(self) -> int:
        """How many numbers are missing."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Comparison:
    """A folder's counts beside the known ones.

    Attributes:
        counts: readable fields per class.
        total: their sum.
        with_segmented: the sum with the segmented images; equal to ``total`` without them.
        verdict: one sentence: which release this is, or how it differs from the first.
        missing: fields per class that the first release has more (negative: fewer).
        gaps: missing runs of file numbers, by class.
    """

    counts: dict[str, int]
    total: int
    with_segmented: int
    verdict: str
    missing: dict[str, int]
    gaps: list[Gap]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "counts": self.counts,
            "total": self.total,
            "with_segmented": self.with_segmented,
            "verdict": self.verdict,
            "missing_against_3256": self.missing,
            "number_gaps": [
                {"class": gap.label, "first": gap.first, "last": gap.last} for gap in self.gaps
            ],
        }


def compare(samples: Sequence[Sample], segmented: Mapping[str, int] | None) -> Comparison:
    """Hold the counts of readable fields against the known releases.

    Args:
        samples: the readable fields.
        segmented: segmented images per class, or None.
    """
    counts = {label: sum(sample.label == label for sample in samples) for label in CLASSES}
    total = sum(counts.values())
    together = total + sum((segmented or {}).values())
    missing = {label: FIRST[label] - counts[label] for label in CLASSES}
    return Comparison(
        counts, total, together, _verdict(counts, total, together), missing, number_gaps(samples)
    )


def _verdict(counts: dict[str, int], total: int, together: int) -> str:
    if total == 3256:
        if counts != FIRST:
            return "3256 fields as in the first release, but distributed otherwise over the classes"
        both = " (6512 with its segmented images, as some count)" if together == 6512 else ""
        return f"the first release, complete: 3256 fields{both}"
    if total in TOTALS:
        advice = ""
        if total == 6512:
            advice = ": half of these are segmented copies; give the folder Original alone"
        return f"{total} fields: {TOTALS[total]}{advice}"
    missing = {label: FIRST[label] - counts[label] for label in CLASSES}
    lack = ", ".join(f"{n} {label}" for label, n in missing.items() if n > 0) or "nothing"
    more = ", ".join(f"{-n} {label}" for label, n in missing.items() if n < 0)
    surplus = f", and has {more} more" if more else ""
    return (
        f"{total} fields, none of the known counts (3256, 3242, 6512): compared with the 3256 of "
        f"the first release it lacks {lack}{surplus}"
    )


def number_gaps(samples: Sequence[Sample]) -> list[Gap]:
    """Runs of missing file numbers inside each class, where all its names begin alike.

    Numbers count from 1; numbers after the last file cannot be missed. A class whose names begin
    differently has no gaps, because its numbers are not one series.
    """
    gaps: list[Gap] = []
    for label in CLASSES:
        named = [split_name(sample.file) for sample in samples if sample.label == label]
        if len({beginning for beginning, _ in named}) != 1:
            continue
        before = 0
        for number in sorted(number for _, number in named if number is not None):
            if number > before + 1:
                gaps.append(Gap(label, before + 1, number - 1))
            before = number
    return gaps
