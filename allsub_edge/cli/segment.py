"""``allsub-edge segment``: which pixels count as white cells, for eyes and for other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from allsub_edge.cli.output import Identity, check_place, identity, same_place
from allsub_edge.errors import AllsubError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from allsub_edge.imaging.recipes import Recipe
    from allsub_edge.sources.paths import Item

    Picture = NDArray[np.uint8]

HELP: Final[str] = """\
Show which pixels of a field count as white cells.

Each field is squashed to 224x224 pixels, as the model sees it, and segmented by a recipe. One
line per field says how much of it is cells. A bad file does not stop the others.
Exit code: 0 every input was processed, 1 some were not, 2 a usage error.
"""

EPILOG: Final[str] = """\
recipes:
  cells      white cells under a changed stain, gain or exposure (the default)
  aria2022   the published thresholds, bit for bit; sensitive to the colour of the light

examples:
  allsub-edge segment f1.jpg -o seen.png            original, mask, overlay side by side
  allsub-edge segment smears/ -o seen.png           the same, one row per field
  allsub-edge segment smears/ -o 'seen/{stem}.png'  one picture per field
  allsub-edge segment f1.jpg --mask mask.png        the bare mask: 0 and 255, one channel
  allsub-edge segment smears/ --mask 'masks/{stem}.png'
  allsub-edge segment f1.jpg --recipe aria2022 -o published.png
"""

STEM: Final[str] = "{stem}"
MAX_ROWS: Final[int] = 200
"""Rows in one picture: 200 make it 45,000 pixels high, beyond which viewers give up."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``segment``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("fields", nargs="+", metavar="FIELD", help="a file, a folder or a glob")
    parser.add_argument(
        "--recipe", default="cells", metavar="NAME", help="how to segment (default: cells)"
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT.png",
        help="write original, mask and overlay side by side; with {stem} in the name, "
        "one picture per field",
    )
    parser.add_argument(
        "--mask",
        metavar="MASK.png",
        help="write the bare mask (0 and 255, 224x224); for several fields a name with {stem}, "
        "or a folder that exists",
    )


def run(args: argparse.Namespace) -> int:
    """Segment each field; returns 0, or 1 if some could not be done.

    Raises:
        UsageError: an unknown recipe; an output name that is not a PNG, is one of the fields, or
            stands for several fields.
        OSError: the picture of all fields cannot be written.
    """
    from allsub_edge.atomic import write_bytes
    from allsub_edge.cli.formats import printable
    from allsub_edge.imaging.draw import encode_png, stacked
    from allsub_edge.imaging.recipes import get_recipe
    from allsub_edge.sources.paths import expand

    recipe = get_recipe(args.recipe)
    mask_name = _output(args.mask, "--mask")
    out_name = _output(args.out, "--out")
    items: Iterable[Item] = expand(args.fields)
    if mask_name is not None or out_name is not None:
        # All names before the first file is written: none of them may be a field, and what is
        # written into a folder of fields must not be taken for one further on.
        items = list(items)
        _refuse_harm(items, out_name, mask_name)
    apart = out_name is not None and STEM in out_name
    rows: list[Picture] = []
    written: set[Path | Identity] = set()
    failed = 0
    for item in items:
        try:
            rgb, mask = _segment(item, recipe)
            if apart:
                _write(out_name, item, encode_png(_row(rgb, mask)), written)
            _write(mask_name, item, encode_png(mask * 255), written)
        except AllsubError as error:
            failed += 1
            print(f"allsub-edge: error: {printable(error.message)}", file=sys.stderr)
            continue
        if out_name is not None and not apart:
            rows.append(_row(rgb, mask))
        if len(rows) > MAX_ROWS:
            raise UsageError(
                "bad_output_path",
                f"--out {args.out}: more than {MAX_ROWS} fields do not fit one picture; "
                f"use a name with {STEM}, as in 'seen/{STEM}.png'",
            )
        print(f"{printable(item.source)}  recipe {recipe.name}  cell fraction {mask.mean():.4f}")
    if rows and out_name is not None:
        if not written.isdisjoint(_marks(Path(out_name))):
            raise UsageError(
                "bad_output_path", f"--out {out_name}: a mask has this name; use another"
            )
        write_bytes(out_name, encode_png(stacked(rows)))
    return 1 if failed else 0


def _segment(item: Item, recipe: Recipe) -> tuple[Picture, Picture]:
    """The field as the model sees it, uint8 (224, 224, 3), and its mask of 0 and 1."""
    from allsub_edge.imaging.decode import read_field
    from allsub_edge.imaging.resize import FIELD_SIZE, squash

    if item.error is not None:
        raise item.error
    assert item.path is not None
    rgb = squash(read_field(item.path, smallest_side=FIELD_SIZE).rgb)
    return rgb, recipe.mask(rgb)


def _row(rgb: Picture, mask: Picture) -> Picture:
    from allsub_edge.imaging.draw import overlay, side_by_side

    return side_by_side([rgb, mask * 255, overlay(rgb, mask)])


def _output(name: str | None, option: str) -> str | None:
    """The name to write to; a folder stands for one file per field in it."""
    if name is None:
        return None
    if Path(name).is_dir():
        return str(Path(name) / f"{STEM}.png")
    if not name.lower().endswith(".png"):
        raise UsageError("bad_output_path", f"{option} {name}: only PNG is written; end it in .png")
    return name


def _refuse_harm(items: list[Item], out_name: str | None, mask_name: str | None) -> None:
    """Raise UsageError if an output would overwrite a field or the other output.

    What else is there may be of an earlier run, and is replaced.
    """
    if len(items) > 1 and mask_name and STEM not in mask_name:
        raise UsageError(
            "bad_output_path",
            f"--mask {mask_name}: several fields need a name with {STEM}, as in "
            f"'masks/{STEM}.png', or a folder that exists",
        )
    if out_name is not None and mask_name is not None and same_place(out_name, mask_name):
        raise UsageError("bad_output_path", f"--out and --mask both name {out_name}; use two names")
    fields = {identity(item.source) for item in items} - {None}
    for name, option in ((out_name, "--out"), (mask_name, "--mask")):
        if name is None:
            continue
        if STEM not in name:
            check_place(name, option, text=False)
        for target in [_target(name, item) for item in items] if STEM in name else [Path(name)]:
            if target is not None and identity(target) in fields:
                raise UsageError(
                    "bad_output_path",
                    f"{option}: {target} is one of the fields; choose another output name",
                )


def _target(name: str, item: Item) -> Path | None:
    """Where one field's file goes; None if there is no field."""
    return None if item.path is None else Path(name.replace(STEM, item.path.stem))


def _write(name: str | None, item: Item, data: bytes, written: set[Path | Identity]) -> None:
    """Write one field's file, never twice to one name.

    Raises:
        AllsubError: ``bad_output_path``, ``not_written``: the other fields go on.
    """
    from allsub_edge.atomic import write_bytes

    target = None if name is None else _target(name, item)
    if target is None:
        return
    # By name and by file: links, and cards that do not tell upper from lower case.
    if not written.isdisjoint(_marks(target)):
        raise AllsubError(
            "bad_output_path",
            f"{item.source}: {target} was written for another field of the same name; "
            "segment the folders one by one",
        )
    try:
        write_bytes(target, data)
    except OSError as error:
        raise AllsubError(
            "not_written",
            f"{item.source}: {target} could not be written ({error.strerror or error})",
        ) from error
    written |= _marks(target)


def _marks(target: Path) -> set[Path | Identity]:
    there = identity(target)
    return {target} if there is None else {target, there}
