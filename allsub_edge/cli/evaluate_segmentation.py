"""``allsub-edge evaluate-segmentation``: how well the recipes find white cells."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from allsub_edge.errors import UsageError

HELP: Final[str] = """\
Hold the segmentation recipes against masks: Dice and IoU on every image.

DIR is either a folder of images (.bmp, .jpg, .tif), each with a mask NAME.png beside it (255
nucleus, 128 cytoplasm, 0 background), or the public data set with Original and Segmented inside:
then the recipes are compared with its own cut-out cells, class by class. An image that cannot be
used is listed and does not stop the others."""

_EPILOG: Final[str] = """\
exit code: 0 every image was measured, 1 some were not, 2 the folder or an option is wrong.

examples:
  allsub-edge evaluate-segmentation truth
  allsub-edge evaluate-segmentation truth --recipe cells --target cell --squash
  allsub-edge evaluate-segmentation truth --sheet seen.png --json dice.json
  allsub-edge evaluate-segmentation smears       against the data set's own cut-outs

The sheet shows images of your folder; the public data set must not be redistributed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``evaluate-segmentation``."""
    parser.epilog = _EPILOG
    parser.add_argument("data", type=Path, metavar="DIR", help="images with masks")
    parser.add_argument(
        "--recipe", action="append", metavar="NAME", help="one recipe; may be repeated [all]"
    )
    parser.add_argument(
        "--target",
        choices=("nucleus", "cell"),
        default="nucleus",
        help="what a mask drawn by hand is asked for; a cell is nucleus and cytoplasm [nucleus]",
    )
    parser.add_argument(
        "--squash", action="store_true", help="bring images to 224x224 first, as a model sees them"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every image's numbers")
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="draw the worst and best images"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, write what was asked for, print; returns 0, or 1 if some images were not used.

    Raises:
        UsageError: an unknown recipe, or an output that cannot be one.
        DataError: nothing to measure in the folder.
    """
    for path in (args.json, args.sheet):
        if path is not None and path.is_dir():
            raise UsageError("bad_output_path", f"{path}: is a folder: name a file")
    if args.sheet is not None and args.sheet.suffix.lower() != ".png":
        raise UsageError("bad_output_path", f"{args.sheet}: a sheet is a PNG: name it .png")
    from allsub_edge.atomic import write_bytes, write_text
    from allsub_edge.audit.segmentation import evaluate_recipes, render, report
    from allsub_edge.audit.sheet import draw_sheet
    from allsub_edge.cli.formats import dump, printable
    from allsub_edge.cli.split import _bar
    from allsub_edge.imaging.draw import encode_png
    from allsub_edge.imaging.recipes import RECIPES

    outcomes = evaluate_recipes(
        args.data,
        args.recipe or list(RECIPES),
        target=args.target,
        squashed=args.squash,
        progress=_bar("measuring"),
    )
    if args.sheet is not None:
        write_bytes(args.sheet, encode_png(draw_sheet(args.data, outcomes)))
    if args.json is not None:
        write_text(args.json, dump(report(outcomes)) + "\n")
    for line in render(outcomes).split("\n")[:-1]:
        print(printable(line))
    for path in (args.json, args.sheet):
        if path is not None:
            print(f"written: {path}")
    return 1 if outcomes[0].refused else 0
