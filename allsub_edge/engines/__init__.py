"""Inference engines behind one small protocol, one file each, imported only when used."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Final, NamedTuple

from allsub_edge.engines.base import MAX_THREADS, Engine
from allsub_edge.errors import UsageError
from allsub_edge.model_file.container import ModelBytes


class Registered(NamedTuple):
    """Where an engine lives and what it needs.

    Attributes:
        module: has ``open_engine(model, *, threads, spin) -> Engine``.
        packages: import names of packages that bring the engine; one of them is enough.
        install: what to type when none is there.
        formats: the model formats it runs.
    """

    module: str
    packages: tuple[str, ...]
    install: str
    formats: tuple[str, ...]


ENGINES: Final[dict[str, Registered]] = {
    "onnxruntime": Registered(
        "allsub_edge.engines.onnx_runtime",
        ("onnxruntime",),
        "pip install onnxruntime",
        ("onnx",),
    ),
    "litert": Registered(
        "allsub_edge.engines.litert",
        ("ai_edge_litert", "tflite_runtime", "tensorflow"),
        "pip install 'allsub-edge[litert]'",
        ("tflite",),
    ),
}
"""Engines by name; for each format the first that fits is the default."""


def engines_for(model_format: str) -> list[str]:
    """Names of the engines that run a format, the default first, installed or not."""
    return [name for name, known in ENGINES.items() if model_format in known.formats]


def installed(name: str) -> bool:
    """True if a package that brings the engine can be found; nothing is imported."""
    return any(find_spec(package) is not None for package in ENGINES[name].packages)


def variants(model_format: str) -> list[str]:
    """Every engine installed for a format, each package that brings one by itself.

    Returns:
        Names for :func:`open_engine`: ``onnxruntime``, or ``litert:ai_edge_litert``.
    """
    found = []
    for name in engines_for(model_format):
        packages = ENGINES[name].packages
        present = [package for package in packages if find_spec(package) is not None]
        found += [name if len(packages) == 1 else f"{name}:{package}" for package in present]
    return found


def open_engine(
    model: ModelBytes,
    *,
    engine: str | None = None,
    threads: int | None = None,
    spin: bool = False,
) -> Engine:
    """Open a verified model with an engine.

    Args:
        model: what ``model_file.container.read`` gave.
        engine: a name of ``ENGINES``, or one of ``variants``, which takes that package alone; None
            takes the default of the model's format.
        threads: None means ``base.default_threads()``.
        spin: let idle threads spin between two fields too, for a few milliseconds before they
            sleep: a shorter wait for a busy processor while there is nothing to do.

    Raises:
        UsageError: ``unknown_engine``, ``wrong_engine``, ``engine_missing``, ``bad_threads``.
        ModelFileError: ``engine_refused`` or ``wrong_signature``.
    """
    fitting = engines_for(model.format)
    name, _, package = (engine or (fitting[0] if fitting else "")).partition(":")
    if name not in ENGINES:
        raise UsageError("unknown_engine", f"no engine {name!r}: choose from {', '.join(ENGINES)}")
    if package and package not in ENGINES[name].packages:
        raise UsageError(
            "unknown_engine",
            f"no package {package!r} brings {name}: choose from "
            f"{', '.join(ENGINES[name].packages)}",
        )
    if name not in fitting:
        raise UsageError(
            "wrong_engine",
            f"{model.source}: engine {name} does not run {model.format} files: "
            f"choose from {', '.join(fitting) or 'another model file'}",
        )
    if threads is not None and not (type(threads) is int and 1 <= threads <= MAX_THREADS):
        raise UsageError(
            "bad_threads",
            f"threads must be a whole number from 1 to {MAX_THREADS}, not {threads!r}",
        )
    known = ENGINES[name]
    if not installed(name):
        raise UsageError("engine_missing", f"the engine {name} is not installed: {known.install}")
    alone = {"package": package} if package and len(known.packages) > 1 else {}
    opened: Engine = import_module(known.module).open_engine(
        model, threads=threads, spin=spin, **alone
    )
    return opened
