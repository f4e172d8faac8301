"""One evaluation from a subject and a data folder to everything that a report tells."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from allsub_edge.classes import CITATION, CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.evaluation import ablation, bootstrap, measures, robustness, trust
from allsub_edge.evaluation.answers import Answers
from allsub_edge.evaluation.baselines import baselines
from allsub_edge.evaluation.chosen import Chosen, choose
from allsub_edge.evaluation.conditions import conditions
from allsub_edge.evaluation.learned import fitted_on
from allsub_edge.evaluation.robustness import Material
from allsub_edge.evaluation.subject import BATCH, Fields, Subject
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.training.dataset import Sample, fingerprint, load_fields, read_dataset
from allsub_edge.training.metrics import Labels, confusion
from allsub_edge.version import __version__

SCHEMA: Final[str] = "allsub-edge/evaluation/1"

CELLS: Final[str] = "cells"
"""Recipe that says what a white cell is where a picture is changed, whatever the subject uses."""

WORST: Final[int] = 12
"""Mistakes that are listed and shown, the surest first."""


class Progress(Protocol):
    """What shows how far an evaluation is."""

    def say(self, line: str) -> None:
        """Tell of the next stage."""

    def begin(self, total: int) -> None:
        """So many answers are to come."""

    def step(self, count: int) -> None:
        """So many more were given."""


class Silent:
    """Shows nothing."""

    def say(self, line: str) -> None:
        """See :class:`Progress`."""

    def begin(self, total: int) -> None:
        """See :class:`Progress`."""

    def step(self, count: int) -> None:
        """See :class:`Progress`."""


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        report: JSON-ready; schema ``SCHEMA``.
        pictures: for each entry of ``report["worst"]`` the field and its white cells.
    """

    report: dict[str, Any]
    pictures: list[tuple[Fields, Fields]]


