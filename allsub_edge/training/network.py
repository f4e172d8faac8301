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
from allsub_edge.training.backbones import Backbone, get_backbone
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.layers import RecipeMask, SecondChannel, WhiteBalance
from allsub_edge.training.starting_weights import resolve


@keras.saving.register_keras_serializable(package="allsub_edge")
class MaskedAverage(keras.layers.Layer):  # type: ignore[misc]
    """Average of a feature map over the cell mask.

    Call with ``(features float32 [N, h, w, C], mask float32 [N, H, W, 1] of 0 and 1)``, where h
    divides H; returns float32 [N, C]. Each position weighs as much as the share of its patch that
    the mask covers. A field without a cell gives zeros.
    """

    def call(self, inputs: Any) -> Any:
        """Pool; see the class."""
        features, mask = inputs
        step = mask.shape[1] // features.shape[1]
        weight = keras.ops.average_pool(mask, step, step, data_format="channels_last")
        total = keras.ops.sum(weight, axis=(1, 2))
        return keras.ops.sum(features * weight, axis=(1, 2)) / keras.ops.maximum(total, 1e-3)


@keras.saving.register_keras_serializable(package="allsub_edge")
class Prepare(keras.layers.Layer):  # type: ignore[misc]
    """Field to the two channels: balanced and normalised original, second channel, mask.

    Call with float32 [N, H, W, 3] of integers 0..255. Returns ``(original, segmented, mask)``:
    float32 [N, H, W, 3] normalised for the extractor, twice, and float32 [N, H, W, 1] of 0 and 1.
    """

    def __init__(
        self, recipe: str, white_balance: bool, scale: float, offset: float, **options: Any
    ) -> None:
        super().__init__(**options)
        self.recipe, self.white_balance = recipe, white_balance
        self.scale, self.offset = scale, offset
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
        return keras.ops.transpose(planes * self.scale + self.offset, (0, 2, 3, 1))

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "recipe": self.recipe,
            "white_balance": self.white_balance,
            "scale": self.scale,
            "offset": self.offset,
        }


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
        scale, offset = np.float32(self.backbone.scale), np.float32(self.backbone.offset)
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
            for layer in extractor.layers:
                frozen_norm = self.config.frozen_batch_norm and isinstance(
                    layer, keras.layers.BatchNormalization
                )
                early = _block_of(layer.name) < self.config.frozen_blocks
                layer.trainable = not (head_only or frozen_norm or early)


def _block_of(name: str) -> int:
    """Number of the block a layer belongs to; the stem counts to block 0, the head to none."""
    for part in name.split("."):
        if part.isdigit():
            return int(part)
    return 1_000_000 if "head" in name or name.endswith("bn1") else 0


def build_network(config: TrainConfig) -> TwoChannelNetwork:
    """Build the network of a configuration and load its starting weights.

    Raises:
        UsageError: unknown backbone, cut or recipe; the package of ``imagenet`` is missing.
        DataError: the weights file is missing or does not fit.
    """
    backbone = get_backbone(config.backbone)
    backbone.check_cut(config.cut)
    if config.fusion == "mask_pool" and config.size % backbone.cuts[config.cut]:
        raise UsageError("bad_config", "configuration: size is no multiple of the cut's stride")
    shape = (config.size, config.size, 3)
    extractors = [backbone.build(config.size, config.cut, "extractor_original")]
    if config.fusion == "branches" and not config.shared:
        extractors.append(backbone.build(config.size, config.cut, "extractor_segmented"))
    weights = resolve(config.weights, config.backbone)
    if weights is not None:
        for extractor in extractors:
            backbone.load(extractor, weights)

    original = keras.Input(shape, name="original")
    field_map = extractors[0](original)
    pool = keras.layers.GlobalAveragePooling2D(name="field_pool")
    if config.fusion == "branches":
        second = keras.Input(shape, name="segmented")
        pooled = [pool(field_map), pool(extractors[-1](second))]
    else:
        second = keras.Input((*shape[:2], 1), name="mask")
        pooled = [pool(field_map), MaskedAverage(name="mask_pool")([field_map, second])]
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
