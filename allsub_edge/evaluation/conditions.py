"""The controlled changes of the robustness grid; what is measured under them is in ``robustness``.

Each is fixed by its own seed. The transplanted backgrounds ask the hardest question of the public
data set: the white cells stay, pixel for pixel, and what lies behind them comes from a field of
another class. A network that reads the background flips to the donor's class. The transplant from
the same class is the control: it has the same seams and no other class.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from allsub_edge.evaluation.subject import Fields
from allsub_edge.training import perturb
from allsub_edge.training.background import recolour_background

Rng = np.random.Generator
Change = Callable[[Fields, npt.NDArray[np.uint8], Rng], Fields]
"""One field uint8 [H, W, 3], its white cells uint8 [H, W], a random state: the changed field."""

TRANSPLANT: Final[str] = "background"

OTHER: Final[str] = "other"
SAME: Final[str] = "same"
"""Of which class a transplant's donor is, against the class of the field."""

CONTROL: Final[str] = "background_same_class"
"""Key of the transplant from the same class."""

ON_CONTROL: Final[str] = "_on_control"
"""Behind the key of a transplant from another class: the same, on the control's fields alone."""


@dataclass(frozen=True)
class Condition:
    """One controlled change.

    Attributes:
        key: stable name in JSON.
        family: conditions of one family form a curve.
        level: place on the curve's axis; None for a change without a size.
        name: what a report calls it.
        change: the change; None for transplants, which need the other fields.
        quick: whether ``--quick`` keeps it.
        donor: for transplants: ``OTHER`` or ``SAME``, the class that the background comes from.
        matched: for transplants: bring the donor to the colour of the field's own glass.
    """

    key: str
    family: str
    level: float | None
    name: str
    change: Change | None
    quick: bool = False
    donor: str = ""
    matched: bool = False


FAMILIES: Final[dict[str, tuple[str, str, float | None]]] = {
    "gains": ("channel gains, each at random", "largest change, %", 0.0),
    "warmth": ("warmer or colder light", "red + x %, blue - x %", 0.0),
    "brightness": ("brightness", "factor", 1.0),
    "gamma": ("tone curve", "gamma", 1.0),
    "blur": ("blur", "sigma, pixels", 0.0),
    "jpeg": ("JPEG", "quality", 100.0),
    "noise": ("sensor noise", "sigma, grey levels", 0.0),
    "magnification": ("magnification", "factor", 1.0),
    "rotation": ("rotation", "degrees", 0.0),
    "mirror": ("mirrored", "", None),
    "scale_bar": ("scale bar", "", None),
    TRANSPLANT: ("background", "", None),
}
"""Family -> (title, axis, level of the unchanged field)."""


def _series(
    family: str,
    name: str,
    levels: tuple[float, ...],
    change: Callable[[Fields, float, Rng], Fields],
    *,
    quick: tuple[float, ...],
) -> list[Condition]:
    """One condition for each level; ``quick`` levels are part of the quick grid too."""

    def bound(level: float) -> Change:
        return lambda field, mask, rng: change(field, level, rng)

    return [
        Condition(
            f"{family}_{level:g}", family, level, name.format(level), bound(level), level in quick
        )
        for level in levels
    ]


def _plain(change: Callable[[Fields], Fields]) -> Change:
    return lambda field, mask, rng: change(field)


def _random_gains(field: Fields, percent: float, rng: Rng) -> Fields:
    return perturb.random_gains(field, percent / 100, rng)


def _warm(field: Fields, percent: float, rng: Rng) -> Fields:
    return perturb.gains(field, (1 + percent / 100, 1.0, 1 - percent / 100))


def _rotate(field: Fields, degrees: float, rng: Rng) -> Fields:
    if degrees % 90 == 0:
        return perturb.rotate90(field, int(degrees // 90))
    return perturb.affine(field, angle=degrees)


CONDITIONS: Final[tuple[Condition, ...]] = (
    *_series(
        "gains",
        "channel gains at random, +-{:g} %",
        (5, 10, 20),
        _random_gains,
        quick=(5, 10, 20),
    ),
    *_series(
        "warmth", "red {:+g} %, blue opposite", (-20, -10, -5, 5, 10, 20), _warm, quick=(-10, 10)
    ),
    *_series(
        "brightness",
        "brightness x {:g}",
        (0.6, 0.8, 0.9, 1.1, 1.2),
        lambda field, x, rng: perturb.brightness(field, x),
        quick=(0.8, 1.2),
    ),
    *_series(
        "gamma",
        "gamma {:g}",
        (0.6, 0.7, 0.8, 1.25, 1.4, 1.6),
        lambda field, x, rng: perturb.gamma(field, x),
        quick=(0.6, 1.6),
    ),
    *_series(
        "blur",
        "blur, sigma {:g} pixels",
        (0.5, 1, 2),
        lambda field, x, rng: perturb.blur(field, x),
        quick=(1,),
    ),
    *_series(
        "jpeg",
        "JPEG quality {:g}",
        (80, 70, 50, 30, 10),
        lambda field, x, rng: perturb.jpeg(field, int(x)),
        quick=(30,),
    ),
    *_series("noise", "noise, sigma {:g} grey levels", (4, 8, 16), perturb.noise, quick=(8,)),
    *_series(
        "magnification",
        "magnified x {:g}",
        (0.8, 0.9, 1.1, 1.25),
        lambda field, x, rng: perturb.affine(field, scale=x),
        quick=(),
    ),
    *_series("rotation", "rotated by {:g} degrees", (45, 90, 180, 270), _rotate, quick=(90,)),
    Condition("mirror", "mirror", None, "mirrored", _plain(perturb.flip)),
    Condition(
        "scale_bar_removed",
        "scale_bar",
        None,
        "scale bar removed",
        _plain(perturb.hide_scale_bar),
        quick=True,
    ),
    Condition(
        "scale_bar_random",
        "scale_bar",
        None,
        "another scale bar, at random",
        lambda field, mask, rng: perturb.randomise_scale_bar(field, rng),
    ),
    Condition(
        "background_other_class",
        TRANSPLANT,
        None,
        "background of another class",
        None,
        quick=True,
        donor=OTHER,
    ),
    Condition(
        "background_other_class_matched",
        TRANSPLANT,
        None,
        "background of another class, in the field's own glass colour",
        None,
        donor=OTHER,
        matched=True,
    ),
    Condition(
        CONTROL,
        TRANSPLANT,
        None,
        "background of the same class (control)",
        None,
        quick=True,
        donor=SAME,
    ),
    Condition(
        "background_recoloured",
        TRANSPLANT,
        None,
        "own background in another colour",
        recolour_background,
    ),
)


def conditions(quick: bool) -> list[Condition]:
    """The grid, or its quick part."""
    return [c for c in CONDITIONS if c.quick or not quick]


def random_state(condition: Condition) -> Rng:
    """Random gains repeat the condition of ``training.train.evaluate``, whose seed is the
    percentage; the others follow from their names."""
    if condition.family == "gains" and condition.level is not None:
        return np.random.default_rng(int(condition.level))
    return np.random.default_rng(zlib.crc32(condition.key.encode()))
