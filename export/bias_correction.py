"""Biases of integer files that take back what rounding the weights adds on average.

A rounded kernel adds to each of its output channels a sum of rounding errors times activations. The
activations of a smear have means far from nought, so much of that sum is the same everywhere: a
shift, known from the calibration fields, that a bias can take back (Nagel et al., "Data-free
quantization through weight equalization and bias correction", ICCV 2019, arXiv 1906.04721). Biases
are stored in 32 bits, so this costs nothing when the file runs.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.engines.base import Feed
from allsub_edge.export.graph_view import View
from allsub_edge.export.layer_error import activations
from allsub_edge.export.tflite_float import CONVOLUTIONS
from allsub_edge.export.tflite_graph import add_buffer, kinds, tensor_name, unpack

FIELDS: Final = 32
"""Calibration fields whose activations give the means."""

Means = Mapping[str, npt.NDArray[np.float64]]
"""Convolution -> mean of each channel that it reads, [C]."""


def few(feeds: Sequence[Feed]) -> list[Feed]:
    """:data:`FIELDS` feeds, evenly spread."""
    return list(feeds[:: max(1, len(feeds) // FIELDS)][:FIELDS])


def shift(
    exact: npt.NDArray[Any], rounded: npt.NDArray[Any], mean: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """What a rounded kernel adds to each output channel when every input channel has its mean.

    Args:
        exact, rounded: [M, C / groups, h, w].
        mean: [C]. Output channels are dealt to the groups in order, as in ONNX.

    Returns:
        [M]. Paddings are left out of it.
    """
    added = (rounded.astype(np.float64) - exact).sum(axis=(2, 3))
    outputs, inside = added.shape
    groups = len(mean) // inside
    each = np.repeat(mean.reshape(groups, inside), outputs // groups, axis=0)
    return np.asarray((added * each).sum(axis=1))


def onnx_means(plain: Path, feeds: Sequence[Feed]) -> Means:
    """Means of what the convolutions of a float32 ONNX file read, by the names of these.

    Args:
        plain: the file; channels first.
        feeds: calibration feeds.
    """
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper

    proto = onnx.load(str(plain))
    read = {node.name: node.input[0] for node in proto.graph.node if node.op_type == "Conv"}
    del proto.graph.output[:]
    outputs = {tensor: f"mean of {tensor}" for tensor in dict.fromkeys(read.values())}
    for tensor, output in outputs.items():
        proto.graph.node.append(
            helper.make_node("ReduceMean", [tensor], [output], axes=[0, 2, 3], keepdims=0)
        )
        proto.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = list(outputs.values())
    seen = [session.run(wanted, dict(feed)) for feed in feeds]
    means = {
        tensor: np.mean([np.float64(one[place]) for one in seen], axis=0)
        for place, tensor in enumerate(outputs)
    }
    return {name: means[tensor] for name, tensor in read.items()}


def correct_onnx(proto: Any, plain: Path, means: Means) -> int:
    """Correct the biases of a statically quantised ONNX model; in place.

    Args:
        proto: of ``onnx_int8.quantise``: integer weights and biases stand before a
            ``DequantizeLinear`` each.
        plain: the float32 file that it was made from.
        means: of :func:`onnx_means`.

    Returns:
        How many biases were corrected: those of all convolutions with integer weights.
    """
    import onnx
    from onnx import numpy_helper

    view, before = View(proto), View(onnx.load(str(plain)))
    kernels = {n.name: before.constants.get(n.input[1]) for n in before.graph.node if n.input[1:]}
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    count = 0
    for node in proto.graph.node:
        if node.op_type != "Conv" or len(node.input) < 3 or node.name not in means:
            continue
        weights, bias = (view.made_by(name, "DequantizeLinear") for name in node.input[1:3])
        exact = kernels.get(node.name)
        if weights is None or bias is None or exact is None:
            continue
        codes, scale = (view.constants[name].astype(np.float64) for name in weights.input[:2])
        rounded = codes * scale.reshape(-1, 1, 1, 1)
        step = view.constants[bias.input[1]].astype(np.float64)
        tensor = stored[bias.input[0]]
        values = numpy_helper.to_array(tensor) - np.rint(
            shift(exact, rounded, means[node.name]) / step
        )
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.int32), tensor.name))
        count += 1
    return count


def tflite_means(calibrated: bytes, feeds: Sequence[Feed]) -> Means:
    """Means of what the convolutions of a float TFLite file read, by the names of their outputs."""
    model = unpack(calibrated)
    read = {
        tensor_name(model, int(operator.outputs[0])): tensor_name(model, int(operator.inputs[0]))
        for kind, operator in zip(kinds(model), model.subgraphs[0].operators, strict=True)
        if kind in CONVOLUTIONS
    }
    seen = activations(calibrated, feeds, set(read.values()))
    means = {name: value.mean(axis=(0, 1, 2), dtype=np.float64) for name, value in seen.items()}
    return {output: means[given] for output, given in read.items() if given in means}


def correct_tflite(model: Any, plain: Any, means: Means) -> int:
    """Correct the biases of a quantised TFLite model; in place.

    Args:
        model: a quantised ``ModelT``.
        plain: the float ``ModelT`` that it was made from, with the same names of output tensors.
        means: of :func:`tflite_means`.

    Returns:
        How many biases were corrected.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    integers = {schema.TensorType.INT32: np.int32, schema.TensorType.INT64: np.int64}
    kernels = {name: kernel for name, kernel, _ in _kernels(plain, np.float32)}
    graph, count = model.subgraphs[0], 0
    readers = Counter(int(index) for operator in graph.operators for index in operator.inputs)
    for name, codes, operator in _kernels(model, np.int8):
        bias = graph.tensors[int(operator.inputs[2])] if len(operator.inputs) > 2 else None
        if bias is None or bias.type not in integers or name not in means or name not in kernels:
            continue
        scale = np.asarray(graph.tensors[int(operator.inputs[1])].quantization.scale, np.float64)
        rounded = codes.astype(np.float64) * scale.reshape(-1, 1, 1, 1)
        kind = integers[bias.type]
        step = np.asarray(bias.quantization.scale, np.float64)
        values = np.frombuffer(bytes(model.buffers[bias.buffer].data), kind)
        values = values - np.rint(shift(kernels[name], rounded, means[name]) / step)
        if readers[int(operator.inputs[2])] > 1:
            bias = copy.copy(bias)
            graph.tensors.append(bias)
            operator.inputs[2] = len(graph.tensors) - 1
        old, bias.buffer = bias.buffer, add_buffer(model, values.astype(kind).tobytes())
        if all(tensor.buffer != old for tensor in graph.tensors):
            model.buffers[old].data = None
        count += 1
    return count


def _kernels(model: Any, kind: type[np.generic]) -> list[tuple[str, npt.NDArray[Any], Any]]:
    """Name of the output, kernel [M, C / groups, h, w] and operator of each convolution whose
    weights are of this type."""
    graph, found = model.subgraphs[0], []
    for operator_kind, operator in zip(kinds(model), graph.operators, strict=True):
        if operator_kind not in CONVOLUTIONS:
            continue
        weights = graph.tensors[int(operator.inputs[1])]
        content = model.buffers[weights.buffer].data
        size = int(np.prod(weights.shape)) * np.dtype(kind).itemsize
        if content is None or len(content) != size:
            continue
        kernel = np.frombuffer(bytes(content), kind).reshape(weights.shape)
        # [M, h, w, C], or [1, h, w, M] of a depthwise one.
        order = (3, 0, 1, 2) if operator_kind == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
        found.append(
            (tensor_name(model, int(operator.outputs[0])), kernel.transpose(order), operator)
        )
    return found
