"""Which layers quantisation hurts: each layer's error at its output, and what it adds of its own.

The error of a layer is the distance of the quantised model's activation from the float model's,
relative to the latter, over a few calibration fields: ``e = |float - quantised| / |float|``. Errors
travel on, so a bad layer makes all behind it look bad. What a layer adds is therefore told beside
it: ``sqrt(e_out^2 - e_in^2)``, as if errors were independent, with the largest of its inputs'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.engines.base import Feed

Activations = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class LayerError:
    """One convolution of a quantised model.

    Attributes:
        name: what keeps it in float, see ``onnx_int8.quantise``.
        error: relative error at its output, behind its activation function; 0 is exact.
        own: what this layer adds to the error of its input.
    """

    name: str
    error: float
    own: float

    @property
    def label(self) -> str:
        """The layer's own name without the path to it."""
        parts = self.name.split(";")[0].split("/")
        inside = [i for i, part in enumerate(parts) if part.startswith("extractor")]
        return "/".join(parts[inside[0] + 1 :]) if inside else self.name

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"layer": self.label, "error": self.error, "own": self.own}


def relative(reference: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """``|reference - other| / |reference|``."""
    size = float(np.linalg.norm(reference.astype(np.float64)))
    apart = float(np.linalg.norm(reference.astype(np.float64) - other.astype(np.float64)))
    return apart / max(size, 1e-12)


def rank(
    layers: Mapping[str, tuple[str, Sequence[str]]], plain: Activations, quantised: Activations
) -> list[LayerError]:
    """The layers, those that add most first.

    Args:
        layers: layer -> the tensor behind it and the tensors in front of it.
        plain, quantised: tensor -> activation. Tensors that either lacks count as exact in front
            of a layer; a layer without its own is left out.
    """

    def error(tensor: str) -> float:
        known = tensor in plain and tensor in quantised
        return relative(plain[tensor], quantised[tensor]) if known else 0.0

    found = []
    for name, (behind, before) in layers.items():
        if behind not in plain or behind not in quantised:
            continue
        total = error(behind)
        given = max((error(tensor) for tensor in before), default=0.0)
        found.append(LayerError(name, total, math.sqrt(max(total**2 - given**2, 0.0))))
    return sorted(found, key=lambda item: -item.own)


def onnx_errors(
    plain: Path, quantised: Path, feeds: Sequence[Feed], names: Sequence[str]
) -> list[LayerError]:
    """Errors of the convolutions ``names`` of a statically quantised ONNX file.

    Args:
        plain: the float32 model.
        quantised: its QDQ version.
        feeds: calibration feeds; every activation is kept, so give few.
        names: Conv operators.
    """
    import onnx

    graph = onnx.load(str(plain)).graph
    producers = {out: node for node in graph.node for out in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    matched = _matched(plain, quantised, feeds)

    def before(tensor: str) -> list[str]:
        seen, waiting, found = set(), [tensor], []
        while waiting:
            name = waiting.pop()
            if name in matched[0]:
                found.append(name)
            elif name in producers and name not in seen:
                seen.add(name)
                waiting += producers[name].input
        return found

    layers = {}
    for node in graph.node:
        if node.name not in names:
            continue
        behind = node.output[0]
        following = readers.get(behind, [])
        if len(following) == 1 and following[0].op_type in ("Clip", "Relu"):
            behind = following[0].output[0]
        layers[node.name] = (behind, before(node.input[0]))
    return rank(layers, *matched)


def _matched(
    plain: Path, quantised: Path, feeds: Sequence[Feed]
) -> tuple[Activations, Activations]:
    """Activations of both models by the float model's tensor names."""
    import tempfile

    from onnxruntime.quantization import qdq_loss_debug as debug

    values = []
    with tempfile.TemporaryDirectory() as folder:
        for index, source in enumerate((plain, quantised)):
            opened = Path(folder) / f"{index}.onnx"
            debug.modify_model_output_intermediate_tensors(str(source), str(opened))
            values.append(debug.collect_activations(str(opened), list(feeds)))
    pairs = debug.create_activation_matching(values[1], values[0])
    both = {name: pair for name, pair in pairs.items() if "float" in pair}
    return (
        {name: np.concatenate(pair["float"]) for name, pair in both.items()},
        {name: np.concatenate(pair["post_qdq"]) for name, pair in both.items()},
    )


def tflite_errors(plain: bytes, quantised: bytes, feeds: Sequence[Feed]) -> list[LayerError]:
    """Errors of the convolutions of a quantised TFLite file.

    Args:
        plain: the float file with the same names of tensors.
        quantised: the full int8 or int16x8 version.
        feeds: as for :func:`onnx_errors`.
    """
    from allsub_edge.export.tflite_float import CONVOLUTIONS
    from allsub_edge.export.tflite_graph import kinds, tensor_name, unpack

    model = unpack(plain)
    layers = {
        tensor_name(model, int(operator.outputs[0])): (
            tensor_name(model, int(operator.outputs[0])),
            [tensor_name(model, int(operator.inputs[0]))],
        )
        for kind, operator in zip(kinds(model), model.subgraphs[0].operators, strict=True)
        if kind in CONVOLUTIONS
    }
    wanted = {name for out, given in layers.values() for name in (out, *given)}
    return rank(layers, activations(plain, feeds, wanted), activations(quantised, feeds, wanted))


def activations(data: bytes, feeds: Sequence[Feed], wanted: set[str]) -> Activations:
    """Tensors of a TFLite file, by name, on these feeds; integers as the numbers they stand for."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=data,
        experimental_preserve_all_tensors=True,
        # A delegate keeps its tensors to itself.
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    inputs = {name: tensor["index"] for name, tensor in runner.get_input_details().items()}
    # The interpreter refuses to run step by step while a runner refers to it.
    del runner
    found: dict[str, list[npt.NDArray[np.float32]]] = {}
    details = [d for d in interpreter.get_tensor_details() if d["name"] in wanted]
    for feed in feeds:
        for name, index in inputs.items():
            interpreter.set_tensor(index, feed[name])
        interpreter.invoke()
        seen = set()
        for detail in details:
            if detail["name"] in seen or not np.prod(detail["shape"]):
                continue
            value = interpreter.get_tensor(detail["index"])
            if value.dtype in (np.int8, np.int16):
                steps = detail["quantization_parameters"]
                value = value.astype(np.float32) - steps["zero_points"][0]
                value = value * steps["scales"][0]
            seen.add(detail["name"])
            found.setdefault(detail["name"], []).append(value.astype(np.float32))
    return {name: np.concatenate(values) for name, values in found.items()}
