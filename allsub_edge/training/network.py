"""The two-channel network: preparation, extractor, fusion, dense block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.errors import UsageError
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.white_balance import balance
from allsub_edge.training.backbones import Backbone, Factor, get_backbone
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.extractor import block_numbers, map_geometry
from allsub_edge.training.layers import RecipeMask, SecondChannel, WhiteBalance
from allsub_edge.training.starting_weights import resolve


@keras.saving.register_keras_serializable(package="allsub_edge")
class MaskedAverage(keras.layers.Layer):  # type: ignore[misc]
    """Average of a feature map over the cell mask.

    Call with ``(features float32 [N, h, w, C], mask float32 [N, H, W, 1] of 0 and 1)``; returns
    float32 [N, C]. A field without a cell gives zeros.

    Without arguments h must divide H, and each position weighs as much as the share of its
    H/h x W/w patch that the mask covers. A map that does not divide the field, as networks without
    padding make, needs ``stride`` and ``centre`` (``training.extractor.Geometry``):
    then every pixel of the mask counts for the position whose centre is nearest to it, so that
    cells at the border of the field count too.
    """

    def __init__(
        self, stride: int | None = None, centre: float | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.stride, self.centre = stride, centre

    def call(self, inputs: Any) -> Any:
        """Pool; see the class."""
        features, mask = inputs
        weight = (
            self._patches(mask, features) if self.stride is None else self._nearest(mask, features)
        )
        total = keras.ops.sum(weight, axis=(1, 2))
        return keras.ops.sum(features * weight, axis=(1, 2)) / keras.ops.maximum(total, 1e-3)

    def _patches(self, mask: Any, features: Any) -> Any:
        step = mask.shape[1] // features.shape[1]
        return keras.ops.average_pool(mask, step, step, data_format="channels_last")

    def _nearest(self, mask: Any, features: Any) -> Any:
        # Sums over intervals as products with constant matrices, which every engine has; constants
        # stand on the right, where converters make plain dense layers of them.
        down = self._intervals(mask.shape[1], features.shape[1])
        across = self._intervals(mask.shape[2], features.shape[2])
        rows = keras.ops.matmul(keras.ops.squeeze(mask, -1), across)
        columns = keras.ops.matmul(keras.ops.transpose(rows, (0, 2, 1)), down)
        return keras.ops.expand_dims(keras.ops.transpose(columns, (0, 2, 1)), -1)

    def _intervals(self, pixels: int, positions: int) -> npt.NDArray[np.float32]:
        """[pixels, positions], 1/stride where the position is the pixel's nearest."""
        assert self.stride is not None and self.centre is not None
        nearest = np.floor((np.arange(pixels) - self.centre) / self.stride + 0.5)
        chosen = np.clip(nearest, 0, positions - 1).astype(int)
        return np.asarray(np.eye(positions)[chosen] / self.stride, np.float32)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "stride": self.stride, "centre": self.centre}


@keras.saving.register_keras_serializable(package="allsub_edge")
class Prepare(keras.layers.Layer):  # type: ignore[misc]
    """Field to the two channels: balanced and normalised original, second channel, mask.

    Call with float32 [N, H, W, 3] of integers 0..255. Returns ``(original, segmented, mask)``:
    float32 [N, H, W, 3] normalised for the extractor, twice, and float32 [N, H, W, 1] of 0 and 1.
    """

    def __init__(
        self, recipe: str, white_balance: bool, scale: Factor, offset: Factor, **options: Any
    ) -> None:
        super().__init__(**options)
        self.recipe, self.white_balance = recipe, white_balance
        self.scale, self.offset = scale, offset
        self._scale, self._offset = _planewise(scale), _planewise(offset)
        # The balanced field is computed once, for the network and for a recipe that wants it.
        self._recipe_balanced = get_recipe(recipe).balanced
        self._balance = WhiteBalance()
        self._mask = RecipeMask(recipe, balanced=self._recipe_balanced)
        self._second = SecondChannel(recipe, balanced=self._recipe_balanced)

    def call(self, field: Any) -> Any:
        """Prepare; see the class."""
        balanced = self._balance(field) if self.white_balance or self._recipe_balanced else field
        seen = balanced if self._recipe_balanced else field
        mask = self._mask(seen)
        segmented = self._second(seen, mask)
        original = balanced if self.white_balance else field
        return self._normalise(original), self._normalise(segmented), mask

    def _normalise(self, image: Any) -> Any:
        # Channels first, because ONNX Runtime is slow at broadcasting over the innermost axis;
        # the exporter cancels the transposes.
        planes = keras.ops.transpose(image, (0, 3, 1, 2))
        return keras.ops.transpose(planes * self._scale + self._offset, (0, 2, 3, 1))

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "recipe": self.recipe,
            "white_balance": self.white_balance,
            "scale": self.scale,
            "offset": self.offset,
        }


def _planewise(factor: Factor) -> Any:
    """A factor as it multiplies [N, 3, H, W]."""
    if isinstance(factor, (int, float)):
        return factor
    return np.array(factor, np.float32).reshape(1, 3, 1, 1)


