"""Fewer operators give the same bits, and what is not of the known kind is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from allsub_edge.export import lean
from allsub_edge.export.small_operators import mask_shares, nearest_at_once

SIDE = 32
node = helper.make_node
value = helper.make_tensor_value_info


def built(nodes: list[Any], output: str, dims: list[Any], constants: dict[str, np.ndarray]) -> Any:
    graph = helper.make_graph(
        nodes,
        "g",
        [value("field", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [value(output, TensorProto.FLOAT, ["N", *dims])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answer(proto: Any) -> np.ndarray:
    onnx.checker.check_model(proto, full_check=True)
    opened = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    fields = np.random.default_rng(2).integers(0, 2, (3, SIDE, SIDE, 3), dtype=np.uint8)
    (found,) = opened.run(None, {"field": fields})
    return np.asarray(found)


def kinds(proto: Any) -> list[str]:
    return [item.op_type for item in proto.graph.node]


def averaged(side: int, mask: str = lean.MASK_FLOAT, **options: Any) -> Any:
    """The mean over tiles of the first channel, which plays the mask."""
    nodes = [
        node("Cast", ["field"], ["floats"], to=TensorProto.FLOAT),
        node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        node("Slice", ["planes", "zero", "one", "one"], [mask]),
        node("Reshape", [mask, "shape"], ["shaped"]),
        node(
            "AveragePool",
            ["shaped"],
            ["pooled"],
            kernel_shape=[side, side],
            **({"strides": [side, side]} | options),
        ),
    ]
    constants = {
        "zero": np.array([0]),
        "one": np.array([1]),
        "shape": np.array([-1, 1, SIDE, SIDE]),
    }
    return built(nodes, "pooled", [1, None, None], constants)


@pytest.mark.parametrize("side", [2, 16])
def test_shares_of_the_mask_are_the_same_to_the_bit(side: int) -> None:
    proto = averaged(side)
    before = answer(proto)
    assert mask_shares(proto)
    assert "AveragePool" not in kinds(proto)
    np.testing.assert_array_equal(answer(proto), before)
    assert before.shape == (3, 1, SIDE // side, SIDE // side)
    assert np.ptp(before) > 0
    assert not mask_shares(proto), "once is enough"


@pytest.mark.parametrize(
    "proto",
    [
        averaged(3),
        averaged(16, mask="another"),
        averaged(4, strides=[2, 2]),
        averaged(4, pads=[2, 2, 2, 2]),
    ],
    ids=["not exact", "not the mask", "overlapping", "padded"],
)
def test_another_average_is_left_alone(proto: Any) -> None:
    before = proto.SerializeToString()
    assert not mask_shares(proto)
    assert proto.SerializeToString() == before


def distances(centres: int, *, keepdims: int = 0, last: str = "Sqrt") -> Any:
    """As a converter writes the distance to the nearest of so many centres."""
    random = np.random.default_rng(5)
    constants = {"ends": np.array([0, SIDE * SIDE * 3])}
    constants["weights"] = random.normal(size=(SIDE * SIDE * 3, 64)).astype(np.float32)
    nodes = [
        node("Cast", ["field"], ["floats"], to=TensorProto.FLOAT),
        node("Reshape", ["floats", "ends"], ["flat"]),
        node("MatMul", ["flat", "weights"], ["point"]),
    ]
    least = ""
    for number in range(centres):
        constants[f"c{number}"] = (20 * random.normal(size=(1, 64))).astype(np.float32)
        nodes += [
            node("Sub", ["point", f"c{number}"], [f"d{number}"]),
            node("Mul", [f"d{number}"] * 2, [f"s{number}"]),
            node("ReduceMean", [f"s{number}"], [f"m{number}"], axes=[1], keepdims=keepdims),
        ]
        joined = f"m{number}"
        if least:
            joined = f"l{number}"
            nodes.append(node("Min", [least, f"m{number}"], [joined]))
        least = joined
    nodes.append(node(last, [least], ["domain_distance"]))
    return built(nodes, "domain_distance", [1] * keepdims, constants)


@pytest.mark.parametrize("centres", [2, 4])
def test_distances_are_the_same_to_the_bit(centres: int) -> None:
    proto = distances(centres)
    before = answer(proto)
    assert nearest_at_once(proto)
    assert kinds(proto).count("Sub") == 1
    assert "Min" not in kinds(proto)
    np.testing.assert_array_equal(answer(proto), before)
    assert np.ptp(before) > 0
    assert not nearest_at_once(proto), "once is enough"


@pytest.mark.parametrize(
    "proto",
    [distances(1), distances(4, keepdims=1), distances(4, last="Exp")],
    ids=["one centre", "another shape", "no distance"],
)
def test_another_tail_is_left_alone(proto: Any) -> None:
    before = proto.SerializeToString()
    assert not nearest_at_once(proto)
    assert proto.SerializeToString() == before
