"""Read blood smear fields for B-ALL on CPU-only devices: a research tool, not a medical device.

The usual way in::

    import allsub_edge

    with allsub_edge.load() as classifier:
        prediction = classifier.predict("smear/f012.jpg")
        print(prediction.label, prediction.status)

        case = allsub_edge.Case("S-17")
        with allsub_edge.open_source("smear/") as source:
            for prediction in classifier.predict_many(allsub_edge.sourced(source)):
                case.add(prediction)
        print(case.verdict().label)

Importing this package costs nothing: OpenCV and the inference engine are imported by ``load``, and
every other name of ``LAZY`` by its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from allsub_edge.classes import CITATION, CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.errors import AllsubError, DataError, FieldError, ModelFileError, UsageError
from allsub_edge.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from allsub_edge.case import Case, CaseVerdict
    from allsub_edge.classifier import Classifier
    from allsub_edge.prediction import Prediction
    from allsub_edge.quality import Quality
    from allsub_edge.records import Records
    from allsub_edge.sources import open_source, sourced

__all__ = [
    "CITATION",
    "CLASSES",
    "NOT_A_MEDICAL_DEVICE",
    "AllsubError",
    "Case",
    "CaseVerdict",
    "Classifier",
    "DataError",
    "FieldError",
    "ModelFileError",
    "Prediction",
    "Quality",
    "Records",
    "UsageError",
    "__version__",
    "load",
    "open_source",
    "sourced",
]

LAZY: Final[dict[str, str]] = {
    "Case": "allsub_edge.case",
    "CaseVerdict": "allsub_edge.case",
    "Classifier": "allsub_edge.classifier",
    "Prediction": "allsub_edge.prediction",
    "Quality": "allsub_edge.quality",
    "Records": "allsub_edge.records",
    "open_source": "allsub_edge.sources",
    "sourced": "allsub_edge.sources",
}
"""Public name -> the module that has it, imported when the name is first used: most of them pull in
numpy and OpenCV, which `allsub-edge --help` must not pay for."""


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
    if name in LAZY:
        return getattr(import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
