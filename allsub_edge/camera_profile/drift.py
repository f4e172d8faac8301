"""Whether the light changed since a camera's profile was taken, or while fields come in."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from allsub_edge.camera_profile.profile import CHANNELS, CameraProfile
from allsub_edge.imaging.resize import squash
from allsub_edge.imaging.white_balance import TARGET, white_point

# From which change on a camera has drifted. White fields are compared strictly: 3 % of gain on red
# or blue changes the published mask's area by 14 to 20 %. Fields with cells have a background
# tinted by stain and plasma (by up to 8.5 % in 251 fields of the public data set), so only gross
# changes are told from them.
COLOUR_DRIFT: Final[float] = 0.03
LEVEL_DRIFT: Final[float] = 0.10
SHADING_DRIFT: Final[float] = 0.08
FIELD_COLOUR_DRIFT: Final[float] = 0.10
FIELD_LEVEL_DRIFT: Final[float] = 0.20


def drift(before: CameraProfile, now: CameraProfile) -> list[str]:
    """What changed between a profile and one taken of a white field now; empty if little.

    Colour: red or blue over green moved by more than 3 %. Lamp: green moved by more than 10 %.
    Shading: a part of the field moved by more than 8 % against the rest.
    """
    found = _moved(before.white, now.white, COLOUR_DRIFT, LEVEL_DRIFT)
    old, new = (profile.shading / profile.shading.mean(axis=(0, 1)) for profile in (before, now))
    worst = float(np.abs(new / old - 1).max())
    if worst > SHADING_DRIFT:
        found.append(
            f"the light falls differently: a part of the field moved by {100 * worst:.0f} %; "
            "centre lamp and condenser, or calibrate again"
        )
    return found


class DriftWatch:
    """Watches the background of corrected fields; speaks once of each kind of change.

    The median over five fields is judged, so that one crowded field raises no alarm. A change is
    told when red or blue over green moved by more than 10 %, or green by more than 20 %.
    """

    def __init__(self) -> None:
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


def _moved(
    before: tuple[float, ...], now: tuple[float, ...], colour: float, level: float
) -> list[str]:
    found = []
    for channel in (0, 2):
        change = (now[channel] / max(now[1], 1)) / (before[channel] / before[1]) - 1
        if abs(change) > colour:
            found.append(
                f"the colour of the light drifted: {CHANNELS[channel]} against green moved by "
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
