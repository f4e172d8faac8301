"""The network as it will run in 8-bit integers, while it is still being trained.

Rounding is simulated in the forward pass and left out of the backward pass (straight-through;
Jacob et al., CVPR 2018, arXiv 1712.05877), so training finds weights whose answers survive it. What
is rounded is what ``export`` rounds: inside the extractors, the kernel of every convolution with
its batch norm folded in, one scale for each output channel, and every activation that a file
stores. A training may round only some of that in each step, drawn at random (Wei et al., QDrop,
ICLR 2022, arXiv 2203.05740, drop the rounding of activations so; here whole layers of a field), so
that the network in float learns too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.training.network import TwoChannelNetwork

WEIGHT_STEPS: Final = 127
"""Steps from zero to a kernel's largest weight: signed 8 bits."""

WEIGHT_PAIR: Final = 128
"""Steps that two weights of one sign may sum up to where x86 chips add their products in 16 bits:
what ``export.paired_weights`` keeps to, and says why."""

ACTIVATION_STEPS: Final = 255
"""Steps from an activation's least to its largest value: unsigned 8 bits."""

_CONVOLUTIONS: Final = ("Conv2D", "DepthwiseConv2D")
"""Classes of layers whose kernels are rounded."""

_BATCH: Final = 16
"""Fields at once when ranges are measured; the watcher keeps every activation of them."""

_LAYERS: Final = 10_000
"""More than a network has, so that two seeds share no layer's draws."""

_TAKEN_UP: Final = (["ReLU"], ["Activation"])
"""Sole readers that a converter joins with the layer before them."""


def weight_steps(kernel: Any, deep: bool) -> Any:
    """The step of each output channel, as ``export.paired_weights.steps`` finds it.

    Only by how much it lets a step grow where rounding lifts a pair over the edge is left out; that
    is less than a hundredth of the step.

    Args:
        kernel: float32 tensor of Keras' shape, [h, w, C, M], or [h, w, C, m] if ``deep``.
        deep: it is a depthwise kernel.

    Returns:
        [1, 1, 1, M], or [1, 1, C, m] if ``deep``; positive.
    """
    ops = keras.ops
    *taps, inputs, outputs = kernel.shape
    channels = (1, 1, inputs if deep else 1, outputs)
    flat = ops.reshape(kernel, (-1, inputs * outputs if deep else outputs))
    found = ops.max(ops.abs(flat), axis=0) / WEIGHT_STEPS
    if not (deep and outputs == 1):
        point = not deep and all(size == 1 for size in taps)
        for sign in (1, -1):
            part = ops.relu(sign * flat)
            if point:
                even = ops.pad(part, ((0, inputs % 2), (0, 0)))
                pairs = ops.max(ops.sum(ops.reshape(even, (-1, 2, outputs)), axis=1), axis=0)
            else:
                largest, _ = ops.top_k(ops.transpose(part), min(2, flat.shape[0]))
                pairs = ops.sum(largest, axis=1)
            found = ops.maximum(found, pairs / WEIGHT_PAIR)
    return ops.maximum(ops.reshape(found, channels), 1e-11)


def rounded_kernel(kernel: Any, deep: bool) -> Any:
    """A kernel at the nearest of its steps; gradients pass as if it were not rounded.

    Args:
        kernel, deep: see :func:`weight_steps`.
    """
    step = keras.ops.stop_gradient(weight_steps(kernel, deep))
    return kernel + keras.ops.stop_gradient(keras.ops.round(kernel / step) * step - kernel)


