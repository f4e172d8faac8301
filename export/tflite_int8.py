"""Integers for the extractor of a TFLite file; everything else stays float32.

Full int8 (int8 activations and weights), int16x8 (int16 activations, int8 weights) and dynamic
range (int8 weights alone; activations are quantised as they come).

The converter's own switch quantises the preparation too, and with it white balance and mask. Its
quantiser can be told by name what to leave alone, but two things get past that: an operator with
several outputs is known to it under no name, so its kind has to be denied, and a kind can be denied
only as a whole. Hence both lists, and a check of the outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from allsub_edge.engines.base import Feed
from allsub_edge.errors import ModelFileError
from allsub_edge.export.bias_correction import Means, correct_tflite
from allsub_edge.export.tflite_float import CONVOLUTIONS, converter
from allsub_edge.export.tflite_graph import (
    add_buffer,
    drop_unused_codes,
    kinds,
    operator_code,
    pack,
    tensor_name,
    unpack,
)
from allsub_edge.export.tflite_int16 import centre_ranges, widen_biases

BRIDGES: Final = ("QUANTIZE", "DEQUANTIZE")
"""Operators between the float and the integer part."""


def extractor_names(model: Any) -> tuple[str, ...]:
    """Names of the extractors inside a Keras field model; its tensors are named after them.

    Raises:
        ModelFileError: ``no_extractor``.
    """
    import keras

    names = tuple(
        layer.name for layer in model.get_layer("core").layers if isinstance(layer, keras.Model)
    )
    if not names:
        raise ModelFileError(
            "no_extractor", "the network has no extractor of its own to quantise: export float32"
        )
    return names


def calibrate(folder: Path, feeds: Iterable[Feed]) -> bytes:
    """Convert a SavedModel and note the range of every tensor over calibration fields.

    Args:
        folder: a SavedModel, see ``tflite_float.save_graph``.
        feeds: one feed for each training field, never a test field.

    Returns:
        A float TFLite file with ranges, for :func:`quantise_extractor` only.
    """
    import tensorflow as tf

    made = converter(folder)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made.representative_dataset = lambda: iter(feeds)
    made._experimental_calibrate_only = True
    calibrated: bytes = made.convert()
    return calibrated


def _inside(model: Any, operator: Any, extractors: Sequence[str]) -> bool:
    # A fused operator's tensor carries the names of all its parts.
    names = [tensor_name(model, int(index)) for index in operator.outputs]
    return any(f"/{extractor}" in name for extractor in extractors for name in names)


def layers(calibrated: bytes, extractors: Sequence[str]) -> list[str]:
    """Names of the outputs of the extractors' convolutions, in the order in which they run."""
    model = unpack(calibrated)
    return [
        tensor_name(model, int(operator.outputs[0]))
        for kind, operator in zip(kinds(model), model.subgraphs[0].operators, strict=True)
        if kind in CONVOLUTIONS and _inside(model, operator, extractors)
    ]


def quantise_extractor(
    calibrated: bytes,
    extractors: Sequence[str],
    keep_float: Sequence[str] = (),
    *,
    means: Means = MappingProxyType({}),
    wide: bool = False,
    per_channel: bool = True,
) -> bytes:
    """Quantise the extractors' operators.

    Args:
        calibrated: see :func:`calibrate`.
        extractors: see :func:`extractor_names`.
        keep_float: an operator whose output's name contains one of these stays float32.
        means: of ``bias_correction.tflite_means``; biases of other convolutions are not corrected.
        wide: int16 activations instead of int8.
        per_channel: one weight scale for each output channel instead of one for the tensor.

    Returns:
        A TFLite file that takes and gives what the float file does.

    Raises:
        ModelFileError: ``not_int8``, something outside the extractors was quantised too.
    """
    from tensorflow.compiler.mlir.lite import types_pb2
    from tensorflow.lite.python.convert import mlir_quantize

    model = unpack(calibrated)
    denied: set[str] = set()
    wanted: set[str] = set()
    several: set[str] = set()
    for kind, operator in zip(kinds(model), model.subgraphs[0].operators, strict=True):
        names = {tensor_name(model, int(index)) for index in operator.outputs}
        kept = any(part in name for part in keep_float for name in names)
        if _inside(model, operator, extractors) and not kept:
            wanted.add(kind)
        else:
            denied |= names
            if len(operator.outputs) > 1:
                several.add(kind)
    quantised = unpack(
        mlir_quantize(
            calibrated,
            disable_per_channel=not per_channel,
            inference_type=types_pb2.QUANTIZED_INT16 if wide else types_pb2.INT8,
            denylisted_nodes=denied,
            denylisted_ops=several - wanted,
        )
    )
    if wide:
        centre_ranges(quantised)
        widen_biases(quantised, model)
    correct_tflite(quantised, model, means)
    made: bytes = pack(quantised)
    outside = integers_outside(made, extractors)
    if outside:
        raise ModelFileError(
            "not_int8",
            f"the quantiser also changed {', '.join(outside[:3])}, which must stay float32 for the "
            "mask to be exact: export another format",
        )
    return made


