"""A Raspberry Pi camera, by picamera2 (which pip cannot install: it comes with the system)."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from numpy.typing import NDArray

from allsub_edge.errors import FieldError, UsageError

DEFAULT_SIZE: Final[tuple[int, int]] = (2028, 1520)
"""Columns and rows: the HQ camera's (IMX477) 2 x 2 binned mode, which shows the whole sensor; its
smaller modes crop."""

WARM_UP: Final[int] = 30
"""Frames that the automatics get to settle in."""

TIMEOUT_S: Final[float] = 5.0
"""Seconds to wait for a frame."""

CONTROLS: Final[tuple[str, ...]] = ("ExposureTime", "AnalogueGain", "red_gain", "blue_gain")
"""What is locked: microseconds, a factor, and the two factors of libcamera's ColourGains."""


class PicameraGrabber:
    """Frames of one Raspberry Pi camera.

    Args:
        number: which camera; empty means the first.
        size: columns and rows; None means ``DEFAULT_SIZE``.
        controls: values of ``CONTROLS`` to lock to; what is not named is held where the automatics
            left it.
        warn: called with a line for people.
    """

    live = True
    bgr = False

    def __init__(
        self,
        number: str,
        *,
        size: tuple[int, int] | None = None,
        controls: Mapping[str, float] | None = None,
        warn: Callable[[str], None],
    ) -> None:
        if number and not number.isdecimal():
            raise UsageError("usage", f"picamera:{number}: name it by its number, as in picamera:0")
        self.name = f"picamera:{number}" if number else "picamera"
        self._number = int(number or 0)
        self._size = size or DEFAULT_SIZE
        self._given = dict(controls or {})
        unknown = sorted(set(self._given) - set(CONTROLS))
        if unknown:
            text = f"{self.name}: has no control {', '.join(unknown)}; there are {list(CONTROLS)}"
            raise UsageError("usage", text)
        self._warn = warn
        self._camera: Any = None

    def open(self) -> None:
        """Start the camera, let it settle, lock exposure and colour.

        Raises:
            UsageError: ``no_picamera2``, or ``no_camera``: none is found or it is in use.
        """
        self.close()
        try:
            library = importlib.import_module("picamera2")
        except ImportError as error:
            # A missing libcamera binding fails in the same way as a missing picamera2.
            raise UsageError(
                "no_picamera2",
                f"{self.name}: picamera2 cannot be imported ({error}): sudo apt install "
                "python3-picamera2, and make the virtual environment with --system-site-packages",
            ) from None
        try:
            found = len(library.Picamera2.global_camera_info())
            if self._number >= found:
                text = f"there are {found} cameras; rpicam-hello --list-cameras shows them"
                raise UsageError("no_camera", f"{self.name}: {text}; check the ribbon cable")
            self._camera = library.Picamera2(self._number)
            # In libcamera's names BGR888 is the one whose bytes are red, green, blue in memory.
            main = {"format": "BGR888", "size": self._size}
            self._camera.configure(self._camera.create_video_configuration(main=main))
            self._camera.start()
            for _ in range(WARM_UP):
                metadata = self._camera.capture_metadata()
            self._lock(metadata)
        except (RuntimeError, OSError, IndexError, TimeoutError) as error:
            self.close()
            text = f"the camera cannot be started ({error}); is another program using it?"
            raise UsageError("no_camera", f"{self.name}: {text}") from None
        except BaseException:
            self.close()
            raise

    def controls(self) -> dict[str, float]:
        """Give the values that the camera reports for ``CONTROLS``, those that it has."""
        return _values(self._camera.capture_metadata())

    def read(self) -> NDArray[Any] | None:
        """Give the next frame, RGB, or None if the camera gave none."""
        if self._camera is None:
            return None
        try:
            return self._camera.capture_array("main", wait=TIMEOUT_S)  # type: ignore[no-any-return]
        except (RuntimeError, OSError, TimeoutError):
            return None

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
        """Stop the camera; may be called twice."""
        camera, self._camera = self._camera, None
        if camera is not None:
            try:
                camera.stop()
            finally:
                camera.close()

    def _lock(self, metadata: Mapping[str, Any]) -> None:
        values = _values(metadata) | self._given
        wanted: dict[str, Any] = {"AeEnable": False, "AwbEnable": False}
        for name in ("ExposureTime", "AnalogueGain"):
            if name in values:
                wanted[name] = int(values[name]) if name == "ExposureTime" else values[name]
        if "red_gain" in values and "blue_gain" in values:
            wanted["ColourGains"] = (values["red_gain"], values["blue_gain"])
        lacking = sorted(set(wanted) - set(self._camera.camera_controls))
        if lacking or "ColourGains" not in wanted:
            self._warn(
                f"{self.name}: cannot lock {', '.join(lacking) or 'ColourGains'}, so colours may "
                "change with what is in view"
            )
        self._camera.set_controls({k: v for k, v in wanted.items() if k not in lacking})


def _values(metadata: Mapping[str, Any]) -> dict[str, float]:
    values = {n: float(metadata[n]) for n in ("ExposureTime", "AnalogueGain") if n in metadata}
    gains = metadata.get("ColourGains")
    if gains is not None:
        values["red_gain"], values["blue_gain"] = (float(gain) for gain in gains)
    return values
