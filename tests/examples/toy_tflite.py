"""A toy model in the TFLite format with the real signature; needs TensorFlow to be made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from allsub_edge.model_file.container import embed_manifest
from allsub_edge.model_file.manifest import Manifest
from tests import toy_model


def sealed(folder: Path) -> bytes:
    """A sealed model file whose answers change with the field."""
    tf = pytest.importorskip("tensorflow", reason="making a .tflite needs the extra `export`")
    random = np.random.default_rng(7)
    kernel = tf.constant(random.normal(0, 0.4, (8, 8, 3, 8)).astype(np.float32))
    dense = tf.constant(random.normal(0, 6, (8, 4)).astype(np.float32))
    centre = tf.constant(random.normal(1, 0.5, 8).astype(np.float32))

    class Toy(tf.Module):  # type: ignore[misc, name-defined]
        @tf.function(input_signature=[tf.TensorSpec([1, 224, 224, 3], tf.uint8, name="field")])  # type: ignore[untyped-decorator]
        def serve(self, field):  # type: ignore[no-untyped-def]
            values = tf.cast(field, tf.float32)
            away = tf.reduce_mean(
                tf.nn.relu(tf.nn.conv2d(values / 255, kernel, 8, "VALID")), (1, 2)
            )
            away -= centre
            return {
                "probabilities": tf.nn.softmax(away @ dense),
                "domain_distance": tf.norm(away, axis=1),
                "mask": tf.cast(values[..., 1] < 150, tf.uint8),
            }

    toy = Toy()
    tf.saved_model.save(toy, str(folder), signatures={"serving_default": toy.serve})
    converted: bytes = tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()
    return embed_manifest(converted, Manifest.from_dict(toy_model.manifest_dict()))
