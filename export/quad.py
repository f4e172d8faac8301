"""An int8 stem that reads four neighbouring pixels as twelve channels, with the same results."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from allsub_edge.export import lean
from allsub_edge.export.graph_view import View, attribute, drop_dead, size_of


def quad_stem(proto: Any) -> bool:
    """Let a quantised 3x3 stride-2 stem read four neighbouring pixels as 12 channels; in place.

    ONNX Runtime's integer convolution takes a slow path unless channels come in multiples of four.
    Channels-last bytes of a row are the same whether they are taken as W pixels of 3 or as W/4
    quads of 12. From one quad start two windows: at its first pixel, inside the quad, and at its
    third, reaching into the next quad. So a 3x2 window over quads with twice the output channels
    gives both, with zero weights for pixels outside a window: the same products and the same sums.
    Channels-last again, W/4 quads of 2 C results are W/2 results of C.

    Returns:
        False if the graph has no such stem behind ``fuse.lean_preparation``.
    """
    from onnx import helper, numpy_helper

    view = View(proto)
    stem = _find_stem(view, size_of(proto)[1])
    if stem is None:
        return False
    height, width = size_of(proto)
    channels = int(stem.weight.shape[0])
    weight = np.zeros((2 * channels, 12, 3, 2), np.int8)
    for window in range(2):
        for column in range(3):
            quad, pixel = divmod(2 * window + column, 4)
            weight[
                window * channels : (window + 1) * channels, 3 * pixel : 3 * pixel + 3, :, quad
            ] = stem.weight[:, :, :, column]
    constants = {"stem": weight, "quads": np.array([0, height, width // 4, 12], np.int64)}
    stem.weights.input[0] = lean.PREFIX + "stem"
    view.producer[stem.planes.input[0]].input[1] = lean.PREFIX + "quads"
    vectors = [(node, index) for node in (stem.weights, stem.bias) for index in (1, 2)]
    vectors.append((stem.bias, 0))
    for node, index in vectors:
        if len(node.input) > index and view.constants[node.input[index]].size > 1:
            key = f"stem_{len(constants)}"
            constants[key] = np.tile(view.constants[node.input[index]], 2)
            node.input[index] = lean.PREFIX + key
    for item in list(stem.conv.attribute):
        if item.name in ("kernel_shape", "strides", "pads"):
            stem.conv.attribute.remove(item)
    stem.conv.attribute.extend(
        helper.make_attribute(key, value)
        for key, value in (("kernel_shape", [3, 2]), ("strides", [2, 1]), ("pads", [0, 0, 1, 1]))
    )
    constants["stem_halves"] = np.array([0, height // 2, width // 2, channels], np.int64)
    # Behind the quantiser, so that ONNX Runtime still finds convolution and quantiser together.
    codes = stem.quantised.output[0]
    stem.quantised.output[0] = wide = lean.PREFIX + "stem_wide"
    steps = [
        helper.make_node("Transpose", [wide], [wide + "/last"], perm=[0, 2, 3, 1]),
        helper.make_node(
            "Reshape", [wide + "/last", lean.PREFIX + "stem_halves"], [wide + "/halves"]
        ),
        helper.make_node("Transpose", [wide + "/halves"], [codes], perm=[0, 3, 1, 2]),
    ]
    place = list(proto.graph.node).index(stem.quantised) + 1
    for offset, node in enumerate(steps):
        node.name = node.output[0]
        proto.graph.node.insert(place + offset, node)
    proto.graph.initializer.extend(
        numpy_helper.from_array(value, lean.PREFIX + key) for key, value in constants.items()
    )
    # Shapes that the quantiser noted for the old tensors would contradict the new ones.
    del proto.graph.value_info[:]
    drop_dead(proto)
    return True


class _Stem(NamedTuple):
    """Operators around a quantised stem; ``weight`` is int8 [C, 3, 3, 3]."""

    planes: Any
    conv: Any
    weights: Any
    bias: Any
    quantised: Any
    weight: npt.NDArray[np.int8]


def _find_stem(view: View, width: int) -> _Stem | None:
    def only_reader(name: str, *kinds: str) -> Any | None:
        readers = view.readers.get(name, [])
        return readers[0] if len(readers) == 1 and readers[0].op_type in kinds else None

    planes = view.made_by(lean.PREFIX + "planes", "Transpose")
    pixels = None if planes is None else only_reader(planes.output[0], "DequantizeLinear")
    conv = None if pixels is None else only_reader(pixels.output[0], "Conv")
    if conv is None or len(conv.input) != 3 or width % 4:
        return None
    weights = view.made_by(conv.input[1], "DequantizeLinear")
    bias = view.made_by(conv.input[2], "DequantizeLinear")
    after = only_reader(conv.output[0], "Clip", "Relu", "QuantizeLinear")
    if after is not None and after.op_type != "QuantizeLinear":
        after = only_reader(after.output[0], "QuantizeLinear")
    if weights is None or bias is None or after is None:
        return None
    constant = [view.constants.get(name) for name in (*weights.input, *bias.input)]
    weight = constant[0]
    if any(value is None for value in constant) or weight is None:
        return None
    zeros = [view.constants[node.input[2]] for node in (weights, bias) if len(node.input) > 2]
    fits = (
        weight.dtype == np.int8
        and weight.shape[1:] == (3, 3, 3)
        and attribute(conv, "strides") == [2, 2]
        and attribute(conv, "pads") == [0, 0, 1, 1]
        and attribute(conv, "dilations") in ([], [1, 1])
        and not any(zero.any() for zero in zeros)
        and len(view.readers[weights.output[0]]) == len(view.readers[bias.output[0]]) == 1
        and view.constants[after.input[1]].size == 1
    )
    return _Stem(planes, conv, weights, bias, after, weight) if fits else None
