"""The ONNX Runtime engine, on the CPU."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from allsub_edge.engines.base import (
    INPUT_SHAPE,
    OUTPUT_NAMES,
    Feed,
    RawOutput,
    check_fields,
    default_threads,
    feeder,
    input_types,
)
from allsub_edge.errors import ModelFileError
from allsub_edge.model_file.container import ModelBytes

SPIN_US: Final[int] = 100
"""Longest time, in microseconds, that a thread spins before it sleeps; the network's operators take
3 to 500."""

_SPIN_LIMITED: Final[tuple[int, int]] = (1, 26)
"""First ONNX Runtime that can limit a spin."""

_ERRORS_ONLY: Final[int] = 3
_KINDS: Final[dict[str, str]] = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
_TYPES: Final[dict[str, str]] = {
    "probabilities": "tensor(float)",
    "domain_distance": "tensor(float)",
    "mask": "tensor(uint8)",
}
_SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "probabilities": (4,),
    "domain_distance": (),
    "mask": INPUT_SHAPE[:2],
}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _check_signature(session: Any, interface: str, source: str) -> None:
    """Refuse a graph whose inputs or outputs are not those of its interface."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    nodes = {node.name: node for node in (*inputs, *outputs)}
    wanted_inputs = input_types(interface)
    types = {name: _KINDS[kind] for name, kind in wanted_inputs.items()} | _TYPES
    shapes = dict.fromkeys(wanted_inputs, INPUT_SHAPE) | _SHAPES
    problem = ""
    if sorted(node.name for node in inputs) != sorted(wanted_inputs):
        problem = f"its inputs are {[node.name for node in inputs]}, not {list(wanted_inputs)}"
    for name in types:
        if problem:
            break
        if name not in nodes:
            problem = f"it has no output '{name}'"
            continue
        node = nodes[name]
        if node.type != types[name]:
            problem = f"'{name}' is {node.type}, not {types[name]}"
        elif len(node.shape) != len(shapes[name]) + 1 or any(
            # A dimension that the graph leaves open is a text or None; the run will tell.
            isinstance(given, int) and given != wanted
            for given, wanted in zip(node.shape[1:], shapes[name], strict=True)
        ):
            problem = f"'{name}' has shape {node.shape}, not {['N', *shapes[name]]}"
        elif isinstance(node.shape[0], int):
            problem = f"'{name}' has the fixed batch size {node.shape[0]}"
    if problem:
        raise ModelFileError(
            "wrong_signature",
            f"{source}: the graph does not fit its manifest ({problem}): export the model again",
        )


def waiting(version: str, spin: bool) -> dict[str, str]:
    """Session entries that say how threads wait for each other's part of a run.

    A thread that spins answers sooner than one that sleeps, for a processor that others may want.
    :data:`SPIN_US` brings nearly all of that (docs/performance.md) at no cost where cores are busy,
    and ends with the run, so nothing spins between fields.

    Args:
        version: of ONNX Runtime; before :data:`_SPIN_LIMITED` a spin has no limit, so threads
            sleep.
        spin: spin as ONNX Runtime does by itself, between runs too.
    """
    allowed = "session.intra_op.allow_spinning"
    if spin:
        return {allowed: "1"}
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or tuple(map(int, numbers.groups())) < _SPIN_LIMITED:
        return {allowed: "0"}
    return {
        allowed: "1",
        "session.force_spinning_stop": "1",
        "session.intra_op.spin_duration_us": str(SPIN_US),
    }


def session_options(threads: int | None = None, *, spin: bool = False) -> ort.SessionOptions:
    """Settings of every session here; ``threads`` None means ``base.default_threads()``."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = default_threads() if threads is None else threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    for key, value in waiting(ort.__version__, spin).items():
        options.add_session_config_entry(key, value)
    return options


class OnnxRuntimeEngine:
    """A model opened by ONNX Runtime from verified bytes, with a fixed number of threads.

    Raises:
        ModelFileError: ``engine_refused`` (ONNX Runtime cannot open the graph, usually because
            it is older than the exporter), ``wrong_signature``.
    """

    name: Final[str] = "onnxruntime"

    def __init__(self, model: ModelBytes, *, threads: int | None = None, spin: bool = False):
        self.version: str = ort.__version__
        options = session_options(threads, spin=spin)
        try:
            session = ort.InferenceSession(
                model.data, sess_options=options, providers=["CPUExecutionProvider"]
            )
        # ONNX Runtime's exceptions share no base class below Exception.
        except Exception as error:
            raise ModelFileError(
                "engine_refused",
                f"{model.source}: onnxruntime {ort.__version__} cannot open the model "
                f"({_one_line(error)}): try pip install --upgrade onnxruntime",
            ) from error
        _check_signature(session, model.manifest.interface, model.source)
        self._feed = feeder(model.manifest, model.source)
        self.threads: int = session.get_session_options().intra_op_num_threads
        self._session: Any = session

    def run(self, fields: npt.NDArray[np.uint8]) -> RawOutput:
        """Run N >= 1 fields, uint8 [N, 224, 224, 3]; see ``base.Engine.run``."""
        check_fields(fields)
        if self._session is None:
            raise RuntimeError("the engine is closed")
        return self.run_feed(self._feed(fields))

    def run_feed(self, feed: Feed) -> RawOutput:
        """Run the graph's own inputs by name, such as the two channels of a program of its own."""
        if self._session is None:
            raise RuntimeError("the engine is closed")
        return RawOutput(*self._session.run(list(OUTPUT_NAMES), feed))

    def close(self) -> None:
        """Free the session; may be called twice."""
        self._session = None


def open_engine(
    model: ModelBytes, *, threads: int | None = None, spin: bool = False
) -> OnnxRuntimeEngine:
    """Open a model; see ``engines.open_engine``."""
    return OnnxRuntimeEngine(model, threads=threads, spin=spin)
