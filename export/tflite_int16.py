"""What the int16 kernels of LiteRT demand and the quantiser does not write.

The quantiser that can be told what to leave alone makes tensors off centre and biases of 32 bits.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.export.tflite_float import CONVOLUTIONS
from allsub_edge.export.tflite_graph import (
    add_buffer,
    drop_unused_codes,
    kinds,
    operator_code,
    tensor_name,
)

INT16_VERSIONS: Final = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 5}
"""Versions with int16 activations and 64-bit biases, as the converter itself writes them."""


def centre_ranges(model: Any) -> None:
    """Give every int16 tensor a range around nought, which the int16 kernels demand; in place.

    The quantiser that can be told what to leave alone spans the range that was seen, off centre.
    Half a range is still 15 bits. Sums are told that their scales are no powers of two.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        if tensor.type != schema.TensorType.INT16:
            continue
        zero, scale = int(tensor.quantization.zeroPoint[0]), float(tensor.quantization.scale[0])
        bound = max(32767 - zero, 32768 + zero)
        centred = scale * bound / 32767
        content = model.buffers[tensor.buffer].data
        if content is not None and len(content):
            values = (np.frombuffer(bytes(content), np.int16).astype(np.float64) - zero) * scale
            tensor.buffer = add_buffer(model, np.rint(values / centred).astype(np.int16).tobytes())
        tensor.quantization.zeroPoint = np.zeros(1, np.int64)
        tensor.quantization.scale = np.array([centred], np.float32)
    for operator in graph.operators:
        if hasattr(operator.builtinOptions, "potScaleInt16"):
            operator.builtinOptions.potScaleInt16 = False


def widen_biases(model: Any, plain: Any) -> int:
    """Give the int16 convolutions of a model biases of 64 bits, which their kernels demand.

    The quantiser that can be told what to leave alone writes 32 bits. A bias has the scale of the
    input times that of the weights, so it is computed anew from the float bias, not cut to 32 bits
    first.

    Args:
        model: a quantised ``ModelT``; edited in place.
        plain: the float ``ModelT`` it was made from, with the same names of output tensors.

    Returns:
        How many biases were widened.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    floats: dict[str, npt.NDArray[np.float32]] = {}
    for kind, operator in zip(kinds(plain), plain.subgraphs[0].operators, strict=True):
        if kind in CONVOLUTIONS and len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            content = plain.buffers[plain.subgraphs[0].tensors[operator.inputs[2]].buffer].data
            floats[tensor_name(plain, int(operator.outputs[0]))] = np.frombuffer(
                bytes(content), np.float32
            )
    graph, count = model.subgraphs[0], 0
    for kind, operator in zip(kinds(model), graph.operators, strict=True):
        if kind not in CONVOLUTIONS or len(operator.inputs) < 3 or operator.inputs[2] < 0:
            continue
        given, weights, bias = (graph.tensors[int(index)] for index in operator.inputs[:3])
        if given.type != schema.TensorType.INT16 or bias.type != schema.TensorType.INT32:
            continue
        scale = given.quantization.scale[0] * np.asarray(weights.quantization.scale, np.float64)
        values = floats[tensor_name(model, int(operator.outputs[0]))]
        wide = schema.TensorT()
        wide.shape, wide.hasRank, wide.name = bias.shape, bias.hasRank, bias.name
        wide.type, wide.quantization = schema.TensorType.INT64, bias.quantization
        wide.buffer = add_buffer(model, np.rint(values / scale).astype(np.int64).tobytes())
        graph.tensors.append(wide)
        operator.inputs[2] = len(graph.tensors) - 1
        # The quantiser asks for the version that knows 32-bit biases, which old runtimes lack.
        operator.opcodeIndex = operator_code(model, kind, INT16_VERSIONS[kind])
        if hasattr(operator.builtinOptions, "quantizedBiasType"):
            operator.builtinOptions.quantizedBiasType = schema.TensorType.FLOAT32
        count += 1
    drop_unused_codes(model)
    return count
