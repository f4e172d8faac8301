from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the training extra is not installed")

from allsub_edge.evaluation.baselines import BASELINES, baselines

RNG = np.random.default_rng(0)
COLOURS = np.array([[250, 240, 240], [240, 250, 240], [240, 240, 250], [250, 250, 235]])


def _fields(count: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Noise in which only one trait tells the class."""
    labels = np.arange(count) % 4
    fields = RNG.integers(0, 256, (count, 64, 64, 3)).astype(np.uint8)
    for field, label in zip(fields, labels, strict=True):
        if what == "glass":
            field[:30] = COLOURS[label]
        else:
            field[-8:, -16 + 4 * label : -12 + 4 * label or None] = 255
    return fields, labels


@pytest.mark.parametrize(
    ("what", "sees", "blind"),
    [("glass", "background_colour", "corner"), ("bar", "corner", "background_colour")],
)
def test_each_baseline_sees_its_trait_and_no_other(what: str, sees: str, blind: str) -> None:
    train, known = _fields(80, what)
    fields, labels = _fields(40, what)
    found = baselines(fields, labels, [str(i) for i in range(40)], train, known)
    assert set(found) == set(BASELINES)
    assert found[sees]["count"] == found[sees]["total"] == 40
    assert found[blind]["value"] < 0.6
    assert "80 train fields" in found[sees]["how"]


def test_without_train_fields_groups_are_cross_validated() -> None:
    fields, labels = _fields(40, "glass")
    groups = [f"{label}-{i // 8}" for i, label in enumerate(labels)]
    none = np.empty((0, 64, 64, 3), np.uint8)
    found = baselines(fields, labels, groups, none, np.empty(0, np.int64))
    assert found["background_colour"]["count"] == 40
    assert found["background_colour"]["how"].startswith("5-fold over the groups")
    lonely = baselines(fields, labels, [f"{c}" for c in labels], none, np.empty(0, np.int64))
    assert "value" not in lonely["corner"] and "fewer than two groups" in lonely["corner"]["how"]
