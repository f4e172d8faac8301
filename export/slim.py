"""Batch norm that the converter left behind a convolution is folded into its weights.

tf2onnx folds batch norm into ordinary convolutions but leaves a Mul and an Add behind depthwise
ones. ONNX Runtime mends that on load for a float model; in a quantised model they would stay, and
each would force its activations back to float.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class _Graph:
    """Look-ups over an ONNX graph that is being edited."""

    def __init__(self, proto: Any) -> None:
        import onnx

        self.graph = proto.graph
        self.constants: dict[str, npt.NDArray[Any]] = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self.graph.initializer
        }

    def only_reader(self, name: str) -> Any | None:
        """The one operator that reads ``name``, or None if several do or the graph returns it."""
        if any(output.name == name for output in self.graph.output):
            return None
        readers = [node for node in self.graph.node if name in node.input]
        return readers[0] if len(readers) == 1 else None

    def per_channel(self, node: Any, data: str, channels: int) -> npt.NDArray[Any] | None:
        """The constant operand of a Mul or Add as [C], if it is one value for each channel."""
        other = [name for name in node.input if name != data]
        if len(other) != 1 or other[0] not in self.constants:
            return None
        value = self.constants[other[0]]
        if value.size == 1:
            return np.full(channels, value.reshape(()), value.dtype)
        # Behind a convolution the layout is [N, C, H, W]; only [C, 1, 1] or [1, C, 1, 1] fits.
        fits = value.shape in ((channels, 1, 1), (1, channels, 1, 1))
        return value.reshape(channels) if fits else None

    def set_constant(self, name: str, value: npt.NDArray[Any]) -> None:
        """Add a constant."""
        import onnx

        self.constants[name] = value
        self.graph.initializer.append(onnx.numpy_helper.from_array(value, name))


def fold_scales(proto: Any) -> int:
    """Fold every per-channel Mul and Add that directly follows a Conv; in place.

    Returns:
        How many operators disappeared.
    """
    graph = _Graph(proto)
    removed: list[Any] = []
    for conv in [node for node in proto.graph.node if node.op_type == "Conv"]:
        while (follower := graph.only_reader(conv.output[0])) is not None:
            if not _fold(graph, conv, follower):
                break
            conv.output[0] = follower.output[0]
            proto.graph.node.remove(follower)
            removed.append(follower)
    _drop_unused(proto)
    return len(removed)


def _fold(graph: _Graph, conv: Any, follower: Any) -> bool:
    """Put one Mul or Add into the weights of ``conv``; False if it does not fit."""
    weight = graph.constants.get(conv.input[1])
    if weight is None or follower.op_type not in ("Mul", "Add"):
        return False
    channels = weight.shape[0]
    value = graph.per_channel(follower, conv.output[0], channels)
    if value is None:
        return False
    has_bias = len(conv.input) > 2
    if has_bias and conv.input[2] not in graph.constants:
        return False
    bias = graph.constants[conv.input[2]] if has_bias else np.zeros(channels, weight.dtype)
    if follower.op_type == "Mul":
        weight, bias = weight * value.reshape(-1, 1, 1, 1), bias * value
    else:
        bias = bias + value
    stem = f"{follower.output[0]}/folded"
    graph.set_constant(stem + "_weight", weight)
    graph.set_constant(stem + "_bias", bias)
    del conv.input[1:]
    conv.input.extend([stem + "_weight", stem + "_bias"])
    return True


def _drop_unused(proto: Any) -> None:
    used = {name for node in proto.graph.node for name in node.input}
    used.update(output.name for output in proto.graph.output)
    for tensor in list(proto.graph.initializer):
        if tensor.name not in used:
            proto.graph.initializer.remove(tensor)


def name_convolutions(proto: Any) -> None:
    """Name each Conv after the layer whose weights it has; the converter calls many ``Conv__302``.

    Names are how a quantiser is told what to leave alone, and what a person reads in a report.
    """
    taken = {node.name for node in proto.graph.node}
    for node in proto.graph.node:
        if node.op_type != "Conv" or "/" in node.name:
            continue
        layer = node.input[1].split(":")[0].removesuffix("/merged_input")
        name, number = layer, 1
        while name in taken:
            number += 1
            name = f"{layer}_{number}"
        taken.add(name)
        node.name = name
