"""The grid of changes that another lamp, camera, operator or file format would bring.

Each condition changes every field in one controlled way (``training.perturb`` and
``training.background``), fixed by the condition's own seed, and the subject answers anew. Told for
each: accuracy, ALL called Benign, the share of fields whose class flipped against the unchanged
field, and what the device still stood behind.

The transplanted backgrounds ask the hardest question of this data set: the white cells stay, pixel
for pixel, and what lies behind them comes from a field of another class. A network that reads the
background flips to the donor's class. The transplant from the same class is the control: it has
the same seams and no other class.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import BENIGN
from allsub_edge.evaluation.subject import BATCH, NO_LABEL, Answers, Fields, Subject
from allsub_edge.statistics import Rate
from allsub_edge.training import perturb
from allsub_edge.training.background import recolour_background, replace_background
from allsub_edge.training.metrics import Labels

Rng = np.random.Generator
Change = Callable[[Fields, npt.NDArray[np.uint8], Rng], Fields]
"""One field uint8 [H, W, 3], its white cells uint8 [H, W], a random state: the changed field."""

Step = Callable[[int], None]
"""Called with the number of fields that were just answered."""

TRANSPLANT: Final[str] = "background"
MAX_PAINTED: Final[float] = 0.5
"""Donors that show more paint than smear are not used."""


@dataclass(frozen=True)
class Condition:
    """One controlled change.

    Attributes:
        key: stable name in JSON.
        family: conditions of one family form a curve.
        level: place on the curve's axis; None for a change without a size.
        name: what a report calls it.
        change: the change; None for transplants, which need the other fields.
        quick: whether ``--quick`` keeps it.
        donor: for transplants: ``other`` or ``same``, the class that the background comes from.
        matched: for transplants: bring the donor to the colour of the field's own glass.
    """

    key: str
    family: str
    level: float | None
    name: str
    change: Change | None
    quick: bool = False
    donor: str = ""
    matched: bool = False


FAMILIES: Final[dict[str, tuple[str, str, float | None]]] = {
    "gains": ("channel gains, each at random", "largest change, %", 0.0),
    "warmth": ("warmer or colder light", "red + x %, blue - x %", 0.0),
    "brightness": ("brightness", "factor", 1.0),
    "gamma": ("tone curve", "gamma", 1.0),
    "blur": ("blur", "sigma, pixels", 0.0),
    "jpeg": ("JPEG", "quality", 100.0),
    "noise": ("sensor noise", "sigma, grey levels", 0.0),
    "magnification": ("magnification", "factor", 1.0),
    "rotation": ("rotation", "degrees", 0.0),
    "mirror": ("mirrored", "", None),
    "scale_bar": ("scale bar", "", None),
    TRANSPLANT: ("background", "", None),
}
"""Family -> (title, axis, level of the unchanged field)."""


def _series(
    family: str,
    name: str,
    levels: tuple[float, ...],
    change: Callable[[Fields, float, Rng], Fields],
    *,
    quick: tuple[float, ...],
) -> list[Condition]:
    """One condition for each level; ``quick`` levels are part of the quick grid too."""

    def bound(level: float) -> Change:
        return lambda field, mask, rng: change(field, level, rng)

    return [
        Condition(
            f"{family}_{level:g}", family, level, name.format(level), bound(level), level in quick
        )
        for level in levels
    ]


def _plain(change: Callable[[Fields], Fields]) -> Change:
    return lambda field, mask, rng: change(field)


def _random_gains(field: Fields, percent: float, rng: Rng) -> Fields:
    return perturb.random_gains(field, percent / 100, rng)


def _warm(field: Fields, percent: float, rng: Rng) -> Fields:
    return perturb.gains(field, (1 + percent / 100, 1.0, 1 - percent / 100))


def _rotate(field: Fields, degrees: float, rng: Rng) -> Fields:
    if degrees % 90 == 0:
        return perturb.rotate90(field, int(degrees // 90))
    return perturb.affine(field, angle=degrees)


CONDITIONS: Final[tuple[Condition, ...]] = (
    *_series(
        "gains",
        "channel gains at random, +-{:g} %",
        (5, 10, 20),
        _random_gains,
        quick=(5, 10, 20),
    ),
    *_series(
        "warmth", "red {:+g} %, blue opposite", (-20, -10, -5, 5, 10, 20), _warm, quick=(-10, 10)
    ),
    *_series(
        "brightness",
        "brightness x {:g}",
        (0.6, 0.8, 0.9, 1.1, 1.2),
        lambda field, x, rng: perturb.brightness(field, x),
        quick=(0.8, 1.2),
    ),
    *_series(
        "gamma",
        "gamma {:g}",
        (0.6, 0.8, 1.25, 1.6),
        lambda field, x, rng: perturb.gamma(field, x),
        quick=(0.6, 1.6),
    ),
    *_series(
        "blur",
        "blur, sigma {:g} pixels",
        (0.5, 1, 2),
        lambda field, x, rng: perturb.blur(field, x),
        quick=(1,),
    ),
    *_series(
        "jpeg",
        "JPEG quality {:g}",
        (80, 50, 30, 10),
        lambda field, x, rng: perturb.jpeg(field, int(x)),
        quick=(30,),
    ),
    *_series("noise", "noise, sigma {:g} grey levels", (4, 8, 16), perturb.noise, quick=(8,)),
    *_series(
        "magnification",
        "magnified x {:g}",
        (0.8, 0.9, 1.1, 1.25),
        lambda field, x, rng: perturb.affine(field, scale=x),
        quick=(),
    ),
    *_series("rotation", "rotated by {:g} degrees", (45, 90, 180, 270), _rotate, quick=(90,)),
    Condition("mirror", "mirror", None, "mirrored", _plain(perturb.flip)),
    Condition(
        "scale_bar_removed",
        "scale_bar",
        None,
        "scale bar removed",
        _plain(perturb.hide_scale_bar),
        quick=True,
    ),
    Condition(
        "scale_bar_random",
        "scale_bar",
        None,
        "another scale bar, at random",
        lambda field, mask, rng: perturb.randomise_scale_bar(field, rng),
    ),
    Condition(
        "background_other_class",
        TRANSPLANT,
        None,
        "background of another class",
        None,
        quick=True,
        donor="other",
    ),
    Condition(
        "background_other_class_matched",
        TRANSPLANT,
        None,
        "background of another class, in the field's own glass colour",
        None,
        donor="other",
        matched=True,
    ),
    Condition(
        "background_same_class",
        TRANSPLANT,
        None,
        "background of the same class (control)",
        None,
        quick=True,
        donor="same",
    ),
    Condition(
        "background_recoloured",
        TRANSPLANT,
        None,
        "own background in another colour",
        recolour_background,
    ),
)


def conditions(quick: bool) -> list[Condition]:
    """The grid, or its quick part."""
    return [c for c in CONDITIONS if c.quick or not quick]


@dataclass(frozen=True)
class Material:
    """Fields uint8 [N, 224, 224, 3], their white cells uint8 [N, 224, 224], labels int64 [N] and
    groups."""

    fields: Fields
    masks: npt.NDArray[np.uint8]
    labels: Labels
    groups: list[str]


def grid(
    subject: Subject, material: Material, plain: Answers, *, quick: bool, step: Step
) -> list[dict[str, Any]]:
    """Measure every condition; JSON-ready entries in the order of :data:`CONDITIONS`.

    Args:
        subject: what answers.
        material: the evaluated fields.
        plain: its answers to the unchanged fields.
        quick: only the quick part of the grid.
        step: progress.
    """
    return [_measure(subject, material, plain, c, step) for c in conditions(quick)]


def _measure(
    subject: Subject, material: Material, plain: Answers, condition: Condition, step: Step
) -> dict[str, Any]:
    labels, count = material.labels, len(material.labels)
    donors = _donors(material, condition)
    usable = np.arange(count) if donors is None else np.flatnonzero(donors >= 0)
    entry: dict[str, Any] = {
        "key": condition.key,
        "family": condition.family,
        "level": condition.level,
        "name": condition.name,
    }
    if not len(usable):
        step(count)
        return entry | {"fields": 0}
    random = _random(condition)
    parts = []
    for start in range(0, len(usable), BATCH):
        chosen = usable[start : start + BATCH]
        changed = [_changed(material, condition, donors, int(i), random) for i in chosen]
        parts.append(subject.answer(np.stack(changed)))
        step(len(chosen))
    step(count - len(usable))
    answers, truth = Answers.join(parts), labels[usable]
    entry |= outcome(answers, truth, plain.top[usable])
    if donors is not None and condition.donor == "other":
        to_donor = (answers.top == labels[donors[usable]]) & (answers.top != plain.top[usable])
        entry["flipped_to_donor"] = Rate(int(to_donor.sum()), len(usable)).to_dict()
    return entry


def outcome(answers: Answers, labels: Labels, before: Labels) -> dict[str, Any]:
    """Rates of one condition; ``before`` int64 [N] are the classes of the unchanged fields."""
    top, given = answers.top, answers.labels != NO_LABEL
    sick = labels != BENIGN
    flipped = top != before
    return {
        "fields": len(labels),
        "accuracy": Rate(int((top == labels).sum()), len(labels)).to_dict(),
        "all_called_benign": Rate(int((sick & (top == BENIGN)).sum()), int(sick.sum())).to_dict(),
        "flipped": Rate(int(flipped.sum()), len(labels)).to_dict(),
        "labels_given": Rate(int(given.sum()), len(labels)).to_dict(),
        "wrong_labels": Rate(
            int((given & (answers.labels != labels)).sum()), int(given.sum())
        ).to_dict()
        if given.any()
        else None,
    }


def _random(condition: Condition) -> Rng:
    """Random gains repeat the condition of ``training.session.evaluate``, whose seed is the
    percentage; the others follow from their names."""
    if condition.family == "gains" and condition.level is not None:
        return np.random.default_rng(int(condition.level))
    return np.random.default_rng(zlib.crc32(condition.key.encode()))


def _donors(material: Material, condition: Condition) -> npt.NDArray[np.int64] | None:
    """Donor of each field, int64 [N], -1 where there is none; None for other conditions.

    A donor is of another group, so that a field never gets its own slide back.
    """
    if not condition.donor:
        return None
    rng = np.random.default_rng(zlib.crc32(b"donors"))
    good = material.masks.mean((1, 2)) < MAX_PAINTED / 2
    groups = np.asarray(material.groups)
    same = condition.donor == "same"
    chosen = np.full(len(material.labels), -1, np.int64)
    for i, label in enumerate(material.labels):
        fits = good & (groups != groups[i]) & ((material.labels == label) == same)
        if same:
            options = np.flatnonzero(fits)
        else:
            # The donor's class first, so that every other class is as likely.
            classes = np.unique(material.labels[fits])
            if not len(classes):
                continue
            options = np.flatnonzero(fits & (material.labels == rng.choice(classes)))
        if len(options):
            chosen[i] = rng.choice(options)
    return chosen


def _changed(
    material: Material,
    condition: Condition,
    donors: npt.NDArray[np.int64] | None,
    i: int,
    rng: Rng,
) -> Fields:
    field, mask = material.fields[i], material.masks[i]
    if condition.change is not None:
        return condition.change(field, mask, rng)
    assert donors is not None
    return replace_background(
        field,
        mask,
        material.fields[donors[i]],
        material.masks[donors[i]],
        rng,
        match_colour=condition.matched,
    )


def summary(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The worst condition of a grid: the one with the lowest accuracy."""
    measured = [e for e in entries if e["fields"]]
    return min(measured, key=lambda e: e["accuracy"]["value"]) if measured else None
