"""A camera on Linux' V4L2 (USB cameras, most microscope cameras), by OpenCV's VideoCapture.

Automatic exposure and white balance follow what is in view, so that the same cell would have
another colour beside other cells. They run while the camera warms up and are then switched off and
held at what they had found, or at what a profile says. Not every driver does as it is told, and
OpenCV's ``set`` answers True even where the driver ignored or clamped a value (its V4L2 code drops
the error), so each control is read back and a refusal is told.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import cv2
from numpy.typing import NDArray

from allsub_edge.errors import FieldError, UsageError

WARM_UP: Final[int] = 30
"""Frames that the automatics get to settle in, one to three seconds of a usual camera."""

MANUAL_EXPOSURE: Final[float] = 1.0
"""V4L2_EXPOSURE_MANUAL; OpenCV passes V4L2's own values on unless it was told otherwise by
OPENCV_VIDEOIO_V4L_RANGE_NORMALIZED."""

CONTROLS: Final[dict[str, int]] = {
    "exposure": cv2.CAP_PROP_EXPOSURE,
    "gain": cv2.CAP_PROP_GAIN,
    "wb_temperature": cv2.CAP_PROP_WB_TEMPERATURE,
    "red_balance": cv2.CAP_PROP_WHITE_BALANCE_RED_V,
    "blue_balance": cv2.CAP_PROP_WHITE_BALANCE_BLUE_U,
}
"""What is locked, by the driver's own units: exposure in 100 us, temperature in kelvin, the others
as the driver counts. A camera has some of them; V4L2 answers -1 for the others."""

_TOLERANCE: Final[float] = 0.02  # drivers round to their own steps


class V4L2Grabber:
    """Frames of one V4L2 device.

    Args:
        device: a number or ``/dev/videoN``.
        size: columns and rows to ask for; None means the driver's choice.
        controls: values of ``CONTROLS`` to lock to; what is not named is held where the automatics
            left it.
        warn: called with a line for people when the driver refuses something.
        make: makes what behaves like a ``cv2.VideoCapture``; None means that itself.
        exists: says why a device file cannot be used; None means ``unusable``.
    """

    live = True
    bgr = True

    def __init__(
        self,
        device: str,
        *,
        size: tuple[int, int] | None = None,
        controls: Mapping[str, float] | None = None,
        warn: Callable[[str], None],
        make: Callable[[str, int], Any] | None = None,
        exists: Callable[[str], str | None] | None = None,
    ) -> None:
        number = re.fullmatch(r"(?:/dev/video)?(\d{1,3})", device)
        if number is None:
            text = f"camera:{device}: name a camera by its number, as in camera:0"
            raise UsageError("usage", f"{text}; ls /dev/video* shows them")
        self.name = f"camera:{device}"
        self._path = f"/dev/video{int(number[1])}"
        self._size = size
        self._given = dict(controls or {})
        unknown = sorted(set(self._given) - set(CONTROLS))
        if unknown:
            text = f"{self.name}: has no control {', '.join(unknown)}; there are {list(CONTROLS)}"
            raise UsageError("usage", text)
        self._warn = warn
        self._make = make or cv2.VideoCapture
        self._exists = exists or unusable
        self._capture: Any = None
        self._told: set[str] = set()

    def open(self) -> None:
        """Open the device, let it settle, lock exposure and colour.

        Raises:
            UsageError: ``no_camera``: it is missing, may not be used, or gives no frame.
        """
        self.close()
        problem = self._exists(self._path)
        if problem is not None:
            raise UsageError("no_camera", f"{self.name}: {problem}")
        capture = self._make(self._path, cv2.CAP_V4L2)
        if not capture.isOpened():
            capture.release()
            text = f"{self._path} cannot be opened as a camera; is another program using it?"
            raise UsageError("no_camera", f"{self.name}: {text}")
        self._capture = capture
        try:
            # Old frames in the driver's queue would show where the stage was, not where it is.
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            if self._size is not None:
                self._resize(*self._size)
            frames = sum(bool(capture.read()[0]) for _ in range(WARM_UP))
            if not frames:
                text = f"{self._path} opens but gives no frame; try another number or size"
                raise UsageError("no_camera", f"{self.name}: {text}")
            self._lock()
        except BaseException:
            self.close()
            raise

    def controls(self) -> dict[str, float]:
        """Give the values that the camera reports for ``CONTROLS``, those that it has."""
        found = {name: float(self._capture.get(key)) for name, key in CONTROLS.items()}
        # V4L2 answers -1 and OpenCV's other backends 0 for what they do not have.
        return {name: value for name, value in found.items() if value > 0}

    def read(self) -> NDArray[Any] | None:
        """Give the next frame, BGR, or None if the device gave none."""
        if self._capture is None:
            return None
        try:
            done, frame = self._capture.read()
        except cv2.error:
            return None
        return frame if done else None

    def position(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def complaint(self) -> FieldError | None:
        """Nothing: a camera has no end."""
        return None

    def label(self, number: int, index: int) -> str:
        """Name a field by its number."""
        return f"{self.name}#{number}"

    def close(self) -> None:
        """Free the device; may be called twice."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _resize(self, width: int, height: int) -> None:
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        got = tuple(
            int(self._capture.get(key))
            for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if got != (width, height):
            self._tell(f"gives {got[0]}x{got[1]} pixels where {width}x{height} were asked for")

    def _lock(self) -> None:
        held = self.controls()  # before the automatics stop: drivers may jump to an old value then
        self._switch_off(cv2.CAP_PROP_AUTO_EXPOSURE, MANUAL_EXPOSURE, "automatic exposure")
        self._switch_off(cv2.CAP_PROP_AUTO_WB, 0.0, "automatic white balance")
        for name, value in (held | self._given).items():
            self._capture.set(CONTROLS[name], value)
            got = float(self._capture.get(CONTROLS[name]))
            if abs(got - value) > _TOLERANCE * abs(value):
                self._tell(f"{name} stays at {got:g} where {value:g} was asked for")

    def _switch_off(self, key: int, value: float, what: str) -> None:
        done = self._capture.set(key, value)
        if not done or float(self._capture.get(key)) != value:
            self._tell(
                f"{what} cannot be switched off, so colours may change with what is in view; "
                "switch it off with v4l2-ctl or in the camera's own settings"
            )

    def _tell(self, text: str) -> None:
        # A camera that is opened again refuses the same things again.
        if text not in self._told:
            self._told.add(text)
            self._warn(f"{self.name}: {text}")


def unusable(path: str) -> str | None:
    """Say why a device file cannot be used as a camera, or None if it looks well."""
    if not Path(path).exists():
        return f"there is no {path}; ls /dev/video* shows the cameras that are plugged in"
    if not os.access(path, os.R_OK | os.W_OK):
        return (
            f"{path} may not be used; add yourself to the group video "
            "(sudo usermod -aG video $USER) and log in again"
        )
    return None
