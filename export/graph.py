"""The inference network of a run: one Keras model from its inputs to all outputs.

Two interfaces: ``field``, the model that is fed a field and does everything else, and
``two-channel``, the model for programs that segment themselves, which is fed the field and its
second channel as the published ``Classifier.predict([original, segmented])`` is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.training.network import Prepare, TwoChannelNetwork


@keras.saving.register_keras_serializable(package="allsub_edge")
class DomainDistance(keras.layers.Layer):  # type: ignore[misc]
    """Distance of features to the nearest training class, see ``training.calibrate.Domain``.

    Call with float32 [N, F]; returns float32 [N].
    """

    def __init__(self, directions: int, classes: int = 4, **options: Any) -> None:
        super().__init__(trainable=False, **options)
        self.directions, self.classes = directions, classes

    def build(self, input_shape: Any) -> None:
        """Make the constants; ``set_weights([centre, whiten, means])`` fills them."""
        width = input_shape[-1]
        self.centre = self.add_weight(shape=(width,), name="centre")
        self.whiten = self.add_weight(shape=(width, self.directions), name="whiten")
        self.means = self.add_weight(shape=(self.classes, self.directions), name="means")

    def call(self, features: Any) -> Any:
        """Measure; see the class."""
        ops = keras.ops
        z = ops.matmul(features - self.centre, self.whiten)
        # One class at a time: a [N, 4, D] difference would make the converters insert reshapes.
        squares = [ops.mean(ops.square(z - self.means[i]), axis=-1) for i in range(self.classes)]
        nearest = squares[0]
        for square in squares[1:]:
            nearest = ops.minimum(nearest, square)
        return ops.sqrt(nearest)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "directions": self.directions,
            "classes": self.classes,
        }


@keras.saving.register_keras_serializable(package="allsub_edge")
class MaskOutput(keras.layers.Layer):  # type: ignore[misc]
    """Float mask [N, H, W, 1] of 0 and 1 to the uint8 mask [N, H, W] of the contract."""

    def call(self, mask: Any) -> Any:
        """Convert; see the class."""
        return keras.ops.cast(keras.ops.squeeze(mask, axis=-1), "uint8")


@keras.saving.register_keras_serializable(package="allsub_edge")
class FieldInput(keras.layers.Layer):  # type: ignore[misc]
    """uint8 field to float32 of the same values."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.autocast = False

    def call(self, field: Any) -> Any:
        """Convert; see the class."""
        return keras.ops.cast(field, "float32")


@keras.saving.register_keras_serializable(package="allsub_edge")
class PrepareChannels(Prepare):
    """The two channels, each divided by 255, to what :class:`Prepare` makes of a field.

    Call with ``(original, segmented)``, float32 [N, H, W, 3] in 0..1. The mask is 1 where
    ``segmented`` is not black, so a cell's own black pixels are no part of it.
    """

    def call(self, channels: Any) -> Any:
        """Prepare; see the class."""
        original, segmented = (self._pixels(channel) for channel in channels)
        planes = keras.ops.transpose(segmented, (0, 3, 1, 2))
        brightest = keras.ops.expand_dims(keras.ops.max(planes, axis=1), -1)
        mask = keras.ops.minimum(brightest, 1.0)
        balanced = self._balance(original) if self.white_balance else original
        return self._normalise(balanced), self._normalise(segmented), mask

    def _pixels(self, channel: Any) -> Any:
        # Back to the integers that were divided, on which white balance is exact.
        planes = keras.ops.transpose(channel, (0, 3, 1, 2))
        planes = keras.ops.floor(planes * 255.0 + 0.5)
        planes = keras.ops.minimum(keras.ops.maximum(planes, 0.0), 255.0)
        return keras.ops.transpose(planes, (0, 2, 3, 1))


def field_model(
    network: TwoChannelNetwork,
    temperature: float,
    domain: Mapping[str, npt.NDArray[np.float32]],
) -> Any:
    """Everything after decoding and resizing as one Keras model.

    Args:
        network: a trained network.
        temperature: the logits are divided by it before the softmax.
        domain: arrays ``centre`` [F], ``whiten`` [F, D], ``means`` [4, D].

    Returns:
        A Keras model: ``field`` uint8 [N, S, S, 3] -> a dictionary of ``probabilities`` float32
        [N, 4], ``domain_distance`` float32 [N] and ``mask`` uint8 [N, S, S].
    """
    size = network.config.size
    field = keras.Input((size, size, 3), dtype="uint8", name="field")
    prepared = network.prepare(FieldInput(name="to_float")(field))
    return _finished(network, field, prepared, temperature, domain)


def two_channel_model(
    network: TwoChannelNetwork,
    temperature: float,
    domain: Mapping[str, npt.NDArray[np.float32]],
) -> Any:
    """Everything after segmentation as one Keras model.

    Args:
        network, temperature, domain: see :func:`field_model`.

    Returns:
        A Keras model: ``original`` and ``segmented`` float32 [N, S, S, 3] in 0..1 -> the outputs
        of :func:`field_model`.
    """
    config, backbone = network.config, network.backbone
    shape = (config.size, config.size, 3)
    channels = [keras.Input(shape, name=name) for name in ("original", "segmented")]
    prepare = PrepareChannels(
        config.recipe, config.white_balance, backbone.scale, backbone.offset, name="prepare"
    )
    return _finished(network, channels, prepare(channels), temperature, domain)


MODELS = {"field": field_model, "two-channel": two_channel_model}
"""Interface -> what makes its Keras model."""


def _finished(
    network: TwoChannelNetwork,
    inputs: Any,
    prepared: Any,
    temperature: float,
    domain: Mapping[str, npt.NDArray[np.float32]],
) -> Any:
    original, segmented, mask = prepared
    second = segmented if network.config.fusion == "branches" else mask
    logits, features = network.core([original, second])
    probabilities = keras.layers.Softmax(name="probabilities")(
        keras.layers.Rescaling(1.0 / temperature, name="temperature")(logits)
    )
    measure = DomainDistance(domain["whiten"].shape[1], name="domain_distance")
    distance = measure(features)
    measure.set_weights([domain["centre"], domain["whiten"], domain["means"]])
    outputs = {
        "probabilities": probabilities,
        "domain_distance": distance,
        "mask": MaskOutput(name="mask")(mask),
    }
    return keras.Model(inputs, outputs, name="allsub_edge")
