"""The fused graph answers as the converted one did: masks pixel by pixel, integers bit by bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from allsub_edge.errors import ModelFileError
from allsub_edge.export import fuse as fusing
from allsub_edge.export import lean
from allsub_edge.export.fuse import fuse, fuse_file, lean_preparation, quad_stem, tidy
from allsub_edge.imaging import white_balance
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import squash
from allsub_edge.model_file.container import embed_manifest, read
from allsub_edge.model_file.manifest import Manifest
from tests.toy_model import manifest_dict

CELLS = get_recipe("cells")
OPSET = [helper.make_opsetid("", 17)]
node = helper.make_node


def session(proto: Any) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def fields(size: int) -> np.ndarray:
    random = np.random.default_rng(4)
    found = [squash(render_field(s, c), size) for s in (1, 2) for c in ("Benign", "Pre", "Pro")]
    found += [random.integers(0, top, (size, size, 3), dtype=np.uint8) for top in (3, 40, 256)]
    found += [np.full((size, size, 3), level, np.uint8) for level in (0, 29, 30, 255)]
    edge = np.full((size, size, 3), 240, np.uint8)
    edge[:6, :9], edge[-20:, -2:] = (120, 50, 190), (90, 40, 160)
    return np.stack([*found, edge])


def prepared(size: int) -> Any:
    """The lean preparation as a model of its own."""
    build = lean.prepare_cells("field", size, size, CELLS.params)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        build.nodes,
        "lean",
        [value("field", TensorProto.UINT8, ["N", size, size, 3])],
        [
            value(lean.U8_NHWC, TensorProto.UINT8, ["N", size, 3 * size]),
            value(lean.MASK_BYTES, TensorProto.UINT8, ["N", 1, size, size]),
            value(lean.MASK_FLOAT, TensorProto.FLOAT, ["N", 1, size, size]),
        ],
        [numpy_helper.from_array(v, k) for k, v in build.constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=OPSET, ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def test_onnx_runtime_takes_the_maxima_channels_last(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(
        prepared(224).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    kinds = [n.op_type for n in graph.node if n.op_type.endswith("MaxPool")]
    assert kinds == ["NhwcMaxPool"] * 6, "as MaxPool they take twenty times as long"


@pytest.mark.parametrize("size", [48, 224])
def test_the_lean_preparation_equals_numpy_pixel_for_pixel(size: int) -> None:
    batch = fields(size)
    balanced, mask, floats = session(prepared(size)).run(None, {"field": batch})
    expected = np.stack([white_balance.balance(field) for field in batch])
    np.testing.assert_array_equal(balanced.reshape(batch.shape), expected)
    np.testing.assert_array_equal(mask[:, 0], np.stack([CELLS.mask(field) for field in batch]))
    np.testing.assert_array_equal(floats, mask)
    assert mask.any() and not mask.all()


def test_the_nudge_rounds_every_product_half_up() -> None:
    least = white_balance.TARGET * 16 // white_balance.MAX_GAIN
    points = np.arange(least, 255 * 16 + 1)
    scale = 1 << white_balance.GAIN_SHIFT
    gains = (2 * (white_balance.TARGET << (white_balance.GAIN_SHIFT + 4)) + points) // (2 * points)
    pixels = np.arange(256)
    wanted = np.minimum((np.outer(gains, pixels) + scale // 2) >> white_balance.GAIN_SHIFT, 255)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            node("Mul", ["gain", "nudge"], ["g"]),
            node("Mul", ["g", "pixels"], ["scaled"]),
            node("QuantizeLinear", ["scaled", "one", "zero"], ["y"]),
        ],
        "nudge",
        [value("gain", TensorProto.FLOAT, [len(gains), 1])],
        [value("y", TensorProto.UINT8, [len(gains), 256])],
        [
            numpy_helper.from_array(np.float32(lean.NUDGE / scale), "nudge"),
            numpy_helper.from_array(pixels.astype(np.float32), "pixels"),
            numpy_helper.from_array(np.float32(1), "one"),
            numpy_helper.from_array(np.uint8(0), "zero"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=OPSET, ir_version=8)
    (found,) = session(proto).run(None, {"gain": gains.astype(np.float32)[:, None]})
    np.testing.assert_array_equal(found, wanted)
    # Halves do occur, and half to even would get some of them wrong: the nudge is needed.
    products = np.outer(gains, pixels)
    assert (np.rint(products / scale).clip(0, 255) != wanted).any()


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A float and an int8 field model of the shipped kind on 64 px, straight from the tools."""
    pytest.importorskip("tensorflow", reason="the training extra is not installed")
    pytest.importorskip("tf2onnx", reason="the export extra is not installed")
    import keras

    from allsub_edge.export.graph import field_model
    from allsub_edge.export.onnx_float import to_onnx
    from allsub_edge.export.onnx_int8 import quantise
    from allsub_edge.training import backbones
    from allsub_edge.training.config import TrainConfig
    from allsub_edge.training.network import build_network
    from tests.training.toy import TOY

    keras.utils.set_random_seed(3)
    random = np.random.default_rng(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "toy", TOY)
        network = build_network(TrainConfig(backbone="toy", size=64, dense=8))
    # Live statistics, so that answers differ from field to field.
    for layer in network.extractors[0].layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            spread = random.normal(0, 0.3, gamma.shape)
            layer.set_weights([gamma * 3, beta + 1 + spread, mean, variance * 0.5])
    width = int(network.core.outputs[1].shape[-1])
    domain = {
        "centre": np.zeros(width, np.float32),
        "whiten": random.normal(size=(width, 4)).astype(np.float32),
        "means": random.normal(size=(4, 4)).astype(np.float32),
    }
    proto = to_onnx(field_model(network, 2.0, domain))
    folder = tmp_path_factory.mktemp("graphs")
    onnx.save(proto, folder / "float.onnx")
    names = [model.name for model in network.extractors]
    quantise(folder / "float.onnx", folder / "int8.onnx", [{"field": fields(64)}], names)
    return proto, onnx.load(folder / "int8.onnx")


