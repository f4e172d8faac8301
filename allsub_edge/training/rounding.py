"""Layers that round as an integer file does, while they are still being trained.

Rounding is simulated in the forward pass and left out of the backward pass (straight-through;
Jacob et al., CVPR 2018, arXiv 1712.05877), so training finds weights whose answers survive it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

WEIGHT_STEPS: Final = 127
"""Steps from zero to a kernel's largest weight: signed 8 bits."""

WEIGHT_PAIR: Final = 128
"""Steps that two weights of one sign may sum up to where x86 chips add their products in 16 bits:
what ``export.paired_weights`` keeps to, and says why."""

ACTIVATION_STEPS: Final = 255
"""Steps from an activation's least to its largest value: unsigned 8 bits."""


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
        any_two = deep or (inputs % 2 and any(size > 1 for size in taps))
        layouts = (kernel, ops.transpose(kernel, (2, 0, 1, 3)))
        for sign, layout in itertools.product((1, -1), (flat,) if any_two else layouts):
            part = ops.relu(sign * ops.reshape(layout, flat.shape))
            if any_two:
                largest, _ = ops.top_k(ops.transpose(part), min(2, flat.shape[0]))
                pairs = ops.sum(largest, axis=1)
            else:
                even = ops.pad(part, ((0, part.shape[0] % 2), (0, 0)))
                pairs = ops.max(ops.sum(ops.reshape(even, (-1, 2, outputs)), axis=1), axis=0)
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
        mean: float32 [C], mean of each input channel; what rounding the kernel adds to such an
            input, at every tap, is taken off again (bias correction of Nagel et al., ICCV 2019,
            arXiv 1906.04721).
        share, seed: see :class:`_Rounding`; one draw for the kernel in each call.
    """

    def __init__(
        self,
        convolution: Any,
        norm: Any | None,
        mean: npt.NDArray[np.float32],
        share: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(share, seed, **options)
        self.convolution, self.norm, self.mean = convolution, norm, np.asarray(mean, np.float32)

    def build(self, shape: Any) -> None:
        """Hold the means as weights, so that a checkpoint brings them back."""
        start = keras.initializers.Constant(self.mean)
        self.usual = self.add_weight(
            shape=self.mean.shape, initializer=start, name="usual", trainable=False
        )

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
        drawn = self.drawn(kernel, rounded, (), training)
        added = ops.sum(ops.stop_gradient(drawn - kernel), axis=(0, 1))  # [C, M], or [C, m]
        each = added * ops.expand_dims(self.usual, -1)
        bias = bias - (ops.reshape(each, (-1,)) if deep else ops.sum(each, axis=0))
        return (ops.depthwise_conv if deep else ops.conv)(inputs, drawn, **options) + bias


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
