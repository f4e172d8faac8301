"""How well a recipe finds the white cells: Dice and IoU on each image, and their distribution.

Dice is ``2 |A and B| / (|A| + |B|)`` (Dice, Ecology 1945), IoU ``|A and B| / |A or B|`` (Jaccard
1912); both are 1 where recipe and truth agree that there is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.audit.inventory import Refused
from allsub_edge.audit.truth import Case, Mask, find_cases, is_release, read_cases
from allsub_edge.classes import CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.errors import DataError
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.training.dataset import Progress
from allsub_edge.version import __version__

SCHEMA: Final[str] = "allsub-edge/segmentation/1"
RESAMPLES: Final[int] = 2000
BINS: Final[int] = 10


@dataclass(frozen=True)
class Measured:
    """One image: its name, class (or empty), Dice, IoU, and the shares in both directions.

    Attributes:
        precision: share of the found pixels that are right; 1 when nothing was found.
        recall: share of the wanted pixels that were found; 1 when nothing was wanted.
    """

    file: str
    label: str
    dice: float
    iou: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Distribution:
    """One measure over many images.

    Attributes:
        mean, median: with 95 % bootstrap intervals over images (percentiles, 2000 resamples).
        quartiles: 25th and 75th percentile.
        lowest, highest: extremes.
        histogram: images in ten equal bins of 0..1.
    """

    images: int
    mean: float
    mean_interval: tuple[float, float]
    median: float
    median_interval: tuple[float, float]
    quartiles: tuple[float, float]
    lowest: float
    highest: float
    histogram: tuple[int, ...]

    @classmethod
    def of(cls, values: Sequence[float], seed: int = 1) -> Distribution:
        """Describe at least one value, each 0..1."""
        array = np.asarray(values, np.float64)
        drawn = array[
            np.random.default_rng(seed).integers(len(array), size=(RESAMPLES, len(array)))
        ]
        return cls(
            len(array),
            float(array.mean()),
            _interval(drawn.mean(axis=1)),
            float(np.median(array)),
            _interval(np.median(drawn, axis=1)),
            (float(np.quantile(array, 0.25)), float(np.quantile(array, 0.75))),
            float(array.min()),
            float(array.max()),
            tuple(int(n) for n in np.histogram(array, BINS, (0.0, 1.0))[0]),
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON, rounded to four places."""
        return {key: _rounded(value) for key, value in vars(self).items()}


