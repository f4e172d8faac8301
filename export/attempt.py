"""One format of one interface: made, judged, made again where that can help, written if good."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from allsub_edge.atomic import write_bytes
from allsub_edge.export import formats as known
from allsub_edge.export.about import for_file, without_nan
from allsub_edge.export.formats import Format
from allsub_edge.export.layer_error import LayerError
from allsub_edge.export.makers import Made, Maker
from allsub_edge.export.onnx_float import check
from allsub_edge.export.onnx_int8 import Quantisation
from allsub_edge.export.out_of_fold import OutOfFold
from allsub_edge.export.parity import Answer
from allsub_edge.export.pooled import Pooled
from allsub_edge.export.prove import Gate, Proof, measured_on_test, prove, seal
from allsub_edge.export.subject import Subject
from allsub_edge.export.table import CANNOT, REFUSED, WRITTEN, Exported
from allsub_edge.training.metrics import summarise

MIN_INTEGER_SHARE: Final = 0.9
"""Least share of a static integer file's convolutions that must run in integers, before the gate
keeps layers in float."""

RETRIES: Final = 3
"""How often a static integer file that fell short is made again with its worst layers in float."""

KEPT: Final = (1, 2, 4)
"""How many sixteenths of the layers the first, second and third retry keep in float."""

Say = Callable[[str], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What to write, and how.

    Attributes:
        name, version: of the model.
        formats: names in ``formats.FORMATS``, in order.
        interfaces: names in ``graph.MODELS``.
        settings: of static int8 in ONNX; TFLite's calibrator knows minmax alone.
        gate: what a file may cost.
        fused: run ``fuse``'s passes over ONNX graphs.
        explain: measure each layer's error of every static integer file, not only of refused ones.
        measured: measure latency and memory of what was written.
        threads: for that measurement.
    """

    name: str = "allsub"
    version: str = "1"
    formats: tuple[str, ...] = known.DEFAULT
    interfaces: tuple[str, ...] = ("field",)
    settings: Quantisation = field(default_factory=Quantisation)
    gate: Gate = field(default_factory=Gate)
    fused: bool = True
    explain: bool = False
    measured: bool = True
    threads: int = 1


@dataclass(frozen=True)
class _Judgement:
    """What became of one made file; the reason is empty if it is good."""

    proof: Proof
    pooled: Pooled | None
    reason: str


