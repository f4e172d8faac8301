"""The obvious way answers as our float32 file does, and does nothing twice."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from allsub_edge import models
from allsub_edge.classes import CLASSES
from allsub_edge.classifier import Classifier
from allsub_edge.imaging.render import render_field
from allsub_edge.model_file import container

pytest.importorskip("onnx", reason="cutting a graph needs onnx")
from allsub_edge.benchmarks import obvious_way

FLOAT = next(models.default_path().parent.glob("*-float32.onnx"))


def test_it_answers_as_the_float_file_it_was_cut_from() -> None:
    answer, details = obvious_way.open_obvious(FLOAT, 1)
    assert details["file"] == FLOAT.name
    with Classifier.load(FLOAT, threads=1) as ours:
        for seed, label in enumerate(CLASSES):
            field = render_field(seed, label)
            data = cv2.imencode(".png", field[..., ::-1])[1].tobytes()
            wanted = list(ours.predict(data).probabilities.values())
            np.testing.assert_allclose(answer(data), wanted, rtol=0, atol=2e-6)


def test_no_part_of_the_preparation_is_left_in_the_network() -> None:
    # Mask and white balance are computed outside: what computes them again would count twice.
    proto, image, mask = obvious_way.cut_network(container.read(FLOAT).data)
    assert [given.name for given in proto.graph.input] == [image, mask]
    kinds = {node.op_type for node in proto.graph.node}
    assert "Conv" in kinds
    assert not kinds & {"TopK", "MaxPool", "QuantizeLinear", "MatMulInteger", "Not"}
