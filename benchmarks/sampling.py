"""Timings and what may be said of them: percentiles, and ratios pair by pair with an interval.

The headline is the 90th percentile of the time for one field after another, as in the single-stream
scenario of MLPerf Inference (Reddi et al., ISCA 2020): a run lasts for a least time *and* a least
number of fields, whichever takes longer.

A machine that others use gets slower and faster by the minute. So contenders take turns, A B A B,
and a ratio is the median of the ratios of neighbouring turns. Its interval is the distribution-free
one for a median: order statistics whose ranks follow from the binomial distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time, sleep
from typing import Any, Final

CONFIDENCE: Final[float] = 0.95

TURN_SECONDS: Final[float] = 0.03
"""Least length of a turn: short against the machine's moods, long against one cold field."""

QUIET_SECONDS: Final[float] = 0.01
QUIET_TRIES: Final[int] = 20
"""The threads of a plain ONNX Runtime session spin for 55 ms after its last answer, and would take
a core from whoever comes next."""

MIN_ROUNDS: Final[int] = 8
"""Fewer pairs than six have no 95 % interval at all."""


def percentile(values: Sequence[float], percent: float) -> float:
    """Smallest value that at least ``percent`` % of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def summary(seconds: Sequence[float], fields: int = 1) -> dict[str, Any]:
    """Milliseconds a field: count, p50, p90, p99, mean; and fields a second.

    Args:
        seconds: one measured duration for each call.
        fields: how many fields each call answered.
    """
    each = [1000 * value / fields for value in seconds]
    total = sum(seconds)
    return {
        "count": len(each),
        "seconds": round(total, 3),
        "p50_ms": round(percentile(each, 50), 4),
        "p90_ms": round(percentile(each, 90), 4),
        "p99_ms": round(percentile(each, 99), 4),
        "mean_ms": round(sum(each) / len(each), 4),
        "per_second": round(len(each) * fields / total, 2),
    }


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median and a 95 % interval for it that assumes nothing of the distribution.

    The k-th smallest and k-th largest of n values enclose the median with probability
    ``1 - 2 P(Binomial(n, 1/2) < k)``; k is the largest that keeps 95 %. With fewer than six values
    there is none, and the whole range is given.
    """
    ordered = sorted(values)
    count = len(ordered)
    below, rank = 0.0, 0
    while rank < count // 2:
        below += math.comb(count, rank) / 2**count
        if 2 * below > 1 - CONFIDENCE:
            break
        rank += 1
    low, high = ordered[max(rank - 1, 0)], ordered[min(count - rank, count - 1)]
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return middle, low, high


@dataclass(frozen=True)
class Turns:
    """What taking turns gave: all durations by contender, and each turn's median."""

    samples: dict[str, list[float]]
    medians: dict[str, list[float]]

    def ratio(self, slower: str, faster: str) -> dict[str, Any]:
        """How many times longer ``slower`` takes than ``faster``, turn by turn."""
        pairs = zip(self.medians[slower], self.medians[faster], strict=True)
        middle, low, high = median_interval([a / b for a, b in pairs])
        return {
            "of": slower,
            "against": faster,
            "ratio": round(middle, 3),
            "interval95": [round(low, 3), round(high, 3)],
            "rounds": len(self.medians[slower]),
        }


def take_turns(
    contenders: dict[str, Callable[[int], object]],
    *,
    min_seconds: float,
    min_count: int,
    say: Callable[[str], None] = lambda line: None,
) -> Turns:
    """Let contenders answer in turns until each has run long enough and often enough.

    Every turn begins when the threads of the one before sleep, and with one field that is not
    counted, because another contender's data fills the caches. The order of the turns is reversed
    from round to round.

    Args:
        contenders: name -> a function of the field's number that answers one field.
        min_seconds: measured time that each contender reaches at least.
        min_count: fields that each contender answers at least.
        say: takes a line now and then, for people who wait.
    """
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    medians: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    rounds = 0
    while True:
        for name in names if rounds % 2 == 0 else reversed(names):
            wait_for_quiet()
            turn = _turn(contenders[name], len(samples[name]))
            samples[name] += turn
            medians[name].append(percentile(turn, 50))
        rounds += 1
        longest = min(sum(values) for values in samples.values())
        fewest = min(len(values) for values in samples.values())
        say(f"round {rounds}: {longest:.1f} of {min_seconds:g} s, {fewest} of {min_count} fields")
        if rounds >= MIN_ROUNDS and longest >= min_seconds and fewest >= min_count:
            return Turns(samples, medians)


def wait_for_quiet() -> None:
    """Sleep until no thread of this process computes, 0.2 s at most."""
    for _ in range(QUIET_TRIES):
        before = process_time()
        sleep(QUIET_SECONDS)
        if process_time() - before < QUIET_SECONDS / 10:
            return


def _turn(answer: Callable[[int], object], number: int) -> list[float]:
    answer(number)
    spent: list[float] = []
    ends = perf_counter() + TURN_SECONDS
    while not spent or perf_counter() < ends:
        started = perf_counter()
        answer(number + len(spent))
        spent.append(perf_counter() - started)
    return spent
