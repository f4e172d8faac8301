"""What training simulates is what the exported integer file does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")
pytest.importorskip("tf2onnx", reason="the export extra is not installed")

import keras

from allsub_edge.export.formats import FORMATS
from allsub_edge.export.graph import field_model
from allsub_edge.export.makers import makers_of
from allsub_edge.export.onnx_int8 import Quantisation
from allsub_edge.training import backbones
from allsub_edge.training.calibrate import softmax
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.integers import simulated
from allsub_edge.training.labelled import predict_logits
from allsub_edge.training.network import build_network
from tests.training.toy import TOY, toy_fields


def test_the_simulation_answers_as_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)
    keras.utils.set_random_seed(3)
    network = build_network(TrainConfig(backbone="toy", size=224, dense=8, frozen_blocks=0))
    shown, unseen = toy_fields(each=3, size=224)[0], toy_fields(each=4, size=224, first_seed=60)[0]
    # Batch norms of no training fold to no bias, which is where the file takes back a shift.
    for layer in network.extractors[0].layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(np.linspace(0.01, 0.05, layer.beta.shape[0]))
    # Small logits hide what rounding does.
    last = network.model.get_layer("logits")
    last.set_weights([20 * w for w in last.get_weights()])
    width = network.core.outputs[1].shape[-1]
    domain = {
        "centre": np.zeros(width, np.float32),
        "whiten": np.eye(width, dtype=np.float32),
        "means": np.zeros((4, width), np.float32),
    }
    model = field_model(network, 1.0, domain)
    feeds = [{"field": one[None]} for one in shown]
    makers = makers_of(model, feeds, Quantisation(), tmp_path, lambda line: None, None)
    made = makers["onnx"].make(FORMATS["onnx-int8"])

    import onnxruntime as ort

    session = ort.InferenceSession(made.data, providers=["CPUExecutionProvider"])
    file = np.concatenate([session.run(["probabilities"], {"field": f[None]})[0] for f in unseen])
    rounded = softmax(predict_logits(replace(network, model=simulated(network, shown)), unseen))
    plain = softmax(predict_logits(network, unseen))
    assert np.abs(plain - file).mean() > 1e-4
    assert np.abs(rounded - file).mean() < 0.5 * np.abs(plain - file).mean()
