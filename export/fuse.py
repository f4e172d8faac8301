"""Makes an exported ONNX graph faster without changing its answers.

Three passes, each found with a profile (docs/performance.md tells what each brought) and each a
no-op where the graph is not of the kind it knows:

* :func:`lean_preparation` puts ``lean.prepare_cells`` in the place of the converted preparation;
* :func:`quad_stem` lets an int8 stem read four pixels as twelve channels;
* :func:`tidy` joins chains of reshapes and drops what nobody reads.

They run on the float and on the quantised graph alike, after quantisation, so that no quantiser
sees the new operators. :func:`fuse_file` does it to a finished model file and proves it there:

    python -m allsub_edge.export.fuse MODEL.onnx...
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from allsub_edge.atomic import write_bytes
from allsub_edge.classes import CLASSES
from allsub_edge.engines import open_engine
from allsub_edge.errors import AllsubError, ModelFileError
from allsub_edge.export import lean
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import FIELD_SIZE
from allsub_edge.model_file import container
from allsub_edge.model_file.manifest import Manifest

NEUTRAL: Final = 1e-6
"""Largest change of a probability that counts as none: float sums in another order."""

MIN_OPSET: Final = 13
"""ReduceSum takes its axes as an input from here on."""


class _View:
    """Who makes a tensor, who reads it, and which tensors are constant."""

    def __init__(self, proto: Any) -> None:
        from onnx import numpy_helper

        self.graph = proto.graph
        self.producer = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.constants: dict[str, npt.NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer
        }

    def made_by(self, name: str, kind: str) -> Any | None:
        """The operator that makes ``name`` if it is of this kind."""
        node = self.producer.get(name)
        return node if node is not None and node.op_type == kind else None

    def operands(self, node: Any) -> tuple[str, npt.NDArray[Any]] | None:
        """The tensor and the constant that a Mul or Add joins; None if it is not of that kind."""
        for data, other in (node.input, reversed(node.input)):
            if other in self.constants and data not in self.constants:
                return data, self.constants[other]
        return None

    def before(self, name: str) -> set[str]:
        """Kinds of all operators that ``name`` depends on."""
        kinds: set[str] = set()
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            node = self.producer.get(waiting.pop())
            if node is None or node.output[0] in seen:
                continue
            seen.add(node.output[0])
            kinds.add(node.op_type)
            waiting.extend(node.input)
        return kinds


def fuse(proto: Any, params: Mapping[str, int | float] | None) -> list[str]:
    """Run every pass; in place.

    Args:
        proto: a field model (interface ``field``), float or quantised.
        params: parameters of recipe ``cells`` if the network takes the balanced field and this
            recipe's mask, else None: then the preparation stays as it is.

    Returns:
        Names of the passes that changed something.
    """
    import onnx

    done = []
    if params is not None and lean_preparation(proto, params):
        done.append("lean_preparation")
    if quad_stem(proto):
        done.append("quad_stem")
    if tidy(proto):
        done.append("tidy")
    onnx.checker.check_model(proto, full_check=True)
    return done


def params_of(manifest: Manifest) -> Mapping[str, int | float] | None:
    """What :func:`fuse` may be told about a model: the recipe's parameters, or None."""
    known = manifest.recipe["name"] == "cells" and manifest.white_balance == "background/1"
    return manifest.recipe["params"] if known else None


def fuse_file(path: Path, fields: Iterable[npt.NDArray[np.uint8]] | None = None) -> list[str]:
    """Fuse a sealed ONNX model file in place, keep its manifest, and prove that it answers alike.

    Args:
        path: the file.
        fields: uint8 [224, 224, 3] each; None means rendered fields and noise.

    Returns:
        As :func:`fuse`; empty if there was nothing to do, and then the file is untouched.

    Raises:
        ModelFileError: ``not_onnx``, or ``not_neutral``: a mask, or a probability or distance by
            more than :data:`NEUTRAL`, came out otherwise; the file is untouched.
    """
    import onnx

    before = container.read(path)
    if before.format != "onnx":
        raise ModelFileError(
            "not_onnx", f"{path}: only ONNX files can be fused: name an .onnx file"
        )
    proto = onnx.load_from_string(before.data)
    done = fuse(proto, params_of(before.manifest))
    if not done:
        return done
    data = container.embed_manifest(proto.SerializeToString(), before.manifest)
    apart = _difference(before, container.parse(data, source=str(path)), fields or _proofs())
    if apart > NEUTRAL:
        raise ModelFileError(
            "not_neutral", f"{path}: fusing would change answers by {apart:.2g}: it was left alone"
        )
    write_bytes(path, data)
    return done


