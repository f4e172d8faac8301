"""What a subject already knew of the evaluated fields, by the roles of its own training.

Another split, given beside a subject, may call a field whatever it likes: what counts is which role
its image had when the network was trained and its thresholds were fitted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from allsub_edge.evaluation.subject import Subject
from allsub_edge.training.dataset import Sample
from allsub_edge.training.split_file import CROSS_FIT, ROLES, Split, read_split


@dataclass(frozen=True)
class Past:
    """The roles that images had in a subject's own training.

    Attributes:
        role_of: SHA-256 of an image -> its role.
        learned: roles that the network learned from.
    """

    role_of: dict[str, str]
    learned: frozenset[str]

    def counted(self, samples: Sequence[Sample]) -> Counter[str]:
        """How many samples had each role; those that had none are under ``""``."""
        return Counter(self.role_of.get(sample.sha256, "") for sample in samples)

    def told(self, samples: Sequence[Sample]) -> str:
        """The same in words: ``8 train, 4 test, 2 in no row``."""
        counts = self.counted(samples)
        return ", ".join(f"{counts[r]} {r or 'in no row'}" for r in (*ROLES, "") if counts[r])

    def warnings(self, samples: Sequence[Sample]) -> list[str]:
        """What a reader must know first of a result on these samples; empty where all are new."""
        counts, total = self.counted(samples), len(samples)

        def which(count: int) -> str:
            return "these fields" if count == total else f"{count} of these {total} fields"

        found = []
        learned = sum(counts[role] for role in self.learned)
        if learned:
            found.append(
                f"the network learned from {which(learned)}: the result says nothing about new ones"
            )
        deciding = 0 if "validation" in self.learned else counts["validation"]
        if deciding:
            found.append(
                f"{which(deciding)} decided which weights were kept: the result is optimistic"
            )
        if counts["calibration"]:
            found.append(
                f"temperature and thresholds were fitted on {which(counts['calibration'])}: "
                "calibration and coverage are optimistic"
            )
        return found


def own_split(subject: Subject, split_file: Path | None) -> Split | None:
    """The split of the subject's training; None where nobody can tell.

    A run holds its own. A model file's manifest names the hash of its own, so ``split_file`` can be
    proven to be the one.

    Raises:
        DataError: ``bad_split``.
    """
    if subject.kind == "run":
        return read_split(subject.path / "split.csv")
    if split_file is None:
        return None
    split = read_split(split_file)
    named = subject.trained_on()["split_sha256"]
    return split if hashlib.sha256(split_file.read_bytes()).hexdigest() == named else None


def past_of(subject: Subject, split_file: Path | None) -> Past | None:
    """The roles of the subject's training; None where nobody can tell. Raises as `own_split`."""
    own = own_split(subject, split_file)
    if own is None:
        return None
    config = subject.trained_on().get("config") or {}
    learned = {"train", "validation"} if config.get("train_on_validation") else {"train"}
    return Past({row.sha256: row.role for row in own.rows}, frozenset(learned))


def fitted_on(subject: Subject, split_file: Path | None) -> str:
    """What temperature and thresholds were fitted on, in words. Raises as `own_split`.

    A cross-fit has no calibration role: a fold's come from what the other folds answered, and
    those of the final network from what all of them did.
    """
    own = own_split(subject, split_file)
    if subject.trained_on().get("protocol") == CROSS_FIT:
        return (
            "the answers of the folds of its cross-fit, each to fields that its network did not "
            "learn from"
        )
    if own is None:
        return "fields that the file does not name"
    if any(row.role == "calibration" for row in own.rows):
        return "the calibration role"
    return "the answers of the other folds of its cross-fit"
