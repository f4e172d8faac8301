"""What a subject still says under the changes of ``conditions``.

Told for each: accuracy, ALL called Benign, the share of fields whose class flipped against the
unchanged field, and what the device still stood behind.

A class whose fields are all of one group has no donor of its own class, so the control of the
transplants lacks it. Where that is so, the entries say which fields they lack, and a transplant
from another class is told once more on the control's fields: only these two can be compared.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import BENIGN, CLASSES
from allsub_edge.evaluation.answers import NO_LABEL, Answers
from allsub_edge.evaluation.conditions import (
    ON_CONTROL,
    OTHER,
    SAME,
    Condition,
    Rng,
    conditions,
    random_state,
)
from allsub_edge.evaluation.measures import rate_of
from allsub_edge.evaluation.subject import BATCH, Fields, Subject
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

    Behind a transplant from another class stands a second entry, with ``ON_CONTROL`` in its key,
    where the control lacks some of its fields.

    Args:
        subject: what answers.
        material: the evaluated fields.
        plain: its answers to the unchanged fields.
        quick: only the quick part of the grid.
        step: progress.
    """
    return [
        entry
        for condition in conditions(quick)
        for entry in _measure(subject, material, plain, condition, step)
    ]


def _measure(
    subject: Subject, material: Material, plain: Answers, condition: Condition, step: Step
) -> list[dict[str, Any]]:
    labels, count = material.labels, len(material.labels)
    donors = _donors(material, condition.donor)
    usable = np.arange(count) if donors is None else np.flatnonzero(donors >= 0)
    about: dict[str, Any] = {
        "key": condition.key,
        "family": condition.family,
        "level": condition.level,
        "name": condition.name,
    }
    entry = dict(about)
    if donors is not None and len(usable) < count:
        lacking = Counter(CLASSES[i] for i in labels[donors < 0])
        entry["without_donor"] = {name: lacking[name] for name in CLASSES if lacking[name]}
    if not len(usable):
        step(count)
        return [entry | {"fields": 0}]
    random = random_state(condition)
    parts = []
    for start in range(0, len(usable), BATCH):
        chosen = usable[start : start + BATCH]
        changed = [_changed(material, condition, donors, int(i), random) for i in chosen]
        parts.append(subject.answer(np.stack(changed)))
        step(len(chosen))
    step(count - len(usable))
    answers = Answers.join(parts)
    if donors is None or condition.donor != OTHER:
        return [entry | outcome(answers, labels[usable], plain.top[usable])]

    def told(places: npt.NDArray[np.int64]) -> dict[str, Any]:
        fields, given = usable[places], answers.at(places)
        before, top = plain.top[fields], given.top
        to_donor = (top == labels[donors[fields]]) & (top != before)
        return {
            **outcome(given, labels[fields], before),
            "flipped_to_donor": rate_of(int(to_donor.sum()), len(fields)),
        }

    made = [entry | told(np.arange(len(usable)))]
    control = _donors(material, SAME)
    shared = np.arange(0) if control is None else np.flatnonzero(control[usable] >= 0)
    if 0 < len(shared) < len(usable):
        again = {
            "key": condition.key + ON_CONTROL,
            "name": f"{condition.name}, on the control's fields alone",
        }
        made.append({**about, **again, **told(shared)})
    return made


def outcome(answers: Answers, labels: Labels, before: Labels) -> dict[str, Any]:
    """Rates of one condition; ``before`` int64 [N] are the classes of the unchanged fields.

    A rate is None where there is nothing to count: no field of ALL, no label given.
    """
    top, given = answers.top, answers.labels != NO_LABEL
    sick = labels != BENIGN
    flipped = top != before
    return {
        "fields": len(labels),
        "accuracy": rate_of(int((top == labels).sum()), len(labels)),
        "all_called_benign": rate_of(int((sick & (top == BENIGN)).sum()), int(sick.sum())),
        "flipped": rate_of(int(flipped.sum()), len(labels)),
        "labels_given": rate_of(int(given.sum()), len(labels)),
        "wrong_labels": rate_of(int((given & (answers.labels != labels)).sum()), int(given.sum())),
    }


def _donors(material: Material, donor: str) -> npt.NDArray[np.int64] | None:
    """Donor of each field, int64 [N], -1 where there is none; None for other conditions.

    ``donor`` is that of the condition. A donor is of another group, so that a field never gets its
    own slide back.
    """
    if not donor:
        return None
    rng = np.random.default_rng(zlib.crc32(b"donors"))
    good = material.masks.mean((1, 2)) < MAX_PAINTED / 2
    groups = np.asarray(material.groups)
    same = donor == SAME
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
