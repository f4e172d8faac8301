"""Rendered fields: seeded pictures that look like a smear, for tests, golden cases and first steps.

They are for plumbing only. The cells of a label follow the look of that class of the public data
set (number, size, colour), but nothing here is a biological model: an answer on a rendered field
says that a program works, never how well it reads smears, and the shipped model is not trained on
them.

Golden cases in model files store only label, seed, size and the SHA-256 of the pixels. So every
step is integer arithmetic on numbers from :mod:`allsub_edge.imaging.dice`, and a change of a
single pixel needs a new name in :data:`RENDERER`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from allsub_edge.classes import CLASSES
from allsub_edge.imaging.dice import Dice, mix
from allsub_edge.imaging.resize import FIELD_SIZE

RENDERER: Final[str] = "render/1"
"""Name of this way to draw; it never changes what it draws."""

_UNIT: Final[int] = 16  # drawing units per pixel of a 224 x 224 field
_SPAN: Final[int] = FIELD_SIZE * _UNIT  # a field is this many units wide and high at any size

Colour = tuple[int, int, int]
Ints = NDArray[np.int32]

# (cos, sin) * 64 of 0, 22.5, ... 157.5 degrees, written out so that no float is involved.
_DIRECTIONS: Final[tuple[tuple[int, int], ...]] = (
    (64, 0), (59, 24), (45, 45), (24, 59), (0, 64), (-24, 59), (-45, 45), (-59, 24),
)  # fmt: skip


@dataclass(frozen=True)
class _Look:
    """How the fields of one label are drawn; radii in units, colours as RGB."""

    blasts: tuple[int, int]
    blast_radius: tuple[int, int]
    nucleus: Colour
    cytoplasm: Colour
    reds: tuple[int, int]
    red: Colour
    background: Colour


# Radii and colours were read off fields of the public data set.
_LOOKS: Final[dict[str, _Look]] = {
    "Benign": _Look((4, 8), (150, 215), (112, 58, 196), (150, 150, 226), (70, 105), (199, 196, 208),
                    (252, 252, 247)),
    "Early": _Look((6, 10), (185, 235), (146, 92, 212), (150, 158, 230), (70, 100), (170, 184, 198),
                   (247, 253, 248)),
    "Pre": _Look((11, 18), (170, 250), (140, 82, 204), (160, 182, 228), (50, 80), (150, 176, 212),
                 (240, 251, 252)),
    "Pro": _Look((3, 6), (150, 215), (206, 118, 214), (212, 170, 228), (55, 90), (176, 192, 200),
                 (253, 254, 248)),
}  # fmt: skip
_PLATELET: Final[Colour] = (170, 120, 210)


def render_field(seed: int, label: str = "Pro", size: int = FIELD_SIZE) -> NDArray[np.uint8]:
    """Draw a smear-like field (for plumbing only, see the module's text).

    Args:
        seed: any integer of 0..2**63-1; the same seed, label and size give the same bytes on
            every platform and every version of NumPy.
        label: one of :data:`allsub_edge.classes.CLASSES`; sets number, size and colour of cells.
        size: side in pixels, 32..4096; the same scene is drawn finer or coarser.

    Returns:
        uint8 (size, size, 3) RGB.

    Raises:
        ValueError: an unknown label, or a seed or size out of range.
    """
    return render_with_truth(seed, label, size)[0]


def render_with_truth(
    seed: int, label: str = "Pro", size: int = FIELD_SIZE
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a field as :func:`render_field` does, and tell where its blasts are.

    Returns:
        The field, uint8 (size, size, 3) RGB, and the truth, uint8 (size, size): 1 where a blast
        covers at least half of the pixel and the scale bar does not hide it, else 0.

    Raises:
        ValueError: as :func:`render_field`.
    """
    if label not in _LOOKS:
        raise ValueError(f"label must be one of {', '.join(CLASSES)}, not {label!r}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be 0..2**63-1, not {seed}")
    if not 32 <= size <= 4096:
        raise ValueError(f"size must be 32..4096 pixels, not {size}")
    look = _LOOKS[label]
    dice = Dice(mix(seed) ^ mix(CLASSES.index(label) + 1))
    canvas = _Canvas(size, dice)
    canvas.background(_near(dice, look.background, 3), dice)
    blasts = _places(dice, dice.between(*look.blasts), look.blast_radius)
    _draw_red_cells(canvas, dice, look, blasts)
    for _ in range(dice.between(2, 7)):
        middle = (dice.between(0, _SPAN), dice.between(0, _SPAN))
        canvas.ellipse(middle, (dice.between(14, 30), dice.between(14, 26)), 0, _PLATELET, 230)
    truth = np.zeros((size, size), np.uint8)
    for x, y, radius in blasts:
        _draw_blast(canvas, dice, look, (x, y), radius, truth)
    canvas.scale_bar(truth)
    return canvas.finished(dice), truth


def _near(dice: Dice, colour: Colour, spread: int) -> Colour:
    """Return a colour that differs from ``colour`` by up to ``spread`` in each channel."""
    red, green, blue = (min(255, max(0, part + dice.between(-spread, spread))) for part in colour)
    return red, green, blue


def _places(dice: Dice, count: int, radii: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Centres and radii of blasts that overlap little; some lie on the border of the field."""
    found: list[tuple[int, int, int]] = []
    for _ in range(40 * count):
        if len(found) == count:
            break
        x, y, radius = dice.between(0, _SPAN), dice.between(0, _SPAN), dice.between(*radii)
        if all(
            (x - a) ** 2 + (y - b) ** 2 > (9 * (radius + other) // 10) ** 2 for a, b, other in found
        ):
            found.append((x, y, radius))
    return found


def _draw_red_cells(
    canvas: _Canvas, dice: Dice, look: _Look, blasts: list[tuple[int, int, int]]
) -> None:
    """Pale discs with a paler centre, beside the blasts and not over them."""
    field_colour = _near(dice, look.red, 6)
    for _ in range(dice.between(*look.reds)):
        x, y = dice.between(0, _SPAN), dice.between(0, _SPAN)
        radius = dice.between(96, 124)
        if any((x - a) ** 2 + (y - b) ** 2 < (radius * 3 // 4 + r) ** 2 for a, b, r in blasts):
            continue
        radii = (radius, radius * dice.between(12, 16) // 16)
        turn = dice.between(0, 7)
        canvas.ellipse((x, y), radii, turn, _near(dice, field_colour, 6), 225)
        if dice.between(0, 4):
            hole = (radii[0] * 9 // 16, radii[1] * 9 // 16)
            canvas.ellipse((x, y), hole, turn, canvas.paper, dice.between(150, 235), soft=3)


def _draw_blast(
    canvas: _Canvas,
    dice: Dice,
    look: _Look,
    middle: tuple[int, int],
    radius: int,
    truth: NDArray[np.uint8],
) -> None:
    """A rim of cytoplasm around a large, textured nucleus; marks the cell in ``truth``."""
    radii = (radius, radius * dice.between(13, 16) // 16)
    turn = dice.between(0, 7)
    canvas.ellipse(middle, radii, turn, _near(dice, look.cytoplasm, 6), 250, truth=truth)
    part = dice.between(13, 15)
    shift = radius * (16 - part) // 40
    inner = (middle[0] + dice.between(-shift, shift), middle[1] + dice.between(-shift, shift))
    nucleus = _near(dice, look.nucleus, 8)
    size = (radii[0] * part // 16, radii[1] * part // 16)
    canvas.ellipse(inner, size, turn, nucleus, 250, texture=True)
    dark: Colour = (nucleus[0] * 13 // 16, nucleus[1] * 12 // 16, nucleus[2] * 15 // 16)
    for _ in range(dice.between(1, 3)):
        reach = radius // 3
        spot = (inner[0] + dice.between(-reach, reach), inner[1] + dice.between(-reach, reach))
        canvas.ellipse(spot, (radius // 5, radius // 6), turn, dark, 120, soft=3)


class _Canvas:
    """A field in the making: int32 (size, size, 3), 0..255, and the coordinates to draw in."""

    def __init__(self, size: int, dice: Dice) -> None:
        self.size = size
        self.paper: Colour = (255, 255, 255)
        self.pixels: Ints = np.empty((size, size, 3), np.int32)
        # Centres of the pixels in units.
        self.grid: Ints = ((2 * np.arange(size) + 1) * _SPAN // (2 * size)).astype(np.int32)
        # Coordinates are bent a little, so that no outline is a perfect ellipse.
        self.bent_x: Ints = self.grid[None, :] + self._cloud(dice, 128, 26)
        self.bent_y: Ints = self.grid[:, None] + self._cloud(dice, 128, 26)
        self.chromatin: Ints = self._cloud(dice, 44, 30)

    def _cloud(self, dice: Dice, step: int, height: int) -> Ints:
        """Smooth noise of -height..height, int32 (size, size), on a lattice of ``step`` units."""
        nodes = _SPAN // step + 2
        values = dice.array(-height, height, (nodes, nodes))
        cell, part = np.divmod(self.grid, np.int32(step))
        part = part * np.int32(256) // np.int32(step)
        part = part * part * (768 - 2 * part) >> 16  # smoothstep, 0..256
        rows = values[cell] * (256 - part)[:, None] + values[cell + 1] * part[:, None]
        both = rows[:, cell] * (256 - part) + rows[:, cell + 1] * part
        return np.asarray((both + (1 << 15)) >> 16, np.int32)

    def background(self, colour: Colour, dice: Dice) -> None:
        """Light that falls off from a point near the middle, with a slow drift of colour."""
        self.paper = colour
        x = self.grid[None, :] - dice.between(_SPAN * 3 // 8, _SPAN * 5 // 8)
        y = self.grid[:, None] - dice.between(_SPAN * 3 // 8, _SPAN * 5 // 8)
        fall = (x * x + y * y) // (_SPAN * _SPAN // 24)
        drift = self._cloud(dice, 1200, 3)
        for channel, part in enumerate(colour):
            self.pixels[:, :, channel] = part - fall * (3 - channel) // 3 + drift
        np.clip(self.pixels, 0, 255, out=self.pixels)

    def ellipse(
        self,
        middle: tuple[int, int],
        radii: tuple[int, int],
        turn: int,
        colour: Colour,
        cover: int,
        *,
        soft: int = 1,
        texture: bool = False,
        truth: NDArray[np.uint8] | None = None,
    ) -> None:
        """Paint a turned ellipse with a soft edge; ``cover`` of 256 is opaque."""
        reach = max(radii) + 4 * _UNIT
        top, bottom = (self._pixel(middle[1] + sign * reach) for sign in (-1, 1))
        left, right = (self._pixel(middle[0] + sign * reach) for sign in (-1, 1))
        if top == bottom or left == right:
            return
        box = np.s_[top:bottom, left:right]
        x, y = self.bent_x[box] - middle[0], self.bent_y[box] - middle[1]
        cosine, sine = _DIRECTIONS[turn]
        # 1024 on the outline; intermediates stay below 1e8, so 32 bits hold them.
        u = (x * cosine + y * sine) * 32 // (64 * radii[0])
        v = (y * cosine - x * sine) * 32 // (64 * radii[1])
        level = u * u + v * v
        edge = max(1, 1024 * _UNIT * soft // min(radii))
        inside = np.clip((1024 + edge - level) * 128 // edge, 0, 256)
        if truth is not None:
            truth[box] |= (inside >= 128).astype(np.uint8)
        weight = inside * cover >> 8
        area = self.pixels[box]
        grain = self.chromatin[box] if texture else np.int32(0)
        for channel, part in enumerate(colour):
            here = area[:, :, channel]
            here += (np.clip(part + grain, 0, 255) - here) * weight >> 8

    def scale_bar(self, truth: NDArray[np.uint8]) -> None:
        """A white plate in the bottom-right corner with a black bar and marks like a legend."""
        for x0, y0, x1, y1, shade in (
            (194, 206, 218, 217, 255), (195, 214, 196, 217, 0), (195, 216, 217, 217, 0),
            (200, 209, 202, 213, 40), (204, 209, 207, 213, 70), (209, 210, 214, 213, 60),
        ):  # fmt: skip
            box = np.s_[
                self._pixel(y0 * _UNIT) : self._pixel(y1 * _UNIT),
                self._pixel(x0 * _UNIT) : self._pixel(x1 * _UNIT),
            ]
            self.pixels[box] = shade
            truth[box] = 0

    def finished(self, dice: Dice) -> NDArray[np.uint8]:
        """Add a grain of 1 to a fifth of the pixels and return the bytes."""
        throw = dice.array(0, 9, (self.size, self.size))
        grain = (throw == 9).astype(np.int32) - (throw == 0)
        grained = np.clip(self.pixels + grain[:, :, None], 0, 255)
        return np.asarray(grained, np.uint8)

    def _pixel(self, units: int) -> int:
        """Index of the first pixel at or beyond ``units``, kept inside the field."""
        return min(self.size, max(0, -(-units * self.size // _SPAN)))
