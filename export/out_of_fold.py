"""The final run of a cross-fit has learned from every field: the files of its folds judge its own.

For a format, the same file is made of every fold's network, with that fold's thresholds, and
answers the fields whose groups that network did not learn from. Together these answers cover every
field once. They tell what the format costs, and what a device says, on unseen fields; the file
that ships is held against its own network besides.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.classifier import Classifier
from allsub_edge.engines import open_engine
from allsub_edge.errors import ModelFileError
from allsub_edge.export.about import for_file
from allsub_edge.export.formats import FORMATS, Format
from allsub_edge.export.graph import MODELS
from allsub_edge.export.makers import Maker, makers_of
from allsub_edge.export.onnx_int8 import Quantisation
from allsub_edge.export.parity import Answer, collect, compare
from allsub_edge.export.pooled import TABLE, Floats, Pooled, write_table
from allsub_edge.export.prove import changed_fields, prove
from allsub_edge.export.subject import FoldSource, Subject, feeder, fusable, open_run
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.model_file.container import embed_manifest, parse
from allsub_edge.model_file.manifest import Manifest
from allsub_edge.training.calibrate import softmax
from allsub_edge.training.out_of_fold import ANSWERS
from allsub_edge.training.run import Run
from allsub_edge.training.split import read_split

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Part:
    """One fold's share of a :class:`Pooled`."""

    answer: Answer
    changed: dict[str, Floats]
    status: list[str]
    sets: list[list[bool]]
    share: float | None


_Parts = dict[tuple[str, tuple[int, ...]], list[_Part | Exception]]
"""Format and layers kept in float -> what each fold said, or why it could not."""


@dataclass(frozen=True)
class _Fold:
    """What the networks of a fold said of its fields."""

    labels: npt.NDArray[np.int64]
    reference: Answer


