"""Change what lies behind the white cells, so that it cannot tell the class.

In the public data set the smears of a class share slide, lamp and camera, so the colour of the
empty background alone tells much: its red-to-green ratio has the medians 0.978, 0.967, 0.945 and
0.998 for Benign, Early, Pre and Pro (every fourth field). Two remedies, for training and as tests:
:func:`replace_background` puts the white cells of one field on another field's red cells and glass,
:func:`recolour_background` only moves everything but the white cells to another colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from allsub_edge.imaging.white_balance import white_point
from allsub_edge.training.perturb import (
    Field,
    flip,
    gains,
    hide_scale_bar,
    rotate90,
    to_uint8,
)

MARGIN: Final[int] = 2
"""Pixels around a white cell that travel with it: the mask ends at the violet part of the cell."""

DONOR_MARGIN: Final[int] = 6
"""Pixels around a donor's white cell that are painted over with it: pale cytoplasm and halo."""

BLUR: Final[float] = 1.5
"""Standard deviation, in pixels, of the soft edge outside the kept or painted region."""


@dataclass(frozen=True)
class Background:
    """A field whose white cells are painted over.

    Attributes:
        pixels: uint8 (H, W, 3).
        colour: of its empty glass, float32 (3,).
        painted: share of the field that was painted, 0..1; above one half it shows more paint
            than smear.
    """

    pixels: Field
    colour: npt.NDArray[np.float32]
    painted: float


def _grow(mask: Field, radius: int) -> Field:
    side = 2 * radius + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(mask, disc), dtype=np.uint8)


def _soft(region: Field) -> npt.NDArray[np.float32]:
    """1 inside the region (uint8 0/1), falling smoothly to 0 outside it; float32 (H, W)."""
    full = region * np.uint8(255)
    soft = np.maximum(full, np.asarray(cv2.GaussianBlur(full, (0, 0), BLUR)))
    return np.asarray(soft / np.float32(255), dtype=np.float32)


def _blend(inside: Field, outside: Field, weight: npt.NDArray[np.float32]) -> Field:
    mixed = cv2.blendLinear(inside, outside, weight, 1 - weight)
    return np.asarray(mixed, dtype=np.uint8)


def _check(field: Field, mask: Field) -> Field:
    """The mask as 0 and 1, once it is known to fit."""
    if mask.shape != field.shape[:2] or mask.dtype != np.uint8:
        raise ValueError(
            f"mask must be uint8 of shape {field.shape[:2]}, not {mask.dtype} {mask.shape}"
        )
    return np.minimum(mask, 1)


