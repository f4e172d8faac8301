"""What a graph has to do: multiply-adds and bytes, by kind of operator, out of the model file.

Counted for one field. A multiply-add is one multiplication with its addition; bytes are what an
operator reads and writes once, weights included, if nothing stays in a cache between operators.
Views (reshape and the like) move nothing and count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from allsub_edge.benchmarks.integer_parts import BORDERS, JOINED, IntegerParts
from allsub_edge.errors import UsageError

CONV: Final[str] = "convolution"
POINT: Final[str] = "convolution 1x1"
DEPTH: Final[str] = "depthwise"
DENSE: Final[str] = "dense"
POOL: Final[str] = "pool"
SIMPLE: Final[str] = "elementwise"
REDUCE: Final[str] = "reduce"
SORT: Final[str] = "sort"
MOVE: Final[str] = "move and convert"

KINDS: Final[tuple[str, ...]] = (CONV, POINT, DEPTH, DENSE, POOL, SIMPLE, REDUCE, SORT, MOVE)
"""Kinds of operators, the same for both formats."""

VIEWS: Final[frozenset[str]] = frozenset(
    {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
    | {"RESHAPE", "SQUEEZE", "EXPAND_DIMS"}
)

_MOVING: Final[tuple[str, ...]] = (
    *("reshape", "squeeze", "unsqueeze", "flatten", "expand", "transpose", "reorder", "cast"),
    *("quantize", "dequantize", "convert", "concat", "qlinearconcat", "slice", "stridedslice"),
    *("pad", "copy", "gather", "split", "identity", "shape", "constant", "tile", "pack"),
    *("static", "broadcast", "range", "fill"),
)

_INTEGER: Final[tuple[str, ...]] = ("QLinear", "ConvInteger", "MatMulInteger")
"""How ONNX operators begin that multiply 8-bit integers."""


@dataclass
class Work:
    """What the operators of one kind do together, for one field."""

    operators: int = 0
    int8_macs: int = 0
    float_macs: int = 0
    bytes: int = 0

    def add(self, macs: int, moved: int, *, int8: bool) -> None:
        """Count one operator."""
        self.operators += 1
        self.bytes += moved
        if int8:
            self.int8_macs += macs
        else:
            self.float_macs += macs


def kind_of(name: str) -> str:
    """The kind of an operator that is no convolution, by its ONNX or TFLite name."""
    plain = name.replace("_", "").lower()
    if plain.startswith(("matmul", "gemm", "fusedgemm", "fullyconnected", "qgemm")):
        return DENSE
    if "globalaveragepool" in plain or plain.startswith(("reduce", "sum", "mean", "qlinearreduce")):
        return REDUCE
    if "pool" in plain:
        return POOL
    if plain.startswith(("topk", "argmax")):
        return SORT
    return MOVE if plain.startswith(_MOVING) else SIMPLE


def conv_kind(kernel: Iterable[int], groups: int) -> str:
    """The kind of a convolution."""
    if groups > 1:
        return DEPTH
    return POINT if all(size == 1 for size in kernel) else CONV


def count_onnx(data: bytes) -> dict[str, Work]:
    """Count an ONNX graph of ours; quantised tensors count as the bytes they are when it runs.

    Raises:
        UsageError: ``onnx_missing``.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise UsageError(
            "onnx_missing", "counting needs onnx: pip install 'allsub-edge[export]'"
        ) from None
    proto = onnx.load_from_string(data)
    for value in proto.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    shapes: dict[str, tuple[tuple[int, ...], int]] = {}
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        tensor = value.type.tensor_type
        dims = tuple(d.dim_value or 1 for d in tensor.shape.dim)
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
        shapes[value.name] = dims, size
    for item in proto.graph.initializer:
        array = numpy_helper.to_array(item)
        shapes[item.name] = array.shape, array.itemsize
    parts = IntegerParts(proto)
    convolved = {out for n in proto.graph.node if n.op_type == "Conv" for out in n.output}
    found: dict[str, Work] = {}

    def size_of(name: str, whole: bool) -> int:
        dims, size = shapes.get(name, ((), 0))
        return math.prod(dims) * (1 if whole else size)

    for node in proto.graph.node:
        if node.op_type in VIEWS or (node.op_type in BORDERS and parts.vanishes(node)):
            continue
        if node.op_type in JOINED and node.input[0] in convolved:
            continue  # every engine does it while the convolution writes
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        whole = parts.runs_in_integers(node)
        int8 = whole or node.op_type.startswith(_INTEGER)
        macs, kind = 0, kind_of(node.op_type)
        out = math.prod(shapes.get(node.output[0], ((), 0))[0])
        if node.op_type in ("Conv", "QLinearConv"):
            weights = shapes[node.input[3 if node.op_type == "QLinearConv" else 1]][0]
            kind = conv_kind(weights[2:], attributes.get("group", 1))
            macs = out * math.prod(weights[1:])
        elif kind == DENSE:
            macs = out * shapes[node.input[0]][0][-1]
        moved = sum(size_of(name, whole) for name in (*node.input, *node.output))
        found.setdefault(kind, Work()).add(macs, moved, int8=int8)
    return found


def count_tflite(data: bytes) -> dict[str, Work]:
    """Count a TFLite graph of ours.

    Raises:
        UsageError: ``litert_missing``.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        raise UsageError(
            "litert_missing", "counting needs ai-edge-litert: pip install 'allsub-edge[litert]'"
        ) from None
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    graph = model.subgraphs[0]
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    kinds = schema.TensorType
    sizes = {kinds.FLOAT32: 4, kinds.INT32: 4, kinds.INT64: 8, kinds.FLOAT16: 2, kinds.INT16: 2}

    def dims_of(index: int) -> list[int]:
        shape = graph.tensors[index].shape
        return [] if shape is None else [abs(int(size)) or 1 for size in shape]

    def size_of(index: int) -> int:
        return math.prod(dims_of(index)) * sizes.get(graph.tensors[index].type, 1)

    found: dict[str, Work] = {}
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name in VIEWS:
            continue
        inputs = [int(i) for i in op.inputs if i >= 0]
        int8 = graph.tensors[inputs[0]].type in (kinds.INT8, kinds.INT16)
        macs, kind = 0, kind_of(name)
        out = math.prod(dims_of(op.outputs[0]))
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            weights = dims_of(inputs[1])
            depth = name == "DEPTHWISE_CONV_2D"
            kind = conv_kind(weights[1:3], 2 if depth else 1)
            macs = out * (math.prod(weights[1:3]) if depth else math.prod(weights[1:]))
        elif kind == DENSE:
            macs = out * dims_of(inputs[0])[-1]
        moved = sum(size_of(index) for index in (*inputs, *(int(i) for i in op.outputs)))
        found.setdefault(kind, Work()).add(macs, moved, int8=int8)
    return found


def total(works: dict[str, Work]) -> Work:
    """All kinds together."""
    whole = Work()
    for work in works.values():
        whole.operators += work.operators
        whole.int8_macs += work.int8_macs
        whole.float_macs += work.float_macs
        whole.bytes += work.bytes
    return whole


def count(model: Any) -> dict[str, Work]:
    """Count a verified model file (``container.ModelBytes``)."""
    return count_onnx(model.data) if model.format == "onnx" else count_tflite(model.data)
