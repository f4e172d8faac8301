"""Where an engine spends its time, by kind of operator: both engines' own profilers, read alike.

ONNX Runtime writes its profile as a trace file. LiteRT's Python interface has no profiler; its C
interface has one, and the shared library that the package brings exports it.
"""

from __future__ import annotations

import ctypes
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.benchmarks import work
from allsub_edge.errors import UsageError

Profile = dict[str, tuple[int, float]]
"""Kind of operator -> how many were executed, and milliseconds of one field."""

WARM_UP: Final[int] = 5


def _middle(samples: list[list[float]]) -> npt.NDArray[np.float64]:
    """Mean of the middle half, position by position: clocks of 1 us, and now and then a stop."""
    ordered = np.sort(np.array(samples, np.float64), axis=0)
    cut = len(ordered) // 4
    return np.asarray(ordered[cut : len(ordered) - cut].mean(axis=0), np.float64)


def _by_kind(kinds: list[str], micros: npt.NDArray[np.float64]) -> Profile:
    found: Profile = {}
    for kind, value in zip(kinds, micros, strict=True):
        count, spent = found.get(kind, (0, 0.0))
        found[kind] = count + 1, spent + value / 1000
    return found


def profile_onnx(data: bytes, field: npt.NDArray[np.uint8], threads: int, runs: int) -> Profile:
    """Profile an ONNX model on ONNX Runtime with the settings of our engine."""
    import onnxruntime as ort

    from allsub_edge.engines.onnx_runtime import session_options

    groups, kernels = _convolutions(data)
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "trace")
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        for _ in range(WARM_UP + runs):
            session.run(None, {"field": field[None]})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    each = len(nodes) // (WARM_UP + runs)
    samples = [
        [float(node["dur"]) for node in nodes[start : start + each]]
        for start in range(WARM_UP * each, len(nodes), each)
    ]
    kinds = []
    for node in nodes[:each]:
        name, op = node["name"].removesuffix("_kernel_time"), node["args"]["op_name"]
        if "Conv" in op:
            kinds.append(_conv_kind(name, node["args"]["input_type_shape"], groups, kernels))
        else:
            kinds.append(work.kind_of(op))
    return _by_kind(kinds, _middle(samples))


def _convolutions(data: bytes) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """Groups and kernel of every convolution of an ONNX graph, by node name and by its output."""
    import onnx

    groups: dict[str, int] = {}
    kernels: dict[str, tuple[int, ...]] = {}
    for node in onnx.load_from_string(data).graph.node:
        if not node.op_type.endswith("Conv"):
            continue
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        for key in (node.name, *node.output):
            groups[key] = int(given.get("group", 1))
            kernels[key] = tuple(int(size) for size in given.get("kernel_shape", ()))
    return groups, kernels


def _conv_kind(
    name: str, inputs: Any, groups: dict[str, int], kernels: dict[str, tuple[int, ...]]
) -> str:
    shapes = [shape for given in inputs for shape in given.values() if len(shape) == 4]
    if len(shapes) > 1:  # float weights stand among the inputs, packed int8 weights do not
        return str(work.conv_kind(shapes[1][2:], 2 if shapes[1][1] == 1 < shapes[0][1] else 1))
    # Optimisers put words before and behind the name of the node that they replace.
    for key in sorted(groups, key=len, reverse=True):
        if key and key in name:
            return str(work.conv_kind(kernels[key], groups[key]))
    return str(work.CONV)


# --- LiteRT ------------------------------------------------------------------------------------


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rank", ctypes.c_uint32, 7),
        ("has_strides", ctypes.c_uint32, 1),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )


class _TensorType(ctypes.Structure):
    _fields_ = (("element", ctypes.c_int), ("layout", _Layout))


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", ctypes.c_int),
    )


_OPERATOR, _DELEGATED = 2, 8
"""Event types: an operator of the interpreter, and one inside a delegate such as XNNPACK."""


