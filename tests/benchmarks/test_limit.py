"""``benchmarks.limit``: what is counted is what the graph does, and both profiles fit it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from allsub_edge.benchmarks import limit, profiles, work
from allsub_edge.benchmarks.obvious_way import keep_needed

onnx = pytest.importorskip("onnx", reason="counting needs onnx")


def graph(size: int = 8) -> bytes:
    """uint8 field -> a 3x3, a depthwise, a 1x1 convolution, a pool and a dense layer."""
    from onnx import TensorProto as T
    from onnx import helper, numpy_helper

    random = np.random.default_rng(1)

    def weights(name: str, *shape: int) -> object:
        return numpy_helper.from_array(random.random(shape, np.float32), name)

    nodes = [
        helper.make_node("Cast", ["field"], ["f"], to=T.FLOAT),
        helper.make_node("Transpose", ["f"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "a"], ["c1"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Conv", ["c1", "b"], ["c2"], kernel_shape=[3, 3], pads=[1] * 4, group=16),
        helper.make_node("Conv", ["c2", "c"], ["c3"], kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["c3"], ["p"]),
        helper.make_node("Flatten", ["p"], ["v"]),
        helper.make_node("MatMul", ["v", "d"], ["y"]),
    ]
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("field", T.UINT8, ["N", size, size, 3])],
            [helper.make_tensor_value_info("y", T.FLOAT, ["N", 4])],
            [
                weights("a", 16, 3, 3, 3),
                weights("b", 16, 1, 3, 3),
                weights("c", 32, 16, 1, 1),
                weights("d", 32, 4),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return bytes(proto.SerializeToString())


def test_multiply_adds_are_counted_by_kind() -> None:
    counted = work.count_onnx(graph(8))
    pixels = 8 * 8
    assert counted[work.CONV].float_macs == pixels * 16 * 27
    assert counted[work.DEPTH].float_macs == pixels * 16 * 9
    assert counted[work.POINT].float_macs == pixels * 32 * 16
    assert counted[work.DENSE].float_macs == 32 * 4
    assert counted[work.POINT].bytes == 4 * (pixels * 16 + 32 * 16 + pixels * 32)
    assert work.total(counted).int8_macs == 0


def test_a_product_of_bytes_counts_as_integers() -> None:
    from onnx import TensorProto as T
    from onnx import helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((24, 8), np.int8), "w")
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMulInteger", ["field", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("field", T.UINT8, ["N", 10, 24])],
            [helper.make_tensor_value_info("y", T.INT32, ["N", 10, 8])],
            [weights],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    (kind,) = work.count_onnx(proto.SerializeToString()).items()
    assert kind[0] == work.DENSE
    assert (kind[1].int8_macs, kind[1].float_macs) == (10 * 24 * 8, 0)


def quantised() -> bytes:
    """float field -> scaled, quantised; an integer convolution with its ReLU; a float mean."""
    from onnx import TensorProto as T
    from onnx import helper, numpy_helper

    arrays = {"w": np.ones((8, 4, 1, 1), np.int8), "gain": np.float32(2), "s": np.float32(0.1)}
    zeros = {"zu": np.uint8(0), "zs": np.int8(0)}
    nodes = [
        helper.make_node("Mul", ["field", "gain"], ["scaled"]),
        helper.make_node("QuantizeLinear", ["scaled", "s", "zu"], ["x"]),
        helper.make_node("DequantizeLinear", ["x", "s", "zu"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "s", "zs"], ["wf"]),
        helper.make_node("Conv", ["xf", "wf"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "zu"], ["y"]),
        helper.make_node("DequantizeLinear", ["y", "s", "zu"], ["yf"]),
        helper.make_node("GlobalAveragePool", ["yf"], ["mean"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("field", T.FLOAT, ["N", 4, 10, 10])],
        [helper.make_tensor_value_info("mean", T.FLOAT, ["N", 8, 1, 1])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (arrays | zeros).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def test_bytes_are_counted_where_the_graph_turns_from_float_to_integers_and_back() -> None:
    counted = work.count_onnx(quantised())
    given, made = 4 * 100, 8 * 100
    assert counted[work.POINT].int8_macs == given * 8
    assert counted[work.POINT].bytes == given + 32 + made
    assert counted[work.SIMPLE].bytes == 4 * (given + 1 + given)
    assert counted[work.REDUCE].bytes == 4 * (made + 8)
    # The two borders, each with its scale and zero point; the four others vanish.
    assert counted[work.MOVE].operators == 2
    assert counted[work.MOVE].bytes == (4 + 1) * (given + made) + 2 * 5


def test_the_profile_of_onnx_runtime_has_the_same_kinds() -> None:
    field = np.zeros((64, 64, 3), np.uint8)
    found = profiles.profile_onnx(graph(64), field, threads=1, runs=8)
    for kind in (work.CONV, work.DEPTH, work.POINT, work.DENSE):
        assert found[kind][0] == 1, kind
        assert found[kind][1] > 0


def test_a_cut_graph_keeps_only_what_its_output_needs() -> None:
    proto = onnx.load_from_string(graph(8))
    kept = onnx.helper.make_tensor_value_info("c1", onnx.TensorProto.FLOAT, None)
    del proto.graph.output[:]
    proto.graph.output.append(kept)
    made = {name: node for node in proto.graph.node for name in node.output}
    keep_needed(proto, set(), made)
    assert [node.op_type for node in proto.graph.node] == ["Cast", "Transpose", "Conv"]
    assert [item.name for item in proto.graph.initializer] == ["a"]


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("Convolution (NHWC, QC8) DWConv", work.DEPTH),
        ("Convolution (NHWC, QC8) IGEMM", work.CONV),
        ("Fully Connected (NC, QS8, QC8W) GEMM", work.POINT),
        ("Max Pooling (NHWC, F32)", work.POOL),
        ("Average Pooling (NHWC, F32) Average Pooling", work.POOL),
        ("Mean (ND) Reduce2", work.REDUCE),
        ("Reduce Min (ND) Reduce", work.REDUCE),
        ("TOPK_V2", work.SORT),
        ("Transpose (ND, X32) Transpose", work.MOVE),
        ("Convert (NC)", work.MOVE),
        ("Static Reshape (NC)", work.MOVE),
        ("Multiply (ND)", work.SIMPLE),
        ("Maximum (ND)", work.SIMPLE),
    ],
)
def test_names_of_xnnpack_are_understood(tag: str, kind: str) -> None:
    assert profiles.litert_kind(tag) == kind


def test_the_least_time_is_the_larger_of_both_bounds() -> None:
    peaks = {"gmacs": {"int8": 100.0, "float32": 50.0}, "gbytes": {"2 MB": 10.0}}
    assert limit.least_ms(work.Work(int8_macs=10**8, bytes=10), peaks) == pytest.approx(1.0)
    assert limit.least_ms(work.Work(float_macs=10, bytes=10**7), peaks) == pytest.approx(1.0)


def test_a_file_that_is_no_model_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allsub_edge.benchmarks.peaks.measure", lambda threads: {})
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    assert limit.main([str(bad)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
