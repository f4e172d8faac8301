"""Full int8 for the extractor of a TFLite file; everything else stays float32.

The converter's own switch quantises the preparation too, and with it white balance and mask. Its
quantiser can be told by name what to leave alone, but two things get past that: an operator with
several outputs is known to it under no name, so its kind has to be denied, and a kind can be denied
only as a whole. Hence both lists, and a check of the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.errors import ModelFileError
from allsub_edge.export.tflite_float import CONVOLUTIONS, converter
from allsub_edge.export.tflite_graph import kinds, pack, tensor_name, unpack

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


def calibrate(folder: Path, fields: npt.NDArray[np.uint8]) -> bytes:
    """Convert a SavedModel and note the range of every tensor over calibration fields.

    Args:
        folder: a SavedModel, see ``tflite_float.save_graph``.
        fields: uint8 [N, S, S, 3], training fields, never test fields.

    Returns:
        A float TFLite file with ranges, for :func:`quantise_extractor` only.
    """
    import tensorflow as tf

    def examples() -> Iterator[dict[str, npt.NDArray[np.uint8]]]:
        for field in fields:
            yield {"field": field[None]}

    made = converter(folder)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made.representative_dataset = examples
    made._experimental_calibrate_only = True
    calibrated: bytes = made.convert()
    return calibrated


def _inside(model: Any, operator: Any, extractors: Sequence[str]) -> bool:
    # A fused operator's tensor carries the names of all its parts.
    names = [tensor_name(model, int(index)) for index in operator.outputs]
    return any(f"/{extractor}" in name for extractor in extractors for name in names)


def quantise_extractor(
    calibrated: bytes, extractors: Sequence[str], keep_float: Sequence[str] = ()
) -> bytes:
    """Quantise the extractors' operators: int8 activations, int8 weights per output channel.

    Args:
        calibrated: what :func:`calibrate` gave.
        extractors: what :func:`extractor_names` gave.
        keep_float: texts; an operator whose output's name contains one stays float32.

    Returns:
        A TFLite file with a uint8 ``field``, float32 preparation and head, int8 extractor.

    Raises:
        ModelFileError: ``not_int8``, an operator outside the extractor came out in integers.
    """
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
    made: bytes = pack(
        unpack(mlir_quantize(calibrated, denylisted_nodes=denied, denylisted_ops=several - wanted))
    )
    outside = integers_outside(made, extractors)
    if outside:
        raise ModelFileError(
            "not_int8",
            f"the quantiser also changed {', '.join(outside[:3])}, which must stay float32 for the "
            "mask to be exact: export another format",
        )
    return made


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


def integer_share(data: bytes) -> float:
    """Share of a file's convolutions that are integer in input, weights and output, 0..1.

    A convolution with int8 weights between float tensors (dynamic range) does not count.
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
