"""Static and dynamic int8 quantisation of the extractor; everything else stays float.

The preparation is exact in float32 and the dense block is tiny, so only the operators of the
extractor are quantised. Static: activations unsigned and weights signed, one scale for each output
channel: the combination that ONNX Runtime runs fastest on x86. On ARM64 the ranking differs by
chip, so both are parameters. Dynamic: ranges are found anew for each input, which needs no
calibration and costs time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from allsub_edge.engines.base import Feed
from allsub_edge.export.paired_weights import ranges

QUANTISED_OPERATORS: Final = (
    *("Conv", "Add", "Mul", "Clip", "Relu"),
    *("Concat", "MaxPool", "AveragePool", "GlobalAveragePool"),
)
METHODS: Final = ("minmax", "entropy", "percentile")
ACTIVATION_TYPES: Final = ("uint8", "int8")


@dataclass(frozen=True)
class Quantisation:
    """How a static int8 file is made.

    Attributes:
        method: how ranges are found, one of :data:`METHODS`.
        activation_type: one of :data:`ACTIVATION_TYPES`.
        per_channel: one weight scale for each output channel instead of one for the tensor.
        paired: weights of which no two that x86 chips without VNNI add in 16 bits can overflow
            there (``paired_weights``), so that every chip gives the same answer; without it they
            have the whole 8 bits.
    """

    method: str = "minmax"
    activation_type: str = "uint8"
    per_channel: bool = True
    paired: bool = True

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return dict(vars(self))


class _Reader:
    """Feeds calibration fields to ONNX Runtime one by one, so that it may forget each."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = feeds
        self._rest: Iterator[Feed] = iter(feeds)

    def __len__(self) -> int:
        return len(self._feeds)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Next come the feeds of this range."""
        self._rest = iter(self._feeds[start_index:end_index])

    def get_next(self) -> Feed | None:
        """The next feed, or None at the end of the range."""
        return next(self._rest, None)

    def __iter__(self) -> Iterator[Feed]:
        return iter(self._feeds)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keeps the quantiser from advising a preparation that the exporter has done its own way."""

    def relevant(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(relevant)
    try:
        yield
    finally:
        root.removeFilter(relevant)


def extractor_nodes(proto: Any, extractors: Iterable[str]) -> list[str]:
    """Names of the operators that are quantised: all of a kind that can be, inside an extractor.

    Args:
        proto: a model of ``onnx_float.to_onnx``.
        extractors: names of the Keras models, which the names of their operators contain.
    """
    parts = [f"/{name}" for name in extractors]
    return [
        node.name
        for node in proto.graph.node
        if node.op_type in QUANTISED_OPERATORS and any(part in node.name for part in parts)
    ]


def layers(proto: Any, extractors: Iterable[str]) -> list[str]:
    """Names of the convolutions inside the extractors: what can be kept in float."""
    convolutions = {node.name for node in proto.graph.node if node.op_type == "Conv"}
    return [name for name in extractor_nodes(proto, extractors) if name in convolutions]


def _without(proto: Any, names: list[str], keep_float: Iterable[str]) -> list[str]:
    """``names`` without the kept convolutions and the activations directly behind them."""
    kept = set(keep_float)
    outputs = {out for node in proto.graph.node if node.name in kept for out in node.output}
    kept |= {
        node.name
        for node in proto.graph.node
        if node.op_type in ("Clip", "Relu") and node.input[0] in outputs
    }
    return [name for name in names if name not in kept]


def quantise(
    source: Path,
    target: Path,
    calibration: Sequence[Feed],
    extractors: Iterable[str],
    settings: Quantisation = Quantisation(),
    *,
    keep_float: Sequence[str] = (),
) -> int:
    """Write a static int8 version of a float32 ONNX model.

    Args:
        source: float32 model of ``onnx_float.to_onnx``, bare.
        target: where to write.
        calibration: one feed for each field that shows the range of the activations; training
            fields, never test fields.
        extractors: see :func:`extractor_nodes`.
        settings: method and types.
        keep_float: names of :func:`layers` left in float32.

    Returns:
        How many operators were quantised.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    methods = dict(
        zip(
            METHODS,
            (CalibrationMethod.MinMax, CalibrationMethod.Entropy, CalibrationMethod.Percentile),
            strict=True,
        )
    )
    proto = onnx.load(str(source))
    nodes = _without(proto, extractor_nodes(proto, extractors), keep_float)
    # One field at a time: the histograms otherwise hold every activation of every field.
    options: dict[str, Any] = {"CalibStridedMinMax": 1}
    if settings.paired:
        options["TensorQuantOverrides"] = ranges(proto, nodes, settings.per_channel)
    with _without_advice():
        quantize_static(
            str(source),
            str(target),
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            nodes_to_quantize=nodes,
            per_channel=settings.per_channel,
            activation_type=QuantType.QUInt8
            if settings.activation_type == "uint8"
            else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[settings.method],
            extra_options=options,
        )
    if keep_float:
        made = onnx.load(str(target))
        _shield(made, keep_float)
        onnx.save(made, str(target))
    return len(nodes)


def _shield(proto: Any, keep_float: Iterable[str]) -> None:
    """Keep ONNX Runtime from quantising what was left in float; in place.

    Where a float convolution stands between a DequantizeLinear and a QuantizeLinear of its
    neighbours, newer versions quantise its weights on load (``WeightBiasQuantization``), with one
    scale. A maximum with the least float behind it changes no value and is not optimised away.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    graph, kept, least = proto.graph, set(keep_float), "kept_in_float/least"
    found = [node for node in graph.node if node.op_type == "Conv" and node.name in kept]
    for node in found:
        outer = node.output[0]
        node.output[0] = f"{outer}/kept"
        shield = helper.make_node("Max", [node.output[0], least], [outer], f"{node.name}/kept")
        graph.node.insert(list(graph.node).index(node) + 1, shield)
    if found:
        value = np.array(np.finfo(np.float32).min, np.float32)
        graph.initializer.append(numpy_helper.from_array(value, least))


def quantise_dynamic(
    source: Path, target: Path, extractors: Iterable[str], *, keep_float: Iterable[str] = ()
) -> int:
    """Write a version with int8 weights whose activations are quantised as they come.

    Arguments and result as :func:`quantise`. ONNX Runtime finds one range for a whole batch, so
    the answer for a field depends on its neighbours: run such a file field by field.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    proto = onnx.load(str(source))
    kinds = {node.name: node.op_type for node in proto.graph.node}
    names = _without(proto, extractor_nodes(proto, extractors), keep_float)
    nodes = [name for name in names if kinds[name] == "Conv"]
    with _without_advice():
        quantize_dynamic(
            str(source),
            str(target),
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=nodes,
            # ONNX Runtime's CPU kernel for it has unsigned weights only.
            weight_type=QuantType.QUInt8,
        )
    return len(nodes)


def integer_share(path: Path) -> float:
    """Share of a file's Conv operators that ONNX Runtime really runs in integers, 0..1.

    The optimised graph is asked, because a quantised file can still run in float when an
    operator's neighbours keep the fusion from happening.
    """
    import tempfile

    import onnx
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        kinds = [n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node]
    whole = kinds.count("QLinearConv") + kinds.count("ConvInteger")
    every = whole + kinds.count("Conv") + kinds.count("FusedConv")
    return whole / every if every else 0.0
