"""The rule by which many fields of one patient become one verdict, robust to a few bad ones.

What is combined. Only fit fields count (status ``ok`` or ``uncertain``). Their calibrated
probabilities are averaged (the linear opinion pool: Stone, The opinion pool, Annals of
Mathematical Statistics 1961), so that k wrong fields of n move no class by more than k/n; a
product of probabilities could be turned by one over-confident field. The mean says what share of
the fields the model gives to a class; it is not the probability that the patient has it.

When a label stands. One rule with a stricter form for Benign, because calling leukaemia benign is
the mistake that costs most:

- agreement: the lower end of the 95 % Wilson interval of the share of fit fields whose most
  probable class is the verdict lies above 1/2 (Benign: above 2/3). Unanimous fields reach that
  from 4 (Benign: 8) on, which is where the least number of fit fields comes from. The same must
  hold for the share of fit fields whose prediction set has the verdict in it.
- exclusion: a class is excluded when its share of the fit fields' prediction sets is at most 1/5
  and the upper end of that share's interval lies below 1/2. For a Benign label, the share of
  fit fields whose set has any leukaemia in it is at most 1/10, its upper end below 1/3. The two
  shares are a choice: a prediction set made for 5 % misses is wrong in about every twentieth field
  of a sound case, and a few bad fields have to fit in beside those.
- the smear: no more fields are unfit than fit, else the fit ones are a selection.

The fields of one smear are not independent: they share patient, stain, lamp and camera. The
interval counts fields as if they were, so the truth is less certain than it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

from allsub_edge.classes import BENIGN, CLASSES
from allsub_edge.statistics import Rate


class Bar(NamedTuple):
    """What a label must clear; all are shares of the fit fields, 0..1."""

    fields: int  # least number of fit fields
    agreement: float  # the lower end of the agreement's interval lies above it
    share: float  # other classes: at most this share of the prediction sets
    upper: float  # other classes: the upper end of the share's interval lies below it


LEUKAEMIA_BAR: Final = Bar(4, 1 / 2, 1 / 5, 1 / 2)
BENIGN_BAR: Final = Bar(8, 2 / 3, 1 / 10, 1 / 3)

CASE_REASONS: Final[dict[str, str]] = {
    "no_fit_fields": "no field was fit to judge",
    "too_few_fields": f"too few fields were fit to judge: a label needs {LEUKAEMIA_BAR.fields}, "
    f"a benign one {BENIGN_BAR.fields}",
    "too_many_unfit": "more fields were unfit than fit, so those that count are a selection",
    "fields_disagree": "the fields do not agree enough on one class",
    "class_not_in_sets": "too many fields exclude even the most probable class",
    "class_not_excluded": "another class is not excluded",
    "leukaemia_not_excluded": "leukaemia is not excluded firmly enough to say benign",
}
"""Why a case has no label: code -> sentence for people, in the order in which they are listed."""

INDEPENDENCE: Final[str] = (
    "Fields of one smear share patient, stain and camera: they are not independent, and the truth "
    "is less certain than the interval says."
)
"""Stands beside the interval wherever a person reads it."""


@dataclass(frozen=True)
class FieldCounts:
    """How many fields of each status; ``repeated`` ones were the same image again, not counted."""

    ok: int = 0
    uncertain: int = 0
    unfit: int = 0
    error: int = 0
    repeated: int = 0

    @property
    def fit(self) -> int:
        """Fields that count: ok and uncertain ones."""
        return self.ok + self.uncertain

    @property
    def seen(self) -> int:
        """All of them."""
        return self.fit + self.unfit + self.error + self.repeated

    def to_dict(self) -> dict[str, int]:
        """The counts with ``seen`` and ``fit``, for JSON."""
        return {"seen": self.seen, "fit": self.fit, **asdict(self)}


class Decision(NamedTuple):
    """What follows from the counts."""

    status: str
    label: str | None
    top: str | None
    reasons: list[str]
    not_excluded: list[str]


def _possible(count: int, total: int, bar: Bar) -> bool:
    rate = Rate(count, total)
    return rate.value > bar.share or rate.interval()[1] >= bar.upper


def decide(
    means: Mapping[str, float],
    votes: Mapping[str, int],
    in_sets: Mapping[str, int],
    leukaemia_in_set: int,
    fields: FieldCounts,
) -> Decision:
    """The rule of this module, from counts alone, so that every verdict can be recomputed.

    Args:
        means: class -> mean probability over fit fields, 0..1; empty without fit fields.
        votes: class -> fit fields whose most probable class it is.
        in_sets: class -> fit fields whose prediction set has it.
        leukaemia_in_set: fit fields whose prediction set has any class but Benign.
        fields: the counts.
    """
    fit = fields.fit
    if not fit:
        return Decision("unfit", None, None, ["no_fit_fields"], list(CLASSES))
    # A tie goes to the later class, hence never to Benign.
    top = max(CLASSES, key=lambda name: (means[name], CLASSES.index(name)))
    benign = top == CLASSES[BENIGN]
    bar = BENIGN_BAR if benign else LEUKAEMIA_BAR
    possible = {name for name in CLASSES if _possible(in_sets[name], fit, LEUKAEMIA_BAR)}
    unsafe = benign and _possible(leukaemia_in_set, fit, BENIGN_BAR)
    if unsafe:
        sick = [name for name in CLASSES if name != top]
        possible |= {name for name in sick if in_sets[name]} or set(sick)
    few = fit < bar.fields
    agreed = Rate(votes[top], fit).interval()[0] > bar.agreement
    in_enough_sets = Rate(in_sets[top], fit).interval()[0] > bar.agreement
    holds = {
        "too_few_fields": few,
        "too_many_unfit": fields.unfit > fit,
        "fields_disagree": not few and not agreed,
        "class_not_in_sets": not few and agreed and not in_enough_sets,
        "class_not_excluded": not unsafe and bool(possible - {top}),
        "leukaemia_not_excluded": unsafe,
    }
    reasons = [code for code in CASE_REASONS if holds.get(code)]
    status = "uncertain" if reasons else "ok"
    return Decision(
        status,
        None if reasons else top,
        top,
        reasons,
        [name for name in CLASSES if name in possible],
    )
