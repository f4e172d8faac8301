"""8-bit weights whose products never overflow where x86 chips add two of them in 16 bits.

An x86 chip without VNNI multiplies unsigned activations with signed weights by ``VPMADDUBSW``: the
products of two neighbours are added in 16 bits and saturate. ONNX Runtime's own remedy is weights
of 7 bits (``reduce_range``), since 255 * (64 + 64) is below 2^15; every weight then pays with half
its precision for the worst that two of them could do. Here each output channel's step is the
least at which no pair that is really added can do it: the same answer on every chip, and most
channels keep nearly the whole 8 bits.

Which weights are added in pairs is ONNX Runtime's packing (MLAS, ``QgemmU8S8KernelAvx2`` and
``ConvSymKernelAvx2``): neighbouring input channels of one tap, or, where a file stays channels
first, neighbouring taps of one channel. Both must hold. For a larger kernel of an odd number of
channels every two count, since the exporter may lay it out anew (``quad``). A depthwise kernel adds
its taps in 32 bits (``ConvSymDepthwiseKernelAvx2``), so nothing can happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.export.graph_view import View

LARGEST: Final = 127
"""Largest magnitude of a weight: signed 8 bits, the same on both sides of zero."""

LARGEST_PAIR: Final = 128
"""Largest sum of two weights of one sign: 255 * 128 is below 2^15, 255 * 129 is not."""

_GROWTH: Final = 1 + 2.0**-10
"""By how much a step grows while rounding lifts a pair over the edge."""

_MARGIN: Final = 1 - 1e-5
"""The quantiser stores steps in float32; with one smaller by this the pairs must hold as well."""

Weights = npt.NDArray[Any]


def _side_by_side(flat: Weights) -> Weights:
    """Largest sum of two neighbours of an even and an odd place, of one sign; [M, K] -> [M]."""
    even = np.pad(flat, ((0, 0), (0, flat.shape[1] % 2)))
    pairs = even.reshape(len(even), -1, 2)
    sums = [np.maximum(sign * pairs, 0).sum(axis=2).max(axis=1) for sign in (1, -1)]
    return np.asarray(np.maximum(*sums))


def _neighbours(kernel: Weights) -> Weights:
    """Largest sum of two neighbours in either layout; [M, C, h, w] -> [M]."""
    layouts = (kernel, kernel.transpose(0, 2, 3, 1))
    return np.asarray(np.maximum(*(_side_by_side(k.reshape(len(k), -1)) for k in layouts)))


def _any_two(kernel: Weights) -> Weights:
    """Largest sum of any two of one sign; [M, C, h, w] -> [M]."""
    flat = kernel.reshape(len(kernel), -1)
    sums = [np.sort(np.maximum(sign * flat, 0), axis=1)[:, -2:].sum(axis=1) for sign in (1, -1)]
    return np.asarray(np.maximum(*sums))


def _nothing(kernel: Weights) -> Weights:
    return np.zeros(len(kernel))


def _pairing(shape: tuple[int, ...], group: int) -> Callable[[Weights], Weights]:
    outputs, inputs, *taps = shape
    if inputs == 1 and group == outputs > 1:
        return _nothing
    return _any_two if inputs % 2 and any(size > 1 for size in taps) else _neighbours


def largest_pairs(kernel: Weights, group: int = 1) -> Weights:
    """What two weights of one sign that may be added in 16 bits sum up to at most.

    Args:
        kernel: [M, C / group, h, w] of any dtype, as ONNX has it.
        group: of the convolution.

    Returns:
        [M], float64, of the kernel's unit; 0 where no two are.
    """
    return _pairing(kernel.shape, group)(kernel.astype(np.float64))


def steps(kernel: Weights, group: int = 1) -> npt.NDArray[np.float64]:
    """The least step of each output channel at which 8-bit weights cannot overflow.

    Args:
        kernel: float [M, C / group, h, w].
        group: of the convolution.

    Returns:
        [M], float64, positive: a weight w becomes ``rint(w / step)``, within +-:data:`LARGEST`,
        and of the pairs none above :data:`LARGEST_PAIR`. 1 for a channel of zeros.
    """
    exact = kernel.astype(np.float64)
    pairing = _pairing(kernel.shape, group)
    largest = np.abs(exact).max(axis=(1, 2, 3))
    found = np.maximum(largest / LARGEST, pairing(exact) / LARGEST_PAIR)
    found = np.where(found > 0, found, 1.0)
    while True:
        over = pairing(np.rint(exact / (found * _MARGIN)[:, None, None, None])) > LARGEST_PAIR
        if not over.any():
            return np.asarray(found)
        found = np.where(over, found * _GROWTH, found)


def _convolutions(proto: Any) -> Iterable[tuple[Any, int]]:
    for node in proto.graph.node:
        if node.op_type == "Conv":
            groups = [item.i for item in node.attribute if item.name == "group"]
            yield node, groups[0] if groups else 1


def ranges(proto: Any, names: Iterable[str], per_channel: bool) -> dict[str, list[dict[str, Any]]]:
    """What the quantiser of ONNX Runtime is told about the weights of convolutions.

    Args:
        proto: the float model.
        names: of the convolutions that are quantised.
        per_channel: a range for each output channel instead of one for the tensor.

    Returns:
        Value of its ``TensorQuantOverrides``.
    """
    chosen, constants = set(names), View(proto).constants
    found: dict[str, list[dict[str, Any]]] = {}
    for node, group in _convolutions(proto):
        if node.name not in chosen or node.input[1] not in constants:
            continue
        made = steps(constants[node.input[1]], group) * LARGEST
        if not per_channel:
            made = made.max(keepdims=True)
        rows = [{"rmin": np.float32(-limit), "rmax": np.float32(limit)} for limit in made]
        found[node.input[1]] = [row | ({"axis": 0} if per_channel else {}) for row in rows]
    return found


def overflowing(proto: Any) -> list[str]:
    """Names of a quantised model's convolutions that an x86 chip without VNNI could overflow.

    Args:
        proto: a model whose int8 weights stand before a ``DequantizeLinear``.
    """
    view = View(proto)
    found = []
    for node, group in _convolutions(proto):
        stored = view.made_by(node.input[1], "DequantizeLinear")
        kernel = None if stored is None else view.constants.get(stored.input[0])
        if kernel is None:
            continue
        if kernel.dtype == np.int8 and (largest_pairs(kernel, group) > LARGEST_PAIR).any():
            found.append(node.name)
    return found
