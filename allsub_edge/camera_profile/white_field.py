"""Taking a camera's profile from frames of an empty field, and refusing what is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from allsub_edge.camera_profile.light_grid import GRID, bands, cell_means, extended
from allsub_edge.camera_profile.profile import CHANNELS, CameraProfile
from allsub_edge.errors import FieldError
from allsub_edge.imaging.white_balance import TARGET

FRAMES: Final[int] = 16
"""Frames that are averaged: the noise of a single one falls to a quarter."""

# What a white field must be. Grey levels are those of the average frame, shares are of pixels.
MIN_LEVEL: Final[int] = 120
CLIPPED: Final[int] = 252
MAX_CLIPPED: Final[float] = 0.005
MAX_UNEVEN: Final[float] = 0.5
SPOT: Final[float] = 0.06
MAX_SPOTS: Final[float] = 0.003
MAX_FLICKER: Final[float] = 0.03


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
    shading = cell_means(total, count)
    white = np.partition(shading.reshape(-1, 3), -8, axis=0)[-8:].sum(axis=0) / (8 * 16)
    if white.min() < MIN_LEVEL:
        name = CHANNELS[int(white.argmin())]
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


def _spots(total: NDArray[np.uint32], count: int, shading: NDArray[np.int64]) -> float:
    """Share of pixels that differ from the light around them by more than SPOT in a channel."""
    height, width = total.shape[:2]
    found = 0
    for band, light in bands(extended(shading), height, width):
        seen = 16 * total[band].astype(np.int64) // count
        found += int(np.count_nonzero((np.abs(seen - light) > SPOT * light).any(axis=2)))
    return float(found / (height * width))
