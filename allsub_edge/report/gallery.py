"""Which fields of a case a report shows: few enough for one page, the telling ones first."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import Final

from allsub_edge.prediction import Prediction
from allsub_edge.quality import REASONS

SHOWN: Final[int] = 24
"""Thumbnails in a report: three rows of eight, which leave room for the rest of an A4 page."""

SHOWN_UNFIT: Final[int] = 6
"""Of them for unfit fields, as long as fit ones need the other places."""

LISTED: Final[int] = 200
"""Refused fields that are named; further ones are only counted."""


@dataclass(frozen=True, order=True)
class Shown:
    """A field in the report; the order is the order in which fields are worth looking at.

    Attributes:
        settled: whether the field's own status is ``ok``; unsettled fields come first.
        probability: of its most probable class, 0..1; less sure fields come first.
        number: the field's place in the case, from 0.
        source: its name.
        status: ``ok``, ``uncertain`` or ``unfit``.
        top: its most probable class.
        remark: why it is not ok, in words; empty if it is.
        image: JPEG or PNG bytes, or None.
    """

    settled: bool
    probability: float
    number: int
    source: str = field(compare=False)
    status: str = field(compare=False)
    top: str = field(compare=False)
    remark: str = field(compare=False)
    image: bytes | None = field(compare=False, repr=False)


@dataclass(frozen=True)
class Refused:
    """A field that does not count: its name, ``unfit`` or ``error``, and why, in words."""

    source: str
    status: str
    why: str


class Gallery:
    """Keeps at most ``SHOWN`` fields per most probable class, as many unfit ones, and ``LISTED``.

    So the choice can be made after the verdict is known, as if every field had been kept.

    Attributes:
        refused: the first ``LISTED`` refused fields, in the order they came.
        refused_count: all refused fields.
    """

    def __init__(self) -> None:
        self.refused: list[Refused] = []
        self.refused_count = 0
        self._kept: dict[str, list[Shown]] = {}
        self._number = 0

    def wants(self, prediction: Prediction) -> bool:
        """Whether a thumbnail of this field, added next, would be kept for now."""
        if prediction.error is not None:
            return False
        kept = self._kept.get(_group(prediction), [])
        return len(kept) < SHOWN or _shown(prediction, self._number, None) < kept[-1]

    def add(self, prediction: Prediction, image: bytes | None) -> None:
        """Take in one field; the least telling one of a full group is dropped."""
        if prediction.status in ("unfit", "error"):
            self.refused_count += 1
            if len(self.refused) < LISTED:
                why = _remark(prediction)
                self.refused.append(Refused(prediction.source, prediction.status, why))
        if prediction.error is None:
            kept = self._kept.setdefault(_group(prediction), [])
            insort(kept, _shown(prediction, self._number, image))
            del kept[SHOWN:]
        self._number += 1

    def chosen(self, top: str | None) -> list[Shown]:
        """At most ``SHOWN`` fields: those that contradict ``top``, then unfit ones, then others.

        Args:
            top: the case's most probable class.
        """
        contrary = sorted(
            shown for name, kept in self._kept.items() if name not in ("", top) for shown in kept
        )
        agreeing = self._kept.get(top, []) if top else []
        unfit = self._kept.get("", [])
        free = SHOWN - len(contrary) - len(agreeing)
        unfit = unfit[: max(SHOWN_UNFIT, free)]
        contrary = contrary[: SHOWN - len(unfit)]
        return (contrary + unfit + agreeing)[:SHOWN]


def _group(prediction: Prediction) -> str:
    """The most probable class of a fit field; an empty name for unfit ones."""
    return "" if prediction.status == "unfit" else prediction.top or ""


def _remark(prediction: Prediction) -> str:
    if prediction.error is not None:
        # The message names the input first, and it stands beside its name already.
        return prediction.error.message.removeprefix(f"{prediction.source}: ")
    if prediction.reasons:
        return "; ".join(REASONS[code] for code in prediction.reasons)
    if prediction.status == "uncertain":
        return " or ".join(prediction.prediction_set) or "no class is likely enough"
    return ""


def _shown(prediction: Prediction, number: int, image: bytes | None) -> Shown:
    assert prediction.top is not None
    return Shown(
        settled=prediction.status == "ok",
        probability=prediction.probabilities[prediction.top],
        number=number,
        source=prediction.source,
        status=prediction.status,
        top=prediction.top,
        remark=_remark(prediction),
        image=image,
    )
