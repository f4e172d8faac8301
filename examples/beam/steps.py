"""What happens to one field before and after the model: the same as in ``allsub-edge infer``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from time import perf_counter
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import onnxruntime as ort
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from allsub_edge.errors import AllsubError, FieldError, ModelFileError
from allsub_edge.imaging.decode import decode
from allsub_edge.imaging.resize import squash
from allsub_edge.model_file.container import ModelBytes
from allsub_edge.prediction import ModelInfo, Prediction, Problem, answer
from allsub_edge.quality import judge, measure
from allsub_edge.sources.paths import IMAGE_SUFFIXES


class Source(NamedTuple):
    """One field that is asked for: its name in records, where it is, and its case."""

    name: str
    path: str
    case: str | None


def field_in(found: Any, root: str) -> Iterator[Source]:
    """The field behind a listed file, named by its path below ``root``; nothing if it is none."""
    name = PurePosixPath(found.path[len(root) :])
    hidden = any(part.startswith(".") for part in name.parts)
    if name.suffix.lower() in IMAGE_SUFFIXES and not hidden:
        yield Source(str(name), found.path, None)


def read(path: str) -> bytes:
    """The bytes of a file on any file system that Beam knows.

    Raises:
        FieldError: ``missing`` or ``unreadable``.
    """
    try:
        with FileSystems.open(path) as stream:
            data: bytes = stream.read()
            return data
    except FileNotFoundError:
        raise FieldError("missing", f"{path}: there is no such file; check the path") from None
    except (OSError, BeamIOError) as error:
        raise FieldError("unreadable", f"{path}: cannot be read ({error})") from None


class _Step(beam.DoFn):
    """Knows the model by its manifest, and counts fields by how they ended."""

    def __init__(self, model: ModelBytes, threads: int) -> None:
        manifest = model.manifest
        self._calibration = manifest.calibration
        engine = f"onnxruntime {ort.__version__}"
        self._info = ModelInfo(manifest.name, manifest.version, model.sha256, engine, threads)

    def _ended(self, how: str) -> None:
        beam.metrics.Metrics.counter("archive", how).inc()

    def _record(self, prediction: Prediction, case: str | None, content: str | None) -> Any:
        self._ended(prediction.status)
        return prediction.to_dict() | {"case": case, "content_sha256": content}

    def _failed(self, source: Source, content: str | None, error: AllsubError) -> Any:
        prediction = Prediction(
            source=source.name,
            status="error",
            label=None,
            top=None,
            probabilities={},
            prediction_set=[],
            reasons=[],
            quality=None,
            timing_ms={},
            model=self._info,
            error=Problem(error.code, error.message),
        )
        return self._record(prediction, source.case, content)


class Prepare(_Step):
    """Reads, decodes and squashes a field unless its answer is there already.

    Takes ``(name, {"wanted": sources, "done": content SHA-256s})``. Gives ``(meta, field)`` with a
    uint8 (224, 224, 3) field; records of fields that cannot be read go to the output ``FAILED``.
    """

    FAILED = "failed"

    def process(self, element: Any) -> Iterator[Any]:
        """Prepare what is wanted under one name."""
        _, groups = element
        done = set(groups["done"])
        # A manifest may name a file twice; it has one answer.
        for source in list(groups["wanted"])[:1]:
            content = None
            started = perf_counter()
            try:
                data = read(source.path)
                content = hashlib.sha256(data).hexdigest()
                if content in done:
                    self._ended("skipped")
                    continue
                rgb = decode(data, source=source.path).rgb
            except FieldError as error:
                yield beam.pvalue.TaggedOutput(self.FAILED, self._failed(source, content, error))
                continue
            decoded = perf_counter()
            small = squash(rgb)
            timing = {"decode": decoded - started, "prepare": perf_counter() - decoded}
            yield (source, content, timing), small


class Answer(_Step):
    """Turns the model's outputs into a record, by the rules of the manifest."""

    def process(self, element: Any) -> Iterator[dict[str, Any]]:
        """Take ``(meta, PredictionResult)``; give one record."""
        (source, content, timing), result = element
        small, found = result.example, result.inference
        probabilities, distance = found["probabilities"], float(found["domain_distance"])
        if not (np.isfinite(probabilities).all() and np.isfinite(distance)):
            text = f"{source.path}: the model answers with no number: use another model file"
            yield self._failed(source, content, ModelFileError("bad_output", text))
            return
        quality = measure(small, found["mask"], distance)
        milliseconds = {stage: round(1000 * spent, 3) for stage, spent in timing.items()}
        prediction = answer(
            source=source.name,
            probabilities=probabilities.tolist(),
            conformal=self._calibration.conformal,
            quality=quality,
            reasons=judge(quality, self._calibration),
            timing_ms=milliseconds | {"infer": found["infer_ms"]},
            model=self._info,
        )
        yield self._record(prediction, source.case, content)
