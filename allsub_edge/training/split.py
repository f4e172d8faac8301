"""Who may learn from which field: the roles train, validation, calibration and test.

A grouped split moves whole groups (:mod:`allsub_edge.training.groups`) and takes each held-out
role from up to two runs of neighbouring groups in every class, so that a hold-out is made of
contiguous file numbers and not of fields scattered among training fields of the same slide. The
choice depends on the seed and on group sizes alone. A random split ignores groups; it is there to
show how optimistic that is, and its file says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.training.dataset import Progress, Sample, load_fields
from allsub_edge.training.duplicates import find_pairs
from allsub_edge.training.groups import assign_groups
from allsub_edge.training.neighbours import even_runs, placed
from allsub_edge.training.split_file import (
    GROUPED,
    RANDOM,
    ROLES,
    Split,
    SplitRow,
    read_split,
    write_split,
)

__all__ = [
    "FRACTIONS",
    "GROUPED",
    "RANDOM",
    "ROLES",
    "Split",
    "SplitRow",
    "fold_dataset",
    "make_folds",
    "make_random_split",
    "make_split",
    "read_split",
    "split_dataset",
    "write_split",
]

FRACTIONS: Final[Mapping[str, float]] = MappingProxyType(
    {"test": 0.18, "validation": 0.08, "calibration": 0.10}
)
"""Wanted share of each class; what is left is for training."""


def split_dataset(
    root: Path,
    samples: Sequence[Sample],
    *,
    seed: int = 1,
    block: int = 20,
    fractions: Mapping[str, float] = FRACTIONS,
    progress: Progress | None = None,
) -> Split:
    """Load the fields, look for duplicates, group, and split; what ``allsub-edge split`` does.

    Takes about a minute for 2500 fields on one core.

    Raises:
        DataError: see :func:`make_split`, :func:`assign_groups` and :func:`load_fields`.
    """
    groups = _groups_of(root, samples, block, progress)
    split = make_split(samples, groups, seed=seed, fractions=fractions)
    return replace(split, notes={**split.notes, "block": str(block)})


def fold_dataset(
    root: Path,
    samples: Sequence[Sample],
    *,
    folds: int = 5,
    seed: int = 1,
    block: int = 20,
    progress: Progress | None = None,
) -> list[Split]:
    """As :func:`split_dataset`, one split for each fold; see :func:`make_folds`."""
    groups = _groups_of(root, samples, block, progress)
    return [
        replace(split, notes={**split.notes, "block": str(block)})
        for split in make_folds(samples, groups, folds, seed)
    ]


def _groups_of(
    root: Path, samples: Sequence[Sample], block: int, progress: Progress | None
) -> list[str]:
    pairs = find_pairs(load_fields(root, samples), samples, progress=progress)
    return assign_groups(samples, pairs, block=block)


def make_split(
    samples: Sequence[Sample],
    groups: Sequence[str],
    *,
    seed: int = 1,
    fractions: Mapping[str, float] = FRACTIONS,
) -> Split:
    """Split by whole groups, in every class on its own.

    Args:
        samples: records of the fields.
        groups: the group of each; the order of groups is that of their first members.
        seed: another seed gives another split, the same seed the same one.
        fractions: wanted share of each class for every role but train. What is reached differs by
            the size of the groups.

    Raises:
        DataError: ``fractions`` for shares that make no sense, ``too_few_groups`` when a class
            has fewer groups than there are roles.
    """
    wanted = _checked(fractions)
    role_of: dict[str, str] = {}
    for number, label in enumerate(CLASSES):
        order = _groups_in_order(samples, groups, label)
        _need_groups(label, len(order), len(wanted) + 1, "roles")
        generator = np.random.default_rng([seed, number])
        role_of |= _roles_of_class(order, wanted, generator)
    roles = [role_of[group] for group in groups]
    return Split(_rows(samples, groups, roles), GROUPED, {"seed": str(seed)})


def make_folds(
    samples: Sequence[Sample],
    groups: Sequence[str],
    folds: int = 5,
    seed: int = 1,
    fractions: Mapping[str, float] = FRACTIONS,
) -> list[Split]:
    """Cross-validation by groups: in every class, fold k is one contiguous run of groups.

    Args:
        samples: records of the fields.
        groups: the group of each.
        folds: how many, at least 2.
        seed: decides where the first run begins and which groups serve validation and calibration.
        fractions: shares for validation and calibration; a share for test is ignored.

    Returns:
        One split for each fold, with that fold as test. Every field is test exactly once.

    Raises:
        DataError: as :func:`make_split`.
    """
    if folds < 2:
        raise DataError("fractions", f"{folds} folds: at least 2 are needed")
    wanted = _checked({role: share for role, share in fractions.items() if role != "test"})
    role_of: list[dict[str, str]] = [{} for _ in range(folds)]
    for number, label in enumerate(CLASSES):
        order = _groups_in_order(samples, groups, label)
        _need_groups(label, len(order), folds, "folds")
        generator = np.random.default_rng([seed, number])
        offset = int(generator.integers(folds))
        for place, test in enumerate(even_runs([size for _, size in order], folds)):
            fold = (place + offset) % folds
            left = len(order) - len(test)
            _need_groups(label, left, len(wanted) + 1, f"roles beside test in fold {fold + 1}")
            role_of[fold] |= _roles_of_class(order, wanted, generator, test)
    splits = []
    for fold, chosen in enumerate(role_of):
        rows = _rows(samples, groups, [chosen[group] for group in groups])
        notes = {"seed": str(seed), "fold": f"{fold + 1}/{folds}"}
        splits.append(Split(rows, GROUPED, notes))
    return splits


def make_random_split(
    samples: Sequence[Sample],
    groups: Sequence[str],
    *,
    seed: int = 1,
    fractions: Mapping[str, float] = FRACTIONS,
) -> Split:
    """Split field by field, in every class on its own; labelled optimistic.

    Neighbours and near-duplicates land in different roles, so what is measured on it is too good.
    Only byte-identical files stay together. ``groups`` is written down but not obeyed.

    Raises:
        DataError: as :func:`make_split`, counting distinct images instead of groups.
    """
    wanted = _checked(fractions)
    role_of: dict[str, str] = {}
    for number, label in enumerate(CLASSES):
        images = sorted({sample.sha256 for sample in samples if sample.label == label})
        _need_groups(label, len(images), len(wanted) + 1, "roles", what="distinct images")
        order = np.random.default_rng([seed, number]).permutation(len(images))
        start = 0
        for role, share in wanted.items():
            stop = start + max(1, round(share * len(images)))
            role_of |= {images[int(i)]: role for i in order[start:stop]}
            start = stop
        role_of |= {images[int(i)]: "train" for i in order[start:]}
    roles = [role_of[sample.sha256] for sample in samples]
    return Split(_rows(samples, groups, roles), RANDOM, {"seed": str(seed)})


def _rows(samples: Sequence[Sample], groups: Sequence[str], roles: Sequence[str]) -> list[SplitRow]:
    return [
        SplitRow(sample.file, sample.sha256, sample.label, group, role)
        for sample, group, role in zip(samples, groups, roles, strict=True)
    ]


def _checked(fractions: Mapping[str, float]) -> dict[str, float]:
    """Roles with a share, the largest first, since it is the hardest to place."""
    for role, share in fractions.items():
        if role not in ROLES[1:]:
            raise DataError("fractions", f"{role!r} can have no share; train takes the rest")
        if not 0 <= share < 1:
            raise DataError("fractions", f"a share of {share} for {role} is not between 0 and 1")
    if sum(fractions.values()) >= 1:
        raise DataError("fractions", "the shares leave nothing for training; make them smaller")
    ordered = sorted(fractions.items(), key=lambda item: (-item[1], item[0]))
    return {role: share for role, share in ordered if share > 0}


def _need_groups(label: str, have: int, need: int, purpose: str, what: str = "groups") -> None:
    if have < need:
        raise DataError(
            "too_few_groups",
            f"class {label} has {have} {what} but {need} are needed for the {purpose}; "
            "use smaller blocks, fewer roles or folds, or add fields",
        )


def _groups_in_order(
    samples: Sequence[Sample], groups: Sequence[str], label: str
) -> list[tuple[str, int]]:
    """(group, number of fields) of one class, by first appearance."""
    sizes: dict[str, int] = {}
    for sample, group in zip(samples, groups, strict=True):
        if sample.label == label:
            sizes[group] = sizes.get(group, 0) + 1
    return list(sizes.items())


def _roles_of_class(
    order: Sequence[tuple[str, int]],
    wanted: Mapping[str, float],
    generator: np.random.Generator,
    test: Sequence[int] = (),
) -> dict[str, str]:
    """Role of each group of one class; ``test`` are places that are taken already."""
    sizes = [size for _, size in order]
    roles = ["train"] * len(order)
    for place in test:
        roles[place] = "test"
    for done, (role, share) in enumerate(wanted.items(), 1):
        spare = len(wanted) - done + 1
        free = [taken == "train" for taken in roles]
        for place in placed(sizes, free, share * sum(sizes), spare, generator):
            roles[place] = role
    return {group: role for (group, _), role in zip(order, roles, strict=True)}
