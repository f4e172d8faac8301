"""The inference network of a run: one Keras model from ``field`` to all outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.training.network import TwoChannelNetwork


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
    original, segmented, mask = network.prepare(FieldInput(name="to_float")(field))
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
    return keras.Model(field, outputs, name="allsub_edge")
