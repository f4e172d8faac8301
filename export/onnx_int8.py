"""Static int8 quantisation of the extractor; everything else stays float.

The preparation is exact in float32 and the dense block is tiny, so only the extractor's
convolutions and their sums are quantised. Activations are unsigned and weights signed, one scale
for each output channel: the combination that ONNX Runtime runs fastest on x86.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

QUANTISED_OPERATORS: Final = ("Conv", "Add", "Clip")


class _Reader:
    """Feeds calibration fields to ONNX Runtime, a few at a time."""

    def __init__(self, fields: npt.NDArray[np.uint8], batch_size: int = 8) -> None:
        self._batches: Iterator[npt.NDArray[np.uint8]] = iter(
            [fields[i : i + batch_size] for i in range(0, len(fields), batch_size)]
        )

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        """The next feed, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"field": batch}


def extractor_nodes(proto: Any) -> list[str]:
    """Names of the operators that are quantised: all between the first and the last Conv."""
    nodes = list(proto.graph.node)
    convs = [i for i, node in enumerate(nodes) if node.op_type == "Conv"]
    if not convs:
        return []
    # Sums and clips belong to the extractor if they lie on a path from one Conv to a later one
    # or directly behind the last; the preparation in front has none that a Conv feeds.
    fed = set()
    reached: set[str] = set()
    for index, node in enumerate(nodes):
        inside = node.op_type == "Conv" or reached.intersection(node.input)
        if inside and node.op_type in QUANTISED_OPERATORS:
            fed.add(index)
            reached.update(node.output)
    return [nodes[i].name for i in sorted(fed)]


def quantise(
    source: Path,
    target: Path,
    calibration: npt.NDArray[np.uint8],
    *,
    method: str = "minmax",
    per_channel: bool = True,
    reduce_range: bool = True,
    keep_float: tuple[str, ...] = (),
) -> int:
    """Write an int8 version of a float32 ONNX model.

    Args:
        source: float32 model, bare.
        target: where to write.
        calibration: fields uint8 [N, S, S, 3] that show the range of the activations; training
            fields, never test fields.
        method: ``minmax``, ``entropy`` or ``percentile``.
        per_channel: one weight scale for each output channel.
        reduce_range: 7-bit weights. x86 chips without VNNI add pairs of products in 16 bits and
            saturate with full 8-bit weights; with 7 bits every chip gives the same answer.
        keep_float: names of operators left in float32.

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

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    nodes = [n for n in extractor_nodes(onnx.load(str(source))) if n not in keep_float]
    quantize_static(
        str(source),
        str(target),
        _Reader(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTISED_OPERATORS),
        nodes_to_quantize=nodes,
        per_channel=per_channel,
        reduce_range=reduce_range,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=methods[method],
    )
    return len(nodes)


def integer_share(path: Path) -> float:
    """Share of the extractor's Conv operators that ONNX Runtime really runs in integers.

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
    whole = kinds.count("QLinearConv")
    every = whole + kinds.count("Conv") + kinds.count("FusedConv")
    return whole / every if every else 0.0