class OutOfFold:
    """Makes the folds' files and pools their answers; one object for each interface.

    Args:
        source: the folds.
        formats: names of all formats that will be asked for: a fold is opened once for all.
        interface: of the files.
        settings: of static int8.
        say: takes one line for each stage.
        fused: as for ``makers.OnnxMaker``.
    """

    def __init__(
        self,
        source: FoldSource,
        formats: Sequence[str],
        interface: str,
        settings: Quantisation,
        say: Say,
        *,
        fused: bool = True,
    ) -> None:
        self._source, self._formats, self._interface = source, formats, interface
        self._settings, self._say, self._fused = settings, say, fused
        self._folds: dict[int, _Fold] = {}
        self._parts: _Parts = {}

    def pooled(self, entry: Format, kept: Sequence[int] = ()) -> Pooled:
        """The answers of one format's files.

        Args:
            entry: the format.
            kept: places in ``Maker.layers`` of the convolutions that stay in float.

        Raises:
            AllsubError, and what a converter raises: a fold cannot be opened, or its file not be
                made.
        """
        key = (entry.name, tuple(kept))
        if key not in self._parts:
            wanted = [entry.name] if kept else list(self._formats)
            self._parts |= self._answered(wanted, tuple(kept))
        parts = self._parts[key]
        for part in parts:
            if isinstance(part, Exception):
                raise part
        return self._joined([part for part in parts if isinstance(part, _Part)])

    def _answered(self, formats: list[str], kept: tuple[int, ...]) -> _Parts:
        """What every fold says in each format; one error for all formats if a fold fails."""
        found: _Parts = {(name, kept): [] for name in formats}
        try:
            for number, run in enumerate(self._source.runs, 1):
                for name, part in self._open(number, run, formats, kept).items():
                    found[name, kept].append(part)
        # Whatever it is: a format must not be judged on the folds before this one alone.
        except Exception as error:
            return {key: [error] for key in found}
        return found

    def _open(
        self, number: int, run: Run, formats: list[str], kept: tuple[int, ...]
    ) -> dict[str, _Part | Exception]:
        found: dict[str, _Part | Exception] = {}
        count = len(self._source.runs)
        subject = open_run(run.folder, self._source.data, self._source.calibration, _silent)
        if number not in self._folds:
            self._folds[number] = _Fold(subject.material.labels, _stored(run, subject))
        model = MODELS[self._interface](subject.network, subject.temperature, subject.domain)
        feed = feeder(self._interface, subject.about["recipe"]["name"])
        feeds = [feed(one[None]) for one in subject.material.calibration]
        params = fusable(subject.about, self._interface)
        with tempfile.TemporaryDirectory() as folder:
            makers = makers_of(
                model, feeds, self._settings, Path(folder), _silent, params, self._fused
            )
            for name in formats:
                self._say(f"fold {number} of {count}: {name} answers {len(subject.material.test)}")
                try:
                    entry = FORMATS[name]
                    found[name] = self._part(subject, entry, makers[entry.container], kept, number)
                # Converters raise whatever they like; the caller asks for the format and gets it.
                except Exception as error:
                    found[name] = error
        del makers, model, subject
        gc.collect()
        return found

    def _part(
        self, subject: Subject, entry: Format, maker: Maker, kept: tuple[int, ...], number: int
    ) -> _Part:
        layers = maker.layers() if kept else []
        made = maker.make(entry, [layers[place] for place in kept])
        about = for_file(subject.about, "fold", str(number), entry.precision, self._interface)
        reference = self._folds[number].reference
        name = f"fold{number}-{entry.name}"
        proof = prove(made.data, about, subject.material, reference, name)
        sealed = parse(embed_manifest(made.data, Manifest.from_dict(about)), source=name)
        with Classifier(sealed, open_engine(sealed)) as classifier:
            records = [classifier.predict(field) for field in subject.material.test]

            def answers(fields: npt.NDArray[np.uint8]) -> Answer:
                output = classifier.engine.run(fields)
                return output.probabilities, output.domain_distance, output.mask

            changed = {
                kind: collect(answers, fields, batch_size=1)[0]
                for kind, fields in changed_fields(subject.material.test, proof.seconds)
            }
        return _Part(
            proof.answer,
            changed,
            [record.status for record in records],
            [[name in record.prediction_set for name in CLASSES] for record in records],
            made.share,
        )

    def _joined(self, parts: list[_Part]) -> Pooled:
        count = len(self._source.runs)
        if not len(parts) == len(self._folds) == count:
            raise ModelFileError(
                "bad_folds", f"{len(parts)} of {count} folds answered: not every field is judged"
            )
        folds = [self._folds[number] for number in sorted(self._folds)]
        labels = np.concatenate([fold.labels for fold in folds])
        reference = _concatenated([fold.reference for fold in folds])
        answer = _concatenated([part.answer for part in parts])
        shares = [part.share for part in parts if part.share is not None]
        # A kind of change that one fold had no time for is left out for all.
        kinds = [k for k in parts[0].changed if all(k in part.changed for part in parts)]
        return Pooled(
            labels=labels,
            fold=np.repeat(np.arange(1, len(folds) + 1), [len(fold.labels) for fold in folds]),
            reference=reference[0],
            probabilities=np.nan_to_num(answer[0]),
            changed={k: np.concatenate([part.changed[k] for part in parts]) for k in kinds},
            status=np.concatenate([part.status for part in parts]),
            sets=np.concatenate([np.array(part.sets, bool) for part in parts]),
            parity=compare(reference, answer, labels),
            share=min(shares, default=None),
        )

    def write_table(self, formats: dict[str, Pooled]) -> Path:
        """Write ``pooled.TABLE`` into the folder of the cross-fit; returns its path."""
        fields: list[list[str]] = []
        for number, run in enumerate(self._source.runs, 1):
            tests = [row for row in read_split(run.split_path).rows if row.role == "test"]
            fields += [[row.file, row.label, row.group, str(number)] for row in tests]
        path: Path = self._source.runs[0].folder.parent / TABLE
        write_table(path, fields, formats)
        return path


def _stored(run: Run, subject: Subject) -> Answer:
    """What the fold's network said of its test fields when it was trained; masks by numpy."""
    stored = run.read_arrays(ANSWERS)
    if len(stored["distance"]) != len(subject.material.labels):
        raise ModelFileError(
            "bad_folds", f"{run.folder}: {ANSWERS} is not of its split; train the cross-fit anew"
        )
    logits: Floats = stored["logits_plain"].astype(np.float32)
    probabilities = softmax(logits / np.float32(subject.temperature))
    mask = get_recipe(subject.about["recipe"]["name"]).mask
    return probabilities, stored["distance"], np.stack([mask(f) for f in subject.material.test])


def _concatenated(answers: list[Answer]) -> Answer:
    first, second, third = (np.concatenate(part) for part in zip(*answers, strict=True))
    return first, second, third


def _silent(line: str) -> None:
    """Stages within a fold's file are not told."""
