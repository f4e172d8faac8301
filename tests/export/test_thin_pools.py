"""Thin maxima with columns in the place of channels: the same numbers, and nothing else touched."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")
pytest.importorskip("ai_edge_litert", reason="the extra litert is not installed")

import keras
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from allsub_edge.export import tflite_graph
from allsub_edge.export.thin_pools import turn_pools


def convert(*windows: tuple[int, int], channels: int = 1) -> bytes:
    image = given = keras.Input((12, 20, channels))
    for window in windows:
        image = keras.ops.max_pool(image, window, 1, padding="same")
    return bytes(tf.lite.TFLiteConverter.from_keras_model(keras.Model(given, image)).convert())


def answer(data: bytes, image: np.ndarray) -> np.ndarray:
    opened = Interpreter(model_content=data, num_threads=1)
    index = opened.get_input_details()[0]["index"]
    opened.resize_tensor_input(index, image.shape)
    opened.allocate_tensors()
    opened.set_tensor(index, image)
    opened.invoke()
    return np.array(opened.get_tensor(opened.get_output_details()[0]["index"]))


@pytest.mark.parametrize("fields", [1, 3])
def test_turned_maxima_are_the_same_maxima(fields: int) -> None:
    data = convert((5, 1), (1, 5), (1, 9), (3, 3))
    model = tflite_graph.unpack(data)
    assert turn_pools(model) == 3
    turned = tflite_graph.pack(model)
    image = np.random.default_rng(1).normal(size=(fields, 12, 20, 1)).astype(np.float32)
    np.testing.assert_array_equal(answer(turned, image), answer(data, image))
    pools = [
        (op.builtinOptions.filterHeight, op.builtinOptions.filterWidth)
        for name, op in zip(tflite_graph.kinds(model), model.subgraphs[0].operators, strict=True)
        if name == "MAX_POOL_2D"
    ]
    assert pools == [(5, 1), (5, 1), (9, 1), (3, 3)]
    assert turn_pools(tflite_graph.unpack(turned)) == 0, "once is enough"


def test_a_picture_of_many_channels_is_left_alone() -> None:
    assert turn_pools(tflite_graph.unpack(convert((5, 1), channels=3))) == 0
