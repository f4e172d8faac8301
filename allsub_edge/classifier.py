"""Fields in, predictions out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType

import numpy as np
import numpy.typing as npt

from allsub_edge import engines, models, prediction
from allsub_edge.engines.base import Engine
from allsub_edge.errors import AllsubError, FieldError, ModelFileError
from allsub_edge.helper import Helper
from allsub_edge.imaging.decode import decode, read_bytes
from allsub_edge.imaging.memory import enough_memory
from allsub_edge.imaging.resize import squash
from allsub_edge.model_file import container
from allsub_edge.model_file.manifest import Manifest
from allsub_edge.prediction import ModelInfo, Prediction, Problem
from allsub_edge.quality import glance, judge, measure

Field = str | os.PathLike[str] | bytes | npt.NDArray[np.uint8]
"""A path, the bytes of an image file, or a decoded uint8 RGB array (H, W, 3)."""

Sourced = tuple[str, Field | AllsubError]
"""A name for the field, and the field; or the problem that kept it from being read."""


@dataclass(frozen=True, eq=False)
class View:
    """What the model saw, for showing it to people.

    Attributes:
        rgb: uint8 (224, 224, 3), the squashed field.
        mask: uint8 (224, 224), the model's cell mask, 0/1.
    """

    rgb: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]


class _Clock:
    """Adds up milliseconds per stage."""

    def __init__(self) -> None:
        self.timing_ms: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, stage: str) -> None:
        now = perf_counter()
        spent = self.timing_ms.get(stage, 0.0) + 1000 * (now - self._last)
        self.timing_ms[stage] = round(spent, 3)
        self._last = now


class Classifier:
    """An opened model that answers for one field at a time.

    One instance must not be used by two threads at once. Use it as a context manager, or call
    ``close``, to free the model.
    """

    def __init__(self, model: container.ModelBytes, engine: Engine) -> None:
        self.manifest: Manifest = model.manifest
        self.engine = engine
        self.info = ModelInfo(
            name=model.manifest.name,
            version=model.manifest.version,
            sha256=model.sha256,
            engine=f"{engine.name} {engine.version}",
            threads=engine.threads,
        )
        self._helper = Helper() if engine.threads > 1 else None

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        threads: int | None = None,
        engine: str | None = None,
        spin: bool = False,
    ) -> Classifier:
        """Open a model file; None means the shipped model.

        Args:
            model: path of a model file.
            threads: None means the usable cores, at most 4.
            engine: name of an engine; None means the one that fits the file.
            spin: see ``engines.open_engine``.

        Raises:
            ModelFileError, UsageError: see ``container.read`` and ``engines.open_engine``.
        """
        content = container.read(models.default_path() if model is None else model)
        opened = engines.open_engine(content, engine=engine, threads=threads, spin=spin)
        return cls(content, opened)

    def predict(self, field: Field, *, source: str | None = None) -> Prediction:
        """Answer for one field.

        Args:
            field: a path, the bytes of an image file, or a uint8 RGB array (H, W, 3).
            source: name of the field in the record; None means the path, ``<bytes>`` or
                ``<array>``.

        Raises:
            FieldError: the field cannot be read.
            ModelFileError: ``bad_output``, the model answers with something not finite.
        """
        return self._predict(field, _name(field) if source is None else source, _Clock())[0]

    def predict_many(self, fields: Iterable[Field | Sourced]) -> Iterator[Prediction]:
        """Answer for many fields, lazily and in order; a bad field becomes an error record.

        One field is held at a time, so memory does not grow with their number.

        Args:
            fields: fields, or pairs of a name and a field; the second of a pair may also be the
                AllsubError that kept the field from being read.
        """
        for record, _ in self.view_many(fields):
            yield record

    def view_many(
        self, fields: Iterable[Field | Sourced]
    ) -> Iterator[tuple[Prediction, View | None]]:
        """As ``predict_many``, each record with what the model saw; None beside an error record."""
        for given in fields:
            source, field = given if isinstance(given, tuple) else (_name(given), given)
            clock = _Clock()
            answer: tuple[Prediction, View | None]
            try:
                if isinstance(field, AllsubError):
                    raise field
                with enough_memory(source):
                    answer = self._predict(field, source, clock)
            except AllsubError as error:
                answer = self._failed(source, error, clock), None
            # Let go before the next field is made, so that never two are in memory.
            del given, field
            yield answer

    def _failed(self, source: str, error: AllsubError, clock: _Clock) -> Prediction:
        return Prediction(
            source=source,
            status="error",
            label=None,
            top=None,
            probabilities={},
            prediction_set=[],
            reasons=[],
            quality=None,
            timing_ms=clock.timing_ms,
            model=self.info,
            error=Problem(error.code, error.message),
        )

    def _predict(self, field: Field, source: str, clock: _Clock) -> tuple[Prediction, View]:
        rgb = _pixels(field, source)
        clock.lap("decode")
        small = squash(rgb)
        clock.lap("prepare")
        # Much of the network keeps one core busy; on another, what needs no mask is measured.
        begun = None if self._helper is None else self._helper.start(lambda: glance(small))
        raw = self.engine.run(small[None])
        clock.lap("infer")
        probabilities = raw.probabilities[0]
        distance = float(raw.domain_distance[0])
        if not (np.isfinite(probabilities).all() and np.isfinite(distance)):
            raise ModelFileError(
                "bad_output", f"{source}: the model answers with no number: use another model file"
            )
        seen = None if begun is None else begun.result()
        quality = measure(small, raw.mask[0], distance, seen)
        reasons = judge(quality, self.manifest.calibration)
        clock.lap("prepare")
        record = prediction.answer(
            source=source,
            probabilities=probabilities.tolist(),
            conformal=self.manifest.calibration.conformal,
            quality=quality,
            reasons=reasons,
            timing_ms={stage: clock.timing_ms[stage] for stage in prediction.STAGES},
            model=self.info,
        )
        return record, View(small, raw.mask[0])

    def close(self) -> None:
        """Free the model; may be called twice."""
        self.engine.close()
        if self._helper is not None:
            self._helper.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _name(field: Field) -> str:
    if isinstance(field, np.ndarray):
        return "<array>"
    if isinstance(field, bytes | bytearray | memoryview):
        return "<bytes>"
    return os.fspath(field)


def _pixels(field: Field, source: str) -> npt.NDArray[np.uint8]:
    """Decode whatever was given to a uint8 RGB array (H, W, 3); raises FieldError."""
    if isinstance(field, np.ndarray):
        if field.dtype != np.uint8 or field.ndim != 3 or field.shape[2] != 3:
            raise FieldError(
                "unsupported",
                f"{source}: a field must be a uint8 RGB array (H, W, 3), "
                f"not {field.dtype} {field.shape}",
            )
        if field.shape[0] < 1 or field.shape[1] < 1:
            raise FieldError("empty", f"{source}: the array holds no pixels")
        return field
    if isinstance(field, bytes | bytearray | memoryview):
        return decode(bytes(field), source=source).rgb
    if isinstance(field, str | os.PathLike):
        return decode(read_bytes(Path(field)), source=source).rgb
    raise FieldError(
        "unsupported",
        f"{source}: a field is a path, the bytes of an image file or a uint8 RGB array, "
        f"not {type(field).__name__}",
    )
