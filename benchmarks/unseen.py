"""Fields of a data set that a model file never saw, proven by the split its manifest names."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classifier import Classifier
from allsub_edge.errors import DataError, UsageError
from allsub_edge.training.dataset import load_fields, read_dataset
from allsub_edge.training.split import read_split, split_dataset, write_split

UNSEEN_ROLES: Final[tuple[str, ...]] = ("test",)
"""Roles that neither weights nor thresholds know."""


@dataclass(frozen=True)
class Unseen:
    """Fields with their classes.

    Attributes:
        fields: uint8 [N, 224, 224, 3].
        labels: name of the true class of each.
        groups: the group of look-alikes of each; groups of two classes may have the same name.
        files: path of each in the data set.
        roles: the role of each in the split.
    """

    fields: npt.NDArray[np.uint8]
    labels: list[str]
    groups: list[str]
    files: list[str]
    roles: list[str]


Subject = tuple[Classifier, Unseen]
"""A model, and fields that it never saw."""


def unseen_fields(
    data: Path,
    training: Mapping[str, Any],
    split_file: Path | None = None,
    role: str = "test",
    say: Callable[[str], None] = lambda _: None,
) -> Unseen:
    """The fields of one role of the split that a model was trained with.

    Args:
        data: the data set's folder.
        training: ``Manifest.training`` of the model: ``split_sha256`` and ``seed``.
        split_file: the split; None means to make it again from the seed.
        role: ``test``; any other was used to make the model.
        say: takes a line for each stage.

    Raises:
        UsageError: ``role``.
        DataError: the data cannot be read, ``other_split`` when it is not the model's,
            ``no_unseen`` when it has no field with this role.
    """
    if role not in UNSEEN_ROLES:
        raise UsageError(
            "role", f"the model was made with the role {role!r}: measure on {UNSEEN_ROLES[0]}"
        )
    return fields_of((role,), data, training, split_file, say)


def fields_of(
    roles: Sequence[str],
    data: Path,
    training: Mapping[str, Any],
    split_file: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Unseen:
    """The fields of some roles, whatever the model owes to them; else as :func:`unseen_fields`.

    Raises:
        DataError: as :func:`unseen_fields`.
    """
    samples = read_dataset(data)
    if split_file is None:
        say("looking for duplicates and grouping neighbouring file numbers")
        split = split_dataset(data, samples, seed=int(training["seed"]))
        with tempfile.TemporaryDirectory() as folder:
            write_split(split, Path(folder) / "split.csv")
            written = (Path(folder) / "split.csv").read_bytes()
    else:
        split = read_split(split_file)
        written = split_file.read_bytes()
    if hashlib.sha256(written).hexdigest() != training["split_sha256"]:
        raise DataError(
            "other_split",
            f"{split_file or data}: this is not the split the model was trained with, so its "
            "fields may not be unseen: give the model's own split.csv with --split",
        )
    split.check(samples)
    by_file = {sample.file: sample for sample in samples}
    rows = [row for row in split.rows if row.role in roles]
    if not rows:
        raise DataError(
            "no_unseen",
            f"{split_file or data}: the model learned from every group: give the exported folds "
            "of its cross-fit with --fold",
        )
    return Unseen(
        fields=load_fields(data, [by_file[row.file] for row in rows]),
        labels=[row.label for row in rows],
        groups=[row.group for row in rows],
        files=[row.file for row in rows],
        roles=[row.role for row in rows],
    )
