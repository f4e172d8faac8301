from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

import keras

from allsub_edge.export.paired_weights import steps
from allsub_edge.training import backbones
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.integers import simulated
from allsub_edge.training.loop import Trainer
from allsub_edge.training.network import TwoChannelNetwork, build_network
from allsub_edge.training.rounding import (
    ACTIVATION_STEPS,
    RoundedActivation,
    RoundedConvolution,
    rounded_kernel,
    weight_steps,
)

from .toy import TOY, toy_fields
from .toy_training import kept_weights, toy_trainer, train_until

CONFIG = TrainConfig(
    backbone="toy", size=64, epochs=2, head_epochs=0, integer_epochs=3, batch_size=8, dense=8,
    frozen_blocks=1, frozen_batch_norm=True, dropout=0.0, learning_rate=3e-3, augment="mild",
    integer_learning_rate=1e-3, patience=10,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)


def _gradient(function: Callable[[Any], Any], at: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    x = tf.constant(at, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(function(x))
    return np.asarray(tape.gradient(total, x))


SHAPES = {
    "3x3": (3, 3, 4, 5),
    "3x3, odd": (3, 3, 3, 5),
    "1x1": (1, 1, 32, 6),
    "1x1, odd": (1, 1, 7, 6),
    "one weight": (1, 1, 1, 6),
    "depthwise": (3, 3, 6, 1),
    "depthwise, two of each": (3, 3, 6, 2),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_kernel_lies_on_the_steps_of_its_channel_and_passes_gradients(name: str) -> None:
    shape, deep = SHAPES[name], name.startswith("depthwise")
    kernel = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    made = np.asarray(rounded_kernel(kernel, deep))
    step = np.asarray(weight_steps(kernel, deep))
    np.testing.assert_allclose(made / step, np.round(kernel / step), atol=1e-3)
    assert np.abs(made - kernel).max() <= step.max() / 2 + 1e-6
    passed = _gradient(lambda k: rounded_kernel(k, deep), kernel)
    np.testing.assert_array_equal(passed, np.ones_like(kernel))


@pytest.mark.parametrize("name", SHAPES)
def test_the_steps_are_those_of_the_exported_file(name: str) -> None:
    shape, deep = SHAPES[name], name.startswith("depthwise")
    kernel = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    made = np.asarray(weight_steps(kernel, deep)).reshape(-1)
    if deep:
        stored = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, *shape[:2])
    else:
        stored = kernel.transpose(3, 2, 0, 1)
    exported = steps(stored, group=shape[2] if deep else 1)
    assert (exported >= made * (1 - 1e-5)).all()
    np.testing.assert_allclose(exported, made, rtol=0.01)


def test_an_activation_has_256_values_one_of_them_zero_and_no_gradient_outside() -> None:
    layer = RoundedActivation(-1.3, 4.0)
    values = np.linspace(-3, 6, 5001, dtype=np.float32)
    made = np.asarray(layer(values))
    assert len(np.unique(made)) <= ACTIVATION_STEPS + 1
    assert 0.0 in np.asarray(layer(np.zeros(1, np.float32)))
    assert made.min() == pytest.approx(-1.3, abs=0.02) and made.max() == pytest.approx(4, abs=0.02)
    inside = (values > -1.27) & (values < 3.97)
    assert np.abs(made - values)[inside].max() <= 5.3 / ACTIVATION_STEPS / 2 + 1e-6
    passed = _gradient(layer, values)
    assert (passed[inside] == 1).all() and (passed[(values < -1.4) | (values > 4.1)] == 0).all()


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D", "biased"])
@pytest.mark.parametrize("strides", [1, 2])
def test_a_rounded_convolution_is_the_two_layers_but_for_rounding(kind: str, strides: int) -> None:
    rng = np.random.default_rng(2)
    fields = rng.normal(size=(2, 9, 9, 6)).astype(np.float32)
    options = {"strides": strides, "padding": "same", "use_bias": kind == "biased"}
    if kind == "DepthwiseConv2D":
        convolution = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, **options)
    else:
        convolution = keras.layers.Conv2D(12, 3, bias_initializer="random_normal", **options)
    norm = keras.layers.BatchNormalization()
    norm(convolution(fields))  # builds both
    norm.set_weights([rng.uniform(0.5, 2, 12).astype(np.float32) for _ in norm.get_weights()])
    before = np.asarray(norm(convolution(fields)))
    nothing = np.zeros(6, np.float32)
    after = np.asarray(RoundedConvolution(convolution, norm, nothing)(fields))
    assert after.shape == before.shape
    assert 0 < np.abs(after - before).max() < 0.05 * np.abs(before).max()
    alone = np.asarray(RoundedConvolution(convolution, None, nothing)(fields))
    np.testing.assert_allclose(alone, np.asarray(convolution(fields)), atol=0.2)


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D"])
def test_of_usual_inputs_a_rounded_kernel_makes_what_it_did(kind: str) -> None:
    mean = np.array([2.0, 40.0, 5.0, 0.5], np.float32)
    if kind == "DepthwiseConv2D":
        convolution = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)
    else:
        convolution = keras.layers.Conv2D(7, 3, use_bias=False)
    fields = np.broadcast_to(mean, (1, 6, 6, 4)).astype(np.float32)
    exact = np.asarray(convolution(fields))
    bare = np.asarray(RoundedConvolution(convolution, None, np.zeros(4))(fields))
    assert np.abs(bare - exact).max() > 0.05
    layer = RoundedConvolution(convolution, None, mean)
    np.testing.assert_allclose(np.asarray(layer(fields)), exact, atol=1e-3)
    # It takes off the mean and nothing of what varies around it.
    other = fields + np.random.default_rng(1).normal(size=fields.shape).astype(np.float32)
    without = np.asarray(RoundedConvolution(convolution, None, np.zeros(4))(other))
    np.testing.assert_allclose(np.asarray(layer(other)) - without, exact - bare, atol=1e-3)
    assert len(layer.non_trainable_weights) == 1


