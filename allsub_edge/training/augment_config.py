"""What may happen to a training field: the options of augmentation and their presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from allsub_edge.errors import UsageError

SCALE_BAR_MODES: Final[tuple[str, ...]] = ("keep", "hide", "random")


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class AugmentConfig:
    """What may happen to a training field; the defaults change nothing at all.

    Raises:
        UsageError: ``bad_augmentation``; the message names the option.
    """

    flip: bool = _option(False, "mirror half of the fields")
    quarter_turns: bool = _option(False, "turn by a random multiple of 90 degrees")
    affine_p: float = _option(0.0, "probability of a small rotation, scaling and shift")
    rotation: float = _option(0.0, "largest rotation in degrees")
    scale: float = _option(0.0, "largest relative change of size, below 1")
    shift: float = _option(0.0, "largest shift as a share of the side")
    gain_p: float = _option(0.0, "probability of independent channel gains")
    gain: float = _option(0.0, "each channel's gain is uniform in 1 +- this")
    exposure_p: float = _option(0.0, "probability of a common brightness factor and gamma")
    brightness: float = _option(0.0, "brightness factor is uniform in 1 +- this")
    gamma: tuple[float, float] = _option((1.0, 1.0), "gamma is log-uniform in this range")
    max_brightening: float = _option(
        1.25, "gains and gamma together brighten the level 190 by this factor at most"
    )
    colour_p: float = _option(0.0, "probability of a change of saturation and hue")
    saturation: float = _option(0.0, "saturation factor is uniform in 1 +- this")
    hue: float = _option(0.0, "largest rotation of all hues in degrees of a full 360")
    stain_p: float = _option(0.0, "probability of stain jitter by colour deconvolution")
    stain_sigma: float = _option(0.0, "spread of the factor on each stain's amount")
    stain_bias: float = _option(0.0, "spread of the offset on each stain's amount")
    blur_p: float = _option(0.0, "probability of defocus")
    blur: float = _option(0.0, "largest sigma of the Gaussian blur in pixels")
    noise_p: float = _option(0.0, "probability of camera noise")
    noise: float = _option(0.0, "largest sigma of the noise in grey levels")
    jpeg_p: float = _option(0.0, "probability of one more JPEG compression")
    jpeg: tuple[int, int] = _option((95, 95), "its quality is uniform in this range")
    background_p: float = _option(0.0, "probability that the white cells move to a donor field")
    background_match_p: float = _option(
        0.0, "probability that such a donor takes the colour of the field's own glass"
    )
    recolour_p: float = _option(0.0, "probability that all but the white cells change colour")
    scale_bar: str = _option("keep", "keep the scale bar, hide it, or random: hide, draw another")

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if name.endswith("_p") and not 0 <= value <= 1:
                raise _bad(f"{name} must lie between 0 and 1, not {value!r}")
        for name in ("scale", "shift", "gain", "brightness", "saturation", "stain_sigma"):
            if not 0 <= getattr(self, name) < 1:
                raise _bad(f"{name} must be at least 0 and below 1, not {getattr(self, name)!r}")
        for name in ("rotation", "hue", "stain_bias", "blur", "noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise _bad(f"{name} must be at least 0, not {getattr(self, name)!r}")
        if not 0 < self.gamma[0] <= self.gamma[1]:
            raise _bad(f"gamma must be a rising range above 0, not {self.gamma!r}")
        if not self.max_brightening >= 1:
            raise _bad(f"max_brightening must be at least 1, not {self.max_brightening!r}")
        if not 1 <= self.jpeg[0] <= self.jpeg[1] <= 100:
            raise _bad(f"jpeg must be a rising range within 1..100, not {self.jpeg!r}")
        if self.scale_bar not in SCALE_BAR_MODES:
            known = ", ".join(SCALE_BAR_MODES)
            raise _bad(f"scale_bar must be one of {known}, not {self.scale_bar!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON (ranges become lists)."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AugmentConfig:
        """Rebuild a configuration; options that are missing take their defaults.

        Raises:
            UsageError: an option is unknown or has the wrong type; the message names it.
        """
        defaults = {f.name: f.default for f in dataclasses.fields(cls)}
        for name in values:
            if name not in defaults:
                raise _bad(f"unknown option {name!r}; known are {', '.join(defaults)}")
        return cls(**{name: _like(defaults[name], name, v) for name, v in values.items()})

    @classmethod
    def preset(cls, name: str) -> AugmentConfig:
        """The preset called ``none``, ``mild`` or ``strong``.

        Raises:
            UsageError: there is no such preset.
        """
        if name not in PRESETS:
            raise _bad(f"no preset is called {name!r}; choose one of {', '.join(PRESETS)}")
        return PRESETS[name]


def _bad(message: str) -> UsageError:
    return UsageError("bad_augmentation", f"augmentation: {message}")


def _like(default: Any, name: str, value: Any) -> Any:
    """``value`` in the type of ``default``, or the error that says what is wanted."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, float) and number:
        return float(value)
    if isinstance(default, tuple):
        whole = isinstance(default[0], int)
        if isinstance(value, list | tuple) and len(value) == 2:
            return tuple(_like(default[0], name, v) for v in value)
        raise _bad(f"{name} must be two {'whole ' if whole else ''}numbers, not {value!r}")
    if type(value) is type(default):
        return value
    wanted = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}
    raise _bad(f"{name} must be {wanted[type(default)]}, not {value!r}")


