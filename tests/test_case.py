from __future__ import annotations

import json
import pickle
import random
from dataclasses import replace
from typing import Any

import pytest

from allsub_edge.case import CASE_COLUMNS, CASE_REASONS, Case, CaseVerdict
from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError, UsageError
from allsub_edge.prediction import Prediction
from tests.test_prediction import MODEL, failed, made

SURE = {
    name: tuple(0.97 if other == name else 0.01 for other in CLASSES) for name in CLASSES
}  # one confident field of each class


def case_of(*fields: Prediction) -> Case:
    case = Case("S-17")
    for number, prediction in enumerate(fields):
        case.add(replace(prediction, source=f"f{number}.jpg"))
    return case


def verdict_of(**votes: int) -> CaseVerdict:
    """The verdict on so many confident fields of each class."""
    return case_of(*(made(*SURE[name]) for name, n in votes.items() for _ in range(n))).verdict()


def test_unanimous_fields_give_a_label_from_the_least_number_on() -> None:
    for name in ("Early", "Pre", "Pro"):
        assert verdict_of(**{name: 3}).label is None
        assert verdict_of(**{name: 3}).reasons[0] == "too_few_fields"
        assert verdict_of(**{name: 4}).label == name
        assert verdict_of(**{name: 4}).not_excluded == [name]


def test_benign_needs_more() -> None:
    seven = verdict_of(Benign=7)
    assert (seven.status, seven.label, seven.top) == ("uncertain", None, "Benign")
    assert seven.reasons == ["too_few_fields", "leukaemia_not_excluded"]
    assert seven.not_excluded == list(CLASSES)
    assert verdict_of(Benign=8).label == "Benign"
    assert verdict_of(Benign=8).not_excluded == ["Benign"]


def test_a_few_bad_fields_change_nothing() -> None:
    assert verdict_of(Pro=17, Benign=3).label == "Pro"
    assert verdict_of(Pro=17, Early=2, Pre=1).label == "Pro"
    assert verdict_of(Benign=27, Pro=3).label == "Benign"


def test_more_than_a_few_take_the_label_away_but_never_make_another() -> None:
    split = verdict_of(Pro=15, Early=5)
    assert (split.status, split.label, split.top) == ("uncertain", None, "Pro")
    assert split.reasons == ["class_not_excluded"]
    assert split.not_excluded == ["Early", "Pro"]
    even = verdict_of(Pro=10, Early=10)
    assert "fields_disagree" in even.reasons
    for bad in range(11):
        assert verdict_of(Pro=20 - bad, Benign=bad).label in ("Pro", None)


def test_a_missed_leukaemia_is_harder_than_a_missed_benign() -> None:
    # Three of twenty fields against it: Pro stands, Benign does not.
    assert verdict_of(Pro=17, Benign=3).label == "Pro"
    suspicious = verdict_of(Benign=17, Pro=3)
    assert suspicious.label is None
    assert suspicious.reasons == ["fields_disagree", "leukaemia_not_excluded"]
    assert suspicious.not_excluded == ["Benign", "Pro"]
    # Each subtype alone is rare; together they are too many.
    spread = verdict_of(Benign=34, Early=2, Pre=2, Pro=2)
    assert spread.reasons == ["leukaemia_not_excluded"]
    assert spread.leukaemia_in_set == 6
    assert spread.not_excluded == list(CLASSES)


def test_fields_whose_sets_hold_two_classes_do_not_settle_the_case() -> None:
    torn = verdict_of_fields(made(0.0, 0.45, 0.55, 0.0, conformal=dict.fromkeys(CLASSES, 0.6)), 30)
    assert torn.agreement is not None
    assert torn.agreement.value == 1.0
    assert torn.label is None
    assert torn.not_excluded == ["Early", "Pre"]
    # No class likely enough in any field: nothing is left, and no label either.
    none = verdict_of_fields(made(0.1, 0.3, 0.4, 0.2), 30)
    assert none.reasons == ["class_not_in_sets"]
    assert none.not_excluded == []


def verdict_of_fields(field: Prediction, count: int) -> CaseVerdict:
    return case_of(*[field] * count).verdict()


def test_unfit_and_error_fields_have_no_vote() -> None:
    good = [made(*SURE["Pro"])] * 6
    unfit = made(*SURE["Benign"], reasons=("out_of_domain", "out_of_focus"))
    verdict = case_of(*good, *[unfit] * 6, failed(), failed()).verdict()
    assert verdict.label == "Pro"
    assert verdict.votes == {"Benign": 0, "Early": 0, "Pre": 0, "Pro": 6}
    assert verdict.fields.to_dict() == {
        **{"seen": 14, "fit": 6, "ok": 6, "uncertain": 0},
        **{"unfit": 6, "error": 2, "repeated": 0},
    }
    assert verdict.unfit_reasons == {"out_of_domain": 6, "out_of_focus": 6}
    assert verdict.errors == {"truncated": 2}
    most = case_of(*good, *[unfit] * 7).verdict()
    assert most.reasons == ["too_many_unfit"]