def _network(config: TrainConfig = CONFIG) -> TwoChannelNetwork:
    keras.utils.set_random_seed(config.seed)
    return build_network(config)


@pytest.mark.parametrize("fusion", ["mask_pool", "branches"])
def test_the_simulation_shares_every_weight_and_answers_nearly_alike(fusion: str) -> None:
    network = _network(replace(CONFIG, fusion=fusion))
    fields = toy_fields(each=2)[0]
    twin = simulated(network, fields)
    channels = network.channels(fields)

    def apart() -> float:
        ours = np.asarray(network.model.predict_on_batch(channels))
        return float(np.abs(np.asarray(twin.predict_on_batch(channels)) - ours).max())

    assert 0 < apart() < 0.1
    network.set_phase(head_only=False)
    mine = {id(v) for v in network.model.trainable_variables}
    assert {id(v) for v in twin.trainable_variables} == mine
    weights = network.model.get_weights()
    network.model.set_weights([3 * w for w in weights])
    changed = np.asarray(twin.predict_on_batch(channels))
    network.model.set_weights(weights)
    assert np.abs(changed - np.asarray(twin.predict_on_batch(channels))).max() > 0.1


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2"])
def test_every_convolution_of_a_real_extractor_is_rounded(name: str) -> None:
    network = _network(TrainConfig(backbone=name, size=64, cut="stride16"))
    twin = simulated(network, toy_fields(each=1)[0])
    inner = [layer for layer in twin._flatten_layers() if isinstance(layer, RoundedConvolution)]
    wanted = [
        layer
        for layer in network.extractors[0].layers
        if type(layer).__name__ in ("Conv2D", "DepthwiseConv2D")
    ]
    assert {id(layer.convolution) for layer in inner} == {id(layer) for layer in wanted}
    assert all(layer.norm is not None for layer in inner)
    steps = [layer for layer in twin._flatten_layers() if isinstance(layer, RoundedActivation)]
    sums = [x for x in network.extractors[0].layers if type(x).__name__ == "Add"]
    # The field, and one for each convolution, whether a ReLU follows or not, and for each sum.
    assert len(steps) == 1 + len(wanted) + len(sums)


