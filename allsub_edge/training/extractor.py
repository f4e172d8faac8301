"""What can be read off a feature extractor's graph: its cost, its blocks, where its map looks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

BEYOND = 1_000_000
"""Block number of layers behind the last block, such as a head."""


def multiply_adds(model: Any) -> int:
    """Multiplications of one field's way through the convolutions and dense layers of ``model``.

    Counted as papers do: biases, activations, poolings and batch norms (which fold into
    convolutions) count nothing. The model's spatial sizes must be static.
    """
    total = 0
    for layer in model.layers:
        kind = type(layer).__name__
        if kind not in ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense"):
            continue
        given, made = layer.input.shape, layer.output.shape
        places = math.prod(made[1:-1])
        if kind == "Dense":
            total += places * given[-1] * made[-1]
        elif kind == "Conv2D":
            window = math.prod(layer.kernel_size)
            total += places * window * (given[-1] // layer.groups) * made[-1]
        else:
            deep = given[-1] * layer.depth_multiplier
            total += places * math.prod(layer.kernel_size) * deep
            if kind == "SeparableConv2D":
                total += places * deep * made[-1]
    return total


def block_numbers(model: Any, pattern: str) -> dict[str, int]:
    """Which block each layer belongs to, for freezing the first ones.

    Args:
        model: an extractor.
        pattern: regular expression whose first group, found in a layer's name, names its block.
            The last layer of each name ends that block.

    Returns:
        Layer name -> number of the first block that needs it, counted from 0. The stem counts to
        block 0; layers behind the last block have :data:`BEYOND`.
    """
    ends: dict[str, Any] = {}
    for layer in model.layers:
        found = re.search(pattern, layer.name)
        if found is not None:
            ends.pop(found[1], None)  # blocks stand in the order of their ends
            ends[found[1]] = layer
    # Operations, because plain arithmetic between layers is none of the layers.
    maker = {id(tensor): made for made in model.operations for tensor in _tensors(made.output)}
    numbers: dict[str, int] = {}
    for number, end in enumerate(ends.values()):
        waiting = [end]
        while waiting:
            layer = waiting.pop()
            if layer.name in numbers:
                continue
            numbers[layer.name] = number
            waiting += [maker[id(t)] for t in _tensors(layer.input) if id(t) in maker]
    return {layer.name: numbers.get(layer.name, BEYOND) for layer in model.layers}


@dataclass(frozen=True)
class Geometry:
    """Where the positions of a feature map look, along one side of the field, in pixels.

    Attributes:
        size: positions.
        stride: distance of neighbouring positions.
        centre: centre of what the first position sees; pixel 0 has its centre at 0.
    """

    size: int
    stride: int
    centre: float


def map_geometry(model: Any) -> Geometry:
    """Geometry of the extractor's output, followed from the input through paddings and strides.

    Where paths meet, the mean of their centres is taken. Squeeze-and-excite paths, which see the
    whole field, have no centre and are passed over.

    Raises:
        ValueError: paths of different strides meet, or nothing leads to the output.
    """
    known: dict[int, tuple[int, float]] = {id(model.input): (1, 0.0)}
    for layer in model.operations:
        made = layer.output
        if len(made.shape) != 4 or id(made) in known:
            continue
        seen = [
            known[id(t)]
            for t in _tensors(layer.input)
            if id(t) in known and (t.shape[1] > 1 or made.shape[1] == 1)
        ]
        if not seen or type(layer).__name__.startswith("Global"):
            continue
        if len({stride for stride, _ in seen}) > 1:
            raise ValueError(f"{layer.name}: paths of different strides meet")
        stride = seen[0][0]
        centre = sum(c for _, c in seen) / len(seen)
        step, shift = _step_and_shift(layer)
        known[id(made)] = (stride * step, centre + stride * shift)
    if id(model.output) not in known:
        raise ValueError(f"{model.name}: no path from the field to the feature map")
    stride, centre = known[id(model.output)]
    return Geometry(model.output.shape[1], stride, centre)


def _step_and_shift(layer: Any) -> tuple[int, float]:
    """Stride of one layer and how far it moves the first centre, in its input's positions."""
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return 1, -float(layer.padding[0][0])
    if isinstance(layer, keras.layers.Cropping2D):
        return 1, float(layer.cropping[0][0])
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if window is None:
        return 1, 0.0
    strides = layer.strides
    step = strides if isinstance(strides, int) else strides[0]
    dilation = getattr(layer, "dilation_rate", (1, 1))
    reach = (window[0] - 1) * (dilation if isinstance(dilation, int) else dilation[0])
    before = 0
    if layer.padding == "same":
        given, made = layer.input.shape[1], layer.output.shape[1]
        before = max((made - 1) * step + reach + 1 - given, 0) // 2
    return step, reach / 2 - before


def _tensors(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, (list, tuple)) else (value,)
