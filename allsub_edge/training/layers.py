"""The imaging steps as Keras layers, for the inside of the model file.

White balance, HSV and the recipes of ``allsub_edge.imaging`` again, in ``keras.ops`` that become
standard ONNX operators and built-in TFLite operators. Pixels are float32 that hold integers; every
sum and product is exactly representable in float32, so that no order of summation and no fused
multiply-add can change a pixel. The few quotients are rounded to integers at once, and an IEEE
division rounds them alike everywhere. Tests hold the layers equal to the numpy versions in Keras,
ONNX Runtime and LiteRT. The layers stay float32 under any mixed-precision policy.

Arithmetic runs on channels-first arrays or on planes [N, H, W]. The exporter cancels the transposes
that this takes against its own, and ONNX Runtime is 10 to 30 times slower at the same arithmetic on
channels-last arrays, where the axis that broadcasts is the innermost one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import keras
from keras import ops

from allsub_edge.imaging import hsv, white_balance
from allsub_edge.imaging.recipes import get_recipe, strong_blocks

Params = Mapping[str, int | float]

MAX_PIXELS: Final[int] = 65536
"""Largest field (H x W) whose background sums stay below 2^24."""


def _channels_first(field: Any) -> Any:
    return ops.transpose(field, (0, 3, 1, 2))


def _channels_last(field: Any) -> Any:
    return ops.transpose(field, (0, 2, 3, 1))


def _planes(field: Any) -> list[Any]:
    """Red, green and blue as [N, H, W] each."""
    height, width = field.shape[1:3]
    planes = ops.split(_channels_first(field), 3, axis=1)
    return [ops.reshape(plane, (-1, height, width)) for plane in planes]


def _stack(planes: Any) -> Any:
    return _channels_last(ops.stack(planes, axis=1))


def _as_image(plane: Any) -> Any:
    return ops.expand_dims(plane, -1)


def _round_half_up(x: Any) -> Any:
    return ops.floor(x + 0.5)


def _one_where(condition: Any) -> Any:
    return ops.cast(condition, "float32")


@keras.saving.register_keras_serializable(package="allsub_edge")
class WhiteBalance(keras.layers.Layer):  # type: ignore[misc]
    """:func:`allsub_edge.imaging.white_balance.balance` for a batch.

    Input and output: float32 [N, H, W, 3] holding integers 0..255; H and W static multiples of 4
    with at most 65536 pixels.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**_fixed(kwargs))

    def build(self, input_shape: Any) -> None:
        """Check the static shape; raises ValueError if it breaks the contract."""
        _, height, width, channels = input_shape
        block = white_balance.BLOCK
        if (
            channels != 3
            or height is None
            or width is None
            or height % block
            or width % block
            or height * width > MAX_PIXELS
        ):
            raise ValueError(
                f"WhiteBalance needs [N, H, W, 3] with static H and W, multiples of {block} with "
                f"at most {MAX_PIXELS} pixels, not {tuple(input_shape)}"
            )
        super().build(input_shape)

    def call(self, field: Any) -> Any:
        """Balance the fields."""
        return _balance(field)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input."""
        return input_shape


def _block_means(field: Any) -> Any:
    """Means of the blocks of an [N, H, W, C] array as [N, C, blocks]; exact for integers."""
    channels = field.shape[3]
    block = white_balance.BLOCK
    means = ops.average_pool(field, block, block, data_format="channels_last")
    blocks = means.shape[1] * means.shape[2]
    return ops.reshape(_channels_first(means), (-1, channels, blocks))


def _balance(field: Any) -> Any:
    means = _block_means(field)
    darkest = ops.min(means, axis=1, keepdims=True)
    brightest, _ = ops.top_k(
        darkest, white_balance.background_blocks(darkest.shape[2]), sorted=False
    )
    background = _one_where(darkest >= ops.min(brightest, axis=2, keepdims=True))
    # Sixteenths first: the sums then are sums of integers.
    total = ops.sum(means * 16.0 * background, axis=2)
    count = ops.sum(background, axis=2)
    point = _round_half_up(total / count)
    point = ops.maximum(point, float(white_balance.TARGET * 16 // white_balance.MAX_GAIN))
    scale = 1 << white_balance.GAIN_SHIFT
    gain = _round_half_up(float(white_balance.TARGET * 16 * scale) / point) / scale
    scaled = _channels_first(field) * ops.reshape(gain, (-1, 3, 1, 1))
    return _channels_last(ops.minimum(_round_half_up(scaled), 255.0))


@keras.saving.register_keras_serializable(package="allsub_edge")
class RgbToHsv(keras.layers.Layer):  # type: ignore[misc]
    """:func:`allsub_edge.imaging.hsv.rgb_to_hsv` for a batch.

    Input and output: float32 [N, H, W, 3] holding integers; hue 0..179, the rest 0..255.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**_fixed(kwargs))

    def call(self, field: Any) -> Any:
        """Convert the fields."""
        return _stack(_hsv(*_planes(field)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input."""
        return input_shape


def _hsv(red: Any, green: Any, blue: Any) -> tuple[Any, Any, Any]:
    scale = float(1 << hsv.SHIFT)
    value = ops.maximum(ops.maximum(red, green), blue)
    chroma = value - ops.minimum(ops.minimum(red, green), blue)
    # At value 0 and at chroma 0 the other factor is 0, whatever the reciprocal is.
    per_value = _round_half_up(255 * scale / ops.maximum(value, 1.0))
    per_chroma = _round_half_up(hsv.HUE_RANGE / 6 * scale / ops.maximum(chroma, 1.0))
    saturation = _round_half_up(chroma * per_value / scale)
    sector = ops.where(
        ops.equal(value, red),
        green - blue,
        ops.where(ops.equal(value, green), blue - red + 2.0 * chroma, red - green + 4.0 * chroma),
    )
    hue = _round_half_up(sector * per_chroma / scale)
    hue = ops.where(hue < 0.0, hue + float(hsv.HUE_RANGE), hue)
    return hue, saturation, value


class _RecipeLayer(keras.layers.Layer):  # type: ignore[misc]
    """What the two recipe layers share: the recipe's name and what it is given."""

    def __init__(self, recipe: str, balanced: bool = False, **kwargs: Any) -> None:
        super().__init__(**_fixed(kwargs))
        self.recipe = recipe
        self.balanced = balanced
        if not get_recipe(recipe).balanced and balanced:
            raise ValueError(f"recipe {recipe!r} works on the raw field, not on a balanced one")

    def _prepare(self, field: Any) -> Any:
        raw = get_recipe(self.recipe).balanced and not self.balanced
        return _balance(field) if raw else field

    def get_config(self) -> dict[str, Any]:
        """Keras configuration."""
        config: dict[str, Any] = super().get_config()
        return {**config, "recipe": self.recipe, "balanced": self.balanced}


@keras.saving.register_keras_serializable(package="allsub_edge")
class RecipeMask(_RecipeLayer):
    """:meth:`allsub_edge.imaging.recipes.Recipe.mask` for a batch.

    Input: float32 [N, H, W, 3] holding integers 0..255: the raw field, or with ``balanced=True``
    the output of :class:`WhiteBalance`, so that a model that needs the balanced field itself
    computes it once. Output: float32 [N, H, W, 1] of 0 and 1.

    Raises ValueError for ``balanced=True`` with a recipe that works on the raw field, and
    UsageError for an unknown recipe.
    """

    def call(self, field: Any) -> Any:
        """Find the white cells."""
        return _MASKS[self.recipe](self._prepare(field), get_recipe(self.recipe).params)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """One channel."""
        return (*input_shape[:-1], 1)


@keras.saving.register_keras_serializable(package="allsub_edge")
class SecondChannel(_RecipeLayer):
    """:meth:`allsub_edge.imaging.recipes.Recipe.second_channel` for a batch.

    Inputs: the field as for :class:`RecipeMask` and the mask float32 [N, H, W, 1], as two
    arguments or as one pair. Output: float32 [N, H, W, 3] holding integers 0..255, 0 outside the
    mask.
    """

    def call(self, field: Any, cells: Any = None) -> Any:
        """The segmented image."""
        if cells is None:
            field, cells = field
        return _SECONDS[self.recipe](self._prepare(field)) * cells

    def compute_output_shape(self, field_shape: Any, cells_shape: Any = None) -> Any:
        """Same as the field."""
        return field_shape[0] if isinstance(field_shape[0], (tuple, list)) else field_shape


def _aria2022_mask(field: Any, params: Params) -> Any:
    red, green, blue = _planes(field)
    hue, saturation, value = _hsv(blue, green, red)
    inside = ops.logical_and(
        ops.logical_and(
            hue >= float(params["hue_min"]), saturation >= float(params["saturation_min"])
        ),
        value >= float(params["value_min"]),
    )
    return _as_image(_one_where(inside))


def _aria2022_second(field: Any) -> Any:
    red, green, blue = _planes(field)
    hue, saturation, value = _hsv(blue, green, red)
    return _stack([value, saturation, hue])


def _dilate_turned(plane: Any, side: int) -> Any:
    """Square maximum of planes [N, H, W], returned with rows and columns exchanged.

    Two thin maxima are one square maximum, at 2 x side comparisons instead of side^2. Each runs
    along the first axis with the second in the place of channels: kernels work on many channels at
    once, and LiteRT takes four times as long to pool a picture of one channel.
    """
    for again in (True, False):
        pooled = ops.max_pool(
            ops.expand_dims(plane, 2), (side, 1), 1, padding="same", data_format="channels_last"
        )
        plane = ops.squeeze(pooled, 2)
        if again:
            plane = ops.transpose(plane, (0, 2, 1))
    return plane


def _cells_mask(field: Any, params: Params) -> Any:
    red, green, blue = _planes(field)
    purple = red + blue - 2.0 * green
    means = _block_means(_as_image(purple))
    strongest, _ = ops.top_k(means, strong_blocks(means.shape[2], params["strong_percent"]))
    threshold = ops.min(strongest, axis=2, keepdims=True) * float(params["share"])
    threshold = ops.maximum(threshold, float(params["purple_min"]))
    threshold = ops.minimum(threshold, float(params["purple_max"]))
    opened, closed = int(params["open"]), int(params["close"])
    # Erosion is the dilation of the complement. The dilations that end the opening and begin the
    # closing are one larger square.
    outside = _dilate_turned(_one_where(purple < threshold), opened)
    inside = _dilate_turned(1.0 - outside, opened + closed - 1)
    # The transpose comes last: in the other order TensorFlow 2.21's converter loses the 1.
    turned = 1.0 - _dilate_turned(1.0 - inside, closed)
    return _as_image(ops.transpose(turned, (0, 2, 1)))


def _cells_second(field: Any) -> Any:
    return field


_MASKS = {"aria2022": _aria2022_mask, "cells": _cells_mask}
_SECONDS = {"aria2022": _aria2022_second, "cells": _cells_second}


def _fixed(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Layer arguments with what may not vary: no training, and float32 for exact integers."""
    return {**kwargs, "trainable": False, "dtype": "float32"}
