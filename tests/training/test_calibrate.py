from __future__ import annotations

import numpy as np
import pytest

from allsub_edge.training.calibrate import (
    fit_conformal,
    fit_domain,
    fit_temperature,
    softmax,
)


def _sampled(temperature: float, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits too sharp by ``temperature``, with labels drawn from the true probabilities."""
    rng = np.random.default_rng(5)
    true = rng.normal(size=(6000, 4)).astype(np.float32) * np.float32(spread)
    chances = softmax(true)
    labels = np.array([rng.choice(4, p=p / p.sum()) for p in chances.astype(float)])
    return labels, true * np.float32(temperature)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_temperature_is_found_again(temperature: float) -> None:
    labels, logits = _sampled(temperature)
    assert fit_temperature(labels, logits) == pytest.approx(temperature, rel=0.06)


def test_conformal_sets_cover_each_class_on_new_fields() -> None:
    labels, logits = _sampled(1.0, spread=1.0)
    probabilities = softmax(logits)
    thresholds = fit_conformal(labels[:3000], probabilities[:3000], alpha=0.2)
    new_labels, new = labels[3000:], probabilities[3000:]
    limits = np.array([thresholds[c] for c in ("Benign", "Early", "Pre", "Pro")])
    inside = 1 - new <= limits
    for i in range(4):
        # These classes overlap so much that no threshold lies on its floor of 0.8.
        assert limits[i] > 0.8
        assert inside[new_labels == i, i].mean() == pytest.approx(0.8, abs=0.05)


def test_conformal_sets_of_a_sure_network_still_cover_the_next_slides() -> None:
    # Each slide has a sharpness of its own; few are in the calibration.
    rng = np.random.default_rng(11)
    slides = np.repeat(np.arange(64), 30)
    labels = slides % 4
    logits = rng.normal(size=(len(slides), 4)) + 12 * np.eye(4)[labels]
    probabilities = softmax((logits * rng.uniform(0.4, 1.0, 64)[slides, None]).astype(np.float32))
    held, new = slides < 12, slides >= 12
    thresholds = fit_conformal(labels[held], probabilities[held], alpha=0.05)
    limits = np.array([thresholds[c] for c in ("Benign", "Early", "Pre", "Pro")])
    inside = 1 - probabilities <= limits
    assert limits.min() == 0.95
    assert all(inside[new & (labels == i), i].mean() >= 0.95 for i in range(4))
    assert 1 <= inside[new].sum(1).mean() < 1.1
    bare = fit_conformal(labels[held], probabilities[held], alpha=0.05, floor=0.0)
    assert max(bare.values()) < 0.95
    alone = 1 - probabilities <= np.array([bare[c] for c in ("Benign", "Early", "Pre", "Pro")])
    assert any(alone[new & (labels == i), i].mean() < 0.95 for i in range(4)), (
        "what the floor mends"
    )


def test_conformal_never_excludes_a_class_with_too_few_fields() -> None:
    labels = np.array([0, 1, 2, 3] * 3)
    probabilities = np.full((12, 4), 0.25, dtype=np.float32)
    assert set(fit_conformal(labels, probabilities, alpha=0.05).values()) == {1.0}


def test_domain_distance_is_about_one_inside_and_large_outside() -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(800) % 4
    centres = rng.normal(size=(4, 20)) * 10
    mixing = rng.normal(size=(20, 20))
    features = (centres[labels] + rng.normal(size=(800, 20)) @ mixing).astype(np.float32)
    domain = fit_domain(labels, features)
    inside = domain.distance(features)
    outside = domain.distance(features + np.float32(60.0))
    assert 0.7 < float(np.median(inside)) < 1.1
    assert outside.min() > inside.max()
    assert inside.dtype == np.float32
