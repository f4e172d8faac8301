from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

from allsub_edge.evaluation import ablation
from allsub_edge.evaluation.robustness import Material
from allsub_edge.evaluation.subject import RunSubject
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.white_balance import TARGET
from tests.training.toy import toy_fields


@pytest.fixture(scope="module")
def material() -> Material:
    fields, _, labels = toy_fields(each=3, size=224, first_seed=70)
    mask = get_recipe("cells").mask
    masks = np.stack([mask(f) for f in fields])
    return Material(fields, masks, labels, [str(i) for i in range(len(labels))])


def _ways(subject: RunSubject, material: Material) -> dict:
    return ablation._inside(subject, material.fields)


def _features(subject: RunSubject, material: Material) -> np.ndarray:
    return subject.core(*subject.network.channels(subject.resized(material.fields)))[1]


def _by_hand(subject: RunSubject, features: np.ndarray) -> np.ndarray:
    """Probabilities from features by numpy and the layers' weights, without Keras."""
    get = subject.network.core.get_layer
    gamma, beta, mean, variance = get("features_norm").get_weights()
    x = (features - mean) / np.sqrt(variance + get("features_norm").epsilon) * gamma + beta
    kernel, bias = get("dense").get_weights()
    x = np.maximum(x @ kernel + bias, 0)
    kernel, bias = get("logits").get_weights()
    return subject.probabilities((x @ kernel + bias).astype(np.float32))


@pytest.mark.parametrize("which", ["run", "branches_run"])
def test_replaced_features_give_what_the_head_gives_by_hand(
    which: str, material: Material, request: pytest.FixtureRequest
) -> None:
    subject = RunSubject(request.getfixturevalue(which))
    features, ways = _features(subject, material), _ways(subject, material)
    half = features.shape[1] // 2
    plain = subject.answer(material.fields).probabilities
    np.testing.assert_allclose(plain, _by_hand(subject, features), atol=1e-5)
    for key, part in (("field_mean", slice(0, half)), ("cells_mean", slice(half, None))):
        changed = features.copy()
        changed[:, part] = features.mean(0)[part]
        answers = ways[key](material.fields, material.masks).probabilities
        np.testing.assert_allclose(answers, _by_hand(subject, changed), atol=1e-5)
        assert np.abs(answers - plain).max() > 1e-3


def test_original_only_does_not_see_the_mask(run: Path, material: Material) -> None:
    subject = RunSubject(run)
    original, second = subject.network.channels(subject.resized(material.fields))
    logits, features = subject.core(original, np.ones_like(second))
    half = features.shape[1] // 2
    # With a mask of ones the pool over the cells is the average over the field.
    np.testing.assert_allclose(features[:, :half], features[:, half:], atol=1e-4)
    answers = _ways(subject, material)["original_only"](material.fields, material.masks)
    np.testing.assert_allclose(answers.probabilities, subject.probabilities(logits), atol=1e-5)


def test_branches_with_a_blank_channel_are_those_of_an_empty_field(
    branches_run: Path, material: Material
) -> None:
    subject = RunSubject(branches_run)
    ways = _ways(subject, material)
    original, second = subject.network.channels(subject.resized(material.fields))
    scale, offset = subject.network.backbone.scale, subject.network.backbone.offset
    for key, given in (
        ("original_only", (original, np.full_like(second, offset))),
        ("segmented_only", (np.full_like(original, TARGET * scale + offset), second)),
    ):
        wanted = subject.probabilities(subject.core(*given)[0])
        answers = ways[key](material.fields, material.masks).probabilities
        np.testing.assert_allclose(answers, wanted, atol=1e-5)


def test_segmented_only_does_not_see_the_background(run: Path, material: Material) -> None:
    subject = RunSubject(run)
    way = _ways(subject, material)["segmented_only"]
    small = subject.resized(material.fields)
    original, second = subject.network.channels(small)
    empty = TARGET * subject.network.backbone.scale + subject.network.backbone.offset
    wanted = subject.core(np.where(second > 0, original, np.float32(empty)), second)[0]
    answers = way(material.fields, material.masks).probabilities
    np.testing.assert_allclose(answers, subject.probabilities(wanted), atol=1e-5)


def test_every_ablation_is_told_with_its_note(run: Path, material: Material) -> None:
    subject = RunSubject(run)
    plain, steps = subject.answer(material.fields), []
    found = ablation.ablate(subject, material, plain, material.fields, steps.append)
    assert [entry["key"] for entry in found] == list(ablation.NAMES)
    assert sum(steps) == ablation.count(subject) * len(material.fields)
    assert found[0]["flipped"]["count"] == 0
    assert "trained with both" in ablation.NOTE
