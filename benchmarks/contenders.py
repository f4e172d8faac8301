"""What can be measured against one another: our way with any model file, and the references.

A contender is opened by a word, so that a process of its own can open the same one:

=====================  =======================================================================
``ours:FILE``          ``Classifier.predict`` with a model file
``obvious:FILE``       OpenCV and plain ONNX Runtime with a float32 ONNX model file's network
``published``          Keras, two DenseNet201 branches, the authors' segmentation
``densenet:FILE``      two DenseNet201 branches in int8 with ONNX Runtime, the same segmentation
=====================  =======================================================================

Every contender starts from the bytes of an image file and ends with four probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.errors import UsageError

Answer = Callable[[bytes], npt.NDArray[np.float32]]


@dataclass
class Contender:
    """One opened contender.

    Attributes:
        word: how it was opened.
        name: short name for tables.
        answer: bytes of an image file -> four probabilities.
        details: engine, threads and the like, for the record.
        close: frees it.
    """

    word: str
    name: str
    answer: Answer
    details: dict[str, Any]
    close: Callable[[], None] = lambda: None


def open_contender(word: str, threads: int | None = None) -> Contender:
    """Open a contender by its word, see the module's text.

    Raises:
        UsageError: an unknown word, or a package it needs is not installed.
        ModelFileError: the file is not usable.
    """
    kind, _, rest = word.partition(":")
    if kind == "ours":
        return _ours(word, rest, threads)
    if kind == "obvious":
        from allsub_edge.benchmarks.obvious_way import open_obvious

        answer, details = open_obvious(Path(rest), threads)
        return Contender(word, "obvious way (float32)", answer, details)
    if kind == "published":
        from allsub_edge.benchmarks.published_way import open_published

        answer, details = open_published()
        return Contender(word, "published way (Keras)", answer, details)
    if kind == "densenet":
        from allsub_edge.benchmarks.densenet_int8 import open_densenet

        answer, details = open_densenet(Path(rest), threads)
        return Contender(word, "DenseNet201 int8", answer, details)
    raise UsageError("unknown_contender", f"nothing to measure is called {word!r}")


def _ours(word: str, path: str, threads: int | None) -> Contender:
    from allsub_edge.classifier import Classifier

    classifier = Classifier.load(path, threads=threads)

    def answer(data: bytes) -> npt.NDArray[np.float32]:
        record = classifier.predict(data)
        return np.fromiter(record.probabilities.values(), np.float32)

    details = {
        "file": Path(path).name,
        "bytes": Path(path).stat().st_size,
        "sha256": classifier.info.sha256,
        "engine": classifier.info.engine,
        "threads": classifier.info.threads,
        "precision": classifier.manifest.precision,
    }

    def close() -> None:
        with suppress(Exception):
            classifier.close()

    return Contender(word, Path(path).name, answer, details, close)