def _proofs() -> Iterator[npt.NDArray[np.uint8]]:
    for seed in range(4):
        yield from (render_field(seed, label) for label in CLASSES)
    random = np.random.default_rng(1)
    for top in (3, 40, 256):
        yield random.integers(0, top, (FIELD_SIZE, FIELD_SIZE, 3), dtype=np.uint8)
    for level in (0, 29, 255):
        yield np.full((FIELD_SIZE, FIELD_SIZE, 3), level, np.uint8)


def _difference(
    one: container.ModelBytes, other: container.ModelBytes, fields: Iterable[npt.NDArray[np.uint8]]
) -> float:
    """Largest difference of probabilities and (relative) distances; infinite if a mask differs."""
    engines = [open_engine(model, threads=1) for model in (one, other)]
    largest = 0.0
    for field in fields:
        a, b = (engine.run(field[None]) for engine in engines)
        if not np.array_equal(a.mask, b.mask):
            return math.inf
        distance = np.abs(a.domain_distance - b.domain_distance) / np.maximum(a.domain_distance, 1)
        apart = np.abs(a.probabilities - b.probabilities).max()
        largest = max(largest, float(apart), float(distance.max()))
    return largest


def _size(proto: Any) -> tuple[int, int]:
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    return int(dims[1].dim_value), int(dims[2].dim_value)


def _replace(proto: Any, old: str, new: str) -> None:
    """Let every reader of ``old`` read ``new``."""
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def _insert(proto: Any, build: lean.Builder) -> None:
    """Put a builder's operators in front of all others, and its constants with the others."""
    from onnx import numpy_helper

    kept = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*build.nodes, *kept])
    proto.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in build.constants.items()
    )


def _normalisation(view: _View) -> tuple[Any, Any] | None:
    """The Mul and the Add that turn the balanced field into the first convolution's input."""
    for conv in [node for node in view.graph.node if node.op_type == "Conv"]:
        name = conv.input[0]
        unquantised = view.made_by(name, "DequantizeLinear")
        if unquantised is not None:
            quantised = view.made_by(unquantised.input[0], "QuantizeLinear")
            name = "" if quantised is None else quantised.input[0]
        add = view.made_by(name, "Add")
        given = None if add is None else view.operands(add)
        mul = None if given is None else view.made_by(given[0], "Mul")
        if mul is not None and view.operands(mul) is not None:
            return mul, add
    return None


def lean_preparation(proto: Any, params: Mapping[str, int | float]) -> bool:
    """Replace white balance and mask by ``lean.prepare_cells``; in place.

    Args:
        proto: a field model whose mask is that of recipe ``cells`` and whose network takes the
            balanced field. That it is, is the caller's word; its shape is checked here.
        params: of the recipe.

    Returns:
        False if the graph is not of that shape; then nothing was changed.
    """
    view = _View(proto)
    opset = max(item.version for item in proto.opset_import if item.domain in ("", "ai.onnx"))
    cast = view.made_by("mask", "Cast")
    squeeze = None if cast is None else view.made_by(cast.input[0], "Squeeze")
    norm = _normalisation(view)
    height, width = _size(proto)
    if opset < MIN_OPSET or squeeze is None or norm is None or not height or not width:
        return False
    mul, add = norm
    mask = squeeze.input[0]
    balanced, scale = view.operands(mul) or ("", np.zeros(0))
    if "Conv" in view.before(mask) | view.before(balanced) or "TopK" not in view.before(balanced):
        return False
    _, offset = view.operands(add) or ("", np.zeros(0))

    build = lean.prepare_cells(proto.graph.input[0].name, height, width, params)
    image = build.reshape(lean.U8_NHWC, 0, height, width, 3)
    planes = build.add("Transpose", [image], lean.PREFIX + "planes", perm=[0, 3, 1, 2])
    floats = build.add("Cast", [planes], lean.PREFIX + "planes_float", to=lean.float_type())
    back = build.reshape(lean.MASK_FLOAT, 0, height, width, 1)
    # The mask that the graph returns loses its channel; bytes are cheaper to move than floats.
    build.add("Reshape", [lean.MASK_BYTES, build.constant([0, height, width], np.int64)], "mask")
    proto.graph.node.remove(cast)
    _replace(proto, balanced, floats)
    _replace(proto, mask, back)
    for node in [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]:
        if node.input[0] == add.output[0] and _is_pixel(view, node, scale, offset):
            _replace(proto, node.output[0], planes)
    _insert(proto, build)
    _drop_dead(proto)
    return True


