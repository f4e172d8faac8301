"""What a subject still says under the changes of ``conditions``.

Told for each: accuracy, ALL called Benign, the share of fields whose class flipped against the
unchanged field, and what the device still stood behind.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import BENIGN
from allsub_edge.evaluation.answers import NO_LABEL, Answers
from allsub_edge.evaluation.conditions import Condition, Rng, conditions, random_state
from allsub_edge.evaluation.subject import BATCH, Fields, Subject
from allsub_edge.statistics import Rate
from allsub_edge.training.background import replace_background
from allsub_edge.training.metrics import Labels

Step = Callable[[int], None]
"""Called with the number of fields that were just answered."""

MAX_PAINTED: Final[float] = 0.5
"""Donors that show more paint than smear are not used."""


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
    """Measure every condition; JSON-ready entries in the order of ``conditions.CONDITIONS``.

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
    random = random_state(condition)
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
