"""One field with what was said about it, as a picture that a person can check at a glance.

On the left the field with its cells outlined, on the right a card of plain words and numbers. This
module knows pixels only: what the words are is up to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]
Picture = npt.NDArray[np.uint8]

SCALE: Final[int] = 3
"""The field is shown this many times as large: a white cell is then about 80 pixels across."""

CARD_WIDTH: Final[int] = 420
MARGIN: Final[int] = 24

INK: Final[Colour] = (33, 37, 41)
FADED: Final[Colour] = (105, 112, 120)
PAPER: Final[Colour] = (250, 250, 248)
RAIL: Final[Colour] = (226, 228, 230)
OUTLINE: Final[Colour] = (0, 230, 118)
_HALO: Final[Colour] = (20, 60, 40)

_FONT: Final[int] = cv2.FONT_HERSHEY_SIMPLEX
_LINE: Final[float] = 46.0
"""Pixels from one line of text to the next at scale 1: twice the height of its capitals."""


@dataclass(frozen=True)
class Bar:
    """One labelled bar: a share 0..1, strong in colour when ``strong``."""

    name: str
    share: float
    strong: bool


@dataclass(frozen=True)
class Card:
    """What stands beside the field; texts are shown in ASCII, wrapped where they are too long.

    Attributes:
        status: a word or two on a band of ``colour``.
        colour: RGB of that band and of the strong bars.
        title: the answer, large.
        subtitle: one smaller line below it; may be empty.
        bars: shares, from top to bottom.
        notes: sentences, each with a dash before it.
        facts: pairs of a name and a value, small.
        footer: the last lines, small and faded.
    """

    status: str
    colour: Colour
    title: str
    subtitle: str
    bars: Sequence[Bar]
    notes: Sequence[str]
    facts: Sequence[tuple[str, str]]
    footer: Sequence[str]


def annotate(rgb: Picture, mask: npt.NDArray[np.uint8], card: Card) -> Picture:
    """Draw the field, its outlined cells and its card.

    Args:
        rgb: uint8 (H, W, 3).
        mask: uint8 (H, W), non-zero where a cell is.
        card: what to say.

    Returns:
        uint8 RGB, ``SCALE`` x H high (higher where the card needs it), ``SCALE`` x W +
        ``CARD_WIDTH`` wide.

    Raises:
        ValueError: field and mask differ in size.
    """
    if rgb.shape[:2] != mask.shape:
        raise ValueError(f"field {rgb.shape[:2]} and mask {mask.shape} differ in size")
    field, beside = outlined(rgb, mask), _draw_card(card, SCALE * rgb.shape[0])
    spare = beside.shape[0] - field.shape[0]
    field = np.pad(field, ((0, spare), (0, 0), (0, 0)), constant_values=PAPER[0])
    return np.concatenate([field, beside], axis=1)


def outlined(rgb: Picture, mask: npt.NDArray[np.uint8]) -> Picture:
    """The field ``SCALE`` times as large with a line around each piece of the mask."""
    size = (SCALE * rgb.shape[1], SCALE * rgb.shape[0])
    large = np.array(cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)
    wide = cv2.resize((mask != 0).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    pieces, _ = cv2.findContours(wide, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    # A dark line below a bright one shows on pale glass and on a dark nucleus alike.
    cv2.drawContours(large, pieces, -1, _HALO, 3, cv2.LINE_AA)
    cv2.drawContours(large, pieces, -1, OUTLINE, 1, cv2.LINE_AA)
    return large


def wrapped(text: str, scale: float, width: int) -> list[str]:
    """Break a text into lines of at most ``width`` pixels; a word too long is broken itself."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if _width(longer, scale) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while _width(word, scale) > width and len(word) > 1:
            fits = next(n for n in range(len(word) - 1, 0, -1) if _fits(word[:n], scale, width))
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line] if line else lines


