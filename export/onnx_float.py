"""Keras to float32 ONNX by tf2onnx, checked and with the names of the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from allsub_edge.export.slim import fold_scales, name_convolutions
from allsub_edge.export.tf2onnx_mended import mended

OPSET: Final = 17
"""ONNX operator set: the newest whose files every ONNX Runtime since 1.12 reads. The newer sets
bring nothing that a file of this project needs."""

IR_VERSION: Final = 8
"""File format version that belongs to opset 17."""

OLDEST_RUNTIME: Final = "1.12"
"""Oldest ONNX Runtime that reads them (onnxruntime.ai, compatibility table)."""


def to_onnx(model: Any) -> Any:
    """Convert a Keras model of ``export.graph``.

    Returns:
        An ``onnx.ModelProto`` with a free batch dimension, inputs and outputs named as in Keras,
        batch norms folded, already passed through the full checker.

    Raises:
        ModelFileError: ``optimiser_failed``.
    """
    import tensorflow as tf
    import tf2onnx

    inputs = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=tensor.name)
        for tensor in model.inputs
    ]
    with mended():
        proto, _ = tf2onnx.convert.from_keras(model, input_signature=inputs, opset=OPSET)
    proto.ir_version = IR_VERSION
    proto.producer_name = "allsub-edge"
    # The converter notes its own environment here; the manifest is where a file explains itself.
    del proto.metadata_props[:]
    proto.doc_string = ""
    for value in [*proto.graph.input, *proto.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    fold_scales(proto)
    name_convolutions(proto)
    check(proto)
    return proto


def check(model: Any) -> None:
    """Pass a model, a proto or the bytes of a file, through the full checker of ONNX.

    Raises:
        onnx.checker.ValidationError, onnx.shape_inference.InferenceError: it is not valid.
    """
    import onnx

    onnx.checker.check_model(model, full_check=True)


def save_onnx(proto: Any, path: Path) -> None:
    """Write a bare model, without manifest; for the quantiser."""
    import onnx

    onnx.save(proto, str(path))
