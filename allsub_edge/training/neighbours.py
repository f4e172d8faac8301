"""Runs of neighbouring places: which to take for a share, and how to cut a row into even parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

_RUNS: Final[int] = 2
_TRIES: Final[int] = 2000


def placed(
    sizes: Sequence[int],
    free: Sequence[bool],
    target: float,
    spare: int,
    generator: np.random.Generator,
) -> list[int]:
    """Free places whose sizes add up to about ``target``, in one or two runs of neighbours.

    The first try within -5 % and +15 % of the target is taken, else the nearest of all; too
    little counts three times as much as too much. At least ``spare`` places stay free.
    """
    best: list[int] = []
    best_error = float("inf")
    open_places = [place for place, is_free in enumerate(free) if is_free]
    for attempt in range(_TRIES):
        # Two runs cover more slides; a single one is tried when two keep missing the target.
        runs = _RUNS if attempt < _TRIES // 2 else 1
        chosen: list[int] = []
        total = 0
        for run in range(runs):
            aim = target * (run + 1) / runs
            place = open_places[int(generator.integers(len(open_places)))]
            while place < len(free) and free[place] and place not in chosen:
                # Stop where one more group would miss the aim by more than stopping does.
                if total + sizes[place] - aim > aim - total and chosen:
                    break
                chosen.append(place)
                total += sizes[place]
                place += 1
                if total >= aim:
                    break
        apart = sum(place - 1 not in chosen for place in chosen) == runs
        if not apart or len(open_places) - len(chosen) < spare:
            continue
        error = max(total - target, 3 * (target - total)) / target
        if error < best_error:
            best, best_error = sorted(chosen), error
        if best_error <= 0.15:
            break
    # Only when even single groups left too few: the smallest free one always leaves enough.
    return best or [min(open_places, key=lambda place: sizes[place])]


def even_runs(sizes: Sequence[int], parts: int) -> list[list[int]]:
    """Cut places into ``parts`` contiguous runs with the least sum of squared sizes, exactly."""
    count = len(sizes)
    before = np.concatenate([[0], np.cumsum(sizes)]).astype(np.float64)
    cost = np.full((parts + 1, count + 1), np.inf)
    cut = np.zeros((parts + 1, count + 1), np.intp)
    cost[0, 0] = 0.0
    for part in range(1, parts + 1):
        for end in range(part, count + 1):
            for start in range(part - 1, end):
                here = cost[part - 1, start] + (before[end] - before[start]) ** 2
                if here < cost[part, end]:
                    cost[part, end], cut[part, end] = here, start
    runs: list[list[int]] = []
    end = count
    for part in range(parts, 0, -1):
        start = int(cut[part, end])
        runs.append(list(range(start, end)))
        end = start
    return runs[::-1]
