"""Which fields are evaluated, and what the subject already knew of them.

Images are recognised by their SHA-256, never by name, so that a copied or renamed folder cannot
pass trained fields off as unseen ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from allsub_edge.errors import DataError, UsageError
from allsub_edge.evaluation.learned import Past, past_of
from allsub_edge.evaluation.subject import Subject
from allsub_edge.training.dataset import Sample, fingerprint
from allsub_edge.training.groups import assign_groups
from allsub_edge.training.split_file import ROLES, Split, read_split

ALL: Final[str] = "all"
CHOICES: Final[tuple[str, ...]] = (*ROLES, ALL)

BLOCK: Final[int] = 20
"""Neighbouring file numbers that form a group where no split names groups."""

EVERY_ROLE: Final[str] = (
    "fields of every role count, those that the network learned from included: the result says "
    "nothing about new fields"
)
"""What a reader must know first of the training's own data without its split."""


@dataclass(frozen=True)
class Chosen:
    """The fields of one evaluation.

    Attributes:
        samples: what is evaluated, in the order of the data set.
        groups: the group of each.
        role: ``test``, another role, or ``all`` where there is no split.
        protocol: of the split, or ``no split``.
        grouping: where the groups come from, in words.
        warnings: what a reader must know first; empty for unseen fields of a grouped split.
        notes: how that is known.
        train: fields that the shortcut baselines may learn from; none of them is evaluated.
        calibration: fields of the calibration role, where there is a split; of the subject's own
            where that is known.
    """

    samples: list[Sample]
    groups: list[str]
    role: str
    protocol: str
    grouping: str
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    train: list[Sample] = field(default_factory=list)
    calibration: list[Sample] = field(default_factory=list)


def choose(
    subject: Subject,
    samples: Sequence[Sample],
    *,
    split_file: Path | None = None,
    role: str | None = None,
) -> Chosen:
    """Decide which of the samples are evaluated.

    A run brings its split; a model file's manifest names the hash of its own, so a split given
    beside it can be proven to be the one. Without a split all fields are taken, which is refused
    where the data set is the one that the model was trained on.

    Args:
        subject: what is evaluated.
        samples: the data set.
        split_file: a split file; for a run the default is its own.
        role: one of ``CHOICES``; None means test where there is a split.

    Raises:
        UsageError: ``unknown_role``, or a role without a split.
        DataError: ``leak``, ``no_role_fields``, ``bad_split``, ``training_data``.
    """
    if role is not None and role not in CHOICES:
        raise UsageError("unknown_role", f"no role {role!r}: choose from {', '.join(CHOICES)}")
    past = past_of(subject, split_file)
    split = _split(subject, split_file)
    if split is not None and split_file is None and not _known(split, samples):
        # A run on a data set that shares no image with its own: all of it is unseen.
        split = None
        if role not in (None, ALL, "test"):
            raise UsageError(
                "no_split", f"none of these fields is in the run's split, so none has role {role}"
            )
        return _everything(samples, ["none of these images is in the split of the run"], [])
    if split is None:
        return _without_split(subject, samples, role)
    chosen = _of_role(samples, split, role or "test", split_file or "the run's split")
    if past is not None and split_file is not None:
        _refuse_leak(past, chosen, split_file)
    notes, warnings = _relation(subject, split, split_file, samples, chosen.samples, past)
    held = chosen.calibration
    if past is not None:
        held = [s for s in samples if past.role_of.get(s.sha256) == "calibration"]
    return Chosen(
        samples=chosen.samples,
        groups=chosen.groups,
        role=chosen.role,
        protocol=split.protocol,
        grouping="groups of the split",
        warnings=warnings,
        notes=notes,
        train=chosen.train,
        calibration=held,
    )


def _split(subject: Subject, split_file: Path | None) -> Split | None:
    """The split that decides who is evaluated: the given one, else a run's own."""
    if split_file is not None:
        return read_split(split_file)
    return read_split(subject.path / "split.csv") if subject.kind == "run" else None


def _known(split: Split, samples: Sequence[Sample]) -> int:
    images = {row.sha256 for row in split.rows}
    return sum(sample.sha256 in images for sample in samples)


def _everything(samples: Sequence[Sample], notes: list[str], warnings: list[str]) -> Chosen:
    return Chosen(
        samples=list(samples),
        groups=assign_groups(samples, [], block=BLOCK),
        role=ALL,
        protocol="no split",
        grouping=f"blocks of {BLOCK} neighbouring file numbers, duplicates not searched for",
        notes=notes,
        warnings=warnings,
    )


