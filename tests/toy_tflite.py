"""A toy TFLite model file with the real signature: ``toy_model`` again, built with TensorFlow."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from allsub_edge.model_file.container import ModelBytes, embed_manifest, parse
from allsub_edge.model_file.golden import make_golden
from allsub_edge.model_file.manifest import Manifest
from tests.toy_model import TOLERANCE, manifest_dict


@cache
def graph(
    input_name: str = "field", classes: int = 4, size: int = 224, drop_mask: bool = False
) -> bytes:
    """A bare TFLite file; the arguments spoil its signature. All weights are constants."""
    tf = pytest.importorskip("tensorflow", reason="building a toy TFLite model needs TensorFlow")
    random = np.random.default_rng(7)
    kernel = random.normal(0, 0.4, (8, 8, 3, 8)).astype(np.float32)
    dense = random.normal(0, 2, (8, classes)).astype(np.float32)

    def answer(**inputs: Any) -> dict[str, Any]:
        pixels = tf.cast(inputs[input_name], tf.float32)
        features = tf.nn.relu(tf.nn.conv2d(pixels / 255.0, kernel, 8, "VALID"))
        pooled = tf.reduce_mean(features, axis=(1, 2)) - features.shape[-1] / 8.0
        made = {
            "probabilities": tf.nn.softmax(pooled @ dense),
            "domain_distance": tf.sqrt(tf.reduce_sum(pooled * pooled, axis=1)),
        }
        if not drop_mask:
            made["mask"] = tf.cast(pixels[..., 1] < 150.0, tf.uint8)
        return made

    given = tf.TensorSpec((None, size, size, 3), tf.uint8, name=input_name)
    function = tf.function(answer)
    module = tf.Module()
    module.answer = function
    with tempfile.TemporaryDirectory() as folder:
        concrete = function.get_concrete_function(**{input_name: given})
        tf.saved_model.save(module, folder, signatures=concrete)
        made: bytes = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    return made


def sealed(manifest: dict[str, Any] | None = None, **spoilt: Any) -> bytes:
    """A sealed model file without golden cases."""
    return embed_manifest(graph(**spoilt), Manifest.from_dict(manifest or manifest_dict()))


@cache
def complete() -> bytes:
    """A sealed model file with golden cases."""
    from allsub_edge.engines import open_engine

    engine = open_engine(parse(sealed()), threads=1)
    golden = make_golden(engine.run, TOLERANCE, seeds=(3,))
    engine.close()
    return embed_manifest(graph(), replace(Manifest.from_dict(manifest_dict()), golden=golden))


def model(manifest: dict[str, Any] | None = None, **spoilt: Any) -> ModelBytes:
    """A verified toy model in memory."""
    return parse(sealed(manifest, **spoilt), source="toy.tflite")
