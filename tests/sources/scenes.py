"""A microscope to test cameras with: fields side by side, a stage, a focus knob, noise.

The fields are rendered ones; what the optics and the camera do to them is simulated from known
numbers, so a test knows which frame is the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from allsub_edge.imaging.render import render_field

SIDE = 448
Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Moment:
    """One frame: position of the stage in pixels, blur by defocus (sigma, pixels), speed."""

    x: int
    blur: float = 0.0
    speed: int = 0
    lamp: float = 1.0


@cache
def slide(label: str = "Pre", fields: int = 4, first: int = 1) -> Rgb:
    """Fields side by side, uint8 (SIDE, fields * SIDE, 3)."""
    return np.concatenate(
        [render_field(first + number, label, SIDE) for number in range(fields)], axis=1
    )


class Microscope:
    """Shows the slide; every frame has its own noise, the same at each run."""

    def __init__(self, label: str = "Pre", fields: int = 4, noise: float = 2.0) -> None:
        self.slide = slide(label, fields)
        self.noise = noise
        self.random = np.random.default_rng(11)

    def look(self, moment: Moment) -> Rgb:
        """What the camera sees, uint8 RGB (SIDE, SIDE, 3)."""
        steps = range(0, max(1, moment.speed), 2)
        views = [self._cut(moment.x + step).astype(np.float32) for step in steps]
        light = np.mean(views, axis=0)  # the shutter is open while the stage moves
        if moment.blur:
            light = cv2.GaussianBlur(light, (0, 0), moment.blur)
        grain = self.random.standard_normal(light.shape, np.float32)
        light = light * np.float32(moment.lamp) + np.float32(self.noise) * grain
        return np.asarray(np.clip(np.rint(light), 0, 255), np.uint8)

    def _cut(self, x: int) -> Rgb:
        x = min(max(0, x), self.slide.shape[1] - SIDE)
        return self.slide[:, x : x + SIDE]


SWEEP = (4.0, 3.0, 2.0, 1.2, 0.6, 0.0, 0.7, 1.4, 2.2, 3.0)


def rest(x: int, frames: int = 12, blur: float = 0.0) -> list[Moment]:
    return [Moment(x, blur)] * frames


def sweep(x: int) -> list[Moment]:
    """Through the focus; the sharpest is SWEEP.index(0.0)."""
    return [Moment(x, blur) for blur in SWEEP]


def travel(start: int, end: int, speed: int = 64) -> list[Moment]:
    """Frames on the way, without both ends."""
    step = speed if end > start else -speed
    return [Moment(x, speed=speed) for x in range(start + step, end, step)]


@dataclass
class Session:
    """Frames of a session, and which of them are right."""

    moments: list[Moment] = field(default_factory=list)
    sharpest: list[int] = field(default_factory=list)

    def visit(self, x: int, still: int = 3) -> None:
        """Move to a place, rest a little, go through the focus and stay where it ended."""
        if self.moments:
            self.moments += travel(self.moments[-1].x, x)
        self.moments += rest(x, still, SWEEP[0])
        self.sharpest.append(len(self.moments) + SWEEP.index(0.0))
        self.moments += sweep(x) + rest(x, 4, SWEEP[-1])


def session(places: Sequence[int] = (0, 448, 896, 1344)) -> Session:
    made = Session()
    for place in places:
        made.visit(place)
    return made


class FakeCapture:
    """Behaves like ``cv2.VideoCapture`` on a V4L2 device.

    Args:
        shots: what the reads give after the warm-up: a BGR frame, None for a failed read. At its
            end every read fails, as on a device that was pulled out.
        warm: frames for the warm-up, or None for a dead camera.
        has: properties the driver has, with their values.
        fixed: properties whose value never changes although ``set`` says True.
        denied: properties whose ``set`` says False.
    """

    def __init__(
        self,
        shots: Iterator[Any],
        *,
        warm: Any = None,
        has: dict[int, float] | None = None,
        fixed: Sequence[int] = (),
        denied: Sequence[int] = (),
        opened: bool = True,
    ) -> None:
        self.shots = shots
        self.warm = warm
        self.values = dict(has or {})
        self.fixed, self.denied = set(fixed), set(denied)
        self.opened = opened
        self.reads = 0
        self.calls: list[tuple[int, float]] = []
        self.after_auto: Callable[[FakeCapture], None] | None = None

    def isOpened(self) -> bool:
        return self.opened

    def set(self, key: int, value: float) -> bool:
        self.calls.append((key, value))
        if key in self.denied or key not in self.values:
            return False
        if key not in self.fixed:
            self.values[key] = float(value)
        if key == cv2.CAP_PROP_AUTO_EXPOSURE and self.after_auto:
            self.after_auto(self)
        return True

    def get(self, key: int) -> float:
        return self.values.get(key, -1.0)

    def read(self) -> tuple[bool, Any]:
        if not self.opened:
            return False, None
        self.reads += 1
        if self.reads <= 30:  # the grabber's warm-up
            return (True, self.warm) if self.warm is not None else (False, None)
        frame = next(self.shots, None)
        if isinstance(frame, Exception):
            raise frame
        return frame is not None, frame

    def release(self) -> None:
        self.opened = False


class Clock:
    """Time that passes only by sleeping, or by what ``tick`` says for each look."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now = 100.0
        self.tick = tick
        self.slept: list[float] = []

    def __call__(self) -> float:
        self.now += self.tick
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def white_field(
    width: int = 320,
    height: int = 240,
    *,
    level: tuple[float, float, float] = (228, 232, 214),
    falloff: float = 0.15,
    noise: float = 2.0,
    seed: int = 5,
) -> Rgb:
    """Empty glass: light that falls off to the corners, and noise."""
    y, x = np.mgrid[0:height, 0:width]
    radius = ((x / width - 0.45) ** 2 + (y / height - 0.5) ** 2) / 0.5
    light = np.asarray(level) * (1 - falloff * radius)[:, :, None]
    noisy = light + np.random.default_rng(seed).normal(0, noise, light.shape)
    return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)
