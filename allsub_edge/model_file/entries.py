"""The parts of a manifest that have rules of their own: calibration and golden cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from allsub_edge.classes import CLASSES
from allsub_edge.errors import ModelFileError


def bad(where: str, problem: str) -> ModelFileError:
    """The error for a wrong entry."""
    return ModelFileError("bad_manifest", f"the manifest's {where} {problem}")


def take(raw: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    """Refuse an object that lacks any of ``names``, naming all that are absent."""
    absent = [name for name in names if name not in raw]
    if absent:
        raise bad(where, f"lacks {', '.join(absent)}: export the model again")


def number(value: Any, where: str) -> float:
    """A finite number, as a float."""
    try:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        good = good and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        raise bad(where, "must be a finite number, not one of so many digits") from None
    if not good:
        raise bad(where, f"must be a finite number, not {value!r}")
    return float(value)


def mapping(value: Any, where: str) -> dict[str, Any]:
    """A copy of a JSON object."""
    if not isinstance(value, Mapping):
        raise bad(where, f"must be an object, not {type(value).__name__}")
    return dict(value)


def whole(value: Any, where: str) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad(where, f"must be a whole number, not {value!r}")
    return value


def text(value: Any, where: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise bad(where, f"must be a text that is not empty, not {value!r}")
    return value


@dataclass(frozen=True)
class Calibration:
    """Numbers that turn the model's outputs into an answer the device can stand behind.

    Attributes:
        temperature: the logits were divided by this inside the graph (information; > 0).
        alpha: the wanted share of fields whose true class is missing from the prediction set.
        conformal: class -> threshold in 0..1 on the score ``1 - probability``, or None when the
            model was not calibrated: then the prediction set is the most probable class.
        domain_threshold: largest ``domain_distance`` of a field the model was made for, or None.
        quality: threshold name -> number: ``min_cell_fraction`` (0..1), ``min_focus``.
        extra: keys that this version does not know.
    """

    temperature: float
    alpha: float
    conformal: dict[str, float] | None
    domain_threshold: float | None
    quality: dict[str, float]
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, value: Any) -> Calibration:
        """Validate the ``calibration`` entry; raises ModelFileError ``bad_manifest``."""
        raw = mapping(value, "calibration")
        names = tuple(f.name for f in fields(cls) if f.name != "extra")
        take(raw, names, "calibration")
        temperature = number(raw["temperature"], "calibration.temperature")
        alpha = number(raw["alpha"], "calibration.alpha")
        if temperature <= 0:
            raise bad("calibration.temperature", "must be above 0")
        if not 0 < alpha < 1:
            raise bad("calibration.alpha", "must lie between 0 and 1")
        conformal: dict[str, float] | None = None
        if raw["conformal"] is not None:
            thresholds = mapping(raw["conformal"], "calibration.conformal")
            take(thresholds, CLASSES, "calibration.conformal")
            conformal = {c: number(thresholds[c], f"calibration.conformal.{c}") for c in CLASSES}
            if set(thresholds) != set(CLASSES) or not all(0 <= t <= 1 for t in conformal.values()):
                raise bad("calibration.conformal", f"must map exactly {', '.join(CLASSES)} to 0..1")
        domain = raw["domain_threshold"]
        quality = mapping(raw["quality"], "calibration.quality")
        return cls(
            temperature=temperature,
            alpha=alpha,
            conformal=conformal,
            domain_threshold=None
            if domain is None
            else number(domain, "calibration.domain_threshold"),
            quality={k: number(v, f"calibration.quality.{k}") for k, v in quality.items()},
            extra={k: v for k, v in raw.items() if k not in names},
        )

    def to_dict(self) -> dict[str, Any]:
        """The ``calibration`` entry as JSON-ready values."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        return own | self.extra


@dataclass(frozen=True)
class GoldenCase:
    """One rendered field and the answer expected of it.

    Attributes:
        seed, label: what ``render_field`` is called with.
        field_sha256: hex SHA-256 of the rendered field's bytes (row-major RGB).
        probabilities: the four expected probabilities.
        domain_distance: the expected distance.
        mask_sha256: hex SHA-256 of the expected mask's bytes (row-major, 0/1).
    """

    seed: int
    label: str
    field_sha256: str
    probabilities: tuple[float, ...]
    domain_distance: float
    mask_sha256: str

    @classmethod
    def from_dict(cls, value: Any) -> GoldenCase:
        """Validate one golden case; raises ModelFileError ``bad_manifest``."""
        raw = mapping(value, "golden case")
        take(raw, tuple(f.name for f in fields(cls)), "golden case")
        expected = raw["probabilities"]
        if not isinstance(expected, list | tuple) or len(expected) != len(CLASSES):
            raise bad("golden case", f"must hold {len(CLASSES)} probabilities")
        if raw["label"] not in CLASSES or whole(raw["seed"], "golden seed") < 0:
            raise bad("golden case", f"needs a label of {', '.join(CLASSES)} and a seed from 0 on")
        return cls(
            seed=raw["seed"],
            label=raw["label"],
            field_sha256=text(raw["field_sha256"], "golden field_sha256"),
            probabilities=tuple(number(p, "golden probability") for p in expected),
            domain_distance=number(raw["domain_distance"], "golden domain_distance"),
            mask_sha256=text(raw["mask_sha256"], "golden mask_sha256"),
        )

    def to_dict(self) -> dict[str, Any]:
        """The case as JSON-ready values."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return own | {"probabilities": list(self.probabilities)}


@dataclass(frozen=True)
class Golden:
    """The golden cases of a model.

    Attributes:
        renderer: name and version of the renderer, such as ``render/1``.
        tolerance: allowed absolute difference of any probability, and allowed relative
            difference of the domain distance; masks must be equal.
        cases: the cases; may be empty, then there is nothing to replay.
    """

    renderer: str
    tolerance: float
    cases: tuple[GoldenCase, ...]

    @classmethod
    def from_dict(cls, value: Any) -> Golden:
        """Validate the ``golden`` entry; raises ModelFileError ``bad_manifest``."""
        raw = mapping(value, "golden")
        take(raw, ("renderer", "tolerance", "cases"), "golden")
        tolerance = number(raw["tolerance"], "golden.tolerance")
        if not 0 <= tolerance < 1:
            raise bad("golden.tolerance", "must be at least 0 and below 1")
        if not isinstance(raw["cases"], list | tuple):
            raise bad("golden.cases", "must be a list")
        cases = tuple(GoldenCase.from_dict(case) for case in raw["cases"])
        return cls(text(raw["renderer"], "golden.renderer"), tolerance, cases)

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON-ready values."""
        return {
            "renderer": self.renderer,
            "tolerance": self.tolerance,
            "cases": [case.to_dict() for case in self.cases],
        }