class _LiteRt:
    """One compiled model through LiteRT's C interface, with its profiler."""

    def __init__(self, data: bytes, threads: int) -> None:
        import ai_edge_litert

        path = Path(ai_edge_litert.__file__).parent / "libLiteRt.so"
        try:
            self._library = ctypes.CDLL(str(path))
            self._libc = ctypes.CDLL(None)
            self._libc.strdup.restype = ctypes.c_void_p
            self._libc.strdup.argtypes = [ctypes.c_char_p]
            self._open(data, threads)
        except (OSError, AttributeError) as error:
            raise UsageError(
                "no_profiler", f"this ai-edge-litert cannot be profiled ({error}): use another"
            ) from None

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, name)
        function.restype = ctypes.c_int
        status = function(*arguments)
        if status:
            raise OSError(f"{name} gave status {status}")

    def _handle(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """Call a function whose last argument takes a new handle."""
        made = ctypes.c_void_p()
        self._call(name, *arguments, ctypes.byref(made))
        return made

    def _open(self, data: bytes, threads: int) -> None:
        size = ctypes.c_size_t
        self._data = data
        environment = self._handle("LiteRtCreateEnvironment", 0, None)
        model = self._handle("LiteRtCreateModelFromBuffer", environment, data, size(len(data)))
        options = self._handle("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, 1)
        free = ctypes.cast(self._libc.free, ctypes.c_void_p)
        for name, text in (
            (b"runtime_options_string", b"enable_profiling = true\n"),
            (b"cpu_options_string", b"num_threads = %d\n" % threads),
        ):
            payload = ctypes.c_void_p(self._libc.strdup(text))
            extra = self._handle("LiteRtCreateOpaqueOptions", ctypes.c_char_p(name), payload, free)
            self._call("LiteRtAddOpaqueOptions", options, extra)
        self._model = self._handle("LiteRtCreateCompiledModel", environment, model, options)
        self._profiler = self._handle("LiteRtCompiledModelGetProfiler", self._model)
        signature = self._handle("LiteRtGetModelSignature", model, size(0))
        self._inputs = self._buffers("Input", environment, signature)
        self._outputs = self._buffers("Output", environment, signature)

    def _buffers(self, side: str, environment: Any, signature: Any) -> Any:
        size, number = ctypes.c_size_t, ctypes.c_size_t()
        self._call(f"LiteRtGetNumSignature{side}s", signature, ctypes.byref(number))
        made = []
        for index in range(number.value):
            tensor = self._handle(f"LiteRtGetSignature{side}TensorByIndex", signature, size(index))
            kind = _TensorType()
            self._call("LiteRtGetRankedTensorType", tensor, ctypes.byref(kind))
            for axis in range(kind.layout.rank):  # -1 stands for any number of fields
                kind.layout.dimensions[axis] = abs(kind.layout.dimensions[axis])
            wanted = self._handle(
                f"LiteRtGetCompiledModel{side}BufferRequirements", self._model, size(0), size(index)
            )
            made.append(
                self._handle(
                    "LiteRtCreateManagedTensorBufferFromRequirements",
                    environment,
                    ctypes.byref(kind),
                    wanted,
                )
            )
        return (ctypes.c_void_p * len(made))(*(handle.value for handle in made))

    def feed(self, field: npt.NDArray[np.uint8]) -> None:
        """Write the only input, uint8 [224, 224, 3]."""
        buffer, address = ctypes.c_void_p(self._inputs[0]), ctypes.c_void_p()
        self._call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), 1)
        ctypes.memmove(address, np.ascontiguousarray(field).ctypes.data, field.nbytes)
        self._call("LiteRtUnlockTensorBuffer", buffer)

    def run(self) -> list[tuple[str, float]]:
        """Run once; gives (operator, microseconds) in the order of execution."""
        size = ctypes.c_size_t
        self._call("LiteRtResetProfiler", self._profiler)
        self._call("LiteRtStartProfiler", self._profiler)
        self._call(
            *("LiteRtRunCompiledModel", self._model, size(0)),
            *(size(len(self._inputs)), self._inputs, size(len(self._outputs)), self._outputs),
        )
        self._call("LiteRtStopProfiler", self._profiler)
        number = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(number))
        events = (_Event * number.value)()
        self._call("LiteRtGetProfilerEvents", self._profiler, number, events)
        return [
            (event.tag.decode(errors="replace"), float(event.elapsed_us))
            for event in events
            if event.type in (_OPERATOR, _DELEGATED) and event.tag
        ]


def litert_kind(tag: str) -> str:
    """The kind of an operator by LiteRT's or XNNPACK's name for it; layers as 1x1 convolutions."""
    if "DWConv" in tag or tag == "DEPTHWISE_CONV_2D":
        return str(work.DEPTH)
    if tag.startswith("Convolution") or tag == "CONV_2D":
        return str(work.CONV)
    if tag.startswith("Fully Connected"):
        return str(work.POINT)
    if " Reduce" in tag or tag.startswith(("Mean", "Sum")):
        return str(work.REDUCE)
    return str(work.kind_of(tag.replace(" ", "").replace("Average", "").replace("Max", "", 1)))


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep the library's own log away from the terminal; it writes to the file descriptor."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def profile_tflite(data: bytes, field: npt.NDArray[np.uint8], threads: int, runs: int) -> Profile:
    """Profile a TFLite model on LiteRT (XNNPACK).

    Raises:
        UsageError: ``no_profiler``, this release does not export what is needed.
    """
    with _hushed():
        runner = _LiteRt(data, threads)
        runner.feed(field)
        for _ in range(WARM_UP):
            runner.run()
        found = [runner.run() for _ in range(runs)]
    tags = [tag for tag, _ in found[0]]
    kinds = [litert_kind(tag) for tag in tags]
    # XNNPACK runs 1x1 convolutions and the layers behind them by one kind of operator.
    counted = work.count_tflite(data)
    points = counted[work.POINT].operators if work.POINT in counted else 0
    for index in [i for i, kind in enumerate(kinds) if kind == work.POINT][points:]:
        kinds[index] = work.DENSE
    same = [run for run in found if [tag for tag, _ in run] == tags]
    return _by_kind(kinds, _middle([[us for _, us in r] for r in same]))