def _is_pixel(view: _View, node: Any, scale: npt.NDArray[Any], offset: npt.NDArray[Any]) -> bool:
    """True if quantising the normalised field gives back the pixel itself, for all 256 values."""
    step, zero = view.constants.get(node.input[1]), view.constants.get(node.input[2])
    sizes = (scale.size, offset.size)
    if step is None or zero is None or step.size != 1 or zero.dtype != np.uint8 or sizes != (1, 1):
        return False
    levels = np.arange(256, dtype=np.float32) * scale.reshape(()) + offset.reshape(())
    codes = np.rint(levels / step.reshape(())) + float(zero.reshape(()))
    # Exactly on a code, not merely rounded to it, so that no platform's rounding matters.
    exact: bool = bool((levels / step.reshape(()) + float(zero.reshape(())) == codes).all())
    return exact and bool((codes == np.arange(256)).all())


def _attribute(node: Any, name: str) -> list[int]:
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            return [int(value) for value in helper.get_attribute_value(attribute)]
    return []


def quad_stem(proto: Any) -> bool:
    """Let a quantised 3x3 stride-2 stem read four neighbouring pixels as 12 channels; in place.

    ONNX Runtime's integer convolution takes a slow path unless channels come in multiples of four.
    Channels-last bytes of a row are the same whether they are taken as W pixels of 3 or as W/4
    quads of 12. From one quad start two windows: at its first pixel, inside the quad, and at its
    third, reaching into the next quad. So a 3x2 window over quads with twice the output channels
    gives both, with zero weights for pixels outside a window: the same products and the same sums.
    Channels-last again, W/4 quads of 2 C results are W/2 results of C.

    Returns:
        False if the graph has no such stem behind :func:`lean_preparation`.
    """
    from onnx import helper, numpy_helper

    view = _View(proto)
    stem = _find_stem(view, _size(proto)[1])
    if stem is None:
        return False
    height, width = _size(proto)
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
    for attribute in list(stem.conv.attribute):
        if attribute.name in ("kernel_shape", "strides", "pads"):
            stem.conv.attribute.remove(attribute)
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
    _drop_dead(proto)
    return True


class _Stem(NamedTuple):
    """Operators around a quantised stem; ``weight`` is int8 [C, 3, 3, 3]."""

    planes: Any
    conv: Any
    weights: Any
    bias: Any
    quantised: Any
    weight: npt.NDArray[np.int8]


def _find_stem(view: _View, width: int) -> _Stem | None:
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
        and _attribute(conv, "strides") == [2, 2]
        and _attribute(conv, "pads") == [0, 0, 1, 1]
        and _attribute(conv, "dilations") in ([], [1, 1])
        and not any(zero.any() for zero in zeros)
        and len(view.readers[weights.output[0]]) == len(view.readers[bias.output[0]]) == 1
        and view.constants[after.input[1]].size == 1
    )
    return _Stem(planes, conv, weights, bias, after, weight) if fits else None


def tidy(proto: Any) -> bool:
    """Join Reshape, Squeeze and Unsqueeze chains into their last Reshape; in place.

    Only a Reshape whose target is constant and names at most its batch by 0 can swallow what is
    before it: elements keep their order through all of these operators.
    """
    changed = False
    view = _View(proto)
    free = ("Reshape", "Squeeze", "Unsqueeze")
    for node in proto.graph.node:
        if node.op_type != "Reshape":
            continue
        target = view.constants.get(node.input[1])
        # A 0 copies a dimension of the tensor at hand: only the batch is the same all along.
        if target is None or (target[1:] == 0).any():
            continue
        source = view.producer.get(node.input[0])
        while source is not None and source.op_type in free:
            if source.op_type == "Unsqueeze" and 0 in view.constants[source.input[1]]:
                break
            node.input[0] = source.input[0]
            changed = True
            source = view.producer.get(node.input[0])
    if changed:
        _drop_dead(proto)
    return changed


def _drop_dead(proto: Any) -> None:
    """Drop operators and constants that no output depends on."""
    producer = {name: node for node in proto.graph.node for name in node.output}
    alive: set[str] = set()
    waiting = [output.name for output in proto.graph.output]
    while waiting:
        name = waiting.pop()
        if name in alive:
            continue
        alive.add(name)
        if name in producer:
            waiting.extend(producer[name].input)
            alive.update(producer[name].output)
    nodes = [node for node in proto.graph.node if alive.intersection(node.output)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    for tensor in [t for t in proto.graph.initializer if t.name not in alive]:
        proto.graph.initializer.remove(tensor)
    for value in [v for v in proto.graph.value_info if v.name not in alive]:
        proto.graph.value_info.remove(value)


def main(paths: list[str]) -> int:
    """Fuse the files named; returns 2 with one line where one cannot be."""
    for name in paths:
        try:
            done = fuse_file(Path(name))
        except AllsubError as error:
            print(f"fuse: error: {error.message}", file=sys.stderr)
            return 2
        print(f"{name}: {', '.join(done) or 'nothing to do'}")
    return 0 if paths else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
