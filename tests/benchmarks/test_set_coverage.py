"""Coverage of prediction sets over draws of calibration groups, on numbers drawn from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from allsub_edge.benchmarks.set_coverage import Pool, calibrating_groups, draw, main, summary
from allsub_edge.benchmarks.unseen import Unseen
from allsub_edge.classes import CLASSES

FLOORS = (0.0, 0.95)
HELD = (2, 2, 2, 2)


def sure_network(groups: int = 8, each: int = 20, shift: float = 1.2) -> Pool:
    """A network that is nearly always right, and on each group as sure as that slide lets it be."""
    rng = np.random.default_rng(3)
    labels, names, logits = [], [], []
    for label in range(len(CLASSES)):
        for group in range(groups):
            rows = rng.normal(0.0, 0.5, (each, len(CLASSES)))
            rows[:, label] += 6.0 + rng.normal(0.0, shift, 1) + rng.normal(0.0, 0.4, each)
            labels += [label] * each
            names += [f"{label}/{group}"] * each
            logits.append(rows)
    found = np.concatenate(logits).astype(np.float32)
    return Pool(np.array(labels), np.array(names), found, found)


def test_the_floor_covers_new_slides_that_the_quantile_alone_misses() -> None:
    pool, rng = sure_network(), np.random.default_rng(1)
    drawn = np.stack([draw(pool, HELD, 0.05, FLOORS, rng) for _ in range(30)])
    bare, floored = summary(drawn, FLOORS, 0.05)
    assert (bare["floor"], floored["floor"]) == FLOORS
    assert bare["draws_with_all_classes_covered"] < 0.5
    assert floored["draws_with_all_classes_covered"] > 0.9
    assert bare["set_size_mean"] <= floored["set_size_mean"] < 1.1
    assert set(floored["coverage_mean"]) == set(CLASSES)


def test_only_groups_that_did_not_calibrate_are_asked() -> None:
    pool = sure_network(groups=3)
    # What calibrates is right, what is asked is always wrong: nothing of the one reaches the other.
    wrong = Pool(pool.labels, pool.groups, pool.logits, np.roll(pool.logits, 1, axis=1))
    (row,) = draw(wrong, HELD, 0.05, (0.0,), np.random.default_rng(1))
    assert row[:4].max() < 0.05
    single, one_wrong = row[5], row[6]
    assert single == one_wrong > 0.5


def test_the_same_seed_draws_the_same() -> None:
    pool = sure_network()
    first, second = (draw(pool, HELD, 0.05, FLOORS, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_folder_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("set_coverage: error:") and "nowhere" in line


def test_groups_of_the_calibration_role_are_counted_by_class() -> None:
    seen = Unseen(
        fields=np.zeros((4, 1, 1, 3), np.uint8),
        labels=["Pre", "Pre", "Pre", "Pro"],
        groups=["g1", "g1", "g2", "g1"],
        files=["a", "b", "c", "d"],
        roles=["calibration", "calibration", "test", "calibration"],
    )
    assert calibrating_groups(seen) == [0, 0, 1, 1]