def ascii_text(text: str) -> str:
    """The text as the drawn letters can show it: one question mark for each other character."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _width(text: str, scale: float) -> int:
    return int(cv2.getTextSize(text, _FONT, scale, 1)[0][0])


def _fits(text: str, scale: float, width: int) -> bool:
    return len(text) == 1 or _width(text, scale) <= width


class _Pen:
    """Writes downwards on a sheet that is longer than it needs to be."""

    def __init__(self, height: int) -> None:
        self.sheet = np.full((height, CARD_WIDTH, 3), PAPER, np.uint8)
        self.y = 0

    def text(self, text: str, scale: float, colour: Colour, *, bold: int = 1, x: int = 0) -> None:
        """One text, wrapped, from ``MARGIN + x`` on; the pen moves below it."""
        for line in wrapped(ascii_text(text), scale, CARD_WIDTH - 2 * MARGIN - x):
            self.y += round(_LINE * scale)
            self.put(line, scale, colour, MARGIN + x, bold)

    def put(self, line: str, scale: float, colour: Colour, x: int, bold: int = 1) -> None:
        """A text as it is, its lower edge on the pen; the pen stays."""
        place = (x, self.y - round(0.25 * _LINE * scale))
        cv2.putText(self.sheet, line, place, _FONT, scale, colour, bold, cv2.LINE_AA)

    def bar(self, bar: Bar, colour: Colour) -> None:
        """A name, a rail filled by the share, and the share in percent."""
        self.y += 28
        left, right = MARGIN + 74, CARD_WIDTH - MARGIN - 72
        ink = INK if bar.strong else FADED
        self.put(ascii_text(bar.name), 0.5, ink, MARGIN)
        share = f"{100 * bar.share:.1f} %"
        self.put(share, 0.5, ink, CARD_WIDTH - MARGIN - _width(share, 0.5))
        top, bottom = self.y - 17, self.y - 5
        cv2.rectangle(self.sheet, (left, top), (right, bottom), RAIL, cv2.FILLED)
        end = left + round((right - left) * bar.share)
        if end > left:
            filling = colour if bar.strong else FADED
            cv2.rectangle(self.sheet, (left, top), (end, bottom), filling, cv2.FILLED)


def _draw_card(card: Card, height: int) -> Picture:
    """The card, uint8 (at least ``height``, ``CARD_WIDTH``, 3)."""
    # Every character could need a line of its own, and more is never needed.
    letters = sum(map(len, [card.title, card.subtitle, *card.notes, *card.footer]))
    pen = _Pen(height + 40 * (8 + letters // 8 + len(card.bars) + len(card.facts)))
    cv2.rectangle(pen.sheet, (0, 0), (CARD_WIDTH, 52), card.colour, cv2.FILLED)
    pen.y = 42
    pen.put(ascii_text(card.status), 0.75, (255, 255, 255), MARGIN, 2)
    pen.y = 66
    pen.text(card.title, 1.0, INK, bold=2)
    pen.text(card.subtitle, 0.5, FADED)
    pen.y += 14
    for bar in card.bars:
        pen.bar(bar, card.colour)
    pen.y += 16
    for note in card.notes:
        start = pen.y
        pen.text(note, 0.5, INK, x=16)
        end, pen.y = pen.y, start + round(_LINE * 0.5)
        pen.put("-", 0.5, INK, MARGIN)
        pen.y = end + 5
    pen.y += 10
    for name, value in card.facts:
        pen.y += 21
        pen.put(ascii_text(name), 0.42, FADED, MARGIN)
        pen.put(ascii_text(value), 0.42, INK, MARGIN + 150)
    lines = [x for text in card.footer for x in wrapped(ascii_text(text), 0.4, _FOOTER_WIDTH)]
    last = max(height, pen.y + 20 + 19 * len(lines) + 14)
    pen.y = last - 19 * len(lines) - 14
    for line in lines:
        pen.y += 19
        pen.put(line, 0.4, FADED, MARGIN)
    return pen.sheet[:last]


_FOOTER_WIDTH: Final[int] = CARD_WIDTH - 2 * MARGIN
