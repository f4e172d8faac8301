"""Where the time of one field goes: each stage of our way on its own, on the same field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from allsub_edge.benchmarks.sampling import summary
from allsub_edge.classifier import Classifier
from allsub_edge.engines.base import Engine
from allsub_edge.imaging.decode import decode, read_bytes
from allsub_edge.imaging.resize import squash
from allsub_edge.prediction import STAGES, answer
from allsub_edge.quality import judge, measure

NAMES: Final[tuple[str, ...]] = ("read", "decode", "resize", "network", "after")
"""Stages in order. ``network`` is the whole graph, preparation included; ``after`` is quality,
decision and record."""


def measure_stages(classifier: Classifier, paths: list[Path], count: int) -> dict[str, Any]:
    """Run fields stage by stage.

    Args:
        classifier: an open one.
        paths: image files, taken in turns.
        count: fields in all; as many again go before, unmeasured, up to ten.

    Returns:
        stage -> ``sampling.summary``, in the order of :data:`NAMES`, and ``total``.
    """
    spent: dict[str, list[float]] = {name: [] for name in (*NAMES, "total")}
    for number in range(-min(10, count), count):
        path = paths[number % len(paths)]
        marks = [perf_counter()]

        def lap(marks: list[float] = marks) -> None:
            marks.append(perf_counter())

        data = read_bytes(path)
        lap()
        rgb = decode(data, source=str(path)).rgb
        lap()
        small = squash(rgb)
        lap()
        raw = classifier.engine.run(small[None])
        lap()
        distance = float(raw.domain_distance[0])
        quality = measure(small, raw.mask[0], distance)
        calibration = classifier.manifest.calibration
        answer(
            source=str(path),
            probabilities=raw.probabilities[0].tolist(),
            conformal=calibration.conformal,
            quality=quality,
            reasons=judge(quality, calibration),
            timing_ms=dict.fromkeys(STAGES, 0.0),
            model=classifier.info,
        ).to_json()
        lap()
        if number >= 0:
            for index, name in enumerate(NAMES):
                spent[name].append(marks[index + 1] - marks[index])
            spent["total"].append(marks[-1] - marks[0])
    return {name: summary(values) for name, values in spent.items()}


def measure_batches(engine: Engine, sizes: list[int], seconds: float) -> dict[str, Any]:
    """Time a field when the engine gets several at once; sizes take turns.

    Returns:
        batch size as text -> ``sampling.summary`` in milliseconds a field.
    """
    from allsub_edge.benchmarks.sampling import take_turns
    from allsub_edge.benchmarks.workload import pixels

    some = pixels(8)
    batches = {n: np.stack([some[i % len(some)] for i in range(n)]) for n in sizes}

    def runner(size: int) -> Callable[[int], object]:
        return lambda number: engine.run(batches[size])

    turns = take_turns(
        {str(size): runner(size) for size in sizes}, min_seconds=seconds, min_count=10
    )
    return {str(size): summary(turns.samples[str(size)], size) for size in sizes}


def preparation_share(path: Path, seconds: float, threads: int | None) -> dict[str, Any] | None:
    """Time of the part of an ONNX graph that makes white balance and mask; None if inseparable.

    The graph is cut to its output ``mask`` and run beside the whole. The mask needs the white
    balance, so what is missing from the cut graph is the network.
    """
    try:
        import onnx
        import onnxruntime as ort
    except ImportError:
        return None
    from allsub_edge.benchmarks.obvious_way import keep_needed
    from allsub_edge.benchmarks.sampling import take_turns
    from allsub_edge.benchmarks.workload import pixels
    from allsub_edge.engines.onnx_runtime import session_options
    from allsub_edge.model_file.container import read

    model = read(path)
    if model.format != "onnx":
        return None
    cut = onnx.load_from_string(model.data)
    outputs = [output for output in cut.graph.output if output.name == "mask"]
    del cut.graph.output[:]
    cut.graph.output.extend(outputs)
    # ONNX Runtime does not drop what leads to no output.
    keep_needed(cut, set(), {name: node for node in cut.graph.node for name in node.output})
    options = session_options(threads)
    provider = ["CPUExecutionProvider"]
    sessions = {
        "preparation": ort.InferenceSession(cut.SerializeToString(), options, providers=provider),
        "whole": ort.InferenceSession(model.data, options, providers=provider),
    }
    field = pixels(1)[0][None]

    def runner(name: str) -> Callable[[int], object]:
        return lambda number: sessions[name].run(None, {"field": field})

    turns = take_turns({name: runner(name) for name in sessions}, min_seconds=seconds, min_count=50)
    share = turns.ratio("preparation", "whole")
    return {
        "preparation": summary(turns.samples["preparation"]),
        "whole": summary(turns.samples["whole"]),
        "share": share["ratio"],
        "share_interval95": share["interval95"],
    }
