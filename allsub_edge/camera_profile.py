"""What is known of one camera on one microscope: its white field, its gains, its controls.

The lamp never lights a field evenly, and no camera sees it as white. A profile is taken from an
empty field (a clean part of the slide without cells). It holds the brightness of that field on a
coarse grid, per channel; a field is corrected by dividing by it, which evens the light and makes
empty glass (240, 240, 240), the value that ``imaging.white_balance`` aims at too. All arithmetic
is on whole numbers.

Pixels of most cameras are not linear in light (gamma). Dividing them is exact for the white it was
taken from and an approximation for what is darker.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from allsub_edge.atomic import write_text
from allsub_edge.errors import DataError, FieldError
from allsub_edge.imaging.resize import squash
from allsub_edge.imaging.white_balance import MAX_GAIN, TARGET, white_point

SCHEMA: Final[str] = "allsub-edge/camera-profile/1"
GRID: Final[tuple[int, int]] = (24, 32)
"""Rows and columns of the white field's grid."""

FRAMES: Final[int] = 16
"""Frames that are averaged: the noise of a single one falls to a quarter."""

_SHIFT: Final[int] = 12  # fractional bits of a gain; 8 x 2^12 x 255 fits 32 bits

# What a white field must be. Grey levels are those of the average frame, shares are of pixels.
MIN_LEVEL: Final[int] = 120
CLIPPED: Final[int] = 252
MAX_CLIPPED: Final[float] = 0.005
MAX_UNEVEN: Final[float] = 0.5
SPOT: Final[float] = 0.06
MAX_SPOTS: Final[float] = 0.003
MAX_FLICKER: Final[float] = 0.03

# From which change on a camera has drifted. White fields are compared strictly: 3 % of gain on red
# or blue changes the published mask's area by 14 to 20 %. Fields with cells have a background
# tinted by stain and plasma (by up to 8.5 % in 251 fields of the public data set), so only gross
# changes are told from them.
COLOUR_DRIFT: Final[float] = 0.03
LEVEL_DRIFT: Final[float] = 0.10
SHADING_DRIFT: Final[float] = 0.08
FIELD_COLOUR_DRIFT: Final[float] = 0.10
FIELD_LEVEL_DRIFT: Final[float] = 0.20