def copied(proto: Any) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def answers(proto: Any) -> dict[str, np.ndarray]:
    opened = session(proto)
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(None, {"field": fields(64)}), strict=True))


def computing(proto: Any) -> int:
    """How many operators do more than give the same numbers another shape or order."""
    shaping = {"Reshape", "Transpose", "Squeeze", "Unsqueeze"}
    return sum(n.op_type not in shaping for n in proto.graph.node)


@pytest.mark.parametrize("index", [0, 1], ids=["float32", "int8"])
def test_a_fused_graph_answers_as_before(graphs: tuple[Any, Any], index: int) -> None:
    before = graphs[index]
    after = copied(before)
    done = fuse(after, CELLS.params)
    stem = ["quad_stem"] if index else []
    assert done == ["lean_preparation", *stem, "tidy", "fewer_operators"]
    assert computing(after) < computing(before)
    old, new = answers(before), answers(after)
    assert list(old) == list(new)
    np.testing.assert_array_equal(new["mask"], old["mask"])
    for name in ("probabilities", "domain_distance"):
        np.testing.assert_allclose(new[name], old[name], rtol=0, atol=1e-6)
    assert np.ptp(old["probabilities"], axis=0).max() > 0.05, "the toy answers alike to everything"


def test_the_stem_of_a_fused_int8_graph_reads_quads(graphs: tuple[Any, Any]) -> None:
    proto = copied(graphs[1])
    assert not quad_stem(proto), "without the lean preparation there is nothing to regroup"
    assert lean_preparation(proto, CELLS.params)
    assert quad_stem(proto)
    constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert constants[lean.PREFIX + "stem"].shape == (16, 12, 3, 2)
    assert not quad_stem(proto), "once is enough"


def test_fusing_twice_changes_nothing_more(graphs: tuple[Any, Any]) -> None:
    proto = copied(graphs[1])
    fuse(proto, CELLS.params)
    assert fuse(proto, CELLS.params) == []


