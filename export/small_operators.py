"""Chains of small operators as fewer ones, with the same results to the bit.

An operator costs a few microseconds before it computes anything, and most of what follows the
convolutions computes next to nothing.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from allsub_edge.export import lean
from allsub_edge.export.graph_view import View, attribute, drop_dead, insert, size_of

SHARE: Final = "share/"
NEAREST: Final = "nearest/"
"""What the names of new operators begin with."""


def fewer_operators(proto: Any) -> bool:
    """:func:`mask_shares` and :func:`nearest_at_once`; in place. Behind ``lean_preparation``."""
    changed = any([mask_shares(proto), nearest_at_once(proto)])
    if changed:
        tidy(proto)
    return changed


def mask_shares(proto: Any) -> bool:
    """Average the mask over square tiles by adding rows and one product; in place.

    The mask is 0 and 1 and the sides of tiles are powers of two, so that every sum and every share
    is exact. ONNX Runtime pools a single channel pixel by pixel, which takes three times as long.

    Returns:
        False if the graph has no such average of :data:`lean.MASK_FLOAT`.
    """
    view = View(proto)
    height, width = size_of(proto)
    pool = next((n for n in proto.graph.node if _averages_mask(view, n, height, width)), None)
    if pool is None:
        return False
    side = attribute(pool, "kernel_shape")[0]
    build = lean.Builder(SHARE)
    rows = build.reshape(lean.MASK_FLOAT, 0, height // side, side, width)
    rows = build.reduce_sum(rows, 2, keepdims=0)
    tiles = np.kron(np.eye(width // side), np.ones((side, 1))) / side**2
    shares = build.add("MatMul", [rows, build.constant(tiles)])
    target = build.constant([0, 1, height // side, width // side], np.int64)
    build.add("Reshape", [shares, target], pool.output[0])
    insert(proto, build, pool)
    proto.graph.node.remove(pool)
    drop_dead(proto)
    return True


def _averages_mask(view: View, node: Any, height: int, width: int) -> bool:
    if node.op_type != "AveragePool":
        return False
    side, *others = attribute(node, "kernel_shape")
    name = node.input[0]
    shaped = view.made_by(name, "Reshape")
    if shaped is not None and shaped.input[1] in view.constants:
        kept = view.constants[shaped.input[1]].tolist()[1:] == [1, height, width]
        name = shaped.input[0] if kept else ""
    return (
        name == lean.MASK_FLOAT
        and others == [side]
        and attribute(node, "strides") == [side, side]
        and not any(attribute(node, "pads"))
        and not (height % side or width % side or side & (side - 1))
    )


def nearest_at_once(proto: Any) -> bool:
    """Take the distances to the centres of all classes in one go; in place.

    As converted, a difference, a square, a mean and a minimum for each class.

    Returns:
        False if ``domain_distance`` is not the root of the least of such means.
    """
    view = View(proto)
    root = view.made_by("domain_distance", "Sqrt")
    waiting = [] if root is None else [root.input[0]]
    means = []
    while waiting:
        name = waiting.pop(0)
        least = view.made_by(name, "Min")
        if least is None:
            means.append(name)
        else:
            waiting.extend(least.input)
    found = [_squared_distance(view, name) for name in means]
    known = [item for item in found if item is not None]
    points = {point for point, _ in known}
    if root is None or len(known) < max(2, len(found)) or len(points) != 1:
        return False
    build = lean.Builder(NEAREST)
    centres = np.stack([centre.reshape(-1) for _, centre in known])
    point = build.reshape(points.pop(), 0, 1, centres.shape[1])
    apart = build.add("Sub", [point, build.constant(centres[None])])
    squares = build.add("Mul", [apart, apart])
    distances = build.add("ReduceMean", [squares], axes=[2], keepdims=0)
    root.input[0] = build.add("ReduceMin", [distances], axes=[1], keepdims=0)
    insert(proto, build, root)
    drop_dead(proto)
    return True


def _squared_distance(view: View, name: str) -> tuple[str, Any] | None:
    """The point [N, D] and the constant whose mean squared difference ``name`` is, or None."""
    mean = view.made_by(name, "ReduceMean")
    if mean is None or attribute(mean, "axes") != [1] or not _drops_axis(mean):
        return None
    square = view.made_by(mean.input[0], "Mul")
    if square is None or square.input[0] != square.input[1]:
        return None
    apart = view.made_by(square.input[0], "Sub")
    if apart is None or apart.input[1] not in view.constants:
        return None
    return apart.input[0], view.constants[apart.input[1]]


def _drops_axis(node: Any) -> bool:
    return any(item.name == "keepdims" and item.i == 0 for item in node.attribute)


def tidy(proto: Any) -> bool:
    """Join Reshape, Squeeze and Unsqueeze chains into their last Reshape; in place.

    Only a Reshape whose target is constant and names at most its batch by 0 can swallow what is
    before it, and then only what leaves the batch alone: elements keep their order through all of
    these operators.
    """
    changed = False
    view = View(proto)
    for node in proto.graph.node:
        if node.op_type != "Reshape":
            continue
        target = view.constants.get(node.input[1])
        # A 0 copies a dimension of the tensor at hand: only the batch is the same all along.
        if target is None or (target[1:] == 0).any():
            continue
        source = view.producer.get(node.input[0])
        while source is not None and _swallowed(view, source, batch_copied=target[0] == 0):
            node.input[0] = source.input[0]
            changed = True
            source = view.producer.get(node.input[0])
    if changed:
        drop_dead(proto)
    return changed


def _swallowed(view: View, source: Any, batch_copied: bool) -> bool:
    """Whether a Reshape does with what ``source`` reads what it does with what it returns."""
    if source.op_type == "Reshape":
        given = view.constants.get(source.input[1])
        return not batch_copied or (given is not None and bool(given[0] == 0))
    if source.op_type in ("Squeeze", "Unsqueeze"):
        axes = view.constants.get(source.input[1]) if len(source.input) > 1 else None
        return not batch_copied or (axes is not None and bool((axes > 0).all()))
    return False
