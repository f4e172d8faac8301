from __future__ import annotations

import json

import numpy as np
import pytest

from allsub_edge.errors import ModelFileError
from allsub_edge.export.parity import collect, compare, demand_equal


def _answer(n: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(4), size=n).astype(np.float32)
    return p, rng.uniform(1, 2, n).astype(np.float32), rng.integers(0, 2, (n, 8, 8), np.uint8)


def test_the_same_answer_passes() -> None:
    parity = compare(_answer(), _answer(), np.zeros(6, np.int64))
    assert parity.largest_probability_difference == 0
    assert parity.same_top == 1 and parity.masks_equal and parity.new_missed == 0
    demand_equal(parity, "file")


def test_each_difference_is_refused() -> None:
    for part in range(3):
        other = [a.copy() for a in _answer()]
        if part == 2:
            other[2][3, 4, 5] ^= 1
        else:
            other[part][0] = np.nan if part else other[part][0][::-1]
        with pytest.raises(ModelFileError, match="nothing was written"):
            demand_equal(compare(_answer(), tuple(other)), "file")


def test_only_new_misses_count() -> None:
    reference = np.eye(4, dtype=np.float32)[[0, 1, 2, 0]]
    candidate = np.eye(4, dtype=np.float32)[[0, 0, 2, 0]]
    rest = _answer(4)[1:]
    labels = np.array([0, 1, 2, 3])  # the last one was missed before, too
    assert compare((reference, *rest), (candidate, *rest), labels).new_missed == 1


def test_a_rate_of_nothing_is_none_in_json() -> None:
    from allsub_edge.export.about import without_nan
    from allsub_edge.training.metrics import summarise

    found = without_nan(summarise(np.zeros(2, np.int64), np.eye(4, dtype=np.float32)[[0, 1]]))
    assert found["all_called_benign"]["value"] is None
    assert found["accuracy"]["value"] == 0.5
    json.dumps(found, allow_nan=False)


def test_batches_are_joined_in_order() -> None:
    fields = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return batch[:, :1, 0, 0].astype(np.float32), batch[:, 0, 0, 0], batch[..., 0]

    assert collect(run, fields, batch_size=2)[1].tolist() == [0, 1, 2, 3, 4]
