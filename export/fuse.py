"""Makes an exported ONNX graph faster without changing its answers.

Four passes, each found with a profile (docs/performance.md tells what each brought) and each a
no-op where the graph is not of the kind it knows:

* :func:`lean_preparation` puts ``lean.prepare_cells`` in the place of the converted preparation,
  :func:`renew` in the place of an earlier version of itself;
* :func:`quad_stem` lets an int8 stem read four pixels as twelve channels;
* :func:`tidy` joins chains of reshapes and drops what nobody reads;
* :func:`fewer_operators` does with few operators what many small ones did.

They run on the float and on the quantised graph alike, after quantisation, so that no quantiser
sees the new operators. :func:`fuse_file` does it to a finished file, of an earlier version too, and
proves it there; of a TFLite file it turns the thin maxima (``thin_pools``):

    python -m allsub_edge.export.fuse MODEL...
"""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.atomic import write_bytes
from allsub_edge.classes import CLASSES
from allsub_edge.engines import open_engine
from allsub_edge.errors import AllsubError, ModelFileError
from allsub_edge.export import lean
from allsub_edge.export.graph_view import View, drop_dead, insert, replace_readers, size_of
from allsub_edge.export.quad import quad_stem
from allsub_edge.export.small_operators import fewer_operators, tidy
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import FIELD_SIZE
from allsub_edge.model_file import container
from allsub_edge.model_file.manifest import Manifest

__all__ = [
    "fewer_operators",
    "fuse",
    "fuse_file",
    "lean_preparation",
    "params_of",
    "quad_stem",
    "tidy",
]

NEUTRAL: Final = 1e-6
"""Largest change of a probability that counts as none: float sums in another order."""

MIN_OPSET: Final = 13
"""ReduceSum takes its axes as an input from here on."""


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
    if params is not None and (lean_preparation(proto, params) or renew(proto, params)):
        done.append("lean_preparation")
    if quad_stem(proto):
        done.append("quad_stem")
    if tidy(proto):
        done.append("tidy")
    if fewer_operators(proto):
        done.append("fewer_operators")
    onnx.checker.check_model(proto, full_check=True)
    return done


def params_of(manifest: Manifest) -> Mapping[str, int | float] | None:
    """What :func:`fuse` may be told about a model: the recipe's parameters, or None."""
    known = (
        manifest.interface == "field"
        and manifest.recipe["name"] == "cells"
        and manifest.white_balance == "background/1"
    )
    return manifest.recipe["params"] if known else None


def fuse_file(path: Path, fields: Iterable[npt.NDArray[np.uint8]] | None = None) -> list[str]:
    """Make a sealed model file faster in place, keep its manifest, and prove that it answers alike.

    Args:
        path: an ONNX file, or a TFLite file, whose thin maxima are turned (``thin_pools``).
        fields: uint8 [224, 224, 3] each; None means rendered fields and noise.

    Returns:
        As :func:`fuse`; empty if there was nothing to do, and then the file is untouched.

    Raises:
        ModelFileError: ``not_neutral``: a mask, or a probability or distance by more than
            :data:`NEUTRAL`, came out otherwise; the file is untouched.
    """
    before = container.read(path)
    graph, done = (_fused if before.format == "onnx" else _turned)(before)
    if not done:
        return done
    data = container.embed_manifest(graph, before.manifest)
    apart = _difference(before, container.parse(data, source=str(path)), fields or _proofs())
    if not apart <= NEUTRAL:
        raise ModelFileError(
            "not_neutral", f"{path}: fusing would change answers by {apart:.2g}: it was left alone"
        )
    write_bytes(path, data)
    return done


def _fused(model: container.ModelBytes) -> tuple[bytes, list[str]]:
    import onnx

    proto = onnx.load_from_string(model.data)
    done = fuse(proto, params_of(model.manifest))
    return proto.SerializeToString(), done


def _turned(model: container.ModelBytes) -> tuple[bytes, list[str]]:
    from allsub_edge.export import tflite_graph
    from allsub_edge.export.thin_pools import turn_pools
    from allsub_edge.model_file.tflite_bytes import flatbuffer

    unpacked = tflite_graph.unpack(flatbuffer(model.data))
    turned = turn_pools(unpacked)
    return (tflite_graph.pack(unpacked), ["thin_pools"]) if turned else (b"", [])


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
    """Largest difference of probabilities and (relative) distances.

    Infinite if a mask differs or an answer is no number.
    """
    engines = [open_engine(model, threads=1) for model in (one, other)]
    largest = 0.0
    for field in fields:
        a, b = (engine.run(field[None]) for engine in engines)
        if not np.array_equal(a.mask, b.mask):
            return math.inf
        distance = np.abs(a.domain_distance - b.domain_distance) / np.maximum(a.domain_distance, 1)
        apart = np.append(np.abs(a.probabilities - b.probabilities), distance)
        if not np.isfinite(apart).all():
            return math.inf
        largest = max(largest, float(apart.max()))
    return largest


def _normalisation(view: View) -> tuple[Any, Any] | None:
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
    view = View(proto)
    opset = max(item.version for item in proto.opset_import if item.domain in ("", "ai.onnx"))
    cast = view.made_by("mask", "Cast")
    squeeze = None if cast is None else view.made_by(cast.input[0], "Squeeze")
    norm = _normalisation(view)
    height, width = size_of(proto)
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
    replace_readers(proto, balanced, floats)
    replace_readers(proto, mask, back)
    for node in [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]:
        if node.input[0] == add.output[0] and _is_pixel(view, node, scale, offset):
            replace_readers(proto, node.output[0], planes)
    insert(proto, build)
    drop_dead(proto)
    return True


def renew(proto: Any, params: Mapping[str, int | float]) -> bool:
    """Give a graph that an earlier version made lean the preparation of this one; in place.

    Returns:
        False if there is no lean preparation, or it is already that of this version.
    """
    ends = (lean.U8_NHWC, lean.MASK_FLOAT, lean.MASK_BYTES)
    renewed = type(proto)()
    renewed.CopyFrom(proto)
    graph = renewed.graph
    if not set(ends) <= {name for node in graph.node for name in node.output}:
        return False
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    prefix = next(
        name
        for name in (f"{lean.PREFIX}{number}/" for number in itertools.count(2))
        if not any(known.startswith(name) for known in taken)
    )
    for node in [node for node in graph.node if set(ends) & set(node.output)]:
        graph.node.remove(node)
    insert(renewed, lean.prepare_cells(graph.input[0].name, *size_of(proto), params, prefix))
    drop_dead(renewed)
    tidy(renewed)
    if Counter(n.op_type for n in graph.node) == Counter(n.op_type for n in proto.graph.node):
        # As sets: two operators of one version may share what those of two have twice.
        before, after = (
            {(c.dtype.str, c.shape, c.tobytes()) for c in View(p).constants.values()}
            for p in (proto, renewed)
        )
        if before == after:
            return False
    proto.CopyFrom(renewed)
    return True


def _is_pixel(view: View, node: Any, scale: npt.NDArray[Any], offset: npt.NDArray[Any]) -> bool:
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