def _without_split(subject: Subject, samples: Sequence[Sample], role: str | None) -> Chosen:
    if role not in (None, ALL):
        raise UsageError(
            "no_split",
            f"role {role} needs a split: give --split CSV (allsub-edge split makes one)",
        )
    trained = subject.trained_on()["data_fingerprint"]
    if trained == fingerprint(samples):
        if role is None:
            raise DataError(
                "training_data",
                "this is the data set that the model was trained on (same fingerprint): give "
                "--split CSV with the split of its training (allsub-edge split DIR -o split.csv "
                "makes the default one), or --role all to count trained fields too",
            )
        return _everything(samples, ["the fingerprint is that of the training data"], [EVERY_ROLE])
    return _everything(
        samples,
        [
            "the data set is not the one that the model was trained on (another fingerprint); "
            "single images may still be in both, which a model file cannot tell"
        ],
        [],
    )


def _relation(
    subject: Subject,
    split: Split,
    split_file: Path | None,
    samples: Sequence[Sample],
    evaluated: Sequence[Sample],
    past: Past | None,
) -> tuple[list[str], list[str]]:
    """(notes, warnings): is this the split of the training, and what is not new by it?"""
    notes, warnings = [], past.warnings(evaluated) if past else []
    if split_file is None:
        notes.append("roles of the run's own split, images compared by SHA-256")
    elif subject.kind == "run":
        assert past is not None
        unseen = not set(past.counted(evaluated)) - {"test", ""}
        notes.append(
            f"roles of {split_file.name}; "
            + (
                "none of the evaluated images had another role than test in the run's own split"
                if unseen
                else f"in the run's own split the evaluated images are {past.told(evaluated)}"
            )
        )
    elif past is not None:
        notes.append(
            f"the split, {split_file.name}, is the one that the model's manifest names (SHA-256)"
        )
    else:
        warnings.append(
            f"the split, {split_file.name}, is not the one that the manifest names: fields of any "
            "role may have been trained on"
        )
    unnamed = len(samples) - _known(split, samples)
    if unnamed:
        notes.append(f"{unnamed} fields of the folder are in no row of the split and were left out")
    if not split.protocol.startswith("grouped"):
        warnings.append(
            f"the split's protocol is {split.protocol}: fields of one slide may be on both sides, "
            "so the result is optimistic"
        )
    return notes, warnings


def _of_role(samples: Sequence[Sample], split: Split, role: str, name: Path | str) -> Chosen:
    """The samples of a role, by image."""
    row_of = {row.sha256: row for row in split.rows}
    for sample in samples:
        row = row_of.get(sample.sha256)
        if row is not None and row.label != sample.label:
            raise DataError(
                "bad_split",
                f"{sample.file}: class {sample.label} in the folder but {row.label} in {name}; "
                "mend the folder or split again",
            )
    known = [sample for sample in samples if sample.sha256 in row_of]
    parts: dict[str, list[Sample]] = {r: [] for r in ROLES}
    for sample in known:
        parts[row_of[sample.sha256].role].append(sample)
    found = known if role == ALL else parts[role]
    if not found:
        counts = ", ".join(f"{len(part)} {r}" for r, part in parts.items())
        raise DataError(
            "no_role_fields",
            f"no field of role {role} here ({counts} by {name}): choose another --role or folder; "
            "a run on all groups has no new fields, the folds of its cross-fit have",
        )
    missing = sorted({s.label for s in samples} - {s.label for s in found})
    if missing:
        raise DataError(
            "no_role_fields",
            f"role {role} has no field of class {', '.join(missing)}: split again with "
            "allsub-edge split, or choose another --role",
        )
    inside = {sample.sha256 for sample in found}
    return Chosen(
        samples=found,
        groups=[row_of[s.sha256].group for s in found],
        role=role,
        protocol=split.protocol,
        grouping="",
        train=[s for s in parts["train"] if s.sha256 not in inside],
        calibration=parts["calibration"],
    )


def _refuse_leak(past: Past, chosen: Chosen, split_file: Path) -> None:
    """A foreign split must not call test what the run learned from."""
    if chosen.role != "test":
        return
    role_of = past.role_of
    leaked = [s for s in chosen.samples if role_of.get(s.sha256, "test") != "test"]
    if leaked:
        raise DataError(
            "leak",
            f"{leaked[0].file}: test by {split_file.name} but {role_of[leaked[0].sha256]} in the "
            f"run's own split ({len(leaked)} of {len(chosen.samples)} fields); use the run's "
            "split (no --split), or give --role all to count them knowingly",
        )
