"""The network as it will run in 8-bit integers, while it is still being trained.

What is rounded (:mod:`allsub_edge.training.rounding`) is what ``export`` rounds: inside the
extractors, the kernel of every convolution with its batch norm folded in, one scale for each output
channel, and every activation that a file stores; and as there, a bias takes back what the rounding
of its kernel adds on average. A training may round only some of that in each step, drawn at random
(Wei et al., QDrop, ICLR 2022, arXiv 2203.05740, drop the rounding of activations so; here whole
layers of a field), so that the network in float learns too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.training.network import TwoChannelNetwork
from allsub_edge.training.rounding import RoundedActivation, RoundedConvolution

_CONVOLUTIONS: Final = ("Conv2D", "DepthwiseConv2D")
"""Classes of layers whose kernels are rounded."""

_BATCH: Final = 16
"""Fields at once when ranges are measured; the watcher keeps every activation of them."""

_LAYERS: Final = 10_000
"""More than a network has, so that two seeds share no layer's draws."""

_TAKEN_UP: Final = (["ReLU"], ["Activation"])
"""Sole readers that a converter joins with the layer before them."""


def simulated(
    network: TwoChannelNetwork, fields: npt.NDArray[np.uint8], share: float = 1.0, seed: int = 0
) -> Any:
    """The network's model with the rounding of an integer file; it shares every weight.

    Args:
        network: whose ``model`` is rebuilt.
        fields: training fields uint8 [N, S, S, 3] that show the range of the activations.
        share: of what is rounded in a step of training, above 0 to 1.
        seed: of the draws if that is below 1.
    """
    channels = network.channels(fields)
    seeds = itertools.count(_LAYERS * seed)  # each layer draws for itself
    twins: dict[int, Any] = {}
    for number, extractor in enumerate(network.extractors):
        # With one extractor for both channels, or with a mask as the second, the field decides.
        twins[id(extractor)] = _twin(extractor, channels[number], share, seeds)

    return keras.models.clone_model(
        network.model, clone_function=lambda layer: twins.get(id(layer), layer)
    )


def _twin(
    extractor: Any, inputs: npt.NDArray[np.float32], share: float, seeds: Iterator[int]
) -> Any:
    """An extractor with rounding; same input and output."""
    norms = _folded(extractor)
    inner = {id(norm) for norm in norms.values()}
    ranges, means = _ranges(extractor, norms, inputs), _means(extractor, inputs)

    def replaced(layer: Any) -> Any:
        if type(layer).__name__ in _CONVOLUTIONS:
            return RoundedConvolution(
                layer,
                norms.get(layer.name),
                means[layer.name],
                share,
                next(seeds),
                name=f"{layer.name}_rounded",
            )
        return layer

    def called(layer: Any, *given: Any, **options: Any) -> Any:
        made = given[0] if id(layer) in inner else layer(*given, **options)
        name = layer.name.removesuffix("_rounded")
        if name not in ranges:
            return made
        return RoundedActivation(*ranges[name], share, next(seeds), name=f"{name}_steps")(made)

    start = keras.Input(extractor.input.shape[1:], name=f"{extractor.name}_field")
    entry = RoundedActivation(
        float(inputs.min()), float(inputs.max()), share, next(seeds), name="field_steps"
    )
    twin = keras.models.clone_model(extractor, clone_function=replaced, call_function=called)
    return keras.Model(start, twin(entry(start)), name=extractor.name)


def _consumers(extractor: Any) -> dict[str, list[Any]]:
    """Name of each operation -> the operations that read what it makes."""
    inner = [made for made in extractor.operations if not isinstance(made, keras.layers.InputLayer)]
    makers = {id(made.output): made.name for made in inner}
    found: dict[str, list[Any]] = {made.name: [] for made in inner}
    for reader in inner:
        for tensor in keras.tree.flatten(reader.input):
            if id(tensor) in makers:
                found[makers[id(tensor)]].append(reader)
    return found


def _folded(extractor: Any) -> dict[str, Any]:
    """Name of a convolution -> the batch norm that alone reads it."""
    consumers = _consumers(extractor)
    return {
        layer.name: consumers[layer.name][0]
        for layer in extractor.layers
        if type(layer).__name__ in _CONVOLUTIONS
        and [type(reader).__name__ for reader in consumers[layer.name]] == ["BatchNormalization"]
    }


def _ranges(
    extractor: Any, norms: dict[str, Any], inputs: npt.NDArray[np.float32]
) -> dict[str, tuple[float, float]]:
    """Name of each layer whose output a file stores -> its least and largest value.

    Not stored are what a batch norm or a ReLU takes up at once, and what only pads.
    """
    consumers = _consumers(extractor)
    stored = {
        layer.name: layer.output
        for layer in extractor.layers
        if layer.name in consumers
        and layer.name not in norms
        and type(layer).__name__ != "ZeroPadding2D"
        and [type(reader).__name__ for reader in consumers[layer.name]] not in _TAKEN_UP
    }
    ops = keras.ops
    ends = {name: ops.stack([ops.min(tensor), ops.max(tensor)]) for name, tensor in stored.items()}
    seen = list(_watched(extractor, ends, inputs))
    return {
        name: (
            min(float(np.asarray(one[name])[0]) for one in seen),
            max(float(np.asarray(one[name])[1]) for one in seen),
        )
        for name in stored
    }


def _means(extractor: Any, inputs: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    """Name of each convolution -> the mean of each channel that it reads, float32 [C]."""
    means = {
        layer.name: keras.ops.mean(layer.input, axis=(0, 1, 2))
        for layer in extractor.layers
        if type(layer).__name__ in _CONVOLUTIONS
    }
    seen = list(_watched(extractor, means, inputs))
    return {name: np.mean([one[name] for one in seen], axis=0) for name in means}


def _watched(
    extractor: Any, tensors: dict[str, Any], inputs: npt.NDArray[np.float32]
) -> Iterator[dict[str, Any]]:
    """What the extractor's tensors are on the inputs, a part of these at a time."""
    watcher = keras.Model(extractor.input, tensors)
    for part in np.array_split(inputs, max(1, len(inputs) // _BATCH)):
        yield {name: np.asarray(value) for name, value in watcher.predict_on_batch(part).items()}
