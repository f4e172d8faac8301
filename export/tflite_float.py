"""Keras to TFLite in float32, and with the extractor's weights in float16."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from allsub_edge.export.tflite_graph import add_buffer, kinds, operator_code, pack, unpack

CONVOLUTIONS: Final = ("CONV_2D", "DEPTHWISE_CONV_2D")

DEQUANTIZE_HALF: Final = 3
"""Version of DEQUANTIZE that reads float16, as the converter itself writes it."""

HALF_RUNTIME: Final = b"1.15.0"
"""Oldest runtime of a file with such an operator, as the converter itself states it."""


def save_graph(model: Any, folder: Path) -> None:
    """Write a Keras field model (see ``graph.field_model``) as a SavedModel.

    The detour is deliberate: ``TFLiteConverter.from_keras_model`` fails on some Keras 3 models,
    and ``from_concrete_functions`` leaves their variables outside the file.
    """
    model.export(str(folder), format="tf_saved_model", verbose=False)


def converter(folder: Path) -> Any:
    """A TFLite converter of a SavedModel that allows built-in operators only."""
    import tensorflow as tf

    made = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return made


def to_tflite(folder: Path) -> bytes:
    """Convert a SavedModel to float32 TFLite; tensors keep their names in its signature."""
    packed: bytes = pack(unpack(converter(folder).convert()))
    return packed


def half_weights(data: bytes) -> tuple[bytes, int]:
    """Store the weights of the convolutions as float16; arithmetic stays float32.

    The converter's own float16 halves *every* constant. The preparation has some beyond 65504,
    which become infinite, and others that float16 rounds: its masks are then wrong. Weights that
    float16 cannot hold stay as they are.

    Args:
        data: a float32 TFLite file.

    Returns:
        The new file, and how many convolutions read float16 weights.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    model = unpack(data)
    graph = model.subgraphs[0]
    before: list[Any] = []
    halved: set[int] = set()
    count = 0
    for kind, operator in zip(kinds(model), graph.operators, strict=True):
        index = int(operator.inputs[1]) if kind in CONVOLUTIONS else -1
        if index < 0 or (index not in halved and not _halve(model, index, before)):
            continue
        halved.add(index)
        count += 1
    code = operator_code(model, "DEQUANTIZE", DEQUANTIZE_HALF) if before else 0
    for index, source in before:
        unfold = schema.OperatorT()
        unfold.opcodeIndex = code
        unfold.inputs, unfold.outputs = [source], [index]
        unfold.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
        unfold.builtinOptions = schema.DequantizeOptionsT()
        graph.operators.insert(0, unfold)
    for entry in model.metadata or []:
        if before and bytes(entry.name) == b"min_runtime_version":
            model.buffers[entry.buffer].data = np.frombuffer(
                HALF_RUNTIME.ljust(16, b"\0"), np.uint8
            )
    return pack(model), count


def _halve(model: Any, index: int, before: list[Any]) -> bool:
    """Move a constant tensor to float16; False if it is none or does not fit."""
    from tensorflow.lite.python import schema_py_generated as schema

    graph = model.subgraphs[0]
    tensor = graph.tensors[index]
    content = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or content is None:
        return False
    values = np.frombuffer(bytes(content), np.float32)
    if not np.abs(values).max(initial=0.0) <= np.finfo(np.float16).max:
        return False
    half = schema.TensorT()
    half.shape, half.hasRank = tensor.shape, tensor.hasRank
    half.type = schema.TensorType.FLOAT16
    half.name = bytes(tensor.name) + b"/half"
    half.buffer = add_buffer(model, values.astype(np.float16).tobytes())
    # Other tensors may share the old buffer; the schema's buffer 0 stands for "computed".
    old, tensor.buffer = tensor.buffer, 0
    if all(t.buffer != old for t in graph.tensors):
        model.buffers[old].data = None
    graph.tensors.append(half)
    before.append((index, len(graph.tensors) - 1))
    return True
