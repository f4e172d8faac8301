"""Keras to float32 ONNX by tf2onnx, checked and with the names of the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

OPSET: Final = 17
"""ONNX operator set; ONNX Runtime reads it since 1.12."""

IR_VERSION: Final = 8
"""File format version that belongs to opset 17."""


def to_onnx(model: Any) -> Any:
    """Convert a Keras field model (see ``graph.field_model``).

    Returns:
        An ``onnx.ModelProto`` with a free batch dimension, inputs and outputs named as in Keras,
        already passed through the full checker.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    inputs = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=tensor.name)
        for tensor in model.inputs
    ]
    proto, _ = tf2onnx.convert.from_keras(model, input_signature=inputs, opset=OPSET)
    proto.ir_version = IR_VERSION
    proto.producer_name = "allsub-edge"
    # The converter notes its own environment here; the manifest is where a file explains itself.
    del proto.metadata_props[:]
    proto.doc_string = ""
    for value in [*proto.graph.input, *proto.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(proto, full_check=True)
    return proto


def save_onnx(proto: Any, path: Path) -> None:
    """Write a bare model, without manifest; for the quantiser."""
    import onnx

    onnx.save(proto, str(path))
