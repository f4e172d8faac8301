"""The worst and best images of a recipe on one picture, so that a number can be looked at.

Each tile shows the image on the left; on the right, over its grey version, what was found and is
wanted (green), wanted and missed (blue), and found but not wanted (red).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from allsub_edge.audit.segmentation import Measured, Outcome, cases_of, extremes
from allsub_edge.audit.truth import Case, Mask
from allsub_edge.imaging.annotate import ascii_text
from allsub_edge.imaging.draw import side_by_side, stacked
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.resize import squash

Picture = npt.NDArray[np.uint8]

EACH: Final[int] = 6
"""Worst and best images that are shown, each."""

HIT: Final[tuple[int, int, int]] = (40, 160, 70)
MISSED: Final[tuple[int, int, int]] = (40, 90, 220)
FALSE: Final[tuple[int, int, int]] = (220, 50, 50)

_SIDE: Final[int] = 150
_CAPTION: Final[int] = 20
_TITLE: Final[int] = 30
_INK: Final[tuple[int, int, int]] = (20, 22, 28)


def draw_sheet(root: Path, outcomes: Sequence[Outcome], each: int = EACH) -> Picture:
    """Draw one block for each recipe, one row for its worst and one for its best images.

    Args:
        root: the folder that was measured; the shown images are read again.
        outcomes: from :func:`allsub_edge.audit.segmentation.evaluate_recipes`.
        each: images in a row.

    Returns:
        uint8 RGB (H, W, 3).
    """
    width = each * (2 * _SIDE + 4) + (each - 1) * 8
    rows: list[Picture] = [_legend(width)]
    for outcome in outcomes:
        for title, entries in extremes(outcome, each).items():
            rows.append(_text(f"{outcome.recipe}, {title} by Dice", _TITLE, width, 0.55))
            cases = cases_of(Path(root), outcome, entries)
            tiles = [_tile(c, e, outcome.recipe) for c, e in zip(cases, entries, strict=True)]
            row = side_by_side(tiles, gap=8)
            missing = width - row.shape[1]
            rows.append(np.pad(row, ((0, 0), (0, missing), (0, 0)), constant_values=255))
    return stacked(rows, gap=4)


def compared(rgb: Picture, found: Mask, truth: Mask) -> Picture:
    """The grey field with hits, misses and false alarms coloured; uint8 (H, W, 3)."""
    grey = rgb.mean(axis=2, keepdims=True) * 0.6 + 0.4 * 255
    out = np.repeat(grey, 3, axis=2)
    for where, colour in ((found & truth, HIT), (truth & ~found, MISSED), (found & ~truth, FALSE)):
        out[where] = 0.4 * out[where] + 0.6 * np.asarray(colour)
    return np.asarray(np.rint(out), dtype=np.uint8)


def _tile(case: Case, entry: Measured, recipe: str) -> Picture:
    found = get_recipe(recipe).mask(case.rgb) > 0
    pair = [squash(case.rgb, _SIDE), squash(compared(case.rgb, found, case.truth), _SIDE)]
    pictures = side_by_side(pair)
    caption = f"{PurePath(entry.file).name}  Dice {entry.dice:.2f}  IoU {entry.iou:.2f}"
    return stacked([pictures, _text(caption, _CAPTION, pictures.shape[1], 0.36)], gap=0)


def _legend(width: int) -> Picture:
    strip = np.full((_TITLE, width, 3), 255, np.uint8)
    left = 4
    for colour, name in ((HIT, "found and wanted"), (MISSED, "missed"), (FALSE, "not wanted")):
        strip[9:21, left : left + 12] = colour
        cv2.putText(strip, name, (left + 18, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1,
                    cv2.LINE_AA)  # fmt: skip
        left += 200
    return strip


def _text(text: str, height: int, width: int, scale: float) -> Picture:
    strip = np.full((height, width, 3), 255, np.uint8)
    cv2.putText(strip, ascii_text(text), (3, height - 7), cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1,
                cv2.LINE_AA)  # fmt: skip
    return strip
