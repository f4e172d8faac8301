"""``allsub-edge search``: a list of configurations on one split, one table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

from allsub_edge.errors import UsageError

HELP: Final[str] = """\
Train every configuration of a list on the same split and write one table.

LIST is a TOML file: [common] holds keys of the training configuration (see allsub-edge train
--help), each [[configuration]] a name and the keys in which it differs; a teacher may be the name
of an earlier one. The runs lie in --out, one folder for each name. A configuration that is done is
skipped and one that was stopped goes on, so the same command repeats, continues or extends a
search. table.md and table.json are written anew after each training.

One fold is for discarding: train what is left on all of them with allsub-edge crossfit.
"""

_EPILOG: Final[str] = """\
examples:
  allsub-edge split smears -o folds.csv --folds 5
  allsub-edge search scripts/search.toml --data smears --split folds-fold1.csv \\
      --weights imagenet --out runs/search
  allsub-edge search scripts/search.toml --data smears --split folds-fold1.csv \\
      --weights imagenet --out runs/search --only-table      what is done so far, with latency
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``search``."""
    parser.epilog = _EPILOG
    parser.add_argument("list", type=Path, metavar="LIST", help="TOML file of configurations")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="labelled fields")
    parser.add_argument(
        "--split", required=True, type=Path, metavar="CSV", help="who plays which role, for all"
    )
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="[BACKBONE=]WHAT",
        help="starting weights where the list names none, for one backbone or for all; repeatable",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the runs")
    parser.add_argument("--only-table", action="store_true", help="train nothing")
    parser.add_argument("--no-latency", action="store_true", help="measure no times")


def run(args: argparse.Namespace) -> int:
    """Train and write the table; returns 0, or 1 when some configuration is not done.

    Raises:
        UsageError: a wrong list or option, or the extra ``train`` is not installed.
        DataError: the data, the split or a run is not usable.
    """
    from allsub_edge.cli import training

    if args.out.exists() and not args.out.is_dir():
        raise UsageError("usage", f"{args.out}: is a file; give a folder for --out")
    training.prepare_process()
    from allsub_edge.evaluation import search
    from allsub_edge.evaluation.latency import measure
    from allsub_edge.evaluation.output import write_together
    from allsub_edge.evaluation.search_table import collect, markdown

    entries = search.read_list(args.list, args.out, _weights(args.weights))

    def write(latency: dict[str, dict[str, object]]) -> dict[str, object]:
        found = collect(entries, args.out, latency)
        text = json.dumps(found, indent=1, allow_nan=False) + "\n"
        write_together(args.out, {"table.md": markdown(found), "table.json": text})
        return found

    with training.Bar() as bar:
        train = search.Trainer(args.data, args.split, bar.step, bar.say)
        if not args.only_table:
            search.search(entries, args.out, train, after=lambda: write({}), say=bar.say)
        done = [entry.name for entry in entries if search.is_done(entry, args.out / entry.name)]
        if args.only_table:
            train.check([args.out / name for name in done])
        times = [] if args.no_latency else measure([args.out / name for name in done], bar.say)
    found = write(dict(zip(done, times, strict=False)))
    print(markdown(found), end="")
    print(f"table: {args.out / 'table.md'}")
    return 1 if found["waiting"] else 0


def _weights(given: list[str]) -> dict[str, str]:
    """``BACKBONE=WHAT`` and ``WHAT`` as a dictionary; the latter is filed under ``""``."""
    from allsub_edge.training.backbones import BACKBONES

    found: dict[str, str] = {}
    for text in given:
        backbone, equals, what = text.partition("=")
        # A file name may hold an equals sign too.
        named = equals and backbone in BACKBONES
        found[backbone if named else ""] = what if named else text
    return found
