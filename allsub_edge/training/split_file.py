"""The split file: which field has which role, checked when it is read.

CSV with the columns file, sha256, class, group, role after one comment line such as
``# protocol=grouped seed=1 block=20``. Readers that skip comments (``comment="#"`` in pandas) read
it as it is.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from allsub_edge.atomic import write_text
from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.training.dataset import Sample

ROLES: Final[tuple[str, ...]] = ("train", "validation", "calibration", "test")
GROUPED: Final[str] = "grouped"
RANDOM: Final[str] = "random-optimistic"
CROSS_FIT: Final[str] = "grouped-cross-validation"
"""Protocol of a cross-fit's final network, which learned from every field."""

COLUMNS: Final[tuple[str, ...]] = ("file", "sha256", "class", "group", "role")


@dataclass(frozen=True)
class SplitRow:
    """One line of a split file."""

    file: str
    sha256: str
    label: str
    group: str
    role: str


@dataclass(frozen=True)
class Split:
    """Roles of the fields of a data set.

    Attributes:
        rows: one for each field, in the order of the samples it was made from.
        protocol: ``grouped``, ``random-optimistic``, or ``unstated`` for a file without header.
        notes: further key=value pairs of the header, such as seed, block, fold; without spaces.
    """

    rows: list[SplitRow]
    protocol: str
    notes: dict[str, str] = field(default_factory=dict)

    def indices(self, role: str) -> npt.NDArray[np.int64]:
        """Places in ``rows`` of the fields with this role, ascending, int64 (K,)."""
        return np.array([i for i, row in enumerate(self.rows) if row.role == role], np.int64)

    def check(self, samples: Sequence[Sample]) -> None:
        """Hold the split against the data: every row's file must be there, unchanged.

        Fields of the data that are in no row are allowed; they have no role.

        Raises:
            DataError: ``split_missing`` or ``split_changed``; names the first such file and says
                how many there are.
        """
        present = {sample.file: sample for sample in samples}
        missing = [row for row in self.rows if row.file not in present]
        if missing:
            known = {sample.sha256 for sample in samples}
            if all(row.sha256 in known for row in missing):
                advice = "the same images lie there under other names: give the folder that the "
                advice += "split was made for, or split again"
            else:
                advice = "restore the data set or split again"
            raise DataError(
                "split_missing",
                f"{missing[0].file}: in the split but not in the data "
                f"({len(missing)} of {len(self.rows)} files); {advice}",
            )
        changed = [
            row
            for row in self.rows
            if (present[row.file].sha256, present[row.file].label) != (row.sha256, row.label)
        ]
        if changed:
            raise DataError(
                "split_changed",
                f"{changed[0].file}: not the image the split was made from "
                f"({len(changed)} of {len(self.rows)} files); restore it or split again",
            )


def write_split(split: Split, path: Path) -> None:
    """Write the split file, whole or not at all."""
    stream = io.StringIO()
    header = {"protocol": split.protocol, **split.notes}
    stream.write("# " + " ".join(f"{key}={value}" for key, value in header.items()) + "\n")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in split.rows:
        writer.writerow((row.file, row.sha256, row.label, row.group, row.role))
    write_text(path, stream.getvalue())


def read_split(path: Path) -> Split:
    """Read and check a split file.

    Raises:
        DataError: ``bad_split``; names the line, what is wrong with it and what to do.
    """
    try:
        lines = Path(path).read_text("utf-8").split("\n")
    except FileNotFoundError as error:
        raise DataError(
            "bad_split", f"{path}: no such split file; make one with allsub-edge split"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("bad_split", f"{path}: cannot be read as a split file ({error})") from error
    notes: dict[str, str] = {}
    for line in lines:
        if line.startswith("#"):
            notes |= dict(re.findall(r"(\w+)=(\S+)", line))
    protocol = notes.pop("protocol", "unstated")
    rows: list[SplitRow] = []
    seen: dict[str, int] = {}
    role_of: dict[tuple[str, str], tuple[str, int]] = {}
    for number, row in _parsed(path, lines):
        if row.file in seen:
            raise _bad(path, number, f"{row.file} stands already in line {seen[row.file]}")
        seen[row.file] = number
        keys = [("image", row.sha256)]
        if protocol != RANDOM:
            keys.append(("group", row.group))
        for key in keys:
            role, earlier = role_of.setdefault(key, (row.role, number))
            if role != row.role:
                raise _bad(
                    path,
                    number,
                    f"{row.file}: {key[0]} {key[1][:16]} is {row.role} here "
                    f"but {role} in line {earlier}",
                )
        rows.append(row)
    return Split(rows, protocol, notes)


def _parsed(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, SplitRow]]:
    numbered = [
        (number, line)
        for number, line in enumerate((line.strip("\r") for line in lines), 1)
        if line and not line.startswith("#")
    ]
    if not numbered or next(csv.reader([numbered[0][1]])) != list(COLUMNS):
        number = numbered[0][0] if numbered else 1
        raise _bad(path, number, f"expected the columns {','.join(COLUMNS)}")
    if len(numbered) == 1:
        raise _bad(path, numbered[0][0], "no rows follow")
    for number, line in numbered[1:]:
        cells = next(csv.reader([line]))
        if len(cells) != len(COLUMNS):
            raise _bad(path, number, f"{len(cells)} columns instead of {len(COLUMNS)}")
        row = SplitRow(*cells)
        if row.role not in ROLES:
            raise _bad(path, number, f"unknown role {row.role!r}, not one of {', '.join(ROLES)}")
        if row.label not in CLASSES:
            raise _bad(
                path, number, f"unknown class {row.label!r}, not one of {', '.join(CLASSES)}"
            )
        if not re.fullmatch(r"[0-9a-f]{64}", row.sha256):
            raise _bad(path, number, f"{row.sha256[:20]!r} is not a SHA-256 hash")
        yield number, row


def _bad(path: Path, line: int, what: str) -> DataError:
    return DataError(
        "bad_split", f"{path} line {line}: {what}; mend it or make it anew with allsub-edge split"
    )
