"""What the device says about one field: the record, its rules, and its JSON and table forms."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.quality import REASONS, Quality

SCHEMA: Final[str] = "allsub-edge/prediction/1"
STATUSES: Final[tuple[str, ...]] = ("ok", "uncertain", "unfit", "error")
STAGES: Final[tuple[str, ...]] = ("decode", "prepare", "infer")

PROBABILITY_DIGITS: Final[int] = 6
"""Probabilities are rounded to this many decimals before anything is decided on them, so that
every decision can be recomputed from the record."""

_SLACK: Final[float] = 10.0**-PROBABILITY_DIGITS

QUALITY_COLUMNS: Final[tuple[str, ...]] = (
    *("cells", "brightness", "clipped", "black", "cast"),
    *("stain", "cell_blue", "red_cell_tint"),
)
"""Attributes of ``Quality`` that older records lack; null there."""

ROW_COLUMNS: Final[tuple[str, ...]] = (
    *("source", "status", "label", "top"),
    *(f"p_{name}" for name in CLASSES),
    *("prediction_set", "reasons", "focus"),
    *("background_r", "background_g", "background_b", "cell_fraction", "domain_distance"),
    *QUALITY_COLUMNS,
    *(f"{stage}_ms" for stage in STAGES),
    *("model_name", "model_version", "model_sha256", "engine", "threads"),
    *("error_code", "error_message"),
)
"""Keys of ``Prediction.to_row``, in order."""


@dataclass(frozen=True)
class ModelInfo:
    """Which model answered: its name, version, file SHA-256 (hex), engine and threads."""

    name: str
    version: str
    sha256: str
    engine: str
    threads: int


@dataclass(frozen=True)
class Problem:
    """Why a field has no answer: a stable code and one line for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Prediction:
    """One record per field; attributes have the names of the JSON keys.

    Attributes:
        source: where the field came from: the path as given, or another name for it.
        status: ``ok`` (the device stands behind ``label``), ``uncertain`` (the prediction set is
            not exactly the top class), ``unfit`` (see ``reasons``), ``error`` (see ``error``).
        label: the class the device stands behind; None unless the status is ``ok``.
        top: the most probable class; None only when the model did not run.
        probabilities: class -> 0..1 in the order of ``CLASSES``; empty if the model did not run.
        prediction_set: the classes that cannot be excluded, in the order of ``CLASSES``.
        reasons: codes of ``quality.REASONS``.
        quality: what was measured; None if the model did not run.
        timing_ms: milliseconds of those stages of ``STAGES`` that ran.
        model: the model that answered or would have.
        error: the problem, or None.

    Raises:
        ValueError: the attributes contradict one another.
    """

    source: str
    status: str
    label: str | None
    top: str | None
    probabilities: dict[str, float]
    prediction_set: list[str]
    reasons: list[str]
    quality: Quality | None
    timing_ms: dict[str, float]
    model: ModelInfo
    error: Problem | None
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        problem = _contradiction(self)
        if problem:
            raise ValueError(f"not a valid prediction: {problem}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values in the order of the contract, ``schema`` first."""
        quality, error = self.quality, self.error
        # Written out: dataclasses.asdict copies every number: fifty times as long.
        return {
            "schema": self.schema,
            "source": self.source,
            "status": self.status,
            "label": self.label,
            "top": self.top,
            "probabilities": dict(self.probabilities),
            "prediction_set": list(self.prediction_set),
            "reasons": list(self.reasons),
            "quality": vars(quality) | {"background": list(quality.background)}
            if quality
            else None,
            "timing_ms": dict(self.timing_ms),
            "model": dict(vars(self.model)),
            "error": dict(vars(error)) if error else None,
        }

    def to_json(self) -> str:
        """One line of ASCII JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=True, allow_nan=False)

    def to_row(self) -> dict[str, str | float | int | None]:
        """Flat form for CSV and data frames: the keys of ``ROW_COLUMNS``, lists joined by ``|``."""
        seen, error = self.quality, self.error
        background = seen.background if seen else (None, None, None)
        return {
            "source": self.source,
            "status": self.status,
            "label": self.label,
            "top": self.top,
            **{f"p_{name}": self.probabilities.get(name) for name in CLASSES},
            "prediction_set": "|".join(self.prediction_set),
            "reasons": "|".join(self.reasons),
            "focus": seen.focus if seen else None,
            **dict(zip(("background_r", "background_g", "background_b"), background, strict=True)),
            "cell_fraction": seen.cell_fraction if seen else None,
            "domain_distance": seen.domain_distance if seen else None,
            **{name: getattr(seen, name) if seen else None for name in QUALITY_COLUMNS},
            **{f"{stage}_ms": self.timing_ms.get(stage) for stage in STAGES},
            "model_name": self.model.name,
            "model_version": self.model.version,
            "model_sha256": self.model.sha256,
            "engine": self.model.engine,
            "threads": self.model.threads,
            "error_code": error.code if error else None,
            "error_message": error.message if error else None,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Prediction:
        """Rebuild a record from ``to_dict`` or parsed JSON; unknown keys are ignored.

        Raises:
            DataError: ``unknown_schema``, or ``bad_record`` when keys are missing or wrong.
        """
        if raw.get("schema") != SCHEMA:
            raise DataError(
                "unknown_schema",
                f"the record has schema {raw.get('schema')!r}, this version reads {SCHEMA!r}: "
                "upgrade allsub-edge",
            )
        try:
            quality, model, error = raw["quality"], raw["model"], raw["error"]
            return cls(
                source=raw["source"],
                status=raw["status"],
                label=raw["label"],
                top=raw["top"],
                probabilities={str(k): float(v) for k, v in raw["probabilities"].items()},
                prediction_set=list(raw["prediction_set"]),
                reasons=list(raw["reasons"]),
                quality=None if quality is None else Quality.from_dict(quality),
                timing_ms={str(k): float(v) for k, v in raw["timing_ms"].items()},
                model=ModelInfo(
                    name=str(model["name"]),
                    version=str(model["version"]),
                    sha256=str(model["sha256"]),
                    engine=str(model["engine"]),
                    threads=int(model["threads"]),
                ),
                error=None if error is None else Problem(error["code"], error["message"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise DataError(
                "bad_record", f"not a prediction record ({type(problem).__name__}: {problem})"
            ) from problem


def prediction_set(
    probabilities: Sequence[float], conformal: Mapping[str, float] | None
) -> list[str]:
    """Classes that cannot be excluded, in the order of ``CLASSES``.

    Split-conformal with one threshold per class (Sadinle, Lei, Wasserman: Least ambiguous
    set-valued classifiers with bounded error levels, JASA 2019): the score of a class is
    ``1 - probability``, its threshold is the score's (1 - alpha) quantile over calibration fields
    of that class, and the class belongs to the set when ``probability >= 1 - threshold``. One unit
    of the records' last decimal is allowed for, so that rounding never excludes a class.

    Args:
        probabilities: four rounded probabilities.
        conformal: class -> threshold; None means not calibrated: the most probable class alone.
    """
    if conformal is None:
        return [CLASSES[_argmax(probabilities)]]
    return [
        name
        for name, probability in zip(CLASSES, probabilities, strict=True)
        if probability >= 1 - conformal[name] - _SLACK
    ]


def _argmax(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def answer(
    source: str,
    probabilities: Sequence[float],
    conformal: Mapping[str, float] | None,
    quality: Quality,
    reasons: Sequence[str],
    timing_ms: Mapping[str, float],
    model: ModelInfo,
) -> Prediction:
    """Decide on one field: ``unfit`` with any reason, else ``ok`` if the set is the top class.

    Args:
        probabilities: four finite probabilities, unrounded.
        conformal: class -> threshold, or None.
        reasons: codes of ``quality.REASONS``.
    """
    rounded = [round(float(value), PROBABILITY_DIGITS) for value in probabilities]
    top = CLASSES[_argmax(rounded)]
    chosen = prediction_set(rounded, conformal)
    status = "unfit" if reasons else "ok" if chosen == [top] else "uncertain"
    return Prediction(
        source=source,
        status=status,
        label=top if status == "ok" else None,
        top=top,
        probabilities=dict(zip(CLASSES, rounded, strict=True)),
        prediction_set=chosen,
        reasons=list(reasons),
        quality=quality,
        timing_ms=dict(timing_ms),
        model=model,
        error=None,
    )


def _contradiction(p: Prediction) -> str:
    """What is wrong with a prediction, or an empty text."""
    if p.schema != SCHEMA:
        return f"schema {p.schema!r}"
    if p.status not in STATUSES:
        return f"status {p.status!r}"
    if not set(p.timing_ms) <= set(STAGES):
        return f"unknown stages in {sorted(p.timing_ms)}"
    if not set(p.reasons) <= set(REASONS):
        return f"unknown reasons in {p.reasons}"
    if p.status == "error":
        clean = p.label is None and p.top is None and p.quality is None
        empty = not (p.probabilities or p.prediction_set or p.reasons)
        return "" if p.error and clean and empty else "an error has a problem and no answer"
    if p.error is not None or p.quality is None:
        return f"{p.status} needs a quality and no problem"
    if tuple(p.probabilities) != CLASSES:
        return f"probabilities of {list(p.probabilities)}"
    values = list(p.probabilities.values())
    if not all(math.isfinite(v) and 0 <= v <= 1 for v in values):
        return "a probability outside 0..1"
    if abs(sum(values) - 1) > 1e-3:
        return f"probabilities add up to {sum(values)}"
    if p.top not in CLASSES or p.probabilities[p.top] < max(values):
        return f"top {p.top!r} is not the most probable class"
    if p.prediction_set != [name for name in CLASSES if name in p.prediction_set]:
        return f"prediction set {p.prediction_set}"
    expected = "unfit" if p.reasons else "ok" if p.prediction_set == [p.top] else "uncertain"
    if p.status != expected:
        return f"status {p.status!r} where {expected!r} follows"
    if p.label != (p.top if p.status == "ok" else None):
        return f"label {p.label!r} with status {p.status!r}"
    return ""
