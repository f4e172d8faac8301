"""What is evaluated: a run through Keras, or a model file through the device's own code path.

Both answer fields with the records that a device writes, so that every number of a report can be
told for what the network says (``top``) and for what the device stands behind (``label``).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from allsub_edge import prediction
from allsub_edge.errors import DataError, ModelFileError, UsageError
from allsub_edge.evaluation.answers import Answers
from allsub_edge.model_file.entries import Calibration
from allsub_edge.prediction import ModelInfo
from allsub_edge.quality import judge, measure

Fields = npt.NDArray[np.uint8]

MODEL_SUFFIXES: Final[tuple[str, ...]] = (".onnx", ".tflite")


class Subject(Protocol):
    """Anything that can be evaluated.

    Attributes:
        kind: ``run`` or ``model``.
        path: the run folder or the model file.
        calibration: temperature and thresholds.
    """

    kind: str
    path: Path
    calibration: Calibration

    def answer(self, fields: Fields) -> Answers:
        """Answer fields uint8 [N, 224, 224, 3]."""

    def identity(self) -> dict[str, Any]:
        """What it is, for the report: JSON-ready, without paths."""

    def trained_on(self) -> dict[str, Any]:
        """``data_fingerprint``, ``split_sha256``, ``protocol`` and ``config`` of its training."""


class ModelSubject:
    """A sealed model file, read by :class:`allsub_edge.classifier.Classifier`."""

    kind = "model"

    def __init__(self, path: Path, *, engine: str | None, threads: int | None) -> None:
        from allsub_edge.classifier import Classifier

        self.path = path
        self._classifier = Classifier.load(path, engine=engine, threads=threads)
        self.manifest = self._classifier.manifest
        self.calibration = self.manifest.calibration

    def answer(self, fields: Fields) -> Answers:
        """See :class:`Subject`; one field at a time, as a device does."""
        return Answers.of([self._classifier.predict(field) for field in fields])

    def identity(self) -> dict[str, Any]:
        """See :class:`Subject`."""
        manifest, info = self.manifest, self._classifier.info
        return {
            "kind": self.kind,
            "name": self.path.name,
            "model": f"{manifest.name} {manifest.version}",
            "precision": manifest.precision,
            "backbone": manifest.backbone,
            "fusion": manifest.fusion,
            "recipe": manifest.recipe["name"],
            "sha256": info.sha256,
            "engine": info.engine,
            "bytes": self.path.stat().st_size,
        }

    def trained_on(self) -> dict[str, Any]:
        """See :class:`Subject`."""
        return self.manifest.training


class RunSubject:
    """A finished run: its best averaged weights in Keras, its calibration, the device's rules.

    ``network`` is the :class:`allsub_edge.training.network.TwoChannelNetwork`; the ablations reach
    into it.
    """

    kind = "run"

    def __init__(self, path: Path) -> None:
        from allsub_edge.imaging.recipes import get_recipe
        from allsub_edge.training.calibrate import Domain
        from allsub_edge.training.loop import load_best
        from allsub_edge.training.network import build_network
        from allsub_edge.training.run import Run

        self.path = path
        self.run = Run(path)
        self.config = self.run.config()
        try:
            self.calibration = Calibration.from_dict(self.run.read_json("calibration.json"))
        except ModelFileError as error:
            raise DataError(
                "bad_run", f"{path / 'calibration.json'}: {error.message}; train the run anew"
            ) from error
        domain = self.run.read_arrays("domain.npz")
        try:
            self._domain = Domain(domain["centre"], domain["whiten"], domain["means"])
        except KeyError as error:
            raise DataError("bad_run", f"{path / 'domain.npz'}: no array {error}") from error
        # The run's own weights replace the starting weights, which need not be here any more.
        self.network = build_network(dataclasses.replace(self.config, weights="none"))
        load_best(self.network, self.run)
        self._mask = get_recipe(self.config.recipe).mask
        weights = self.path / "best.npz"
        self._info = ModelInfo(path.resolve().name, "run", _sha256(weights), "keras", 0)

    def answer(self, fields: Fields) -> Answers:
        """See :class:`Subject`."""
        small = self.resized(fields)
        logits, features = self.core(*self.network.channels(filled(small)))
        return self.records(small, logits[: len(fields)], features[: len(fields)])

    def resized(self, fields: Fields) -> Fields:
        """Fields at the side that this network takes."""
        from allsub_edge.imaging.resize import squash

        if fields.shape[1] == self.config.size:
            return fields
        return np.stack([squash(f, self.config.size) for f in fields])

    def core(
        self, original: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Logits float32 [N, 4] and features float32 [N, F] of prepared channels."""
        logits, features = self.network.core.predict_on_batch([original, second])
        return np.asarray(logits, np.float32), np.asarray(features, np.float32)

    def probabilities(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Calibrated probabilities float32 [N, 4]."""
        from allsub_edge.training.calibrate import softmax

        return softmax(logits / np.float32(self.calibration.temperature))

    def records(
        self,
        fields: Fields,
        logits: npt.NDArray[np.float32],
        features: npt.NDArray[np.float32],
    ) -> Answers:
        """What a device would write about these fields: same calibration, limits and rules."""
        distances = self._domain.distance(features)
        made = []
        for field, row, distance in zip(fields, self.probabilities(logits), distances, strict=True):
            quality = measure(field, self._mask(field), float(distance))
            made.append(
                prediction.answer(
                    "",
                    row.tolist(),
                    self.calibration.conformal,
                    quality,
                    judge(quality, self.calibration),
                    {},
                    self._info,
                )
            )
        return Answers.of(made)

    def identity(self) -> dict[str, Any]:
        """See :class:`Subject`."""
        stored = self.run.read_json("config.json")
        config = self.config.to_dict()
        # The path of a starting-weights file tells where somebody keeps files.
        config["weights"] = Path(config["weights"]).name
        return {
            "kind": self.kind,
            "name": self._info.name,
            "backbone": f"{self.config.backbone}/{self.config.cut}",
            "fusion": self.config.fusion,
            "recipe": self.config.recipe,
            "parameters": int(self.network.core.count_params()),
            "sha256": self._info.sha256,
            "engine": f"keras {stored['versions'].get('keras', '?')} when trained",
            "config": config,
        }

    def trained_on(self) -> dict[str, Any]:
        """See :class:`Subject`."""
        stored = self.run.read_json("config.json")
        return {
            "data_fingerprint": stored["data_fingerprint"],
            "split_sha256": _sha256(self.run.split_path),
            "protocol": stored["protocol"],
            "config": self.config.to_dict(),
        }


BATCH: Final[int] = 64
"""Fields that go through a run's network at once; fewer are filled up, because TensorFlow compiles
a network anew for every batch size."""


def filled(fields: Fields) -> Fields:
    """Fields [N, S, S, 3] with copies of the last one up to a multiple of ``BATCH``."""
    short = -len(fields) % BATCH
    return np.concatenate([fields, np.repeat(fields[-1:], short, axis=0)]) if short else fields


def open_subject(path: Path, *, engine: str | None = None, threads: int | None = None) -> Subject:
    """Open a run folder or a model file.

    Args:
        path: a folder that ``allsub-edge train`` made, or an ``.onnx`` or ``.tflite`` file.
        engine: for a model file; None means the one that fits it.
        threads: for a model file; None means the usable cores.

    Raises:
        UsageError: ``path`` is neither, or ``engine``/``threads`` were given for a run.
        DataError: the run is unfinished or damaged.
        ModelFileError: the model file is.
    """
    if path.is_dir():
        if not (path / "config.json").is_file():
            if (path / "fold1" / "config.json").is_file():
                raise UsageError(
                    "no_subject",
                    f"{path}: a cross-fit of several runs; give one of its folds, such as "
                    f"{path / 'fold1'}, which is evaluated on groups that it did not learn from",
                )
            raise UsageError(
                "no_subject",
                f"{path}: a folder without config.json; give a run folder that allsub-edge train "
                "made, or a model file",
            )
        if engine is not None or threads is not None:
            raise UsageError(
                "usage", "--engine and --threads are for model files; a run is evaluated by Keras"
            )
        return RunSubject(path)
    if not path.exists():
        raise UsageError("no_subject", f"{path}: does not exist; give a run folder or a model file")
    if path.suffix.lower() not in MODEL_SUFFIXES:
        raise UsageError(
            "no_subject",
            f"{path}: neither a run folder nor a model file ({', '.join(MODEL_SUFFIXES)})",
        )
    return ModelSubject(path, engine=engine, threads=threads)


def _sha256(path: Path) -> str:
    import hashlib

    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise DataError(
            "incomplete_run",
            f"{path}: missing; finish the run with: allsub-edge train --resume {path.parent}",
        ) from None