class _Rounding(keras.layers.Layer):  # type: ignore[misc]
    """A layer that rounds always, or in training only at some draws.

    Args:
        share: of the draws that round, above 0 to 1; 1 draws nothing.
        seed: of the draws; how far they are is a weight, so that a checkpoint brings it back.
    """

    def __init__(self, share: float, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self.share = share
        self.draws = keras.random.SeedGenerator(seed) if share < 1 else None

    def drawn(self, exact: Any, rounded: Any, shape: Sequence[Any], training: bool | None) -> Any:
        """``rounded``, or in training ``exact`` where a draw of this shape says so."""
        if self.draws is None or not training:
            return rounded
        chosen = keras.random.uniform(shape, seed=self.draws) < self.share
        return keras.ops.where(chosen, rounded, exact)


class RoundedConvolution(_Rounding):
    """A convolution and the batch norm behind it with one rounded kernel.

    It shares the variables of both, and the batch norm's statistics do not move. Call with float32
    [N, h, w, C]; returns what the two layers return, but for the rounding.

    Args:
        share, seed: see :class:`_Rounding`; one draw for the kernel in each call.
    """

    def __init__(
        self,
        convolution: Any,
        norm: Any | None,
        share: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(share, seed, **options)
        self.convolution, self.norm = convolution, norm

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Convolve; see the class."""
        convolution, norm, ops = self.convolution, self.norm, keras.ops
        kernel, bias = convolution.kernel, convolution.bias if convolution.use_bias else 0.0
        deep = type(convolution).__name__ == "DepthwiseConv2D"
        if norm is not None:
            factor = 1 / ops.sqrt(norm.moving_variance + norm.epsilon)
            if norm.scale:
                factor = factor * norm.gamma
            bias = (bias - norm.moving_mean) * factor + (norm.beta if norm.center else 0.0)
            # A depthwise kernel has its output channels in its last two axes.
            kernel = kernel * (ops.reshape(factor, kernel.shape[2:]) if deep else factor)
        options = {
            "strides": convolution.strides,
            "padding": convolution.padding,
            "data_format": "channels_last",
            "dilation_rate": convolution.dilation_rate,
        }
        rounded = rounded_kernel(kernel, deep)
        kernel = self.drawn(kernel, rounded, (), training)
        return (ops.depthwise_conv if deep else ops.conv)(inputs, kernel, **options) + bias


class RoundedActivation(_Rounding):
    """An activation at the nearest of 256 steps; beyond its range it is cut, gradient and all.

    Args:
        low, high: least and largest value, as measured; zero is always within.
        share, seed: see :class:`_Rounding`; one draw for each field.
    """

    def __init__(
        self, low: float, high: float, share: float = 1.0, seed: int = 0, **options: Any
    ) -> None:
        super().__init__(share, seed, trainable=False, **options)
        self.low, self.high = min(low, 0.0), max(high, 0.0)

    def build(self, shape: Any) -> None:
        """Hold the range as weights, so that a checkpoint brings it back."""
        step = max(self.high - self.low, 1e-9) / ACTIVATION_STEPS
        # Zero must be a step: paddings and ReLU make many of them.
        zero = round(-self.low / step)
        self.step = self._constant("step", step)
        self.zero = self._constant("zero", zero)

    def _constant(self, name: str, value: float) -> Any:
        start = keras.initializers.Constant(value)
        return self.add_weight(shape=(), initializer=start, name=name, trainable=False)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Round; see the class."""
        ops = keras.ops
        low, high = -self.zero * self.step, (ACTIVATION_STEPS - self.zero) * self.step
        inside = ops.clip(inputs, low, high)
        made = inside + ops.stop_gradient(ops.round(inside / self.step) * self.step - inside)
        each = (ops.shape(inputs)[0], *(1,) * (len(inputs.shape) - 1))
        return self.drawn(inputs, made, each, training)


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
    ranges = _ranges(extractor, norms, inputs)

    def replaced(layer: Any) -> Any:
        if type(layer).__name__ in _CONVOLUTIONS:
            return RoundedConvolution(
                layer, norms.get(layer.name), share, next(seeds), name=f"{layer.name}_rounded"
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
    watcher = keras.Model(extractor.input, ends)
    parts = np.array_split(inputs, max(1, len(inputs) // _BATCH))
    seen = [watcher.predict_on_batch(part) for part in parts]
    return {
        name: (
            min(float(np.asarray(one[name])[0]) for one in seen),
            max(float(np.asarray(one[name])[1]) for one in seen),
        )
        for name in stored
    }