@dataclass(frozen=True)
class TwoChannelNetwork:
    """The parts of one network; they share their weights.

    Attributes:
        config: what it was built from.
        backbone: the extractor's entry in the table.
        prepare: field -> (original, segmented, mask); a Keras layer, part of the model file.
        core: ``original`` and ``segmented`` (branches) or ``mask`` (mask_pool) -> (logits
            float32 [N, 4], features float32 [N, F] before the dense block).
        model: the core without its second output; what is trained. It is fed by ``channels``,
            because TensorFlow takes ten times longer over the preparation than numpy.
        extractors: one Keras model for each separate set of extractor weights.
    """

    config: TrainConfig
    backbone: Backbone
    prepare: Any
    core: Any
    model: Any
    extractors: tuple[Any, ...]

    def channels(
        self, fields: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """What ``prepare`` computes, by numpy: the two inputs of ``core``.

        Args:
            fields: uint8 [N, size, size, 3].

        Returns:
            ``original`` float32 [N, size, size, 3], and ``segmented`` of the same shape
            (branches) or ``mask`` float32 [N, size, size, 1] (mask_pool). Tests hold both equal
            to ``prepare``.
        """
        recipe = get_recipe(self.config.recipe)
        scale = np.asarray(self.backbone.scale, np.float32)
        offset = np.asarray(self.backbone.offset, np.float32)
        masks = [recipe.mask(field) for field in fields]
        seen = [balance(f) if self.config.white_balance else f for f in fields]
        original = np.stack(seen).astype(np.float32) * scale + offset
        if self.config.fusion == "mask_pool":
            return original, np.stack(masks)[..., None].astype(np.float32)
        second = [recipe.second_channel(f, m) for f, m in zip(fields, masks, strict=True)]
        return original, np.stack(second).astype(np.float32) * scale + offset

    def set_phase(self, *, head_only: bool) -> None:
        """Choose what is trained: the dense block alone, or also the blocks not frozen."""
        for extractor in self.extractors:
            blocks = block_numbers(extractor, self.backbone.blocks)
            for layer in extractor.layers:
                frozen_norm = self.config.frozen_batch_norm and isinstance(
                    layer, keras.layers.BatchNormalization
                )
                early = blocks[layer.name] < self.config.frozen_blocks
                layer.trainable = not (head_only or frozen_norm or early)


def check_buildable(config: TrainConfig) -> Backbone:
    """The backbone of a configuration that can be built; builds and loads nothing.

    Raises:
        UsageError: unknown backbone, cut or recipe, or too small a size.
    """
    backbone = get_backbone(config.backbone)
    backbone.check_cut(config.cut)
    get_recipe(config.recipe)
    if config.size < backbone.min_size:
        raise UsageError(
            "bad_config",
            f"configuration: {backbone.name} needs a size of at least {backbone.min_size}, "
            f"not {config.size}",
        )
    return backbone


def build_network(config: TrainConfig, *, precision: str = "float32") -> TwoChannelNetwork:
    """Build the network of a configuration and load its starting weights.

    Args:
        config: what to build. Its ``precision`` is that of training and not looked at here.
        precision: Keras dtype policy of the extractors; all else is float32 always. Weights are
            float32 under every policy, so those of one network fit the other.

    Raises:
        UsageError: unknown backbone, cut or recipe; the package of ``imagenet`` is missing.
        DataError: the weights file is missing or does not fit.
    """
    backbone = check_buildable(config)
    shape = (config.size, config.size, 3)
    names = ["extractor_original"]
    if config.fusion == "branches" and not config.shared:
        names.append("extractor_segmented")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        extractors = [backbone.build(config.size, config.cut, name) for name in names]
    finally:
        keras.config.set_dtype_policy(before)
    weights = resolve(config.weights, config.backbone)
    if weights is not None:
        for extractor in extractors:
            backbone.load(extractor, weights, config.cut)

    original = keras.Input(shape, name="original")
    field_map = extractors[0](original)
    pool = keras.layers.GlobalAveragePooling2D(name="field_pool")
    if config.fusion == "branches":
        second = keras.Input(shape, name="segmented")
        pooled = [pool(field_map), pool(extractors[-1](second))]
    else:
        second = keras.Input((*shape[:2], 1), name="mask")
        seen = map_geometry(extractors[0])
        whole = seen.size * seen.stride == config.size
        average = (
            MaskedAverage(name="mask_pool")
            if whole
            else MaskedAverage(seen.stride, seen.centre, name="mask_pool")
        )
        pooled = [pool(field_map), average([field_map, second])]
    features = keras.layers.Concatenate(name="features")(pooled)
    # The extractor's last convolution is linear and its channels differ in size by a factor of
    # a hundred; without this the dense block starts from a loss of five.
    x = keras.layers.BatchNormalization(momentum=0.95, name="features_norm")(features)
    x = keras.layers.Dropout(config.dropout, seed=config.seed, name="drop_features")(x)
    x = keras.layers.Dense(config.dense, activation="relu", name="dense")(x)
    x = keras.layers.Dropout(config.dropout, seed=config.seed + 1, name="drop_dense")(x)
    logits = keras.layers.Dense(len(CLASSES), name="logits", dtype="float32")(x)
    core = keras.Model([original, second], [logits, features], name="core")

    prepare = Prepare(
        config.recipe, config.white_balance, backbone.scale, backbone.offset, name="prepare"
    )
    return TwoChannelNetwork(
        config=config,
        backbone=backbone,
        prepare=prepare,
        core=core,
        model=keras.Model([original, second], logits, name="two_channel"),
        extractors=tuple(extractors),
    )
