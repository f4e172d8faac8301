"""A toy model file with the real signature, built with the ``onnx`` package and live weights.

A small convolution over the field, pooled, then a dense layer and a softmax: its answers change
with the field, so a test that feeds the wrong field, channel order or model notices.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.model_file.container import ModelBytes, embed_manifest, parse
from allsub_edge.model_file.golden import make_golden
from allsub_edge.model_file.manifest import FIELD_INPUT, SCHEMA, Manifest

TOLERANCE = 1e-4


def manifest_dict(**changes: Any) -> dict[str, Any]:
    """A valid manifest without golden cases, as the exporter would write it."""
    raw: dict[str, Any] = {
        "schema": SCHEMA,
        "name": "toy",
        "version": "0.1",
        "created": "2026-01-01T00:00:00Z",
        "precision": "float32",
        "interface": "field",
        "classes": list(CLASSES),
        "input": dict(FIELD_INPUT),
        "resize": "area-exact/1",
        "recipe": {"name": "threshold", "version": 1, "params": {"green_below": 150}},
        "white_balance": None,
        "fusion": "branches",
        "backbone": "toy",
        "calibration": {
            "temperature": 1.0,
            "alpha": 0.1,
            "conformal": dict.fromkeys(CLASSES, 0.5),
            "domain_threshold": 1e9,
            "quality": {"min_cell_fraction": 0.0},
        },
        "training": {
            "data_fingerprint": "none",
            "split_sha256": "none",
            "protocol": "random weights",
            "seed": 1,
        },
        "metrics": {},
        "licence": "Apache-2.0",
        "citation": "none",
        "intended_use": "tests",
        "golden": {"renderer": "render/1", "tolerance": TOLERANCE, "cases": []},
    }
    return raw | changes


@cache
def graph(
    input_name: str = "field",
    classes: int = 4,
    batch: str | int = "N",
    drop_mask: bool = False,
    broken: bool = False,
) -> bytes:
    """Serialised ONNX graph; the arguments spoil its signature. ``broken``: answers NaN."""
    pytest.importorskip("onnx", reason="building a toy model needs the extra `export`")
    from onnx import TensorProto, checker, helper, numpy_helper

    random = np.random.default_rng(7)

    def constant(name: str, value: Any) -> Any:
        return numpy_helper.from_array(np.asarray(value), name)

    weights = [
        constant("scale", np.float32(0 if broken else 255)),
        constant("kernel", random.normal(0, 0.4, (8, 3, 8, 8)).astype(np.float32)),
        constant("bias", random.normal(0, 0.2, 8).astype(np.float32)),
        constant("dense", random.normal(0, 6, (8, classes)).astype(np.float32)),
        constant("dense_bias", random.normal(0, 0.3, classes).astype(np.float32)),
        # About the features of a rendered field: the softmax is far from saturated around them.
        constant("centre", np.array([0, 0, 0, 2.85, 0.6, 0, 3.63, 1.5], np.float32)),
        constant("axes", np.array([1], np.int64)),
        constant("green", np.array(1, np.int64)),
        constant("limit", np.float32(150)),
        constant("zero", np.float32(0)),
    ]
    node = helper.make_node
    nodes = [
        node("Cast", [input_name], ["float"], to=TensorProto.FLOAT),
        node("Mul", ["float", "zero"], ["nothing"]),
        node("Div", ["nothing" if broken else "float", "scale"], ["unit"]),
        node("Transpose", ["unit"], ["nchw"], perm=[0, 3, 1, 2]),
        node("Conv", ["nchw", "kernel", "bias"], ["conv"], strides=[8, 8]),
        node("Relu", ["conv"], ["relu"]),
        node("GlobalAveragePool", ["relu"], ["pooled"]),
        node("Flatten", ["pooled"], ["features"]),
        node("Sub", ["features", "centre"], ["away"]),
        node("Gemm", ["away", "dense", "dense_bias"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
        node("ReduceL2", ["away", "axes"], ["domain_distance"], keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, classes]),
        helper.make_tensor_value_info("domain_distance", TensorProto.FLOAT, [batch]),
    ]
    if not drop_mask:
        nodes += [
            node("Gather", ["float", "green"], ["g"], axis=3),
            node("Less", ["g", "limit"], ["dark"]),
            node("Cast", ["dark"], ["mask"], to=TensorProto.UINT8),
        ]
        outputs.append(helper.make_tensor_value_info("mask", TensorProto.UINT8, [batch, 224, 224]))
    given = helper.make_tensor_value_info(input_name, TensorProto.UINT8, [batch, 224, 224, 3])
    model = helper.make_model(
        helper.make_graph(nodes, "toy", [given], outputs, weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


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
    manifest = replace(Manifest.from_dict(manifest_dict()), golden=golden)
    return embed_manifest(graph(), manifest)


def model(manifest: dict[str, Any] | None = None, **spoilt: Any) -> ModelBytes:
    """A verified toy model in memory."""
    return parse(sealed(manifest, **spoilt), source="toy.onnx")
