"""What the device says about one case: the record, and its JSON and table forms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from allsub_edge.case.rule import FieldCounts, decide
from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.prediction import ModelInfo
from allsub_edge.statistics import Rate

SCHEMA: Final[str] = "allsub-edge/case/1"

CASE_COLUMNS: Final[tuple[str, ...]] = (
    *("case", "status", "label", "top", "reasons", "not_excluded"),
    *(f"mean_p_{name}" for name in CLASSES),
    *(f"votes_{name}" for name in CLASSES),
    *("agreement", "agreement_low", "agreement_high"),
    *("seen", "fit", "ok", "uncertain", "unfit", "error", "repeated"),
    *("model_name", "model_version", "model_sha256", "engine", "threads"),
)
"""Keys of ``CaseVerdict.to_row``, in order."""


@dataclass(frozen=True)
class CaseVerdict:
    """One record per case; attributes have the names of the JSON keys.

    Attributes:
        case: the case's name.
        status: ``ok`` (the device stands behind ``label``), ``uncertain`` or ``unfit`` (no field
            was fit), both with ``reasons``.
        label: the class the device stands behind; None unless the status is ``ok``.
        top: the class with the largest mean probability; None without fit fields.
        reasons: codes of ``rule.CASE_REASONS``.
        not_excluded: classes that remain possible, in the order of ``CLASSES``.
        mean_probabilities: class -> mean over fit fields, 0..1; empty without fit fields.
        votes: class -> fit fields whose most probable class it is.
        in_sets: class -> fit fields whose prediction set has it.
        leukaemia_in_set: fit fields whose prediction set has any class but Benign.
        fields: the counts.
        unfit_reasons: code of ``quality.REASONS`` -> unfit fields with it (a field may have more).
        errors: error code -> inputs that could not be read for it.
        model: the model that answered; None when no field was given.

    Raises:
        ValueError: the decision does not follow from the counts.
    """

    case: str
    status: str
    label: str | None
    top: str | None
    reasons: list[str]
    not_excluded: list[str]
    mean_probabilities: dict[str, float]
    votes: dict[str, int]
    in_sets: dict[str, int]
    leukaemia_in_set: int
    fields: FieldCounts
    unfit_reasons: dict[str, int]
    errors: dict[str, int]
    model: ModelInfo | None
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        fit = self.fields.fit
        whole = tuple(self.votes) == CLASSES == tuple(self.in_sets)
        if not whole or tuple(self.mean_probabilities) != (CLASSES if fit else ()):
            raise ValueError("not a valid verdict: a class is missing or out of order")
        counted = sum(self.votes.values()) == fit and sum(self.errors.values()) == self.fields.error
        within = all(0 <= n <= fit for n in (*self.in_sets.values(), self.leukaemia_in_set))
        if not (counted and within):
            raise ValueError("not a valid verdict: the counts do not add up")
        means = self.mean_probabilities
        given = (self.status, self.label, self.top, self.reasons, self.not_excluded)
        follows = decide(means, self.votes, self.in_sets, self.leukaemia_in_set, self.fields)
        if given != follows:
            raise ValueError(f"not a valid verdict: {given} where {tuple(follows)} follows")

    @property
    def agreement(self) -> Rate | None:
        """Share of fit fields whose most probable class is ``top``; None without fit fields."""
        return Rate(self.votes[self.top], self.fields.fit) if self.top else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, ``schema`` first."""
        values = asdict(self)
        agreement = self.agreement
        values["fields"] = self.fields.to_dict()
        values["agreement"] = agreement.to_dict() if agreement else None
        return {"schema": values.pop("schema")} | values

    def to_json(self) -> str:
        """One line of ASCII JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=True, allow_nan=False)

    def to_row(self) -> dict[str, str | float | int | None]:
        """Flat form for CSV and data frames: keys of ``CASE_COLUMNS``, lists joined by ``|``."""
        agreement = self.agreement.to_dict() if self.agreement else None
        low, high = agreement["interval95"] if agreement else (None, None)
        model = self.model
        return {
            "case": self.case,
            "status": self.status,
            "label": self.label,
            "top": self.top,
            "reasons": "|".join(self.reasons),
            "not_excluded": "|".join(self.not_excluded),
            **{f"mean_p_{name}": self.mean_probabilities.get(name) for name in CLASSES},
            **{f"votes_{name}": self.votes[name] for name in CLASSES},
            "agreement": agreement["value"] if agreement else None,
            "agreement_low": low,
            "agreement_high": high,
            **self.fields.to_dict(),
            "model_name": model.name if model else None,
            "model_version": model.version if model else None,
            "model_sha256": model.sha256 if model else None,
            "engine": model.engine if model else None,
            "threads": model.threads if model else None,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> CaseVerdict:
        """Rebuild a verdict from ``to_dict`` or parsed JSON; unknown keys are ignored.

        Raises:
            DataError: ``unknown_schema``, or ``bad_record`` when keys are missing or wrong.
        """
        if raw.get("schema") != SCHEMA:
            raise DataError(
                "unknown_schema",
                f"the verdict has schema {raw.get('schema')!r}, this version reads {SCHEMA!r}: "
                "upgrade allsub-edge",
            )
        try:
            fields, model = raw["fields"], raw["model"]
            return cls(
                case=raw["case"],
                status=raw["status"],
                label=raw["label"],
                top=raw["top"],
                reasons=list(raw["reasons"]),
                not_excluded=list(raw["not_excluded"]),
                mean_probabilities={str(k): float(v) for k, v in raw["mean_probabilities"].items()},
                votes={str(k): int(v) for k, v in raw["votes"].items()},
                in_sets={str(k): int(v) for k, v in raw["in_sets"].items()},
                leukaemia_in_set=int(raw["leukaemia_in_set"]),
                fields=FieldCounts(**{name: int(fields[name]) for name in asdict(FieldCounts())}),
                unfit_reasons={str(k): int(v) for k, v in raw["unfit_reasons"].items()},
                errors={str(k): int(v) for k, v in raw["errors"].items()},
                model=None
                if model is None
                else ModelInfo(
                    **{k: str(model[k]) for k in ("name", "version", "sha256", "engine")},
                    threads=int(model["threads"]),
                ),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise DataError(
                "bad_record", f"not a case verdict ({type(problem).__name__}: {problem})"
            ) from problem
