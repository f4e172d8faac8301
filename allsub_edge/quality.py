"""Is this field fit to judge? Numbers about a field, and the reasons that follow from them.

Every limit stands in the manifest of the model (``calibration.quality``) and was taken from fields
known to be good (``allsub_edge.training.quality_fit``); a limit that is absent is not applied.
Colours are measured relative to the field's own empty background, so a lamp or a white balance
does not count as another stain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from allsub_edge.imaging.white_balance import white_point
from allsub_edge.model_file.manifest import Calibration

OUT_OF_DOMAIN: Final[str] = "out_of_domain"
TOO_FEW_CELLS: Final[str] = "too_few_cells"
OUT_OF_FOCUS: Final[str] = "out_of_focus"
TOO_DARK: Final[str] = "too_dark"
TOO_BRIGHT: Final[str] = "too_bright"
WRONG_STAIN: Final[str] = "wrong_stain"
COLOUR_CAST: Final[str] = "colour_cast"

REASONS: Final[dict[str, str]] = {
    OUT_OF_DOMAIN: "the field does not look like the smears the model was trained on",
    TOO_FEW_CELLS: "too few stained white cells in the field",
    OUT_OF_FOCUS: "the field is out of focus",
    TOO_DARK: "the field is too dark: more light or a longer exposure",
    TOO_BRIGHT: "the field is over-exposed: less light or a shorter exposure",
    WRONG_STAIN: "the cells are not coloured as in the smears the model was trained on",
    COLOUR_CAST: "the empty background has a colour of its own: set the white balance",
}
"""Reason code -> sentence for people, in the order in which reasons are listed."""

LIMITS: Final[tuple[tuple[str, str, str], ...]] = (
    ("min_cell_fraction", "cell_fraction", TOO_FEW_CELLS),
    ("min_cells", "cells", TOO_FEW_CELLS),
    ("min_focus", "focus", OUT_OF_FOCUS),
    ("min_brightness", "brightness", TOO_DARK),
    ("max_black", "black", TOO_DARK),
    ("max_clipped", "clipped", TOO_BRIGHT),
    ("min_stain", "stain", WRONG_STAIN),
    ("max_stain", "stain", WRONG_STAIN),
    ("min_cell_blue", "cell_blue", WRONG_STAIN),
    ("max_cell_blue", "cell_blue", WRONG_STAIN),
    ("min_red_cell_tint", "red_cell_tint", WRONG_STAIN),
    ("max_red_cell_tint", "red_cell_tint", WRONG_STAIN),
    ("max_cast", "cast", COLOUR_CAST),
)
"""Name of a limit in the manifest, attribute of ``Quality`` that it limits, reason that follows.
A value equal to its limit is still fit."""

MIN_CELL_AREA: Final[int] = 64
"""Smallest piece of the mask that counts as a cell, pixels of the 224x224 field: a disc 9 pixels
wide, a third of the 26 pixels that a white cell of the training data measures."""

BLACK_BELOW: Final[int] = 30
"""A pixel with every channel below this is near black: darker than a stained nucleus, as outside
the round picture of an eyepiece."""

STAINED_BELOW: Final[float] = 0.9
"""A pixel with any channel below this share of the background holds stain, not empty glass."""

_ENOUGH: Final[float] = 0.01
"""Share of the field from which on the mean colour of the stained rest is worth giving."""


@dataclass(frozen=True)
class Quality:
    """What was measured on one field; None is what could not be (or was not, in an old record).

    Attributes:
        focus: sharpness, 0 or more, no unit; see ``focus``.
        background: red, green, blue of the empty background, 0..255.
        cell_fraction: share of the field's pixels inside the cell mask, 0..1.
        domain_distance: the model's distance from its training fields, 0 or more.
        cells: pieces of the mask of at least ``MIN_CELL_AREA`` pixels; cells that touch are one.
        brightness: mean of the background's channels, 0..255.
        clipped: share of pixels that are 255 in every channel, 0..1.
        black: share of pixels below ``BLACK_BELOW`` in every channel, 0..1.
        cast: largest channel of the background over the smallest, minus 1; 0 is neutral.
        stain: how purple the cells are: mean red + blue - 2 green inside the mask, each channel
            as a share of the background, about -2..2; None without a mask.
        cell_blue: share of the background's blue that the cells let through, mean inside the
            mask; about 1 with a Romanowsky stain; None without a mask.
        red_cell_tint: mean red - blue, as shares of the background, of what is stained but
            outside the mask, chiefly red cells: below 0 bluish, above 0 pink; None where less
            than 1 % of the field is so.
    """

    focus: float
    background: tuple[float, float, float]
    cell_fraction: float
    domain_distance: float
    cells: int | None = None
    brightness: float | None = None
    clipped: float | None = None
    black: float | None = None
    cast: float | None = None
    stain: float | None = None
    cell_blue: float | None = None
    red_cell_tint: float | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Quality:
        """Rebuild from the JSON object of a record; later measures may be absent.

        Raises:
            KeyError, TypeError, ValueError: one of the first four is absent, or one is no number.
        """
        red, green, blue = raw["background"]
        later = [item.name for item in fields(cls) if item.default is None]
        given = {name: raw[name] for name in later if raw.get(name) is not None}
        values: Any = {k: int(v) if k == "cells" else float(v) for k, v in given.items()}
        return cls(
            focus=float(raw["focus"]),
            background=(float(red), float(green), float(blue)),
            cell_fraction=float(raw["cell_fraction"]),
            domain_distance=float(raw["domain_distance"]),
            **values,
        )


def focus(rgb: npt.NDArray[np.uint8], background_green: float) -> float:
    """Sharpness: variance of the green channel's Laplacian, relative to the background squared.

    The variance of the Laplacian is the usual one-number focus measure (Pech-Pacheco et al.,
    Diatom autofocusing in brightfield microscopy, ICPR 2000). Green is taken because Romanowsky
    stains absorb most there. A lamp or exposure that is brighter by g scales the variance by g^2
    and the background by g, so dividing by the background squared takes exposure out. All sums
    are whole numbers below 2^63, exact in any order, so every machine agrees.

    Args:
        rgb: uint8 field (H, W, 3), H and W at least 3.
        background_green: green of the background, 0..255; below 1 counts as 1.

    Returns:
        The variance in units of the squared background, times 10000.
    """
    return _sharpness(cv2.extractChannel(rgb, 1), background_green)


def _sharpness(green: cv2.typing.MatLike, background_green: float) -> float:
    """``focus`` of a green channel, uint8 (H, W)."""
    # The one-pixel kernel and 16 bits: whole numbers of -1020..1020. The border is left out.
    laplacian = cv2.Laplacian(green, cv2.CV_16S, ksize=1)[1:-1, 1:-1]
    count = int(laplacian.size)
    total = int(cv2.sumElems(laplacian)[0])
    # Squares stay below 2^24, exact in float32, and sumElems adds in double (cv2.norm in float32,
    # and `laplacian @ laplacian` would wake BLAS's own threads).
    squares = int(cv2.sumElems(cv2.multiply(laplacian, laplacian, dtype=cv2.CV_32F))[0])
    variance = (count * squares - total * total) / (count * count)
    return 10_000 * variance / max(background_green, 1.0) ** 2


def count_cells(mask: npt.NDArray[np.uint8]) -> int:
    """Pieces (8-connected) of a mask uint8 (H, W) that have at least ``MIN_CELL_AREA`` pixels."""
    # OpenCV's own statistics take five times as long as counting the labels under the mask. A
    # piece apart from all others needs four pixels, so 16 bits are enough for labels up to there.
    kind = cv2.CV_16U if mask.size < 4 * 65535 else cv2.CV_32S
    count, labels = cv2.connectedComponents(mask, connectivity=8, ltype=kind)
    areas = np.bincount(labels[mask > 0], minlength=count)[1:]
    return int(np.count_nonzero(areas >= MIN_CELL_AREA))


def _share(inside: npt.NDArray[np.bool_]) -> float:
    """Share of pixels that are True."""
    return round(int(np.count_nonzero(inside)) / inside.size, 6)


def _planes(rgb: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """Red, green and blue apart, uint8 (H, W) each."""
    # Into arrays that are there: those that OpenCV makes itself take three times as long.
    planes = [np.empty(rgb.shape[:2], np.uint8) for _ in range(3)]
    cv2.split(rgb, planes)
    return planes


def _let_through(
    rgb: npt.NDArray[np.uint8], region: cv2.typing.MatLike, pixels: int, floor: list[float]
) -> list[float]:
    """Mean of each channel over a region (uint8, not 0 inside) of so many pixels, as a share of
    the background."""
    # cv2.mean with a mask takes four times as long as a copy under it and a sum over everything.
    sums = cv2.sumElems(cv2.copyTo(rgb, region))
    return [total / pixels / light for total, light in zip(sums, floor, strict=False)]


@dataclass(frozen=True, eq=False)
class Glance:
    """What a field shows without its mask, for :func:`measure`; attributes as in ``Quality``.

    Attributes:
        empty: bool (H, W), True where all channels reach ``STAINED_BELOW`` of the background.
    """

    background: tuple[float, float, float]
    empty: npt.NDArray[np.bool_]
    focus: float
    clipped: float
    black: float


def glance(rgb: npt.NDArray[np.uint8]) -> Glance:
    """The part of :func:`measure` that can be done while the model still makes its mask.

    Args:
        rgb: uint8 (224, 224, 3), the squashed field.
    """
    red, green, blue = (float(value) for value in white_point(rgb))
    # Plane by plane: channels that lie interleaved are compared several times slower.
    planes = _planes(rgb)
    least = [math.ceil(STAINED_BELOW * max(light, 1.0)) for light in (red, green, blue)]
    above = [plane >= level for plane, level in zip(planes, least, strict=True)]
    darkest = np.minimum(np.minimum(planes[0], planes[1]), planes[2])
    lightest = np.maximum(np.maximum(planes[0], planes[1]), planes[2])
    return Glance(
        background=(red, green, blue),
        empty=above[0] & above[1] & above[2],
        focus=round(_sharpness(planes[1], green), 4),
        clipped=_share(darkest == 255),
        black=_share(lightest < BLACK_BELOW),
    )


def measure(
    rgb: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    domain_distance: float,
    seen: Glance | None = None,
) -> Quality:
    """Measure one field as the model saw it.

    OpenCV and numpy compare, count, label and add whole numbers only here, which is the same
    everywhere; what is divided is rounded.

    Args:
        rgb: uint8 (224, 224, 3), the squashed field.
        mask: uint8 (224, 224), the model's mask, 0/1.
        domain_distance: the model's distance.
        seen: :func:`glance` of the same field, if it is already there.
    """
    seen = glance(rgb) if seen is None else seen
    floor = [max(value, 1.0) for value in seen.background]
    masked = int(np.count_nonzero(mask))
    stain = cell_blue = tint = None
    if masked:
        r, g, b = _let_through(rgb, mask, masked, floor)
        stain, cell_blue = round(r + b - 2 * g, 4), round(b, 4)
    rest = ~(seen.empty | mask.view(np.bool_))
    stained = int(np.count_nonzero(rest))
    if stained >= _ENOUGH * mask.size:
        r, _, b = _let_through(rgb, rest.view(np.uint8), stained, floor)
        tint = round(r - b, 4)
    return Quality(
        focus=seen.focus,
        background=seen.background,
        cell_fraction=round(masked / mask.size, 6),
        domain_distance=round(float(domain_distance), 6),
        cells=count_cells(mask),
        brightness=round(sum(seen.background) / 3, 4),
        clipped=seen.clipped,
        black=seen.black,
        cast=round(max(floor) / min(floor) - 1, 4),
        stain=stain,
        cell_blue=cell_blue,
        red_cell_tint=tint,
    )


def judge(quality: Quality, calibration: Calibration) -> list[str]:
    """Reason codes why the field is not fit, in the order of ``REASONS``; empty if it is fit.

    Only limits that the manifest holds are applied: ``domain_threshold`` (fit up to and including
    it) and those of ``LIMITS``; and none to a value that is None.
    """
    found = set()
    threshold = calibration.domain_threshold
    if threshold is not None and not quality.domain_distance <= threshold:
        found.add(OUT_OF_DOMAIN)
    for name, attribute, reason in LIMITS:
        limit, value = calibration.quality.get(name), getattr(quality, attribute)
        if limit is None or value is None:
            continue
        if not (value >= limit if name.startswith("min_") else value <= limit):
            found.add(reason)
    return [reason for reason in REASONS if reason in found]