PRESETS: Final[dict[str, AugmentConfig]] = {
    "none": AugmentConfig(),
    "mild": AugmentConfig(
        flip=True,
        quarter_turns=True,
        gain_p=0.8,
        gain=0.10,
        exposure_p=0.5,
        brightness=0.10,
        gamma=(0.85, 1.2),
        colour_p=0.3,
        saturation=0.15,
        hue=3.0,
        stain_p=0.3,
        stain_sigma=0.05,
        stain_bias=0.02,
        jpeg_p=0.2,
        jpeg=(70, 95),
        scale_bar="random",
    ),
    "medium": AugmentConfig(
        flip=True,
        quarter_turns=True,
        affine_p=0.3,
        rotation=15.0,
        scale=0.08,
        shift=0.05,
        gain_p=0.8,
        gain=0.20,
        exposure_p=0.5,
        brightness=0.10,
        gamma=(0.8, 1.3),
        colour_p=0.4,
        saturation=0.2,
        hue=4.0,
        stain_p=0.4,
        stain_sigma=0.08,
        stain_bias=0.03,
        blur_p=0.15,
        blur=1.0,
        noise_p=0.1,
        noise=4.0,
        jpeg_p=0.25,
        jpeg=(60, 95),
        background_p=0.25,
        background_match_p=0.5,
        recolour_p=0.2,
        scale_bar="random",
        max_brightening=1.15,
    ),
    "strong": AugmentConfig(
        flip=True,
        quarter_turns=True,
        affine_p=0.5,
        rotation=20.0,
        scale=0.12,
        shift=0.06,
        gain_p=0.9,
        gain=0.25,
        exposure_p=0.6,
        brightness=0.15,
        gamma=(0.7, 1.45),
        max_brightening=1.15,
        colour_p=0.5,
        saturation=0.3,
        hue=6.0,
        stain_p=0.5,
        stain_sigma=0.15,
        stain_bias=0.05,
        blur_p=0.25,
        blur=1.2,
        noise_p=0.2,
        noise=5.0,
        jpeg_p=0.3,
        jpeg=(50, 95),
        background_p=0.35,
        background_match_p=0.5,
        recolour_p=0.3,
        scale_bar="random",
    ),
}
"""``none`` leaves fields as they are, ``mild`` stays within one laboratory, ``strong`` does not."""