def background_colour(field: Field) -> npt.NDArray[np.float32]:
    """Colour of the empty glass, float32 (3,), 0..255, from a uint8 field of at least 8x8.

    :func:`allsub_edge.imaging.white_balance.white_point` of every other pixel, which is four times
    faster.
    """
    height, width = field.shape[:2]
    return white_point(field[: height // 8 * 8 : 2, : width // 8 * 8 : 2])


def _slow_light(field: Field, hole: Field) -> npt.NDArray[np.float32]:
    """Slow change of light across the field, float32 (H/4, W/4, 3), ignoring the holes."""
    height, width = hole.shape
    size = (max(1, width // 4), max(1, height // 4))
    seen = 1 - hole
    total = cv2.resize(field * seen[..., None], size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(seen * np.uint8(255), size, interpolation=cv2.INTER_AREA)
    total = cv2.GaussianBlur(np.asarray(total, dtype=np.float32), (0, 0), 4)
    share = cv2.GaussianBlur(np.asarray(share, dtype=np.float32), (0, 0), 4)
    seen_share = np.asarray(share)[..., None] / 255
    # Far from anything seen, the mean of all that is seen.
    mean = np.asarray(total).sum((0, 1)) / max(float(seen_share.sum()), 1.0)
    light = (np.asarray(total) + 0.02 * mean) / (seen_share + 0.02)
    return np.asarray(np.clip(light, 1, 255), dtype=np.float32)


def prepare_background(field: Field, mask: Field) -> Background:
    """Paint over the white cells and the scale bar of a donor field.

    A cell is covered by the same field mirrored or turned by 180 degrees, wherever that shows no
    white cell itself, brought to the local light; what stays uncovered is filled from its rim
    (Telea's inpainting on a quarter of the resolution). Training prepares each donor once.

    Args:
        field: uint8 (H, W, 3).
        mask: uint8 (H, W), 1 on white cells.

    Raises:
        ValueError: the mask does not fit the field.
    """
    mask = _check(field, mask)
    field = hide_scale_bar(field)
    # The corner mirrors its neighbourhood, so white cells there are mirrored too.
    hole = _grow(hide_scale_bar(mask), DONOR_MARGIN)
    painted = float(hole.mean())
    light = _slow_light(field, hole)
    flips = (0, 1, -1)  # OpenCV's codes: upside down, left to right, both
    pixels, left = field, hole
    for code in sorted(flips, key=lambda c: int((left & cv2.flip(hole, c)).sum())):
        cover = left & (1 - np.asarray(cv2.flip(hole, code), dtype=np.uint8))
        if cover.any():
            ratio = cv2.resize(light / cv2.flip(light, code), hole.shape[::-1])
            patch = to_uint8(np.asarray(cv2.flip(field, code) * ratio))
            pixels = _blend(patch, pixels, _soft(cover))
            left = left & (1 - cover)
    if left.any():
        height, width = left.shape
        small_size = (max(1, width // 4), max(1, height // 4))
        small = cv2.resize(pixels, small_size, interpolation=cv2.INTER_AREA)
        small_hole = cv2.resize(_grow(left, 2), small_size, interpolation=cv2.INTER_NEAREST)
        filled = cv2.inpaint(small, small_hole, 3, cv2.INPAINT_TELEA)
        filled = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
        pixels = _blend(np.asarray(filled, dtype=np.uint8), pixels, _soft(left))
    return Background(pixels, background_colour(pixels), painted)


def place_cells(
    field: Field,
    mask: Field,
    background: Background,
    rng: np.random.Generator,
    *,
    match_colour: bool = False,
) -> Field:
    """Put the white cells of ``field`` on a prepared background; see :func:`replace_background`."""
    mask = _check(field, mask)
    behind = background.pixels
    if behind.shape != field.shape:
        raise ValueError(f"donor has shape {behind.shape}, the field {field.shape}")
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    if behind.shape[0] != behind.shape[1]:
        turns = turns // 2 * 2
    behind = rotate90(behind, turns)
    behind = flip(behind) if mirrored else behind
    cells, own = field, np.maximum(background_colour(field), 1)
    if match_colour:
        behind = gains(behind, (own / np.maximum(background.colour, 1)).tolist())
    else:
        # The glass in the margin takes the donor's colour: no halo around the cells.
        cells = _blend(field, gains(field, (background.colour / own).tolist()), _soft(mask))
    return _blend(cells, behind, _soft(_grow(mask, MARGIN)))


def replace_background(
    field: Field,
    mask: Field,
    donor: Field,
    donor_mask: Field,
    rng: np.random.Generator,
    *,
    match_colour: bool = False,
) -> Field:
    """Transplant the white cells of a field onto the red cells and glass of another.

    Pixels under the mask are kept exactly; a margin of :data:`MARGIN` pixels around them, in which
    empty glass takes the colour of the donor's, fades into the donor.

    Args:
        field: uint8 (H, W, 3) whose white cells are kept.
        mask: uint8 (H, W), 1 on its white cells.
        donor: uint8 (H, W, 3) whose background is used.
        donor_mask: uint8 (H, W), 1 on the donor's white cells, which are painted over.
        rng: turns and mirrors the donor at random.
        match_colour: scale the donor so that its empty glass has the colour of the field's own;
            when off, the cells keep their colour and meet glass of another.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: shapes do not fit.
    """
    prepared = prepare_background(donor, donor_mask)
    return place_cells(field, mask, prepared, rng, match_colour=match_colour)


def random_background_colour(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A plausible colour of empty glass, float64 (3,), red, green, blue.

    The brightest channel is uniform in 225..254, red/green in 0.91..1.03 and blue/green in
    0.91..1.04: the 1st and 99th percentiles of the public data set (every fourth field) are
    0.930..1.002 and 0.936..1.018, widened by 0.02 or more on either side.
    """
    colour = np.array([rng.uniform(0.91, 1.03), 1.0, rng.uniform(0.91, 1.04)])
    return np.asarray(colour * (rng.uniform(225, 254) / colour.max()), dtype=np.float64)


def recolour_background(
    field: Field,
    mask: Field,
    rng: np.random.Generator,
    *,
    target: npt.NDArray[np.floating] | None = None,
) -> Field:
    """Multiply everything but the white cells so that empty glass takes another colour.

    Args:
        field: uint8 (H, W, 3).
        mask: uint8 (H, W), 1 on white cells, which are kept exactly.
        rng: draws the colour when none is given.
        target: (3,) red, green, blue in 0..255; default :func:`random_background_colour`.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: the mask does not fit the field.
    """
    mask = _check(field, mask)
    if target is None:
        target = random_background_colour(rng)
    factors = np.asarray(target) / np.maximum(background_colour(field), 1)
    return _blend(field, gains(field, factors.tolist()), _soft(mask))
