from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from allsub_edge.export.slim import fold_scales

RNG = np.random.default_rng(7)


def _model(
    nodes: list, constants: dict[str, np.ndarray], outputs: tuple[str, ...]
) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "toy",
        [value("x", TensorProto.FLOAT, ["N", 4, 6, 6])],
        [value(name, TensorProto.FLOAT, ["a", "b", "c", "d"]) for name in outputs],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _run(model: onnx.ModelProto) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"x": np.random.default_rng(1).normal(size=(2, 4, 6, 6)).astype("f4")})


def _depthwise(name: str = "c") -> onnx.NodeProto:
    return helper.make_node("Conv", ["x", "w"], [name], group=4, pads=[1, 1, 1, 1])


WEIGHT = RNG.normal(size=(4, 1, 3, 3))


def test_a_batch_norm_behind_a_depthwise_convolution_disappears() -> None:
    model = _model(
        [
            _depthwise(),
            helper.make_node("Mul", ["c", "s"], ["m"]),
            helper.make_node("Add", ["b", "m"], ["y"]),
        ],
        {"w": WEIGHT, "s": RNG.normal(size=(1, 4, 1, 1)), "b": RNG.normal(size=(4, 1, 1))},
        ("y",),
    )
    before = _run(model)[0]
    assert fold_scales(model) == 2
    assert [n.op_type for n in model.graph.node] == ["Conv"]
    assert {t.name for t in model.graph.initializer} == set(model.graph.node[0].input[1:])
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(_run(model)[0], before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1, 6), (6, 6), (2, 4, 6, 6)])
def test_what_is_not_one_value_for_each_channel_stays(shape: tuple[int, ...]) -> None:
    model = _model(
        [_depthwise(), helper.make_node("Mul", ["c", "s"], ["y"])],
        {"w": WEIGHT, "s": RNG.normal(size=shape)},
        ("y",),
    )
    assert fold_scales(model) == 0
    assert len(model.graph.node) == 2


def test_a_result_that_somebody_else_reads_is_left_alone() -> None:
    model = _model(
        [
            _depthwise(),
            helper.make_node("Mul", ["c", "s"], ["m"]),
            helper.make_node("Add", ["m", "c"], ["y"]),
        ],
        {"w": WEIGHT, "s": RNG.normal(size=(4, 1, 1))},
        ("y",),
    )
    before = _run(model)[0]
    assert fold_scales(model) == 0
    np.testing.assert_array_equal(_run(model)[0], before)


def test_a_result_that_the_graph_returns_is_left_alone() -> None:
    model = _model(
        [_depthwise(), helper.make_node("Mul", ["c", "s"], ["y"])],
        {"w": WEIGHT, "s": RNG.normal(size=(4, 1, 1))},
        ("c", "y"),
    )
    assert fold_scales(model) == 0
