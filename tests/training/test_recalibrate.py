"""Batch-norm statistics measured anew, and training in lower precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

import keras

from allsub_edge.training import backbones
from allsub_edge.training.labelled import LabelledFields, predict_logits
from allsub_edge.training.loop import Trainer
from allsub_edge.training.network import build_network
from allsub_edge.training.recalibrate import recalibrate, settle
from allsub_edge.training.run import Run

from .test_loop import CONFIG
from .toy import TOY, toy_fields


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)


@pytest.mark.parametrize(
    "how", [{}, {"fusion": "branches"}, {"fusion": "branches", "shared": True}]
)
def test_statistics_are_those_of_the_fields(how: dict[str, object]) -> None:
    network = build_network(replace(CONFIG, **how))
    fields, _, _ = toy_fields(each=2)
    before = [layer.trainable_weights for layer in network.extractors[0].layers]
    others = [np.array(w) for layer in before for w in layer]
    network.set_phase(head_only=True)
    recalibrate(network, fields, batch_size=4)
    channels = network.channels(fields)
    for number, extractor in enumerate(network.extractors):
        seen = channels[number]
        if how.get("shared"):
            seen = np.concatenate(channels)
        norm = extractor.get_layer(f"{extractor.name}.0.norm")
        first = np.asarray(extractor.get_layer(f"{extractor.name}.0.conv")(seen))
        np.testing.assert_allclose(
            np.asarray(norm.moving_mean), first.mean((0, 1, 2)), rtol=1e-3, atol=1e-5
        )
        assert not norm.trainable and norm.momentum == 0.7  # as it was
    after = [np.array(w) for layer in before for w in layer]
    for a, b in zip(others, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_recalibrates_once_and_resumes_alike(tmp_path: Path) -> None:
    config = replace(CONFIG, recalibrate=8, epochs=1, frozen_batch_norm=True)
    keras.utils.set_random_seed(1)
    network = build_network(config)
    norm = network.extractors[0].get_layer("extractor_original.0.norm")
    assert not np.asarray(norm.moving_mean).any()  # of random weights
    Trainer(network, Run(tmp_path), LabelledFields(*toy_fields()), None).fit()
    measured = np.asarray(norm.moving_mean)
    assert np.abs(measured).max() > 1e-3
    keras.utils.set_random_seed(2)
    again = build_network(config)
    Trainer(again, Run(tmp_path), LabelledFields(*toy_fields(first_seed=70)), None).fit()
    norm = again.extractors[0].get_layer("extractor_original.0.norm")
    np.testing.assert_array_equal(np.asarray(norm.moving_mean), measured)


def test_settling_leaves_frozen_statistics_and_all_weights_alone() -> None:
    network = build_network(replace(CONFIG, frozen_blocks=1, fusion="branches"))
    fields, _, _ = toy_fields(each=2)
    network.set_phase(head_only=False)
    norms = [
        layer
        for layer in network.extractors[0].layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    frozen = [layer for layer in norms if not layer.trainable]
    assert frozen and len(frozen) < len(norms)
    weights = [np.array(w) for w in network.model.trainable_weights]
    settle(network, fields, batch_size=4)
    for layer in norms:
        assert (not np.asarray(layer.moving_mean).any()) == (layer in frozen)
    for a, b in zip(weights, network.model.trainable_weights, strict=True):
        np.testing.assert_array_equal(a, np.array(b))
    # The last one fits what the extractors answer with their new statistics.
    _, features = network.core.predict_on_batch(network.channels(fields))
    last = network.core.get_layer("features_norm")
    np.testing.assert_allclose(np.asarray(last.moving_mean), features.mean(0), atol=1e-4)
    assert last.momentum == 0.95 and last.trainable


def _slow_norms(size: int, cut: str, name: str) -> Any:
    """The toy as networks are that were made for long trainings: statistics forget slowly."""
    model = TOY.build(size, cut, name)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.99
        if isinstance(layer, keras.layers.Conv2D):
            # Small outputs, as those of a random linear convolution deep in a network.
            layer.kernel.assign(layer.kernel * 0.05)
    return model


def test_a_short_training_from_random_weights_answers_as_it_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", replace(TOY, build=_slow_norms))
    config = replace(CONFIG, frozen_blocks=0, head_epochs=0, epochs=8, augment="none", ema=0.5)

    def train(folder: str, settled: int) -> tuple[list[dict[str, Any]], Any]:
        keras.utils.set_random_seed(1)
        network = build_network(replace(config, settle=settled))
        data = LabelledFields(*toy_fields())
        history = Trainer(network, Run(tmp_path / folder), data, data).fit()
        return history, network

    lagging, _ = train("lagging", 0)
    settled, network = train("settled", 24)
    assert [e["loss"] for e in settled] == [e["loss"] for e in lagging]  # trained alike
    assert lagging[-1]["plain_accuracy"] <= 0.5 < 0.9 < settled[-1]["plain_accuracy"]
    # What is kept is what was judged.
    fields, _, labels = toy_fields()
    best = max(e["plain_accuracy"] for e in settled)
    right = predict_logits(network, fields).argmax(1) == labels
    assert right.mean() == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize(
    "precision", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_mixed_precision_trains_float32_weights(precision: str, tmp_path: Path) -> None:
    config = replace(CONFIG, precision=precision, augment="none")
    keras.utils.set_random_seed(1)
    network = build_network(config, precision=precision)
    extractor = network.extractors[0]
    assert extractor.get_layer("extractor_original.0.conv").compute_dtype == precision[6:]
    assert {w.dtype for w in network.model.weights} <= {"float32", "uint32", "int64"}
    for name in ("features_norm", "dense", "logits"):
        assert network.core.get_layer(name).compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"
    history = Trainer(network, Run(tmp_path), LabelledFields(*toy_fields()), None).fit()
    assert history[-1]["loss"] < history[0]["loss"]
    exact = build_network(config)
    exact.model.set_weights(network.model.get_weights())
    fields, _, _ = toy_fields(each=1)
    np.testing.assert_allclose(
        predict_logits(network, fields), predict_logits(exact, fields), atol=0.1
    )
