"""Weights of 8 bits of which no two overflow where x86 chips without VNNI add them in 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from onnx import TensorProto, helper, numpy_helper

from allsub_edge.export.onnx_int8 import Quantisation, quantise
from allsub_edge.export.paired_weights import largest_pairs, overflowing, ranges, steps

MODELS = Path(__file__).parents[2] / "allsub_edge" / "models"


def saturated(flat: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """What ``VPMADDUBSW`` and sums in 32 bits make of weights [M, K] and activations [N, K]."""
    even = flat.shape[1] % 2
    flat, fields = (np.pad(a.astype(np.int64), ((0, 0), (0, even))) for a in (flat, fields))
    products = fields[:, None, :] * flat[None]
    pairs = products.reshape(*products.shape[:2], -1, 2).sum(axis=3)
    return np.asarray(np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=2))


def quantised(kernel: np.ndarray, group: int = 1) -> np.ndarray:
    step = steps(kernel, group).astype(np.float32)
    return np.rint(kernel / step[:, None, None, None]).reshape(len(kernel), -1)


@pytest.mark.parametrize("inputs", [24, 31])
def test_no_pair_of_a_pointwise_kernel_saturates(inputs: int) -> None:
    kernel = np.random.default_rng(1).normal(size=(64, inputs, 1, 1)).astype(np.float32)
    weights = quantised(kernel)
    assert np.abs(weights).max() == 127, "some channel has its whole 8 bits"
    # The worst fields there are: full where the weights of a channel are positive, or negative.
    worst = 255 * np.concatenate([weights > 0, weights < 0])
    np.testing.assert_array_equal(saturated(weights, worst), worst @ weights.T)
    whole = np.rint(kernel.reshape(64, -1) * (127 / np.abs(kernel).max(axis=(1, 2, 3)))[:, None])
    assert (saturated(whole, worst) != worst @ whole.T).any(), "without it they do"


def test_no_neighbours_of_a_larger_kernel_saturate_in_either_layout() -> None:
    kernel = np.random.default_rng(2).normal(size=(16, 6, 3, 3)).astype(np.float32)
    step = steps(kernel).astype(np.float32)[:, None, None, None]
    weights = np.rint(kernel / step)
    assert (step * 127 / np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) < 1.05).any()
    for layout in (weights, weights.transpose(0, 2, 3, 1)):
        flat = layout.reshape(16, -1)
        worst = 255 * np.concatenate([flat > 0, flat < 0])
        np.testing.assert_array_equal(saturated(flat, worst), worst @ flat.T)


def test_no_two_weights_of_a_larger_kernel_of_odd_channels_saturate_in_any_order() -> None:
    random = np.random.default_rng(2)
    kernel = random.normal(size=(16, 3, 3, 3)).astype(np.float32)
    weights = quantised(kernel)
    for _ in range(50):
        order = random.permutation(27)
        worst = 255 * (weights[:, order] > 0)
        np.testing.assert_array_equal(
            saturated(weights[:, order], worst), worst @ weights[:, order].T
        )


def test_a_step_is_never_coarser_than_that_of_7_bits_and_mostly_much_finer() -> None:
    kernel = np.random.default_rng(3).normal(size=(256, 96, 1, 1))
    coarse = steps(kernel) / (np.abs(kernel).max(axis=(1, 2, 3)) / 127)
    assert coarse.min() == 1
    assert coarse.max() <= 127 / 64 * 1.01
    assert np.median(coarse) < 1.3


def test_opposite_signs_and_distant_weights_cost_nothing() -> None:
    kernel = np.zeros((3, 4, 1, 1))
    kernel[0, :2, 0, 0] = 1, -1  # neighbours, but of opposite signs
    kernel[1, 1:3, 0, 0] = 1, 1  # side by side, but in two pairs
    kernel[2, 2:, 0, 0] = 1, 1
    made = steps(kernel) * 127
    np.testing.assert_allclose(made[:2], 1)
    # 127 / 64, but for what keeps rounding from lifting them.
    np.testing.assert_allclose(made[2], 127 / 64, rtol=0.01)


def test_a_depthwise_kernel_keeps_8_bits_and_zeros_have_a_step() -> None:
    kernel = np.ones((8, 1, 3, 3))
    np.testing.assert_allclose(steps(kernel, group=8), 1 / 127)
    # Two outputs of each input take another path in ONNX Runtime.
    assert steps(np.ones((16, 1, 3, 3)), group=8).min() > 1 / 65
    # Of one group there is nothing depthwise.
    assert steps(np.ones((1, 1, 3, 3))).min() > 1 / 65
    np.testing.assert_array_equal(steps(np.zeros((2, 4, 1, 1))), 1)
    assert not largest_pairs(np.zeros((2, 4, 1, 1), np.int8)).any()


def model() -> Any:
    """An 8-channel pointwise convolution, its activation, a depthwise and a 3x3 convolution."""
    random = np.random.default_rng(4)
    kernels = {
        "point": np.abs(random.normal(size=(16, 8, 1, 1))),
        "depth": random.normal(size=(16, 1, 3, 3)),
        "wide": random.normal(size=(4, 16, 3, 3)),
    }
    tensors = [numpy_helper.from_array(k.astype(np.float32), f"{n}/w") for n, k in kernels.items()]
    nodes = [
        helper.make_node("Conv", ["x", "point/w"], ["a"], "a/net/point"),
        helper.make_node("Relu", ["a"], ["b"], "a/net/relu"),
        helper.make_node("Conv", ["b", "depth/w"], ["c"], "a/net/depth", group=16),
        helper.make_node("Conv", ["c", "wide/w"], ["y"], "a/net/wide"),
    ]
    shapes = (("x", ["N", 8, 12, 12]), ("y", ["N", 4, 8, 8]))
    given, made = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes]
    graph = helper.make_graph(nodes, "toy", [given], [made], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("paired", [True, False])
def test_the_quantiser_keeps_to_the_steps(tmp_path: Path, paired: bool, per_channel: bool) -> None:
    onnx.save(model(), tmp_path / "float.onnx")
    feeds = [{"x": np.random.default_rng(s).random((1, 8, 12, 12), np.float32)} for s in range(4)]
    settings = Quantisation(per_channel=per_channel, paired=paired)
    quantise(tmp_path / "float.onnx", tmp_path / "int8.onnx", feeds, ["net"], settings)
    proto = onnx.load(tmp_path / "int8.onnx")
    assert overflowing(proto) == ([] if paired else ["a/net/point", "a/net/wide"])
    if paired:
        made = ranges(model(), ["a/net/point"], per_channel)["point/w"]
        [stored] = [t for t in proto.graph.initializer if t.name == "point/w_scale"]
        wanted = np.array([row["rmax"] for row in made]) / 127
        np.testing.assert_allclose(numpy_helper.to_array(stored).ravel(), wanted, rtol=1e-6)


@pytest.mark.parametrize("path", sorted(MODELS.glob("*int8*.onnx")), ids=lambda p: p.name)
def test_the_shipped_file_overflows_on_no_chip(path: Path) -> None:
    assert overflowing(onnx.load(path)) == []
