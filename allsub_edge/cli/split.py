"""``allsub-edge split``: who may learn from which field, written down."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from allsub_edge.errors import UsageError

if TYPE_CHECKING:
    from allsub_edge.training.dataset import Progress
    from allsub_edge.training.duplicates import Pair
    from allsub_edge.training.split import Split

HELP: Final[str] = "Divide a data set into roles so that fields that look alike stay together."

_EPILOG: Final[str] = """\
DIR holds the class folders Benign, Early, Pre and Pro, or has them under Original/ as the public
data set does. Neighbouring file numbers form groups, duplicates and overlapping fields join
groups, and groups are never parted. The same data and options give the same file.

examples:
  allsub-edge split smears -o split.csv
  allsub-edge split smears -o cv.csv --folds 5     writes cv-fold1.csv ... cv-fold5.csv
  allsub-edge split smears -o naive.csv --random   labelled optimistic: shows what leaks
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``split``."""
    parser.epilog = _EPILOG
    parser.add_argument("data", type=Path, metavar="DIR", help="labelled fields")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="CSV", help="split file to write"
    )
    parser.add_argument(
        "--seed", type=_from_zero, default=1, help="another seed, another split [1]"
    )
    parser.add_argument(
        "--block", type=_from_one, default=20, help="neighbouring files in one block [20]"
    )
    for role, share in (("test", 0.18), ("validation", 0.08), ("calibration", 0.10)):
        parser.add_argument(
            f"--{role}", type=float, default=share, help=f"share of each class [{share:.2f}]"
        )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--folds", type=_from_one, metavar="K", help="one file for each of K folds; no --test"
    )
    how.add_argument(
        "--random", action="store_true", help="ignore groups; the file says it is optimistic"
    )


def run(args: argparse.Namespace) -> int:
    """Read, look for duplicates, group, split, write and show; returns 0.

    Raises:
        UsageError: ``--out`` is a folder.
        DataError: the data set is not usable, or too small for what is wanted.
    """
    if args.out.is_dir():
        raise UsageError("usage", f"{args.out}: is a folder; give a file name such as split.csv")
    from dataclasses import replace

    from allsub_edge.training.dataset import load_fields, read_dataset
    from allsub_edge.training.duplicates import find_pairs
    from allsub_edge.training.groups import assign_groups
    from allsub_edge.training.split import make_folds, make_random_split, make_split, write_split

    samples = read_dataset(args.data, progress=_bar("reading"))
    fields = load_fields(args.data, samples, progress=_bar("decoding"))
    pairs = find_pairs(fields, samples, progress=_bar("comparing"))
    groups = assign_groups(samples, pairs, block=args.block)
    shares = {role: getattr(args, role) for role in ("test", "validation", "calibration")}
    if args.folds:
        splits = make_folds(samples, groups, args.folds, args.seed, shares)
        name = f"{args.out.stem}-fold{{}}{args.out.suffix}"
        paths = [args.out.with_name(name.format(fold + 1)) for fold in range(args.folds)]
    else:
        make = make_random_split if args.random else make_split
        splits = [make(samples, groups, seed=args.seed, fractions=shares)]
        paths = [args.out]
    print(f"{len(samples)} fields, {_duplicates(pairs)}")
    for split, path in zip(splits, paths, strict=True):
        write_split(replace(split, notes={**split.notes, "block": str(args.block)}), path)
        print(f"\n{path}: protocol {split.protocol}")
        print("\n".join(_table(split)))
    if args.random:
        print("\nOPTIMISTIC: fields of one slide are on both sides; quote no accuracy from it.")
    return 0


def _duplicates(pairs: Sequence[Pair]) -> str:
    count = dict.fromkeys(("exact", "near", "shifted"), 0)
    for pair in pairs:
        count[pair.kind] += 1
    return "pairs that share cells: " + ", ".join(f"{n} {kind}" for kind, n in count.items())


def _table(split: Split) -> list[str]:
    """Fields, and in brackets groups, by class and role."""
    from allsub_edge.classes import CLASSES
    from allsub_edge.training.split import ROLES

    def cell(label: str | None, role: str | None) -> str:
        rows = [
            row for row in split.rows if label in (None, row.label) and role in (None, row.role)
        ]
        return f"{len(rows)} ({len({(row.label, row.group) for row in rows})})"

    roles = [*ROLES, None]
    lines = ["fields (groups)" + "".join(f"{role or 'all':>16}" for role in roles)]
    for label in (*CLASSES, None):
        cells = "".join(f"{cell(label, role):>16}" for role in roles)
        lines.append(f"{label or 'all':<15}{cells}")
    return lines


def _bar(what: str) -> Progress | None:
    """One line on stderr that fills up; None where nobody watches."""
    if not sys.stderr.isatty():
        return None
    shown = -1

    def step(done: int, total: int) -> None:
        nonlocal shown
        percent = 100 * done // max(1, total)
        if percent == shown:
            return
        shown = percent
        bar = "#" * (percent // 4)
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r{what:<10}[{bar:<25}] {percent:3d} %  {done}/{total}{end}")
        sys.stderr.flush()

    return step


def _from_zero(text: str) -> int:
    return _at_least(text, 0)


def _from_one(text: str) -> int:
    return _at_least(text, 1)


def _at_least(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} up")
    return int(text)
