"""What a camera or a video file has to offer, and when its stream counts as disturbed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from allsub_edge.errors import FieldError


class Grabber(Protocol):
    """A device or file that gives frames.

    Attributes:
        name: how records name it; a spec of ``open_source`` or a file name.
        live: frames come in real time and the device may come back after a failure. Otherwise the
            first read that gives nothing is the end.
        bgr: whether frames are BGR rather than RGB.
    """

    name: str
    live: bool
    bgr: bool

    def open(self) -> None:
        """Make ready, also after ``close``; raises AllsubError."""

    def read(self) -> NDArray[Any] | None:
        """Give the next frame as a fresh array, or None if there is none now."""

    def controls(self) -> dict[str, float]:
        """Give what exposure and colour are locked to, by names of its own; may be empty."""

    def position(self) -> float:
        """Seconds of the last frame: from the start of a file, or of the monotonic clock."""

    def complaint(self) -> FieldError | None:
        """Asked at the end of a file: what was wrong with it, if anything."""

    def label(self, number: int, index: int) -> str:
        """How records name field ``number`` (from 1), which is frame ``index`` (from 0)."""

    def close(self) -> None:
        """Let go of the device; may be called twice."""


@dataclass(frozen=True)
class Limits:
    """When a stream counts as disturbed. Chosen for 10 to 60 frames a second.

    Attributes:
        failures: reads in a row that give nothing, after which a camera is lost.
        silence_s: seconds without a frame after which it is lost too; a dead V4L2 device lets each
            read wait for 10 s.
        reopen: attempts to open a lost camera again, with pauses of 0.5, 1, 2, 4, 8, 8, ... s.
        bad: frames in a row of a wrong shape or type that are told of.
        black: black frames in a row that are told of.
        black_below: mean of all channels, 0..255, below which a frame is black.
        frozen: frames in a row that equal one another pixel by pixel after which a live camera is
            opened again; a working sensor has noise. An evenly clipped frame has none and is let
            through.
    """

    failures: int = 10
    silence_s: float = 15.0
    reopen: int = 8
    bad: int = 10
    black: int = 15
    black_below: float = 8.0
    frozen: int = 30


@dataclass(frozen=True, eq=False)
class Frame:
    """A sound frame: uint8 RGB (H, W, 3), its number from 0, its second."""

    rgb: NDArray[np.uint8]
    index: int
    at: float
