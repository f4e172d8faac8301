"""ONNX with the extractor's weights in float16; arithmetic stays float32.

No CPU that ONNX Runtime supports on x86 computes convolutions in float16: it would cast every
activation there and back. So only storage is halved; the casts are folded when the file is loaded.
Constants of the preparation are left alone, because its masks are exact only in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def half_weights(proto: Any) -> tuple[Any, int]:
    """Copy of a float32 model with the weights of its convolutions stored as float16.

    Weights that float16 cannot hold stay as they are.

    Returns:
        The new ``onnx.ModelProto``, and how many convolutions read float16 weights.
    """
    import onnx
    from onnx import helper, numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    wanted = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    casts, halved = [], set()
    for tensor in graph.initializer:
        if tensor.name not in wanted or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if not np.abs(values).max(initial=0.0) <= np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}/half"))
        casts.append(
            helper.make_node(
                "Cast", [f"{name}/half"], [name], f"{name}/float", to=onnx.TensorProto.FLOAT
            )
        )
        halved.add(name)
    # The checker wants producers before consumers.
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    count = sum(node.op_type == "Conv" and node.input[1] in halved for node in graph.node)
    return made, count
