"""Biases of integer files take back what rounding the weights adds on average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from onnx import TensorProto, helper, numpy_helper

from allsub_edge.export import bias_correction
from allsub_edge.export.bias_correction import correct_onnx, few, onnx_means, shift
from allsub_edge.export.onnx_int8 import quantise

SHAPES = {"point": (16, 8, 1, 1), "depth": (16, 1, 3, 3), "wide": (5, 16, 3, 3)}


def test_the_shift_by_hand() -> None:
    rng = np.random.default_rng(1)
    for outputs, inside, groups in ((6, 4, 1), (6, 1, 3), (4, 2, 2)):
        exact = rng.normal(size=(outputs, inside, 3, 3))
        rounded = np.round(exact, 1)
        mean = rng.uniform(1, 3, inside * groups)
        by_hand = [
            (rounded[m] - exact[m])[c].sum() * mean[m // (outputs // groups) * inside + c]
            for m in range(outputs)
            for c in range(inside)
        ]
        np.testing.assert_allclose(
            shift(exact, rounded, mean), np.reshape(by_hand, (outputs, inside)).sum(axis=1)
        )


def test_few_are_spread_over_all() -> None:
    feeds: list[Any] = [{"x": np.array(i)} for i in range(100)]
    chosen = [int(feed["x"]) for feed in few(feeds)]
    assert len(chosen) == bias_correction.FIELDS and chosen[0] == 0 and chosen[-1] > 90
    assert few(feeds[:3]) == feeds[:3]


def model() -> Any:
    random = np.random.default_rng(4)
    tensors = []
    for name, shape in SHAPES.items():
        kernel = random.normal(size=shape).astype(np.float32)
        bias = random.normal(size=shape[0]).astype(np.float32)
        tensors += [
            numpy_helper.from_array(kernel, f"{name}/w"),
            numpy_helper.from_array(bias, f"{name}/b"),
        ]
    nodes = [
        helper.make_node("Conv", ["x", "point/w", "point/b"], ["a"], "a/net/point"),
        helper.make_node("Relu", ["a"], ["b"], "a/net/relu"),
        helper.make_node("Conv", ["b", "depth/w", "depth/b"], ["c"], "a/net/depth", group=16),
        helper.make_node("Conv", ["c", "wide/w", "wide/b"], ["y"], "a/net/wide"),
    ]
    shapes = (("x", ["N", 8, 12, 12]), ("y", ["N", 5, 8, 8]))
    given, made = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes]
    graph = helper.make_graph(nodes, "toy", [given], [made], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture()
def files(tmp_path: Path) -> tuple[Path, Path, list[Any]]:
    onnx.save(model(), tmp_path / "float.onnx")
    # Activations far from nought, as those of a bright field are.
    random = np.random.default_rng(1)
    feeds = [
        {"x": 3 + random.random((1, 8, 12, 12), np.float32) * np.float32(0.5)} for _ in range(8)
    ]
    quantise(tmp_path / "float.onnx", tmp_path / "int8.onnx", feeds, ["net"])
    return tmp_path / "float.onnx", tmp_path / "int8.onnx", feeds


def answers(proto: Any, feeds: list[Any]) -> np.ndarray:
    import onnxruntime as ort

    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, feed)[0] for feed in feeds])


def test_the_means_are_those_of_what_is_read(files: tuple[Path, Path, list[Any]]) -> None:
    plain, _, feeds = files
    means = onnx_means(plain, feeds)
    assert set(means) == {"a/net/point", "a/net/depth", "a/net/wide"}
    x = np.concatenate([feed["x"] for feed in feeds]).astype(np.float64)
    np.testing.assert_allclose(means["a/net/point"], x.mean(axis=(0, 2, 3)), rtol=1e-5)
    constants = {t.name: numpy_helper.to_array(t) for t in model().graph.initializer}
    first = np.einsum("nchw,mc->nmhw", x, constants["point/w"][:, :, 0, 0])
    first = np.maximum(first + constants["point/b"].reshape(1, -1, 1, 1), 0)
    np.testing.assert_allclose(means["a/net/depth"], first.mean(axis=(0, 2, 3)), rtol=1e-4)


def test_an_onnx_file_is_no_longer_off_on_average(files: tuple[Path, Path, list[Any]]) -> None:
    plain, target, feeds = files
    exact = answers(onnx.load(plain), feeds)
    proto = onnx.load(target)
    before = answers(proto, feeds) - exact
    weights = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert correct_onnx(proto, plain, onnx_means(plain, feeds)) == 3
    after = answers(proto, feeds) - exact
    off = [np.abs(error.mean(axis=(0, 2, 3))).mean() for error in (before, after)]
    assert off[1] < 0.35 * off[0]
    assert np.linalg.norm(after) < 0.7 * np.linalg.norm(before)
    changed = [
        t.name
        for t in proto.graph.initializer
        if not np.array_equal(numpy_helper.to_array(t), weights[t.name])
    ]
    assert len(changed) == 3 and all(weights[name].dtype == np.int32 for name in changed)


def test_a_convolution_left_in_float_is_left_alone(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "float.onnx")
    feeds: list[Any] = [{"x": np.ones((1, 8, 12, 12), np.float32)}]
    target = tmp_path / "int8.onnx"
    quantise(tmp_path / "float.onnx", target, feeds, ["net"], keep_float=["a/net/depth"])
    proto = onnx.load(target)
    assert (
        correct_onnx(proto, tmp_path / "float.onnx", onnx_means(tmp_path / "float.onnx", feeds))
        == 2
    )
    assert correct_onnx(proto, tmp_path / "float.onnx", {}) == 0


@pytest.fixture(scope="module")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Any]]:
    """The toy, calibrated, and its feeds."""
    pytest.importorskip("tensorflow", reason="the training extra is not installed")
    import keras

    from allsub_edge.export import tflite_int8
    from allsub_edge.export.graph import field_model
    from allsub_edge.export.tflite_float import save_graph
    from allsub_edge.training import backbones
    from allsub_edge.training.config import TrainConfig
    from allsub_edge.training.network import build_network
    from tests.training.toy import TOY, toy_fields

    keras.utils.set_random_seed(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "toy", TOY)
        network = build_network(TrainConfig(backbone="toy", size=224, dense=8, frozen_blocks=0))
    for layer in network.extractors[0].layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(np.linspace(0.1, 0.5, layer.beta.shape[0]))
    width = network.core.outputs[1].shape[-1]
    domain = {
        "centre": np.zeros(width, np.float32),
        "whiten": np.eye(width, dtype=np.float32),
        "means": np.zeros((4, width), np.float32),
    }
    feeds: list[Any] = [{"field": one[None]} for one in toy_fields(each=2, size=224)[0]]
    folder = tmp_path_factory.mktemp("tflite")
    save_graph(field_model(network, 1.0, domain), folder)
    return tflite_int8.calibrate(folder, feeds), feeds


@pytest.mark.parametrize("wide", [False, True])
def test_a_tflite_file_is_no_longer_off_on_average(
    tflite: tuple[bytes, list[Any]], wide: bool
) -> None:
    from allsub_edge.export.bias_correction import tflite_means
    from allsub_edge.export.layer_error import activations
    from allsub_edge.export.tflite_int8 import layers, quantise_extractor

    calibrated, feeds = tflite
    names = ("extractor_original",)
    means = tflite_means(calibrated, feeds)
    wanted = set(layers(calibrated, names))
    assert len(wanted) == 4 and wanted <= set(means)
    exact = activations(calibrated, feeds, wanted)
    off, sizes = [], []
    for given in ({}, means):
        made = quantise_extractor(calibrated, names, means=given, wide=wide)
        seen = activations(made, feeds, wanted)
        off.append(
            np.mean(
                [
                    np.linalg.norm((seen[name] - exact[name]).mean(axis=(0, 1, 2)))
                    / np.linalg.norm(exact[name].mean(axis=(0, 1, 2)))
                    for name in wanted
                ]
            )
        )
        sizes.append(len(made))
    assert off[1] < 0.6 * off[0]
    assert sizes[1] < sizes[0] + 200  # no bias is stored twice
