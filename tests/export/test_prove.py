"""What the gate lets pass, on both sides of its limits."""

from __future__ import annotations

import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

from allsub_edge.export.parity import Parity
from allsub_edge.export.prove import Gate
from allsub_edge.statistics import Rate


def verdict(gate: Gate, before: int, after: int, total: int, *, new_missed: int = 0) -> str:
    rates = [{"accuracy": Rate(count, total).to_dict()} for count in (before, after)]
    parity = Parity(total, 0.1, 0.99, 0.01, True, new_missed)
    return gate.verdict("int8", rates[0], rates[1], parity)


@pytest.mark.parametrize(
    ("before", "after", "total", "reason"),
    [
        # In floats 0.994 - 0.992 and 0.990 - 0.988 are more than 0.002.
        (497, 496, 500, ""),
        (990, 988, 1000, ""),
        (2509, 2504, 2509, ""),
        (497, 495, 500, "loses 0.40 points"),
        (990, 987, 1000, "loses 0.30 points"),
        (499, 498, 499, "loses 0.20 points"),
        (2509, 2503, 2509, "loses 0.24 points"),
        (496, 497, 500, ""),
        (0, 0, 0, "loses nan points"),
    ],
)
def test_a_file_may_lose_exactly_what_the_gate_allows(
    before: int, after: int, total: int, reason: str
) -> None:
    assert verdict(Gate(), before, after, total) == reason


@pytest.mark.parametrize("place", [1, 3])
def test_an_answer_that_is_no_number_is_refused(place: int) -> None:
    values = [500, 0.1, 0.99, 0.01, True, 0]
    values[place] = float("nan")
    rate = {"accuracy": Rate(500, 500).to_dict()}
    told = Gate().verdict("int8", rate, rate, Parity(*values))
    assert told == "gives an answer that is no number"


def test_nothing_may_be_lost_where_nothing_is_allowed() -> None:
    assert verdict(Gate(max_drop=0.0), 100, 100, 100) == ""
    assert verdict(Gate(max_drop=0.0), 100, 99, 100) == "loses 1.00 points"


def test_one_new_miss_is_one_too_many() -> None:
    assert verdict(Gate(), 500, 500, 500, new_missed=1) == "newly misses 1 ALL"
    assert verdict(Gate(no_new_misses=False), 500, 500, 500, new_missed=1) == ""