@pytest.mark.parametrize(
    "fields", [[], [failed()], [made(*SURE["Pro"], reasons=("out_of_focus",))]]
)
def test_nothing_fit_gives_no_verdict_and_excludes_nothing(fields: list[Prediction]) -> None:
    verdict = case_of(*fields).verdict()
    assert (verdict.status, verdict.label, verdict.top) == ("unfit", None, None)
    assert verdict.reasons == ["no_fit_fields"]
    assert verdict.not_excluded == list(CLASSES)
    assert verdict.agreement is None
    json.loads(verdict.to_json())


def test_one_overconfident_field_moves_the_mean_by_no_more_than_its_share() -> None:
    modest = made(0.05, 0.05, 0.2, 0.7)
    verdict = case_of(*[modest] * 19, made(1.0, 0.0, 0.0, 0.0)).verdict()
    assert verdict.top == "Pro"
    assert verdict.mean_probabilities["Benign"] == pytest.approx(0.05 * 0.95 + 0.05)


def test_the_order_of_fields_does_not_matter() -> None:
    dice = random.Random(5)
    fields = []
    for _ in range(200):
        raw = [dice.random() for _ in CLASSES]
        fields.append(made(*(value / sum(raw) for value in raw)))
    first = case_of(*fields).verdict()
    dice.shuffle(fields)
    assert case_of(*fields).verdict() == first


def test_a_tie_never_goes_to_benign() -> None:
    assert verdict_of(Benign=5, Early=5).top == "Early"


def test_the_agreement_has_the_wilson_interval() -> None:
    verdict = verdict_of(Pro=23, Early=1)
    # scipy.stats.binomtest(23, 24).proportion_ci(method="wilson")
    assert verdict.to_dict()["agreement"] == {
        **{"count": 23, "total": 24, "value": 0.958333},
        "interval95": [0.797582, 0.992607],
    }


def test_json_pickle_and_row_round_trip() -> None:
    unfit = made(*SURE["Pro"], reasons=("too_few_cells",))
    for fields in ([], [made(*SURE["Pre"])] * 5 + [unfit, failed()]):
        verdict = case_of(*fields).verdict()
        raw = json.loads(verdict.to_json())
        assert next(iter(raw.items())) == ("schema", "allsub-edge/case/1")
        assert CaseVerdict.from_dict(raw) == verdict
        assert pickle.loads(pickle.dumps(verdict)) == verdict
        assert tuple(verdict.to_row()) == CASE_COLUMNS
    assert verdict.to_row()["votes_Pre"] == 5
    assert verdict.to_row()["label"] == "Pre"


@pytest.mark.parametrize(
    "change",
    [
        {"label": "Benign"},
        {"status": "uncertain", "label": None},
        {"not_excluded": ["Pre", "Pro"]},
        {"votes": {"Benign": 5, "Early": 0, "Pre": 0, "Pro": 0}},
        {"votes": {"Benign": 0, "Early": 0, "Pre": 6, "Pro": 0}},
        {"mean_probabilities": {"Pre": 1.0}},
        {"in_sets": {"Benign": 0, "Early": 0, "Pre": 9, "Pro": 0}},
        {"errors": {"missing": 1}},
        {"fields": {}},
        {"model": 7},
    ],
)
def test_an_edited_verdict_is_refused(change: dict[str, Any]) -> None:
    raw = verdict_of(Pre=5).to_dict()
    with pytest.raises(DataError) as caught:
        CaseVerdict.from_dict(raw | change)
    assert caught.value.code == "bad_record"


def test_another_schema_is_refused() -> None:
    with pytest.raises(DataError, match="upgrade"):
        CaseVerdict.from_dict(verdict_of(Pre=5).to_dict() | {"schema": "allsub-edge/case/2"})


def test_fields_of_two_models_do_not_mix() -> None:
    case = case_of(made(*SURE["Pro"]))
    with pytest.raises(DataError, match="one model"):
        case.add(replace(made(*SURE["Pro"]), model=replace(MODEL, sha256="cd" * 32)))


def test_the_same_image_counts_once() -> None:
    case = Case("S-17")
    assert not case.is_repeat(b"a")
    case.add(made(*SURE["Pro"]))
    assert case.is_repeat(b"a")
    assert not case.is_repeat(b"b")
    assert case.verdict().fields.repeated == 1
    assert case.verdict().fields.fit == 1


@pytest.mark.parametrize("name", ["", "  \t", "a\nb", "x" * 201, "a\u202eb", "\udcff"])
def test_a_case_needs_a_plain_name(name: str) -> None:
    with pytest.raises(UsageError):
        Case(name)


def test_every_reason_can_occur() -> None:
    unfit = made(*SURE["Pro"], reasons=("out_of_focus",))
    seen = {
        *verdict_of().reasons,
        *verdict_of(Pro=1).reasons,
        *verdict_of(Pro=10, Early=10).reasons,
        *verdict_of(Benign=7).reasons,
        *case_of(made(*SURE["Pro"]), unfit, unfit).verdict().reasons,
        *verdict_of_fields(made(0.1, 0.3, 0.4, 0.2), 30).reasons,
    }
    assert seen == set(CASE_REASONS)
