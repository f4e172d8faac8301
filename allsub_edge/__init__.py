"""Read blood smear fields for B-ALL on CPU-only devices: a research tool, not a medical device.

The usual way in::

    import allsub_edge

    classifier = allsub_edge.load()
    prediction = classifier.predict("smear/f012.jpg")
    print(prediction.label, prediction.status)

Importing this package costs nothing: OpenCV and the inference engine are imported by ``load``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allsub_edge.classes import CITATION, CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.errors import AllsubError, DataError, FieldError, ModelFileError, UsageError
from allsub_edge.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from allsub_edge.classifier import Classifier
    from allsub_edge.prediction import Prediction

__all__ = [
    "CITATION",
    "CLASSES",
    "NOT_A_MEDICAL_DEVICE",
    "AllsubError",
    "Classifier",
    "DataError",
    "FieldError",
    "ModelFileError",
    "Prediction",
    "UsageError",
    "__version__",
    "load",
]


def load(
    model: str | Path | None = None,
    *,
    threads: int | None = None,
    engine: str | None = None,
) -> Classifier:
    """Open a model file and give a classifier that is ready to answer.

    Args:
        model: path of a model file; None means the model shipped with the package.
        threads: threads of the engine; None means as many as the usable cores, at most 4.
        engine: name of an engine (``onnxruntime``); None means the one that fits the file.

    Raises:
        ModelFileError: the file is absent, damaged, edited, of an unknown schema or not ours.
        UsageError: the engine is unknown or not installed, or ``threads`` is not positive.
    """
    from allsub_edge.classifier import Classifier

    return Classifier.load(model, threads=threads, engine=engine)


def __getattr__(name: str) -> Any:
    # Both pull in numpy and OpenCV, which `allsub-edge --help` must not pay for.
    if name == "Classifier":
        from allsub_edge.classifier import Classifier

        return Classifier
    if name == "Prediction":
        from allsub_edge.prediction import Prediction

        return Prediction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
