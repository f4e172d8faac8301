"""The LiteRT engine (formerly TensorFlow Lite), on the CPU.

Three packages bring the same interpreter; the first one installed is taken: ``ai-edge-litert``,
its predecessor ``tflite-runtime`` (the last release for 32-bit ARM), or a whole ``tensorflow``.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

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
from allsub_edge.errors import ModelFileError, UsageError
from allsub_edge.model_file.container import ModelBytes

_TYPES: Final[dict[str, type[np.generic]]] = {
    "probabilities": np.float32,
    "domain_distance": np.float32,
    "mask": np.uint8,
}
_SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "probabilities": (1, 4),
    "domain_distance": (1,),
    "mask": (1, *INPUT_SHAPE[:2]),
}


class Library(NamedTuple):
    """A package that brings the interpreter.

    Attributes:
        module: has the class ``Interpreter``.
        distributions: names under which pip may have installed it.
    """

    module: str
    distributions: tuple[str, ...]


LIBRARIES: Final[tuple[Library, ...]] = (
    Library("ai_edge_litert.interpreter", ("ai-edge-litert",)),
    Library("tflite_runtime.interpreter", ("tflite-runtime",)),
    Library("tensorflow.lite.python.interpreter", ("tensorflow-cpu", "tensorflow")),
)
"""In the order in which they are tried."""


def _version(library: Library) -> str:
    """The version of an imported library, and the name under which pip has it."""
    told = getattr(sys.modules[library.module.partition(".")[0]], "__version__", None)
    if isinstance(told, str) and len(library.distributions) == 1:
        return f"{told} ({library.distributions[0]})"
    # Pip's records are parsed as mail, and importing what does that costs a start 20 ms.
    from importlib.metadata import PackageNotFoundError, version

    for name in library.distributions:
        try:
            return f"{version(name)} ({name})"
        except PackageNotFoundError:
            continue
    return f"unknown ({library.distributions[0]})"


def _interpreter_class(package: str | None) -> tuple[Any, str]:
    """The interpreter class and its version; raises UsageError ``engine_missing``."""
    reasons = []
    for library in LIBRARIES:
        if package is not None and library.module.partition(".")[0] != package:
            continue
        # A whole TensorFlow greets on stderr unless told otherwise before its import.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            found = import_module(library.module).Interpreter
        # A package for another numpy fails with AttributeError or SystemError as well.
        except Exception as error:
            reasons.append(f"{library.distributions[0]}: {_one_line(error)}")
            _tell_skipped(library, error)
            continue
        return found, _version(library)
    raise UsageError(
        "engine_missing",
        f"no LiteRT package can be imported ({'; '.join(reasons) or f'{package} is none'}): "
        "pip install 'allsub-edge[litert]'",
    )


def _tell_skipped(library: Library, error: Exception) -> None:
    # Imported here since few need it and every start would pay for it.
    import logging

    logging.getLogger(__name__).debug("%s cannot be imported: %s", library.module, error)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _problem(interface: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> str:
    """What is wrong with a signature, or an empty text; tensors go by name, never by position."""
    wanted = input_types(interface)
    if sorted(inputs) != sorted(wanted):
        return f"its inputs are {list(inputs)}, not {list(wanted)}"
    types = {name: np.dtype(kind).type for name, kind in wanted.items()} | _TYPES
    shapes = dict.fromkeys(wanted, (1, *INPUT_SHAPE)) | _SHAPES
    for name, shape in shapes.items():
        tensor = {**outputs, **inputs}.get(name)
        if tensor is None:
            return f"it has no output '{name}'"
        if tensor["dtype"] is not types[name]:
            return f"'{name}' is {np.dtype(tensor['dtype'])}, not {np.dtype(types[name])}"
        if tuple(tensor["shape"]) != shape:
            return f"'{name}' has shape {tensor['shape'].tolist()}, not {list(shape)}"
    return ""


class LiteRtEngine:
    """A model opened by LiteRT from verified bytes, with a fixed number of threads.

    XNNPACK, the library's default on CPUs, runs whatever it can. A batch is run field by field: a
    device sees one field at a time, and a resized input would be planned anew.

    Raises:
        ModelFileError: ``engine_refused`` (the interpreter cannot open the graph, usually because
            it is older than the exporter), ``wrong_signature``.
        UsageError: ``engine_missing``, no package can be imported.
    """

    name: Final[str] = "litert"

    def __init__(
        self,
        model: ModelBytes,
        *,
        threads: int | None = None,
        spin: bool = False,
        package: str | None = None,
    ):
        interpreter_class, self.version = _interpreter_class(package)
        self.threads: int = default_threads() if threads is None else threads
        try:
            with warnings.catch_warnings():
                # TensorFlow's own copy announces its end; whoever has no other cannot act on it.
                warnings.simplefilter("ignore", UserWarning)
                interpreter = interpreter_class(model_content=model.data, num_threads=self.threads)
            interpreter.allocate_tensors()
            signatures = list(interpreter.get_signature_list())
        # The wrapper raises ValueError for some graphs and RuntimeError for others.
        except (ValueError, RuntimeError) as error:
            raise ModelFileError(
                "engine_refused",
                f"{model.source}: litert {self.version} cannot open the model "
                f"({_one_line(error)}): try pip install --upgrade ai-edge-litert",
            ) from error
        inputs, outputs = {}, {}
        problem = f"it has {len(signatures)} signatures, not one"
        if len(signatures) == 1:
            signature = interpreter.get_signature_runner(signatures[0])
            inputs, outputs = signature.get_input_details(), signature.get_output_details()
            problem = _problem(model.manifest.interface, inputs, outputs)
        if problem:
            raise ModelFileError(
                "wrong_signature",
                f"{model.source}: the graph does not fit its manifest ({problem}): "
                "export the model again",
            )
        self._inputs: dict[str, int] = {name: tensor["index"] for name, tensor in inputs.items()}
        self._outputs: list[int] = [outputs[name]["index"] for name in OUTPUT_NAMES]
        self._feed = feeder(model.manifest, model.source)
        self._interpreter: Any = interpreter

    def run(self, fields: npt.NDArray[np.uint8]) -> RawOutput:
        """Run N >= 1 fields, uint8 [N, 224, 224, 3]; see ``base.Engine.run``."""
        check_fields(fields)
        if self._interpreter is None:
            raise RuntimeError("the engine is closed")
        answers = [self.run_feed(self._feed(field[None])) for field in fields]
        return RawOutput(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))

    def run_feed(self, feed: Feed) -> RawOutput:
        """Run the graph's own inputs of one field by name; see ``OnnxRuntimeEngine.run_feed``."""
        if self._interpreter is None:
            raise RuntimeError("the engine is closed")
        for name, index in self._inputs.items():
            self._interpreter.set_tensor(index, np.ascontiguousarray(feed[name]))
        self._interpreter.invoke()
        # get_tensor copies, so that the next field does not overwrite this answer.
        return RawOutput(*(self._interpreter.get_tensor(index) for index in self._outputs))

    def close(self) -> None:
        """Free the interpreter; may be called twice."""
        self._interpreter = None


def open_engine(
    model: ModelBytes,
    *,
    threads: int | None = None,
    spin: bool = False,
    package: str | None = None,
) -> LiteRtEngine:
    """Open a model; see ``engines.open_engine``. ``spin`` has no counterpart in LiteRT.

    ``package`` is the import name of the only package to try; None tries all.
    """
    return LiteRtEngine(model, threads=threads, spin=spin, package=package)
