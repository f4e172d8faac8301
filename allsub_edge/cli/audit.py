"""``allsub-edge audit``: what would make an accuracy on a data set meaningless."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from allsub_edge.errors import UsageError

if TYPE_CHECKING:
    from allsub_edge.audit.dataset_audit import Audit

HELP: Final[str] = """\
Examine a data set before anything is trained on it.

DIR holds the class folders Benign, Early, Pre and Pro, or has them under Original/ as the public
data set does. Counted and compared are the fields against the known releases, files that cannot be
read, identical, near-identical and overlapping fields, look-alikes under two classes, image sizes,
the burned-in scale bar, and the groups that a split must not part. Then the class is guessed from
what is no cell: background colour, the scale bar's corner, six colour statistics; with whole groups
held out, and with random fields held out, to show how much a random split flatters."""

_EPILOG: Final[str] = """\
exit code: 0 no alarm; 1 alarms (files that cannot be read, the same field under two classes);
2 the folder or an option is wrong.

examples:
  allsub-edge audit smears
  allsub-edge audit smears --html audit.html --json audit.json
  allsub-edge audit smears --across      also overlapping fields under two classes (slower)

The page holds small pictures of your fields. The public data set must not be redistributed, so
keep such a page to yourself."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``audit``."""
    from allsub_edge.cli.split import _from_one, _from_zero

    parser.epilog = _EPILOG
    parser.add_argument("data", type=Path, metavar="DIR", help="labelled fields")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every finding and number")
    parser.add_argument(
        "--folds", type=_folds, default=5, metavar="K", help="folds of the cross-validation [5]"
    )
    parser.add_argument("--seed", type=_from_zero, default=1, help="of the folds [1]")
    parser.add_argument(
        "--block", type=_from_one, default=20, help="neighbouring files in one block [20]"
    )
    parser.add_argument(
        "--across",
        action="store_true",
        help="look for overlapping fields across classes too; about three times as long",
    )


def run(args: argparse.Namespace) -> int:
    """Examine, write what was asked for, print the text; returns 0, or 1 when there is an alarm.

    Raises:
        UsageError: an output is a folder, or scikit-learn is not installed.
        DataError: the folder is not usable, or a class has fewer groups than folds.
    """
    for path in (args.html, args.json):
        if path is not None and path.is_dir():
            raise UsageError("bad_output_path", f"{path}: is a folder: name a file")
    need_sklearn("an audit")
    from allsub_edge.audit.dataset_audit import audit
    from allsub_edge.audit.text import render
    from allsub_edge.cli.formats import printable
    from allsub_edge.cli.split import _bar

    found = audit(
        args.data,
        folds=args.folds,
        seed=args.seed,
        block=args.block,
        across_shifted=args.across,
        bars=_bar,
    )
    _write(found, args.html, args.json)
    for line in render(found).split("\n")[:-1]:
        print(printable(line))
    for path in (args.html, args.json):
        if path is not None:
            print(f"written: {path}")
    return 0 if found.clean else 1


def need_sklearn(what: str) -> None:
    """Raise a UsageError that names the extra when scikit-learn is not installed."""
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise UsageError(
            "extra_missing", f"{what} needs scikit-learn: pip install 'allsub-edge[train]'"
        )


def _write(found: Audit, page: Path | None, data: Path | None) -> None:
    from allsub_edge.atomic import write_text

    if page is not None:
        from allsub_edge.audit.page import audit_page

        write_text(page, audit_page(found))
    if data is not None:
        from allsub_edge.cli.formats import dump

        write_text(data, dump(found.to_dict()) + "\n")


def _folds(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 2 up")
    return int(text)
