from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from allsub_edge.benchmarks import sampling
from allsub_edge.benchmarks.sampling import median_interval, percentile, summary, take_turns


def test_percentiles_are_values_that_occurred() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, p) for p in (0, 20, 50, 90, 100)] == [1, 1, 3, 5, 5]


def test_a_summary_is_told_for_each_field() -> None:
    found = summary([0.010, 0.020, 0.030], fields=2)
    assert found["p50_ms"] == 10.0
    assert found["p90_ms"] == 15.0
    assert found["per_second"] == pytest.approx(6 / 0.06)


@pytest.mark.parametrize(("count", "rank"), [(6, 1), (10, 2), (20, 6), (100, 40)])
def test_the_interval_has_the_ranks_of_the_sign_test(count: int, rank: int) -> None:
    # Ranks from tables of the sign test (Conover, Practical Nonparametric Statistics, table A3).
    middle, low, high = median_interval([float(i) for i in range(1, count + 1)])
    assert (low, high) == (rank, count + 1 - rank)
    assert middle == (count + 1) / 2


def test_the_interval_covers_as_often_as_it_says() -> None:
    dice = random.Random(5)
    hits = 0
    for _ in range(600):
        _, low, high = median_interval([math.exp(dice.gauss(0, 1)) for _ in range(15)])
        hits += low <= 1 <= high
    assert hits / 600 > 0.93


def test_turns_tell_the_ratio_on_a_machine_that_gets_slower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    calls: list[str] = []
    monkeypatch.setattr(sampling, "perf_counter", lambda: now[0])

    def contender(name: str, seconds: float) -> Callable[[int], object]:
        def answer(number: int) -> None:
            calls.append(name)
            # The machine is four times slower after half of the way.
            now[0] += seconds * (4 if now[0] > 1 else 1)

        return answer

    turns = take_turns(
        {"slow": contender("slow", 0.004), "fast": contender("fast", 0.001)},
        min_seconds=1.0,
        min_count=20,
    )
    found = turns.ratio("slow", "fast")
    assert found["ratio"] == pytest.approx(4)
    low, high = found["interval95"]
    assert low <= 4 <= high < 4.1
    assert found["rounds"] >= 8
    assert all(len(values) >= 20 and sum(values) >= 1 for values in turns.samples.values())
    order = [name for i, name in enumerate(calls) if i == 0 or calls[i - 1] != name]
    assert order[:3] == ["slow", "fast", "slow"], "neighbouring rounds run in opposite order"


@pytest.mark.parametrize(("spins_until", "waited"), [(0.0, 0.01), (0.055, 0.07), (9.0, 0.2)])
def test_a_turn_waits_for_threads_that_spin_but_not_for_ever(
    spins_until: float, waited: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(sampling, "sleep", sleep)
    monkeypatch.setattr(sampling, "process_time", lambda: min(now[0], spins_until))
    began: list[float] = []
    take_turns({"a": lambda _: began.append(now[0])}, min_seconds=0.0, min_count=1)
    assert began[0] == pytest.approx(waited)
