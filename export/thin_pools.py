"""Thin maxima of a one-channel picture in a TFLite file, with rows or columns as channels.

LiteRT's pooling works on many channels at once; on a picture of one channel that costs four times
as much as on the same numbers with its columns (or, turned, its rows) in the place of channels.
The mask layer of ``training.layers`` is built that way; this gives it to files exported before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allsub_edge.export import tflite_graph


def turn_pools(model: Any) -> int:
    """Rewrite every thin maximum of a one-channel float picture; in place.

    Args:
        model: a ``ModelT``, see ``tflite_graph.unpack``.

    Returns:
        How many were rewritten.
    """
    graph = model.subgraphs[0]
    names = tflite_graph.kinds(model)
    turned = 0
    operators = []
    for name, operator in zip(names, graph.operators, strict=True):
        if name == "MAX_POOL_2D" and _is_thin(graph, operator):
            operators += _turned(model, operator)
            turned += 1
        else:
            operators.append(operator)
    graph.operators = operators
    return turned


def _is_thin(graph: Any, operator: Any) -> bool:
    from tensorflow.lite.python import schema_py_generated as schema

    options, tensor = operator.builtinOptions, graph.tensors[operator.inputs[0]]
    return bool(
        1 in (options.filterHeight, options.filterWidth)
        and options.filterHeight != options.filterWidth
        and (options.strideH, options.strideW) == (1, 1)
        and options.padding == schema.Padding.SAME
        and options.fusedActivationFunction == schema.ActivationFunctionType.NONE
        and tensor.type == schema.TensorType.FLOAT32
        and len(tensor.shape) == 4
        and tensor.shape[3] == 1
    )


def _turned(model: Any, pool: Any) -> list[Any]:
    """Operators that do what ``pool`` does; it is among them, along the first axis."""
    graph, options = model.subgraphs[0], pool.builtinOptions
    height, width = (int(side) for side in graph.tensors[pool.inputs[0]].shape[1:3])
    given, wanted = int(pool.inputs[0]), int(pool.outputs[0])
    across = options.filterHeight == 1
    before, after = [], []
    if across:
        options.filterHeight, options.filterWidth = options.filterWidth, 1
        turned, back = (_tensor(model, (width, height, 1)) for _ in range(2))
        before.append(_operator(model, "TRANSPOSE", given, turned, (0, 2, 1, 3)))
        after.append(_operator(model, "TRANSPOSE", back, wanted, (0, 2, 1, 3)))
        given, wanted = turned, back
        height, width = width, height
    thin, pooled = (_tensor(model, (height, 1, width)) for _ in range(2))
    before.append(_operator(model, "RESHAPE", given, thin, (-1, height, 1, width)))
    after.insert(0, _operator(model, "RESHAPE", pooled, wanted, (-1, height, width, 1)))
    pool.inputs, pool.outputs = [thin], [pooled]
    return [*before, pool, *after]


def _tensor(model: Any, shape: tuple[int, ...]) -> int:
    """A new float tensor [N, *shape]; its index."""
    from tensorflow.lite.python import schema_py_generated as schema

    graph, tensor = model.subgraphs[0], schema.TensorT()
    tensor.name = f"turned_{len(graph.tensors)}".encode()
    tensor.shape, tensor.shapeSignature = [1, *shape], [-1, *shape]
    tensor.type, tensor.buffer = schema.TensorType.FLOAT32, 0
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _operator(model: Any, kind: str, given: int, made: int, numbers: tuple[int, ...]) -> Any:
    """A RESHAPE to a shape, or a TRANSPOSE by a permutation."""
    from tensorflow.lite.python import schema_py_generated as schema

    graph, constant = model.subgraphs[0], schema.TensorT()
    constant.name = f"turned_{len(graph.tensors)}".encode()
    constant.shape, constant.type = [len(numbers)], schema.TensorType.INT32
    constant.buffer = tflite_graph.add_buffer(model, np.array(numbers, "<i4").tobytes())
    graph.tensors.append(constant)
    operator = schema.OperatorT()
    operator.opcodeIndex = tflite_graph.operator_code(model, kind, version=1)
    operator.inputs, operator.outputs = [given, len(graph.tensors) - 1], [made]
    if kind == "RESHAPE":
        operator.builtinOptions = schema.ReshapeOptionsT()
        operator.builtinOptions.newShape = list(numbers)
        operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    else:
        operator.builtinOptions = schema.TransposeOptionsT()
        operator.builtinOptionsType = schema.BuiltinOptions.TransposeOptions
    return operator