def evaluate(
    subject: Subject,
    data: Path,
    *,
    split_file: Path | None = None,
    role: str | None = None,
    quick: bool = False,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = bootstrap.SEED,
    progress: Progress | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Evaluation:
    """Measure everything.

    Args:
        subject: a run or a model file; see ``subject.open_subject``.
        data: folder with the class folders, or with ``Original`` above them.
        split_file: who played which role; for a run the default is its own split.
        role: which fields are evaluated; default test where there is a split, else all.
        quick: a third of the robustness grid.
        resamples: of the group bootstrap.
        seed: of the group bootstrap.
        progress: shows how far it is.
        now: the clock, for the date of the report.

    Raises:
        DataError, UsageError, ModelFileError: see :func:`choose` and the readers.
    """
    shown = progress or Silent()
    shown.say(f"reading {data}")
    samples = read_dataset(data)
    chosen = choose(subject, samples, split_file=split_file, role=role)
    shown.say(
        f"{len(chosen.samples)} fields in {len(set(chosen.groups))} groups, role {chosen.role}"
    )
    fields, labels = load_fields(data, chosen.samples), labels_of(chosen.samples)
    mask = get_recipe(CELLS).mask
    material = Material(fields, np.stack([mask(f) for f in fields]), labels, chosen.groups)
    held = load_fields(data, chosen.calibration)
    total = (1 + ablation.count(subject) + len(conditions(quick))) * len(fields)
    shown.begin(total + len(held))
    plain = _answered(subject, fields, shown)
    held_answers = _answered(subject, held, shown) if len(held) else None
    report = _head(subject, chosen, samples, now())
    drawn = bootstrap.weights(labels, chosen.groups, resamples, seed)
    matrix = confusion(labels, plain.top)
    report |= {
        "bootstrap": {"resamples": resamples, "seed": seed, "unit": chosen.grouping},
        "measures": measures.table(
            measures.values(labels, plain.probabilities, matrix),
            measures.counted(matrix),
            bootstrap.intervals(labels, plain.probabilities, drawn),
        ),
        "confusion": matrix.tolist(),
        "calibration": trust.calibration(
            labels,
            plain,
            subject.calibration,
            drawn,
            fitted_on(subject, split_file),
            labels_of(chosen.calibration) if len(held) else None,
            held_answers,
        ),
        "decisions": trust.decisions(labels, plain, drawn),
        "ablation": ablation.ablate(
            subject, material, plain, held if len(held) else fields, shown.step
        ),
        "ablation_note": ablation.NOTE,
        "ablation_means": ablation.means(subject, len(held)),
        "robustness": robustness.grid(subject, material, plain, quick=quick, step=shown.step),
        "quick": quick,
    }
    shown.say("shortcut baselines")
    train = load_fields(data, chosen.train)
    report["baselines"] = baselines(fields, labels, chosen.groups, train, labels_of(chosen.train))
    worst = _worst(labels, plain)
    report["worst"] = [_telling(chosen.samples[i], labels[i], plain, i) for i in worst]
    report["mistakes"] = int((plain.top != labels).sum())
    report["fields"] = [
        {
            "file": sample.file,
            "sha256": sample.sha256,
            "class": sample.label,
            "group": chosen.groups[i],
            "top": CLASSES[plain.top[i]],
            "status": plain.statuses[i],
            "probabilities": [round(float(p), 6) for p in plain.probabilities[i]],
        }
        for i, sample in enumerate(chosen.samples)
    ]
    return Evaluation(report, [(material.fields[i], material.masks[i]) for i in worst])


def labels_of(samples: list[Sample]) -> Labels:
    """Classes of samples as int64 [N]."""
    return np.array([CLASSES.index(sample.label) for sample in samples], np.int64)


def _head(
    subject: Subject, chosen: Chosen, samples: list[Sample], moment: datetime
) -> dict[str, Any]:
    counts = {name: sum(s.label == name for s in chosen.samples) for name in CLASSES}
    return {
        "schema": SCHEMA,
        "made": moment.isoformat(timespec="seconds"),
        "tool": f"allsub-edge {__version__}",
        "machine": platform.machine(),
        "subject": subject.identity(),
        "trained_on": {
            key: subject.trained_on().get(key)
            for key in ("data_fingerprint", "split_sha256", "protocol")
        },
        "data": {
            "fingerprint": fingerprint(samples),
            "fields_in_folder": len(samples),
            "role": chosen.role,
            "protocol": chosen.protocol,
            "fields": len(chosen.samples),
            "groups": len(set(chosen.groups)),
            "grouping": chosen.grouping,
            "classes": counts,
            "calibration_fields": len(chosen.calibration),
        },
        "warnings": chosen.warnings,
        "notes": chosen.notes,
        "notice": NOT_A_MEDICAL_DEVICE,
        "citation": CITATION,
    }


def _answered(subject: Subject, fields: Fields, shown: Progress) -> Answers:
    parts = []
    for start in range(0, len(fields), BATCH):
        parts.append(subject.answer(fields[start : start + BATCH]))
        shown.step(len(fields[start : start + BATCH]))
    return Answers.join(parts)


def _worst(labels: Labels, answers: Answers) -> list[int]:
    """Fields to look at: mistakes, the surest first, then right ones by the smallest margin."""
    chosen = answers.probabilities.astype(np.float64)
    truth = chosen[np.arange(len(labels)), labels]
    others = chosen.copy()
    others[np.arange(len(labels)), labels] = -1
    margin = truth - others.max(1)
    wrong = answers.top != labels
    order = np.lexsort((np.arange(len(labels)), margin, ~wrong))
    return [int(i) for i in order[:WORST]]


def _telling(sample: Sample, label: int, answers: Answers, i: int) -> dict[str, Any]:
    top = int(answers.top[i])
    return {
        "file": sample.file,
        "class": sample.label,
        "top": CLASSES[top],
        "right": bool(top == label),
        "probability_of_top": round(float(answers.probabilities[i, top]), 6),
        "probability_of_class": round(float(answers.probabilities[i, label]), 6),
        "status": answers.statuses[i],
        "reasons": answers.reasons[i],
    }