def test_a_lean_preparation_of_an_earlier_version_is_renewed(
    graphs: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = copied(graphs[1])
    with monkeypatch.context() as patch:
        patch.setattr(lean, "_minus_purple", _minus_purple_pixel_by_pixel)
        fuse(earlier, CELLS.params)
    proto = copied(earlier)
    assert fuse(proto, CELLS.params) == ["lean_preparation"]
    old, new = answers(earlier), answers(proto)
    for name, value in old.items():
        np.testing.assert_array_equal(new[name], value)
    assert fuse(proto, CELLS.params) == []


def _minus_purple_pixel_by_pixel(build: lean.Builder, height: int, width: int) -> str:
    pixels = build.add("Cast", [lean.U8_NHWC], to=lean.float_type())
    pixels = build.reshape(pixels, 0, height * width, 3)
    weights = build.constant([[-1], [2], [-1]])
    return build.reshape(build.add("MatMul", [pixels, weights]), 0, 1, height, width)


def test_another_recipe_keeps_its_preparation(graphs: tuple[Any, Any]) -> None:
    proto = copied(graphs[0])
    fuse(proto, None)
    assert not [n for n in proto.graph.node if n.name.startswith(lean.PREFIX)]


def test_a_stem_that_another_operator_reads_too_is_left_alone(graphs: tuple[Any, Any]) -> None:
    proto = copied(graphs[1])
    assert lean_preparation(proto, CELLS.params)
    stem = next(n for n in proto.graph.node if n.op_type == "Conv")
    proto.graph.node.append(node("Identity", [stem.output[0]], ["also"]))
    assert not quad_stem(proto)


def reshaped(first: list[int], second: list[int]) -> Any:
    """[N, 4, 3] through two Reshapes."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node("Reshape", ["x", "first"], ["a"]), node("Reshape", ["a", "second"], ["y"])],
        "reshapes",
        [value("x", TensorProto.FLOAT, ["N", 4, 3])],
        [value("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.array(shape, np.int64), name)
            for name, shape in (("first", first), ("second", second))
        ],
    )
    return helper.make_model(graph, opset_imports=OPSET, ir_version=8)


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ([0, 6, 2], [0, 6, 2], True),
        ([0, 6, 2], [-1, 3, 4], True),
        ([-1, 2, 3], [-1, 12], True),
        # A 0 behind the batch copies what the first made.
        ([0, 6, 2], [0, 0, 2], False),
        # The batch that the second copies is not that of the field.
        ([-1, 2, 3], [0, 6], False),
    ],
)
def test_tidy_joins_reshapes_that_mean_the_same(
    first: list[int], second: list[int], joined: bool
) -> None:
    proto = reshaped(first, second)
    before = session(proto).run(None, {"x": np.ones((2, 4, 3), np.float32)})[0]
    assert tidy(proto) == joined
    assert len(proto.graph.node) == 2 - joined
    after = session(proto).run(None, {"x": np.ones((2, 4, 3), np.float32)})[0]
    assert after.shape == before.shape


def _sealed(proto: Any, path: Path) -> None:
    manifest = Manifest.from_dict(
        manifest_dict(
            recipe={"name": "cells", "version": 1, "params": dict(CELLS.params)},
            white_balance="background/1",
        )
    )
    path.write_bytes(embed_manifest(proto.SerializeToString(), manifest))


def test_a_file_is_fused_in_place_and_keeps_its_manifest(
    graphs: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    _sealed(graphs[1], path)
    before = read(path)
    # The toy is smaller than the contract; only its engine's check knows the contract's size.
    monkeypatch.setattr(fusing, "open_engine", lambda model, threads: _Engine(model.data))
    assert fuse_file(path, list(fields(64)))
    assert read(path).manifest == replace(before.manifest)
    assert fuse_file(path, list(fields(64))) == []


def test_a_file_that_would_answer_otherwise_is_left_alone(
    graphs: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    _sealed(graphs[1], path)
    before = path.read_bytes()
    monkeypatch.setattr(fusing, "open_engine", lambda model, threads: _Engine(model.data))
    monkeypatch.setattr(lean, "NUDGE", 1.02)  # a gain that is wrong by 2 %
    with pytest.raises(ModelFileError, match="left alone"):
        fuse_file(path, list(fields(64)))
    assert path.read_bytes() == before


def test_a_file_that_would_give_no_number_is_left_alone(
    graphs: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    _sealed(graphs[1], path)
    before = path.read_bytes()

    class Broken(_Engine):
        def run(self, batch: np.ndarray) -> Any:
            found = super().run(batch)
            return found._replace(probabilities=found.probabilities * np.float32(np.nan))

    engines = iter([_Engine, Broken])
    monkeypatch.setattr(fusing, "open_engine", lambda model, threads: next(engines)(model.data))
    with pytest.raises(ModelFileError, match="left alone"):
        fuse_file(path, list(fields(64)))
    assert path.read_bytes() == before


class _Engine:
    def __init__(self, data: bytes) -> None:
        self._session = session(onnx.load_from_string(data))

    def run(self, batch: np.ndarray) -> Any:
        from allsub_edge.engines.base import RawOutput

        names = ["probabilities", "domain_distance", "mask"]
        return RawOutput(*self._session.run(names, {"field": batch}))