_CHANNELS: Final[tuple[str, ...]] = ("red", "green", "blue")


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
        level = np.maximum(_extended(self.shading), TARGET * 16 // MAX_GAIN)
        # Unsigned 32 bits hold all that follows: 8 * 2^12 * 2^16 = 2^31 at the most.
        gain = ((2 * (TARGET << (_SHIFT + 4)) + level) // (2 * level)).astype(np.uint32)
        rows, row_part = _between(height, GRID[0])
        columns, column_part = _between(width, GRID[1])
        left, right = (256 - column_part)[:, None], column_part[:, None]
        wide = gain[:, columns] * left + gain[:, columns + 1] * right  # (26, W, 3), 8 bits more
        out = np.empty_like(rgb)
        for top in range(0, height, 64):  # bands, so that a large field needs little memory
            band = slice(top, top + 64)
            part = row_part[band, None, None]
            gains = (wide[rows[band]] * (256 - part) + wide[rows[band] + 1] * part) >> 16
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

    def drift(self, now: CameraProfile) -> list[str]:
        """What changed between this profile and one taken of a white field now; empty if little.

        Colour: red or blue over green moved by more than 3 %. Lamp: green moved by more than 10 %.
        Shading: a part of the field moved by more than 8 % against the rest.
        """
        found = _moved(self.white, now.white, COLOUR_DRIFT, LEVEL_DRIFT)
        old, new = (profile.shading / profile.shading.mean(axis=(0, 1)) for profile in (self, now))
        worst = float(np.abs(new / old - 1).max())
        if worst > SHADING_DRIFT:
            found.append(
                f"the light falls differently: a part of the field moved by {100 * worst:.0f} %; "
                "centre lamp and condenser, or calibrate again"
            )
        return found

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
            raw = json.loads(Path(path).read_text(encoding="utf-8"))
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


class DriftWatch:
    """Watches the background of corrected fields; speaks once of each kind of change.

    The median over five fields is judged, so that one crowded field raises no alarm. A change is
    told when red or blue over green moved by more than 10 %, or green by more than 20 %.
    """

    def __init__(self, profile: CameraProfile) -> None:
        self._profile = profile
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=5)
        self._told: set[str] = set()

    def look(self, corrected: NDArray[np.uint8]) -> list[str]:
        """Look at the next field as ``correct`` gave it; returns lines for people, mostly none."""
        red, green, blue = (float(value) for value in white_point(squash(corrected)))
        self._recent.append((red, green, blue))
        if len(self._recent) < 5:
            return []
        middle = tuple(median(values) for values in zip(*self._recent, strict=True))
        target = (float(TARGET),) * 3
        found = _moved(target, middle, FIELD_COLOUR_DRIFT, FIELD_LEVEL_DRIFT)
        kinds = {text.partition(":")[0]: text for text in found}
        fresh = [text for kind, text in kinds.items() if kind not in self._told]
        self._told = set(kinds)
        return fresh


def measure_profile(
    frames: Iterable[NDArray[np.uint8]],
    camera: str,
    controls: Mapping[str, float] | None = None,
    created: datetime | None = None,
) -> CameraProfile:
    """Make a profile from frames of an empty field.

    Args:
        frames: uint8 RGB (H, W, 3), all of one size, at least one; ``FRAMES`` are a good number.
        camera: its spec.
        controls: what it is locked to.
        created: None means now.

    Raises:
        FieldError: what makes the field unfit as a white field: ``no_fields``, ``unsteady``,
            ``overexposed``, ``too_dark``, ``uneven`` or ``not_empty``.
    """
    total: NDArray[np.uint32] | None = None
    levels: list[float] = []
    clipped = 0
    for frame in frames:
        if total is None:
            total = np.zeros(frame.shape, np.uint32)
        total += frame
        levels.append(float(frame[:, :, 1].mean()))
        clipped += int(np.count_nonzero((frame >= CLIPPED).any(axis=2)))
    if total is None:
        raise FieldError("no_fields", f"{camera}: gave no frame to calibrate with")
    height, width = total.shape[:2]
    if height < GRID[0] or width < GRID[1]:
        raise FieldError("too_small", f"{camera}: {width}x{height} pixels are too few")
    if max(levels) - min(levels) > MAX_FLICKER * max(*levels, 1.0):
        raise FieldError(
            "unsteady",
            f"{camera}: the brightness moved from {min(levels):.0f} to {max(levels):.0f} meanwhile;"
            " let the lamp warm up and switch off automatic exposure",
        )
    count = len(levels)
    if clipped > MAX_CLIPPED * count * height * width:
        share = 100 * clipped / (count * height * width)
        raise FieldError(
            "overexposed",
            f"{camera}: {share:.1f} % of the pixels are clipped; lower lamp or exposure until the "
            "brightest part reads about 230",
        )
    shading = _grid(total, count)
    white = np.partition(shading.reshape(-1, 3), -8, axis=0)[-8:].sum(axis=0) / (8 * 16)
    if white.min() < MIN_LEVEL:
        name = _CHANNELS[int(white.argmin())]
        raise FieldError(
            "too_dark",
            f"{camera}: {name} reaches only {white.min():.0f}; raise lamp or exposure until the "
            "brightest part reads about 230",
        )
    # Crowded fields are uneven too, so cells are looked for first.
    if (spots := _spots(total, count, shading)) > MAX_SPOTS:
        raise FieldError(
            "not_empty",
            f"{camera}: {100 * spots:.1f} % of the field stand out from the light around them; "
            "move to an empty part of the slide, defocus a little, and clean the optics",
        )
    if (evenness := float((shading / shading.max(axis=(0, 1))).min())) < MAX_UNEVEN:
        raise FieldError(
            "uneven",
            f"{camera}: the darkest part has {100 * evenness:.0f} % of the brightest one's light; "
            "centre lamp and condenser (Koehler) and look for shadows",
        )
    red, green, blue = (round(float(value), 2) for value in white)
    return CameraProfile(
        camera=camera,
        created=(created or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds"),
        width=width,
        height=height,
        shading=shading,
        white=(red, green, blue),
        gains=(round(TARGET / red, 4), round(TARGET / green, 4), round(TARGET / blue, 4)),
        controls=dict(controls or {}),
    )


def _edges(length: int, parts: int) -> NDArray[np.int64]:
    return np.asarray(np.arange(parts + 1) * length // parts, np.int64)


def _grid(total: NDArray[np.uint32], count: int) -> NDArray[np.int64]:
    """Means of the grid's cells in sixteenths, each the median of its 3 x 3 neighbours' too."""
    height, width = total.shape[:2]
    tops, lefts = _edges(height, GRID[0]), _edges(width, GRID[1])
    sums = np.add.reduceat(total.astype(np.int64), tops[:-1], axis=0)
    sums = np.add.reduceat(sums, lefts[:-1], axis=1)
    area = (np.diff(tops)[:, None] * np.diff(lefts))[:, :, None] * count
    means = (16 * sums + area // 2) // area
    # The median takes out a mote of dust that a mean would smear.
    padded = _extended(means)
    around = np.stack(
        [padded[y : y + GRID[0], x : x + GRID[1]] for y in range(3) for x in range(3)]
    )
    return np.asarray(np.sort(around, axis=0)[4], np.int64)


def _spots(total: NDArray[np.uint32], count: int, shading: NDArray[np.int64]) -> float:
    """Share of pixels that differ from the light around them by more than SPOT in a channel."""
    height, width = total.shape[:2]
    rows, row_part = _between(height, GRID[0])
    columns, column_part = _between(width, GRID[1])
    left, right = (256 - column_part)[:, None], column_part[:, None]
    grid = _extended(shading)
    wide = grid[:, columns] * left + grid[:, columns + 1] * right
    found = 0
    for top in range(0, height, 64):
        band = slice(top, top + 64)
        part = row_part[band, None, None]
        light = (wide[rows[band]] * (256 - part) + wide[rows[band] + 1] * part).astype(np.int64)
        light >>= 16
        seen = 16 * total[band].astype(np.int64) // count
        found += int(np.count_nonzero((np.abs(seen - light) > SPOT * light).any(axis=2)))
    return float(found / (height * width))


def _extended(grid: NDArray[np.int64]) -> NDArray[np.int64]:
    """The grid with one more cell on each side, in a straight line from the two next to it."""
    wider = np.pad(grid, ((1, 1), (1, 1), (0, 0)), mode="reflect", reflect_type="odd")
    return np.asarray(np.clip(wider, 1, 16 * 255), np.int64)


def _between(length: int, parts: int) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """For each pixel the cell of an extended grid before it, and how far the next is, 0..255.

    Cell i of the extended grid has its centre at (i - 1/2) * length / parts.
    """
    # In units of 1 / (2 * length) of a cell.
    spot = (2 * np.arange(length, dtype=np.int64) + 1) * parts + length
    cell, rest = np.divmod(spot, 2 * length)
    return cell, (rest * 256 // (2 * length)).astype(np.uint32)


def _moved(
    before: tuple[float, ...], now: tuple[float, ...], colour: float, level: float
) -> list[str]:
    found = []
    for channel in (0, 2):
        change = (now[channel] / max(now[1], 1)) / (before[channel] / before[1]) - 1
        if abs(change) > colour:
            found.append(
                f"the colour of the light drifted: {_CHANNELS[channel]} against green moved by "
                f"{100 * change:+.0f} %; check lamp and filters, then calibrate again"
            )
            break
    change = now[1] / before[1] - 1
    if abs(change) > level:
        found.append(
            f"the lamp drifted: the background moved by {100 * change:+.0f} %; "
            "set it as it was, or calibrate again"
        )
    return found


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