def test_in_training_half_of_the_fields_are_left_as_they_are() -> None:
    layer = RoundedActivation(-1.0, 4.0, share=0.5, seed=1)
    fields = np.random.default_rng(4).uniform(-1, 4, (400, 3, 3, 2)).astype(np.float32)
    made = np.asarray(layer(fields, training=True))
    exact = (made == fields).reshape(400, -1).all(axis=1)
    always = np.asarray(RoundedActivation(-1.0, 4.0)(fields, training=True))
    np.testing.assert_array_equal(made[~exact], always[~exact])
    assert 150 < exact.sum() < 250
    np.testing.assert_array_equal(np.asarray(layer(fields)), always)  # files round always
    assert (np.asarray(layer(fields, training=True)) != made).any()  # drawn anew


def test_in_training_a_kernel_is_rounded_in_some_steps_alone() -> None:
    convolution = keras.layers.Conv2D(4, 3, use_bias=False)
    fields = np.random.default_rng(5).normal(size=(1, 5, 5, 3)).astype(np.float32)
    exact = np.asarray(convolution(fields))
    layer = RoundedConvolution(convolution, None, np.ones(3), share=0.5, seed=1)
    rounded = np.asarray(layer(fields))
    assert np.abs(exact - rounded).max() > 1e-4
    made = [np.asarray(layer(fields, training=True)) for _ in range(40)]
    near = [np.allclose(m, exact, atol=1e-6) for m in made]
    assert 8 < sum(near) < 32
    for one, is_exact in zip(made, near, strict=True):
        np.testing.assert_allclose(one, exact if is_exact else rounded, atol=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_integer_epochs_follow_and_a_killed_training_goes_on_alike(
    tmp_path: Path, share: float
) -> None:
    config = replace(CONFIG, integer_share=share)
    seen: dict[str, list[np.ndarray]] = {}

    def watch(epoch: int, step: int, steps: int, loss: float) -> None:
        if (epoch, step) == (2, 1):
            seen["before"] = kept_weights(tmp_path / "whole")

    whole = toy_trainer(tmp_path / "whole", config).fit(watch)
    assert [e["phase"] for e in whole] == ["fine-tune"] * 2 + ["integers"] * 3
    # The weights that are kept are of the integer epochs, whatever the score was before.
    best = kept_weights(tmp_path / "whole")
    assert any((a != b).any() for a, b in zip(best, seen["before"], strict=True))

    train_until(tmp_path / "killed", config, 2, 1)  # in the first step with rounding
    train_until(tmp_path / "killed", config, 3, 2)
    resumed = toy_trainer(tmp_path / "killed", config).fit()
    assert [e["loss"] for e in resumed] == [e["loss"] for e in whole]
    for a, b in zip(best, kept_weights(tmp_path / "killed"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_kill_after_the_first_rounded_best_does_not_change_where_rounding_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_trainer(tmp_path / "whole", CONFIG).fit()
    store = Trainer._save_checkpoint

    def killed(trainer: Trainer) -> None:
        if trainer._state.epoch == CONFIG.epochs + 1:
            raise KeyboardInterrupt
        store(trainer)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_save_checkpoint", killed)
        toy_trainer(tmp_path / "killed", CONFIG).fit()
    toy_trainer(tmp_path / "killed", CONFIG).fit()
    for name in ("whole", "killed"):
        assert not (tmp_path / name / "tuned.npz").exists()
    for a, b in zip(
        kept_weights(tmp_path / "whole"), kept_weights(tmp_path / "killed"), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_without_patience_left_the_rounding_still_gets_its_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, epochs=6, patience=2)
    monkeypatch.setattr(Trainer, "_score", lambda trainer: {"score": 1.0})
    history = toy_trainer(tmp_path, config).fit()
    assert [e["epoch"] for e in history] == [0, 1, 2, 6, 7, 8]
    assert [e["phase"] for e in history] == ["fine-tune"] * 3 + ["integers"] * 3
