"""What this machine can do at best: multiply-adds a second, and bytes a second, as measured.

The peak is what a large square matrix product reaches in ONNX Runtime, float32 and int8 (unsigned
times signed, as our files have it): the best rate that a real library gets out of the processor,
not a number from a data sheet. Bandwidth is that of numpy copying arrays of three sizes, reads and
writes counted: one that fits the second-level cache, one as large as a layer's tensors, and one
that fits no cache.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final

import numpy as np

SIDE: Final[int] = 1024
COPIES: Final[dict[str, int]] = {"256 KB": 1 << 17, "2 MB": 1 << 20, "256 MB": 1 << 27}
"""Name -> bytes of one of the two arrays; the name tells both together."""

LAYER: Final[str] = "2 MB"
"""What layers move through: their tensors are of this order, and stay in the last-level cache."""


def best_time(work: Any, seconds: float) -> float:
    """Shortest duration of a call, over at least three calls and ``seconds``."""
    work()
    best, calls, ends = float("inf"), 0, perf_counter() + seconds
    while calls < 3 or perf_counter() < ends:
        started = perf_counter()
        work()
        best = min(best, perf_counter() - started)
        calls += 1
    return best


def _product(kind: str, threads: int) -> Any:
    """A session that multiplies two square matrices, the second a constant, and its feed."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    if kind == "float32":
        op, given, out = "MatMul", TensorProto.FLOAT, TensorProto.FLOAT
        x: Any = random.random((SIDE, SIDE), np.float32)
        w: Any = random.random((SIDE, SIDE), np.float32)
    else:
        op, given, out = "MatMulInteger", TensorProto.UINT8, TensorProto.INT32
        x = random.integers(0, 128, (SIDE, SIDE), np.uint8)
        w = random.integers(-64, 64, (SIDE, SIDE), np.int8)
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", given, x.shape)],
        [helper.make_tensor_value_info("y", out, x.shape)],
        [numpy_helper.from_array(w, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"x": x})


def measure(threads: int = 1, seconds: float = 1.0) -> dict[str, Any]:
    """Measure the machine.

    Returns:
        ``gmacs``: 10^9 multiply-adds a second by ``float32`` and ``int8``; ``gbytes``: 10^9 bytes
        a second by a name of :data:`COPIES`, on one thread.
    """
    gmacs = {
        kind: round(SIDE**3 / best_time(_product(kind, threads), seconds) / 1e9, 2)
        for kind in ("float32", "int8")
    }
    gbytes = {}
    for name, size in COPIES.items():
        source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
        spent = best_time(lambda a=target, b=source: np.copyto(a, b), seconds / 3)
        gbytes[name] = round(2 * size / spent / 1e9, 2)
    return {"threads": threads, "gmacs": gmacs, "gbytes": gbytes}