def dynamic_range(folder: Path, plain: bytes, extractors: Sequence[str]) -> bytes:
    """Convert a SavedModel with int8 weights in its extractors and float32 everywhere else.

    The converter's own switch also quantises the dense layers and the domain distance, as
    FULLY_CONNECTED version 12, which tflite-runtime 2.14 does not have. Its flag against scales per
    channel in dense layers brings version 9 (the flag against them everywhere brings NaN), and what
    lies outside the extractors gets its float weights back.

    Args:
        folder: see :func:`calibrate`.
        plain: the float32 file of the same SavedModel.
        extractors: see :func:`extractor_names`.
    """
    import tensorflow as tf

    made = converter(folder)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made._experimental_disable_per_channel_quantization_for_dense_layers = True
    model, source = unpack(made.convert()), unpack(plain)
    originals = {
        tensor_name(source, int(operator.outputs[0])): (kind, operator)
        for kind, operator in zip(kinds(source), source.subgraphs[0].operators, strict=True)
    }
    graph = model.subgraphs[0]
    for kind, operator in zip(kinds(model), graph.operators, strict=True):
        if kind != "FULLY_CONNECTED" or _inside(model, operator, extractors):
            continue
        _, original = originals[tensor_name(model, int(operator.outputs[0]))]
        weights = source.subgraphs[0].tensors[int(original.inputs[1])]
        tensor = graph.tensors[int(operator.inputs[1])]
        if tensor.type not in _integer_types():
            continue
        tensor.type, tensor.quantization = weights.type, None
        tensor.buffer = add_buffer(model, bytes(source.buffers[weights.buffer].data))
        code = source.operatorCodes[original.opcodeIndex]
        operator.opcodeIndex = operator_code(model, kind, code.version)
        operator.builtinOptions = original.builtinOptions
    drop_unused_codes(model)
    made_again: bytes = pack(model)
    return made_again


def _integer_types() -> tuple[int, ...]:
    from tensorflow.lite.python import schema_py_generated as schema

    return (schema.TensorType.INT8, schema.TensorType.INT16)


def integers_outside(data: bytes, extractors: Sequence[str]) -> list[str]:
    """Outputs of operators that compute in int8 or int16 outside the extractors."""
    model = unpack(data)
    graph = model.subgraphs[0]
    return [
        tensor_name(model, int(operator.outputs[0]))
        for kind, operator in zip(kinds(model), graph.operators, strict=True)
        if kind not in BRIDGES
        and graph.tensors[operator.outputs[0]].type in _integer_types()
        and not _inside(model, operator, extractors)
    ]


def integer_weights(data: bytes) -> float:
    """Share of a file's convolutions whose weights are int8, whatever the activations are, 0..1."""
    model = unpack(data)
    tensors = model.subgraphs[0].tensors
    found = [
        tensors[operator.inputs[1]].type in _integer_types()
        for kind, operator in zip(kinds(model), model.subgraphs[0].operators, strict=True)
        if kind in CONVOLUTIONS
    ]
    return sum(found) / len(found) if found else 0.0


def integer_share(data: bytes) -> float:
    """Share of a file's convolutions that are integer in input, weights and output, 0..1.

    A convolution with int8 weights between float tensors (dynamic range) does not count: see
    :func:`integer_weights`.
    """
    model = unpack(data)
    graph = model.subgraphs[0]
    whole = every = 0
    for kind, operator in zip(kinds(model), graph.operators, strict=True):
        if kind not in CONVOLUTIONS:
            continue
        every += 1
        touched = [*operator.inputs[:2], operator.outputs[0]]
        whole += all(graph.tensors[index].type in _integer_types() for index in touched)
    return whole / every if every else 0.0
