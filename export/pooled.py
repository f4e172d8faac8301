"""Answers of all folds of a cross-fit, joined: every field once, by a network that never saw it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.atomic import write_text
from allsub_edge.classes import CLASSES
from allsub_edge.export.parity import Parity
from allsub_edge.training.metrics import Rate, summarise

Floats = npt.NDArray[np.float32]

TABLE: Final = "out_of_fold_answers.csv"
"""In the folder of the cross-fit: what each field was answered, by which format."""

NETWORK: Final = "network"
"""Stands for the trained float32 networks among the formats of :data:`TABLE`."""


@dataclass(frozen=True)
class Pooled:
    """What the folds' files of one format said, all fields of the data set once.

    Attributes:
        labels: int64 [N], true classes.
        fold: int64 [N], from 1.
        reference: float32 [N, 4], the same folds' networks.
        probabilities: float32 [N, 4].
        changed: name as in ``prove.changed_fields`` -> float32 [N, 4] on fields so changed; empty
            if a file was too slow for it.
        status: of each field's record: ok, uncertain or unfit.
        sets: bool [N, 4], the prediction sets, by thresholds that other folds gave.
        parity: of the files with their networks.
        share: least share of integer convolutions among the files; None for float formats.
    """

    labels: npt.NDArray[np.int64]
    fold: npt.NDArray[np.int64]
    reference: Floats
    probabilities: Floats
    changed: dict[str, Floats]
    status: npt.NDArray[np.str_]
    sets: npt.NDArray[np.bool_]
    parity: Parity
    share: float | None

    def before(self) -> dict[str, Any]:
        """``summarise`` of the networks."""
        return summarise(self.labels, self.reference)

    def after(self) -> dict[str, Any]:
        """``summarise`` of the files."""
        return summarise(self.labels, self.probabilities)

    def labelled_misses(self) -> int:
        """ALL fields that the files alone call Benign and for which they stand: with a label."""
        alone = (self.probabilities.argmax(1) == 0) & (self.reference.argmax(1) != 0)
        return int((alone & (self.labels != 0) & (self.status == "ok")).sum())

    def metrics(self) -> dict[str, Any]:
        """What the manifest tells: the entries ``out_of_fold`` and ``out_of_fold_gains_10``..."""
        right = self.probabilities.argmax(1) == self.labels
        covered = self.sets[np.arange(len(self.labels)), self.labels]
        stated = self.status == "ok"
        folds = np.unique(self.fold)
        return {
            "out_of_fold": {
                "folds": len(folds),
                "how": f"out-of-fold, {len(folds)} folds: every field was answered by a file of "
                "this format made of a network that did not learn from the field's group, with "
                "thresholds from the other folds; the network of this file learned from all groups",
                **self.after(),
                "by_fold": [_rate(right[self.fold == number]) for number in folds],
                "coverage": {n: _rate(covered[self.labels == i]) for i, n in enumerate(CLASSES)},
                "covered": _rate(covered),
                "mean_set_size": round(float(self.sets.sum(1).mean()), 4),
                "said": {s: _rate(self.status == s) for s in ("ok", "uncertain", "unfit")},
                "labels_right": _rate(right[stated]) if stated.any() else None,
            },
            **{
                f"out_of_fold_{name}": summarise(self.labels, answers)
                for name, answers in self.changed.items()
            },
            "float_accuracy": self.before()["accuracy"],
            "parity_with_trained_network": self.parity.to_dict(),
        }


def write_table(path: Path, fields: Sequence[Sequence[str]], formats: Mapping[str, Pooled]) -> None:
    """Write what each field was answered, as CSV, one row for each field.

    Columns: ``file``, ``class`` (true), ``group``, ``fold`` (from 1), then ``network:CLASS``, the
    four probabilities of the fold's trained network, and for each format ``FORMAT:CLASS`` and
    ``FORMAT:status``, what the device says (ok, uncertain, unfit).

    Args:
        path: where.
        fields: for each field its first four columns, in the order of the answers.
        formats: name of a format -> the answers of its files; at least one.
    """
    columns = [*("file", "class", "group", "fold"), *(f"{NETWORK}:{c}" for c in CLASSES)]
    blocks: list[npt.NDArray[Any]] = [next(iter(formats.values())).reference]
    for name, pooled in formats.items():
        columns += [*(f"{name}:{c}" for c in CLASSES), f"{name}:status"]
        blocks += [pooled.probabilities, pooled.status[:, None]]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for i, row in enumerate(fields):
        values = [value for block in blocks for value in block[i]]
        writer.writerow([*row, *(v if isinstance(v, str) else f"{v:.6f}" for v in values)])
    write_text(path, stream.getvalue())


def _rate(hits: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return Rate(int(hits.sum()), len(hits)).to_dict()
