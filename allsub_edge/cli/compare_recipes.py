"""``allsub-edge compare-recipes``: what each recipe is worth as the second channel."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from allsub_edge.errors import UsageError

HELP: Final[str] = """\
Measure what each segmentation recipe is worth as the second channel, without training a network.

A frozen extractor computes features of every field: the field as it is and white-balanced, the
second channel of each recipe, and the field pooled over each recipe's cells. A logistic regression
learns from each combination, with whole groups held out, and is tested on fields as they are and
with channel gains changed by up to 10 and 20 %. The scale bar is painted over first.

On the public data set this takes about half an hour on two cores; features are kept in --cache, so
that it need not be done twice."""

_EPILOG: Final[str] = """\
examples:
  allsub-edge compare-recipes smears --weights imagenet --cache features
  allsub-edge compare-recipes smears --weights lite0.weights.h5 --cache features --json told.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``compare-recipes``."""
    from allsub_edge.cli.audit import _folds
    from allsub_edge.cli.split import _from_one, _from_zero

    parser.epilog = _EPILOG
    parser.add_argument("data", type=Path, metavar="DIR", help="labelled fields")
    parser.add_argument(
        "--weights",
        required=True,
        metavar="WHAT",
        help="of the extractor: imagenet, a file, or none (random: only to try the command)",
    )
    parser.add_argument(
        "--cache", type=Path, required=True, metavar="FOLDER", help="keeps the features"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number")
    parser.add_argument(
        "--backbone", default="efficientnet_lite0", metavar="NAME", help="extractor [%(default)s]"
    )
    parser.add_argument(
        "--cut", default="stride16", metavar="NAME", help="where it ends [%(default)s]"
    )
    parser.add_argument(
        "--folds", type=_folds, default=5, metavar="K", help="folds of the cross-validation [5]"
    )
    parser.add_argument("--seed", type=_from_zero, default=1, help="of folds and gains [1]")
    parser.add_argument(
        "--block", type=_from_one, default=20, help="neighbouring files in one block [20]"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, write what was asked for, print the tables; returns 0.

    Raises:
        UsageError: an output cannot be one, an unknown backbone or cut, or an extra is missing.
        DataError: the folder, a file in it, the weights or the cache is not usable.
    """
    if args.json is not None and args.json.is_dir():
        raise UsageError("bad_output_path", f"{args.json}: is a folder: name a file")
    if args.cache.exists() and not args.cache.is_dir():
        raise UsageError("bad_output_path", f"{args.cache}: is a file: name a folder")
    from allsub_edge.cli.audit import need_sklearn
    from allsub_edge.cli.training import prepare_process

    need_sklearn("comparing recipes")
    prepare_process()
    from allsub_edge.atomic import write_text
    from allsub_edge.audit.recipe_ablation import ablate
    from allsub_edge.audit.recipe_features import Extractor
    from allsub_edge.audit.recipe_tables import render, to_dict
    from allsub_edge.cli.formats import dump, printable
    from allsub_edge.cli.split import _bar

    found = ablate(
        args.data,
        Extractor(args.backbone, args.cut, args.weights),
        cache=args.cache,
        folds=args.folds,
        seed=args.seed,
        block=args.block,
        bars=_bar,
        say=lambda line: print(line, file=sys.stderr),
    )
    if args.json is not None:
        write_text(args.json, dump(to_dict(found)) + "\n")
    for line in render(found).split("\n"):
        print(printable(line))
    if args.json is not None:
        print(f"written: {args.json}")
    return 0
