"""``allsub-edge render``: artificial fields, so that everything can be tried without data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from allsub_edge.classes import CLASSES
from allsub_edge.errors import UsageError

HELP: Final[str] = """\
Draw artificial fields that look like a smear, to try everything without data.

The same seed and label give the same pixels on every machine. A rendered field shows that a
program works; it says nothing about how well a model reads real smears.
"""

EPILOG: Final[str] = """\
examples:
  allsub-edge render field.png
  allsub-edge render field.png --label Pre --seed 7
  allsub-edge render fields/ --count 20               fields/Pro-1.png ... fields/Pro-20.png
  allsub-edge render 'f-{label}-{seed}.png' --count 3
"""

SEED: Final[str] = "{seed}"
LABEL: Final[str] = "{label}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``render``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("name", nargs="?", metavar="OUT.png", help="file to write, or a folder")
    parser.add_argument("-o", "--out", metavar="OUT.png", help="the same, as an option")
    parser.add_argument("--seed", type=int, default=1, help="which field (default: 1)")
    parser.add_argument(
        "--label", choices=CLASSES, default="Pro", help="whose look it has (default: Pro)"
    )
    parser.add_argument(
        "--count", type=int, default=1, metavar="N", help="fields of N seeds from --seed on"
    )
    parser.add_argument(
        "--size", type=int, default=224, metavar="PX", help="side in pixels (default: 224)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the fields and print their names; returns 0.

    Raises:
        UsageError: no output name or two, a name for one file but several fields, or a count,
            seed or size out of range.
        OSError: the folder cannot be written.
    """
    if (args.name is None) == (args.out is None):
        raise UsageError("usage", "name one file or folder to write: allsub-edge render field.png")
    pattern = _pattern(args.name if args.out is None else args.out)
    if args.count < 1:
        raise UsageError("usage", f"--count {args.count}: at least 1 field")
    if args.count > 1 and SEED not in pattern:
        raise UsageError(
            "bad_output_path",
            f"{pattern}: {args.count} fields need a name with {SEED}, as in 'field-{SEED}.png', "
            "or a folder",
        )

    from allsub_edge.atomic import write_bytes
    from allsub_edge.imaging.draw import encode_png
    from allsub_edge.imaging.render import render_field

    for seed in range(args.seed, args.seed + args.count):
        try:
            rgb = render_field(seed, args.label, args.size)
        except ValueError as error:
            raise UsageError("usage", str(error)) from None
        target = pattern.replace(SEED, str(seed)).replace(LABEL, args.label)
        write_bytes(target, encode_png(rgb))
        print(target)
    return 0


def _pattern(name: str) -> str:
    if name.endswith("/") or Path(name).is_dir():
        return str(Path(name) / f"{LABEL}-{SEED}.png")
    if not name.lower().endswith(".png"):
        raise UsageError(
            "bad_output_path", f"{name}: only PNG is written: end it in .png, or in / for a folder"
        )
    return name
