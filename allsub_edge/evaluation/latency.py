"""How long one field takes, measured for several subjects in turns.

Absolute times depend on the machine and on what else it does, so all subjects are timed in one
sitting, a few fields each, round after round: a machine that gets slower slows all of them. What
is timed is the network from the decoded 224x224 field to the probabilities, one field at a time on
one thread. A model file runs on its own engine; a run is converted to float32 ONNX first, because
Keras is not what a device would run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.errors import AllsubError
from allsub_edge.evaluation.subject import MODEL_SUFFIXES, RunSubject
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import squash

ROUNDS: Final[int] = 20
PER_ROUND: Final[int] = 5
WARM_UP: Final[int] = 5


@dataclass(frozen=True)
class Timed:
    """One subject ready to be timed: how it runs, what to call, its bytes as a file."""

    how: str
    call: Callable[[], object]
    size: int


def measure(
    paths: list[Path], say: Callable[[str], None] = lambda line: None
) -> list[dict[str, Any]]:
    """Milliseconds of one field for each path, in turns; JSON-ready.

    Args:
        paths: run folders or model files.
        say: takes one line for each preparation.

    Returns:
        For each ``p50_ms``, ``p95_ms``, ``bytes`` and ``how``; only ``how``, with the reason, for
        what cannot be timed.
    """
    ready: list[Timed | str] = []
    for path in paths:
        say(f"preparing {path.name} for timing")
        try:
            ready.append(_model(path) if path.suffix.lower() in MODEL_SUFFIXES else _run(path))
        except (AllsubError, ImportError) as error:
            ready.append(f"not timed: {error}")
    spent: list[list[float]] = [[] for _ in ready]
    for round_number in range(ROUNDS + 1):
        for times, item in zip(spent, ready, strict=True):
            if isinstance(item, str):
                continue
            for _ in range(PER_ROUND if round_number else WARM_UP):
                started = perf_counter()
                item.call()
                if round_number:
                    times.append(1000 * (perf_counter() - started))
    return [
        {"how": item}
        if isinstance(item, str)
        else {
            "how": item.how,
            "bytes": item.size,
            "p50_ms": round(float(np.median(times)), 3),
            "p95_ms": round(float(np.percentile(times, 95)), 3),
        }
        for times, item in zip(spent, ready, strict=True)
    ]


def _field(size: int) -> npt.NDArray[np.uint8]:
    return squash(render_field(1, "Pre"), size)[None]


def _model(path: Path) -> Timed:
    from allsub_edge import engines
    from allsub_edge.model_file import container

    engine = engines.open_engine(container.read(path), threads=1)
    field = _field(224)
    how = f"{path.suffix[1:].lower()}, {engine.name} {engine.version}, 1 thread"
    return Timed(how, lambda: engine.run(field), path.stat().st_size)


def _run(path: Path) -> Timed:
    import onnxruntime

    from allsub_edge.export.graph import field_model
    from allsub_edge.export.onnx_float import save_onnx, to_onnx

    subject = RunSubject(path)
    model = field_model(
        subject.network, subject.calibration.temperature, subject.run.read_arrays("domain.npz")
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "float32.onnx"
        save_onnx(to_onnx(model), file)
        size = file.stat().st_size
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
    feed = {session.get_inputs()[0].name: _field(subject.config.size)}
    how = f"float32 ONNX, onnxruntime {onnxruntime.__version__}, 1 thread"
    return Timed(how, lambda: session.run(None, feed), size)