def _interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    return [_rounded(part) for part in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Outcome:
    """One recipe on one set.

    Attributes:
        recipe: its name.
        target: ``nucleus``, ``cell`` or, for the public set's cut-outs, ``released``.
        squashed: whether everything was brought to 224x224 first.
        measured: one entry for each image that could be read, in order.
        refused: the others; the same for every recipe.
    """

    recipe: str
    target: str
    squashed: bool
    measured: list[Measured]
    refused: list[Refused]

    def parts(self) -> dict[str, list[Measured]]:
        """The images by class where there are classes, else all under ``all``."""
        if self.target != "released":
            return {"all": self.measured}
        return {
            label: own
            for label in CLASSES
            if (own := [entry for entry in self.measured if entry.label == label])
        }

    def to_dict(self) -> dict[str, Any]:
        """For JSON: distributions, and every image."""
        return {
            "recipe": self.recipe,
            "target": self.target,
            "squashed_to_224": self.squashed,
            "distributions": {
                name: {
                    "dice": Distribution.of([entry.dice for entry in own]).to_dict(),
                    "iou": Distribution.of([entry.iou for entry in own]).to_dict(),
                }
                for name, own in self.parts().items()
            },
            "images": [
                {key: _rounded(value) for key, value in vars(entry).items()}
                for entry in self.measured
            ],
        }


def agreement(found: Mask, truth: Mask) -> tuple[float, float, float, float]:
    """Dice, IoU, precision and recall of two bool masks of one shape."""
    both = int((found & truth).sum())
    ours, theirs = int(found.sum()), int(truth.sum())
    either = ours + theirs - both
    if either == 0:
        return 1.0, 1.0, 1.0, 1.0
    precision = both / ours if ours else 1.0
    recall = both / theirs if theirs else 1.0
    return 2 * both / (ours + theirs), both / either, precision, recall


def evaluate_recipes(
    root: Path,
    recipes: Sequence[str],
    *,
    target: str = "nucleus",
    squashed: bool = False,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Measure recipes on a folder of :mod:`allsub_edge.audit.truth`; images are read one by one.

    Args:
        root: the folder.
        recipes: names of recipes.
        target: ``nucleus`` or ``cell``; ignored where the public set's cut-outs are the truth.
        squashed: bring everything to 224x224 first.
        progress: called after each image.

    Returns:
        One outcome for each recipe.

    Raises:
        UsageError: ``unknown_recipe``.
        DataError: as :func:`allsub_edge.audit.truth.find_cases`, or ``no_truth`` when no image
            could be read.
    """
    root = Path(root)
    chosen = [get_recipe(name) for name in recipes]
    listed = find_cases(root)
    goal = "released" if is_release(root) else target
    refused: list[Refused] = []
    outcomes = [Outcome(recipe.name, goal, squashed, [], refused) for recipe in chosen]
    for case in read_cases(root, listed, target, squashed, refused, progress):
        for recipe, outcome in zip(chosen, outcomes, strict=True):
            shares = agreement(recipe.mask(case.rgb) > 0, case.truth)
            outcome.measured.append(Measured(case.file, case.label, *shares))
    if not outcomes[0].measured:
        first = refused[0]
        raise DataError(
            "no_truth",
            f"{root}: none of the {len(refused)} images can be used (the first, {first.file}: "
            f"{first.why})",
        )
    return outcomes


def extremes(outcome: Outcome, each: int) -> dict[str, list[Measured]]:
    """The worst and best images of each part by Dice, at most ``each`` of both, worst first."""
    shown = {}
    for name, own in outcome.parts().items():
        order = sorted(own, key=lambda entry: (entry.dice, entry.file))
        best = order[max(each, len(order) - each) :]
        prefix = "" if name == "all" else f"{name}, "
        shown[f"{prefix}worst"] = order[:each]
        if best:
            shown[f"{prefix}best"] = best
    return shown


def cases_of(root: Path, outcome: Outcome, entries: Sequence[Measured]) -> list[Case]:
    """Read the named images again, in the order of ``entries``."""
    wanted = {entry.file for entry in entries}
    listed = [case for case in find_cases(root) if case[0].relative_to(root).as_posix() in wanted]
    read = read_cases(root, listed, outcome.target, outcome.squashed, [])
    by_name = {case.file: case for case in read}
    return [by_name[entry.file] for entry in entries]


def report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All outcomes, for JSON."""
    return {
        "schema": SCHEMA,
        "tool": __version__,
        "notice": NOT_A_MEDICAL_DEVICE,
        "outcomes": [outcome.to_dict() for outcome in outcomes],
        "refused": [vars(entry) for entry in outcomes[0].refused],
    }


def render(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as text."""
    lines = []
    for outcome in outcomes:
        against = {
            "released": "the data set's own segmented images",
            "nucleus": "nuclei drawn by hand",
            "cell": "whole cells drawn by hand",
        }[outcome.target]
        size = "squashed to 224x224" if outcome.squashed else "at their own size"
        lines.append(f"{outcome.recipe} against {against}, {len(outcome.measured)} images {size}")
        for name, own in outcome.parts().items():
            prefix = "" if name == "all" else f"{name:<7}"
            for measure in ("Dice", "IoU"):
                values = [getattr(entry, measure.lower()) for entry in own]
                lines.append(f"  {prefix}{_described(measure, Distribution.of(values))}")
            if name == "all":
                lines += _histogram([entry.dice for entry in own])
        lines.append("")
    refused = outcomes[0].refused
    if refused:
        lines.append(f"not used: {len(refused)} images")
        lines += [f"  {entry.file}: {entry.why}" for entry in refused[:10]]
        if len(refused) > 10:
            lines.append(f"  and {len(refused) - 10} more; --json lists all")
        lines.append("")
    lines.append("Intervals: 95 %, bootstrap over images.")
    lines.append(NOT_A_MEDICAL_DEVICE)
    return "\n".join(lines) + "\n"


def _described(measure: str, told: Distribution) -> str:
    def with_interval(value: float, interval: tuple[float, float]) -> str:
        return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"

    return (
        f"{measure:<5} mean {with_interval(told.mean, told.mean_interval)}  "
        f"median {with_interval(told.median, told.median_interval)}  "
        f"quartiles {told.quartiles[0]:.3f} {told.quartiles[1]:.3f}  "
        f"range {told.lowest:.3f} {told.highest:.3f}"
    )


def _histogram(values: Sequence[float]) -> list[str]:
    counts = Distribution.of(values).histogram
    longest = max(counts)
    return [
        f"    Dice {place / BINS:.1f} to {(place + 1) / BINS:.1f} {count:>5}  "
        f"{'#' * round(40 * count / longest)}".rstrip()
        for place, count in enumerate(counts)
    ]
