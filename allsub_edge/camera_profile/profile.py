"""A camera's stored profile: the file, and correcting a field by it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from allsub_edge.atomic import write_text
from allsub_edge.camera_profile.light_grid import GRID, bands, extended
from allsub_edge.errors import DataError
from allsub_edge.imaging.white_balance import MAX_GAIN, TARGET

SCHEMA: Final[str] = "allsub-edge/camera-profile/1"
CHANNELS: Final[tuple[str, ...]] = ("red", "green", "blue")

# A profile has some 20 kB.
_MAX_BYTES: Final[int] = 2**24

_SHIFT: Final[int] = 12  # fractional bits of a gain; 8 x 2^12 x 255 fits 32 bits


@dataclass(frozen=True, eq=False)
class CameraProfile:
    """A stored calibration.

    Attributes:
        camera: spec of the camera it was taken with, as ``camera:0``.
        created: when, ISO 8601 in UTC.
        width: columns of its frames, pixels.
        height: rows of its frames, pixels.
        shading: int64 (24, 32, 3): the white field, sixteenths of a grey level, 16..4080.
        white: red, green and blue of its brightest part, 0..255.
        gains: factors that turn ``white`` into 240 each.
        controls: what the camera was locked to, by the grabber's names; may be empty.
    """

    camera: str
    created: str
    width: int
    height: int
    shading: NDArray[np.int64]
    white: tuple[float, float, float]
    gains: tuple[float, float, float]
    controls: dict[str, float]

    def correct(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Even the light and make empty glass (240, 240, 240).

        The gain of a pixel is interpolated between the centres of the grid's cells, bilinearly in
        integers; a part darker than 240 / 8 keeps a gain of 8.

        Args:
            rgb: uint8 (H, W, 3) of the camera's aspect ratio, any size.

        Returns:
            A new uint8 (H, W, 3).
        """
        height, width = rgb.shape[:2]
        level = np.maximum(extended(self.shading), TARGET * 16 // MAX_GAIN)
        # Unsigned 32 bits hold all that follows: 8 * 2^12 * 2^16 = 2^31 at the most.
        gain = ((2 * (TARGET << (_SHIFT + 4)) + level) // (2 * level)).astype(np.uint32)
        out = np.empty_like(rgb)
        for band, gains in bands(gain, height, width):
            pixels = (rgb[band] * gains + (1 << (_SHIFT - 1))) >> _SHIFT
            out[band] = np.minimum(pixels, 255)
        return out

    def check_size(self, width: int, height: int, name: str) -> None:
        """Refuse frames of another aspect ratio: they are another crop of the sensor.

        Raises:
            DataError: ``wrong_profile``.
        """
        if abs(width * self.height - height * self.width) * 100 > width * self.height:
            raise DataError(
                "wrong_profile",
                f"{name}: frames are {width}x{height} and the profile was taken at "
                f"{self.width}x{self.height}; use --size or calibrate again",
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the profile as JSON, whole or not at all; raises OSError."""
        raw = {
            "schema": SCHEMA,
            "camera": self.camera,
            "created": self.created,
            "size": [self.width, self.height],
            "white": list(self.white),
            "gains": list(self.gains),
            "controls": self.controls,
            "shading": self.shading.tolist(),
        }
        # One row of the grid to a line: a person can look at it, and a diff means something.
        text = json.dumps(raw, allow_nan=False).replace("]], [[", "]],\n [[")
        write_text(path, text.replace(', "', ',\n "') + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CameraProfile:
        """Read a profile.

        Raises:
            DataError: ``missing``, ``unreadable``, ``damaged_profile`` or ``unknown_schema``.
        """
        again = "make a new one with allsub-edge calibrate-camera"
        try:
            raw = json.loads(_text(Path(path)))
        except FileNotFoundError:
            raise DataError("missing", f"{path}: there is no such profile; {again}") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError("unreadable", f"{path}: cannot be read ({reason})") from None
        except (ValueError, RecursionError):
            text = f"{path}: is damaged or no camera profile; {again}"
            raise DataError("damaged_profile", text) from None
        schema = raw.get("schema") if isinstance(raw, dict) else None
        if isinstance(schema, str) and schema != SCHEMA and schema.startswith("allsub-edge/camera"):
            text = f"{path}: is {schema}, this version reads {SCHEMA}; {again}"
            raise DataError("unknown_schema", text)
        try:
            if schema != SCHEMA:
                raise ValueError("not a camera profile")
            return _parsed(raw)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            text = f"{path}: is damaged or no camera profile ({error}); {again}"
            raise DataError("damaged_profile", text) from None


def _text(path: Path) -> str:
    """The text of a file that may be a profile.

    Raises:
        OSError: it cannot be read, or is not a regular file: a device would never end.
        ValueError: it is larger than any profile, or not UTF-8.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    if status.st_size > _MAX_BYTES:
        raise ValueError(f"{status.st_size} bytes")
    return path.read_text(encoding="utf-8")


def _parsed(raw: Mapping[str, Any]) -> CameraProfile:
    width, height = (int(value) for value in raw["size"])
    shading = np.array(raw["shading"])
    if shading.shape != (*GRID, 3) or shading.dtype.kind != "i":
        raise ValueError(f"shading must be {GRID[0]} x {GRID[1]} x 3 whole numbers")
    if shading.min() < 16 or shading.max() > 16 * 255:
        raise ValueError("shading must be 16..4080")
    white = _triple(raw["white"], 255)
    gains = _triple(raw["gains"], TARGET)
    if min(width, height) < 1:
        raise ValueError("size must be positive")
    datetime.fromisoformat(raw["created"])
    if not isinstance(raw["camera"], str):
        raise ValueError("camera must be text")
    if not isinstance(raw["controls"], dict):
        raise ValueError("controls must be numbers by name")
    controls = {str(name): float(value) for name, value in raw["controls"].items()}
    if not all(np.isfinite(list(controls.values()))):
        raise ValueError("controls must be numbers")
    return CameraProfile(
        camera=raw["camera"],
        created=raw["created"],
        width=width,
        height=height,
        shading=shading.astype(np.int64),
        white=white,
        gains=gains,
        controls=controls,
    )


def _triple(values: Any, most: float) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    if not all(0 < value <= most for value in (red, green, blue)):
        raise ValueError(f"three numbers of 0..{most:g} expected")
    return red, green, blue
