"""Which frames of a stream become fields: the sharpest one each time the stage has settled.

A stream shows the same field many times, moves, and goes in and out of focus. The picker compares
frames by their thumbnails: the green channel averaged over 32 x 32 parts of the field and scaled to
a common mean, so that a lamp that flickers changes nothing. The distance of two thumbnails is 1
minus their correlation, nearly: 0 for the same view, about 1 for unrelated ones.

Distances measured on rendered fields of all four labels, view of 448 x 448 pixels with Gaussian
noise of sigma 2 (5), JPEG quality 80 (ranges over the labels, 40 draws each; ``measure_distances``
in tests/sources/test_picker.py repeats it):

=======================================  =====================
the same view again                      0.0000 to 0.0002 (0.0001 to 0.0004)
moved by 1 pixel (0.2 % of its width)    0.002 to 0.003
moved by 2 pixels                        0.008 to 0.012
moved by 8 pixels                        0.11 to 0.16
moved by 32 pixels                       0.78 to 0.98
out of focus by sigma 1, 4, 8 pixels     below 0.001, to 0.011, to 0.067
=======================================  =====================

Focus is ``quality.focus`` of the field squashed to 224 x 224, exactly the number in records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from allsub_edge.imaging.resize import FIELD_SIZE, squash
from allsub_edge.imaging.white_balance import white_point
from allsub_edge.quality import focus

THUMB: Final[int] = 32
"""Side of a thumbnail; one of its pixels is 7 x 7 of the squashed field, half a red cell."""

_PART: Final[int] = FIELD_SIZE // THUMB
_MEAN: Final[int] = 2000
# Contrast that noise alone has: without it, two views of empty glass would be unrelated.
_FLOOR: Final[int] = _MEAN // 60
_REACH: Final[int] = THUMB // 2
_SHARPER_PERCENT: Final[int] = 5

Thumb = NDArray[np.int64]


@dataclass(frozen=True)
class PickerSettings:
    """When a frame is picked.

    Attributes:
        window: still frames to see before one of them is picked, at least 2.
        settle: still frames to pass over after a movement, while the stage rings.
        moving: distance of two successive frames from which on the stage moves.
        drift: distance from the first still frame from which on it has crept away.
        overlap: share of the view, 0..1, that may have been seen in one of the last fields;
            above it, the view is no new field.
        related: distance up to which two shifted thumbnails show the same place.
        min_focus: frames below it are waited out, never picked (``quality.min_focus`` of a model's
            manifest fits).
        relook: a view that was picked already is picked again when it has become this many times
            sharper: it was out of focus before. Blur of one pixel of 448 costs a factor of 3.
        patience: still frames after which a view whose focus goes on rising is picked anyway.
        memory: how many of the last fields a view is compared with.
    """

    window: int = 8
    settle: int = 2
    moving: float = 0.006
    drift: float = 0.1
    overlap: float = 0.5
    related: float = 0.3
    min_focus: float = 0.0
    relook: float = 4.0
    patience: int = 90
    memory: int = 8

    def __post_init__(self) -> None:
        if self.window < 2 or self.settle < 0 or self.patience < self.window or self.memory < 1:
            raise ValueError("window >= 2, settle >= 0, patience >= window and memory >= 1 needed")


@dataclass(frozen=True, eq=False)
class Pick:
    """A frame that was chosen.

    Attributes:
        rgb: uint8 (H, W, 3), the frame as it was fed, not copied.
        index: the number it was fed with.
        focus: ``quality.focus`` of the squashed frame.
        thumb: its thumbnail.
    """

    rgb: NDArray[np.uint8]
    index: int
    focus: float
    thumb: Thumb


def thumbnail(small: NDArray[np.uint8]) -> Thumb:
    """Green of a squashed field, averaged and scaled to a mean of 2000.

    Args:
        small: uint8 (224, 224, 3).

    Returns:
        int64 (32, 32); all 2000 if there is no light at all.
    """
    green = small[:, :, 1].astype(np.int64).reshape(THUMB, _PART, THUMB, _PART).sum(axis=(1, 3))
    total = int(green.sum())
    if total == 0:
        return np.full((THUMB, THUMB), _MEAN, np.int64)
    return np.asarray((green * (2 * _MEAN * THUMB * THUMB) + total) // (2 * total), np.int64)


def distance(one: Thumb, other: Thumb) -> float:
    """How unlike two thumbnails of the same shape are: 0 equal, about 1 unrelated, 2 opposite."""
    apart = int(np.square(one - other).sum())
    spread = int(np.square(one - _MEAN).sum()) + int(np.square(other - _MEAN).sum())
    return apart / (spread + 2 * one.size * _FLOOR * _FLOOR)


def overlap(one: Thumb, other: Thumb, related: float = PickerSettings.related) -> float:
    """Share of the view that two thumbnails have in common, 0..1; 0 if it is below a quarter.

    Tries every shift by whole thumbnail pixels up to half the view each way. Two views that differ
    by more than ``related`` at their best shift are different places. The distances of all shifts
    come from one correlation; its sums are whole numbers below 2^53, so rounding makes them exact.

    Args:
        one: a thumbnail.
        other: another one.
        related: largest distance, see ``distance``.
    """
    first, second = one - _MEAN, other - _MEAN
    padded = (2 * THUMB, 2 * THUMB)
    spectrum = np.fft.rfft2(first, padded) * np.conj(np.fft.rfft2(second, padded))
    shifts = np.arange(-_REACH, _REACH + 1)
    shared = np.rint(np.fft.irfft2(spectrum, padded))[np.ix_(shifts, shifts)]
    spread = _sums(np.square(first)) + _sums(np.square(second))[::-1, ::-1]
    sides = THUMB - np.abs(shifts)
    pixels = sides[:, None] * sides
    distances = (spread - 2 * shared) / (spread + 2 * pixels * _FLOOR * _FLOOR)
    best = int(distances.argmin())
    return float(pixels.flat[best] / THUMB**2) if distances.flat[best] <= related else 0.0


def _sums(values: Thumb) -> Thumb:
    """Sums over the part of a thumbnail that a view shifted by each of the tried shifts shares."""
    table = np.zeros((THUMB + 1, THUMB + 1), np.int64)
    table[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    shifts = np.arange(-_REACH, _REACH + 1)
    low, high = np.maximum(0, shifts), THUMB + np.minimum(0, shifts)
    rows = table[high] - table[low]
    return np.asarray(rows[:, high] - rows[:, low], np.int64)


class Picker:
    """Feed it every frame; it answers with the frame to keep whenever a new field has settled.

    Beside a few thumbnails it holds one frame: the sharpest since the stage came to rest.
    """

    def __init__(self, settings: PickerSettings | None = None) -> None:
        self.settings = settings or PickerSettings()
        self._last: Thumb | None = None
        self._anchor: Thumb | None = None
        self._best: Pick | None = None
        self._still = 0
        self._since_best = 0
        self._step = 0.0
        self._to_skip = 0
        self._seen: float | None = None  # focus with which this very place was picked before
        self._known = False  # whether the place was compared with the last fields
        self._taken: list[tuple[Thumb, float]] = []

    def feed(self, rgb: NDArray[np.uint8], index: int, *, hold: bool = False) -> Pick | None:
        """Look at the next frame.

        Args:
            rgb: uint8 (H, W, 3); kept by reference while it is the sharpest.
            index: comes back in the pick.
            hold: look, but pick nothing now.

        Returns:
            The frame to keep, or None.
        """
        small = squash(rgb)
        thumb = thumbnail(small)
        last, self._last = self._last, thumb
        if last is None or distance(thumb, last) > self.settings.moving:
            self._restart(self.settings.settle if last is not None else 0)
            return None
        if self._to_skip > 0:
            self._to_skip -= 1
            return None
        if self._anchor is None:
            self._anchor = thumb
        elif distance(thumb, self._anchor) > self.settings.drift:
            self._restart(0)
            self._anchor = thumb
        self._still += 1
        self._since_best += 1
        sharpness = focus(small, float(white_point(small)[1]))
        if self._best is None or sharpness > self._best.focus:
            self._best = Pick(rgb, index, sharpness, thumb)
        # Against the last step, not the last frame: a slow rise is a rise, noise is not.
        if sharpness * 100 > self._step * (100 + _SHARPER_PERCENT):
            self._step = sharpness
            self._since_best = 0
        return None if hold else self._ripe(self.settings.window)

    def finish(self) -> Pick | None:
        """What is left when the stream ends: a view that had rested for half a window."""
        self._since_best = self.settings.window
        return self._ripe(self.settings.window // 2)

    def _restart(self, skip: int) -> None:
        self._anchor = self._best = self._seen = None
        self._known = False
        self._still = self._since_best = 0
        self._step = 0.0
        self._to_skip = skip

    def _ripe(self, window: int) -> Pick | None:
        best, settings = self._best, self.settings
        if best is None or self._still < window or best.focus < settings.min_focus:
            return None
        rising = self._since_best < settings.window // 2
        if rising and self._still < settings.patience:
            return None
        if not self._known:
            self._known = True
            focuses = [
                sharp
                for thumb, sharp in self._taken
                if overlap(best.thumb, thumb, settings.related) > settings.overlap
            ]
            self._seen = max(focuses, default=None)
        if self._seen is not None and best.focus < settings.relook * self._seen:
            return None
        self._seen = best.focus
        self._taken = [*self._taken, (best.thumb, best.focus)][-settings.memory :]
        return best