@dataclass(frozen=True)
class Attempt:
    """One format of one interface.

    Attributes:
        subject, plan, interface, entry: what is made.
        maker: of the format's container.
        reference: the trained network's answers to the subject's test fields.
        folds: judges the files of a cross-fit; None where the run has a test role.
    """

    subject: Subject
    plan: Plan
    interface: str
    entry: Format
    maker: Maker
    reference: Answer
    folds: OutOfFold | None = None

    def run(self, out: Path, say: Say) -> tuple[Exported, Pooled | None]:
        """Make the file and write it to ``out`` if it is good.

        Returns:
            The row of the table, and the folds' answers if there are folds and they were asked.
        """
        target = out / self.entry.file_name(self.plan.name, self.plan.version, self.interface)
        static = self.entry.integer and not self.entry.name.endswith("-dynamic")
        layers: list[LayerError] = []
        kept: tuple[str, ...] = ()
        for attempt in range(1, RETRIES + 2):
            try:
                made = self.maker.make(self.entry, kept)
                manifest = self._manifest(made, kept, attempt)
                judged = self._judge(made, manifest, kept, layers, say)
            # Converters and engines raise whatever they like for a network they cannot express.
            except Exception as error:
                if self.entry.precision == "float32":
                    raise
                _log.debug("%s cannot be made", self.entry.name, exc_info=True)
                return self._row(target, CANNOT, _one_line(error), attempts=attempt), None
            if static and not layers and (judged.reason or self.plan.explain):
                say("measuring the error of each layer")
                layers = self.maker.errors(made)
            row = self._measured_row(target, made, judged, kept, attempt, layers)
            if not judged.reason:
                return self._write(row, made, manifest, judged), judged.pooled
            if not static or not layers or attempt > RETRIES:
                break
            kept = _worst(layers, attempt)
            say(f"{self.entry.name} {judged.reason}; again with {len(kept)} layers in float32")
        return row, judged.pooled

    def _judge(
        self,
        made: Made,
        manifest: dict[str, Any],
        kept: tuple[str, ...],
        layers: list[LayerError],
        say: Say,
    ) -> _Judgement:
        material, gate = self.subject.material, self.plan.gate
        kind = "training" if material.seen else "test"
        say(f"proving on {len(material.labels)} {kind} fields")
        name = self.entry.file_name(self.plan.name, self.plan.version, self.interface)
        proof = prove(made.data, manifest, material, self.reference, name)
        reason = self._too_few_integers(made.share, kept, layers)
        before = summarise(material.labels, self.reference[0].astype(np.float32))
        reason = reason or gate.verdict(self.entry.precision, before, proof.metrics, proof.parity)
        if self.folds is None:
            return _Judgement(proof, None, reason)
        if reason:
            return _Judgement(proof, None, f"{reason} (on training fields)")
        places = self.maker.layers() if kept else []
        pooled = self.folds.pooled(self.entry, [places.index(x) for x in kept if x in places])
        reason = self._too_few_integers(pooled.share, kept, layers)
        reason = reason or gate.verdict(
            self.entry.precision, pooled.before(), pooled.after(), pooled.parity
        )
        if reason and pooled.parity.new_missed:
            # Near a tie a file may name another likeliest class and still give no label.
            reason += f", {pooled.labelled_misses() or 'none'} with a label"
        return _Judgement(proof, pooled, f"{reason} (out of fold)" if reason else "")

    def _too_few_integers(
        self, share: float | None, kept: tuple[str, ...], layers: list[LayerError]
    ) -> str:
        if not self.entry.integer or self.entry.name.endswith("-dynamic"):
            return ""
        least = MIN_INTEGER_SHARE * (1 - len(kept) / len(layers) if layers else 1)
        found = share or 0.0
        return f"only {100 * found:.0f} % of its convolutions are integer" if found < least else ""

    def _measured_row(
        self,
        target: Path,
        made: Made,
        judged: _Judgement,
        kept: tuple[str, ...],
        attempt: int,
        layers: list[LayerError],
    ) -> Exported:
        proof, pooled = judged.proof, judged.pooled
        seen = self.subject.material.seen
        return self._row(
            target,
            REFUSED if judged.reason else WRITTEN,
            _note(judged.reason, kept),
            size=len(made.data),
            parity=pooled.parity if pooled else proof.parity,
            metrics=pooled.after() if pooled else {} if seen else proof.metrics,
            on_training_fields=proof.parity if seen else None,
            folds=len(np.unique(pooled.fold)) if pooled else 0,
            share=made.share,
            kept=kept,
            attempts=attempt,
            layers=tuple(layers),
            engine=proof.engine,
        )

    def _row(self, target: Path, status: str, note: str, **measured: Any) -> Exported:
        return Exported(
            self.entry.name,
            self.interface,
            self.entry.precision,
            status,
            note,
            target,
            **measured,
        )

    def _manifest(self, made: Made, kept: tuple[str, ...], attempt: int) -> dict[str, Any]:
        plan, conversion = self.plan, dict(made.conversion)
        manifest = for_file(
            self.subject.about, plan.name, plan.version, self.entry.precision, self.interface
        )
        if self.entry.integer:
            settings: dict[str, Any] = {
                key: conversion.pop(key)
                for key in ("method", "activation_type", "per_channel", "paired")
                if key in conversion
            }
            if settings:
                settings["calibration_fields"] = len(self.subject.material.calibration)
            manifest["quantisation"] = {
                **settings,
                "integer_convolutions": made.share,
                "kept_in_float": list(kept),
                "attempts": attempt,
            }
        return {**manifest, "conversion": conversion}

    def _write(
        self, row: Exported, made: Made, manifest: dict[str, Any], judged: _Judgement
    ) -> Exported:
        name, material = row.path.name, self.subject.material
        if judged.pooled is not None:
            metrics = judged.pooled.metrics()
            metrics["parity_on_training_fields"] = judged.proof.parity.to_dict()
        else:
            metrics = measured_on_test(made.data, manifest, material, judged.proof, name)
            before = summarise(material.labels, self.reference[0].astype(np.float32))
            metrics["float_accuracy"] = before["accuracy"]
            metrics["parity_with_trained_network"] = judged.proof.parity.to_dict()
        metrics = without_nan(metrics | manifest["metrics"])
        data = seal(made.data, {**manifest, "metrics": metrics}, name)
        if self.entry.container == "onnx":
            check(data)
        write_bytes(row.path, data)
        return dataclasses.replace(row, size=len(data))


def _worst(layers: list[LayerError], attempt: int) -> tuple[str, ...]:
    count = max(1, len(layers) * KEPT[attempt - 1] // 16)
    return tuple(layer.name for layer in layers[:count])


def _note(reason: str, kept: tuple[str, ...]) -> str:
    told = f"{len(kept)} layers kept in float32" if kept else ""
    return "; ".join(part for part in (reason, told) if part)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or "the converter says why on stderr"
    return f"{type(error).__name__}: {text[:160]}"
