"""From a run folder to sealed model files, each proven against the trained network."""

from __future__ import annotations

import dataclasses
import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Final

from allsub_edge.errors import ModelFileError
from allsub_edge.export.attempt import Attempt, Plan
from allsub_edge.export.formats import FORMATS
from allsub_edge.export.graph import MODELS
from allsub_edge.export.makers import makers_of
from allsub_edge.export.material import Material, load_material
from allsub_edge.export.measure import measure
from allsub_edge.export.onnx_int8 import Quantisation
from allsub_edge.export.out_of_fold import OutOfFold
from allsub_edge.export.parity import collect
from allsub_edge.export.pooled import Pooled
from allsub_edge.export.prove import Gate
from allsub_edge.export.subject import Subject, feeder, fusable, keras_answers, open_run
from allsub_edge.export.table import WRITTEN, Exported, write_reports

__all__ = [
    "Exported",
    "Gate",
    "Material",
    "Plan",
    "Subject",
    "export_run",
    "export_subject",
    "load_material",
    "open_run",
    "report",
]

MAX_DROP: Final = 0.002
"""A file may lose at most this much accuracy on unseen fields against the trained network."""

TIMED_S: Final = 2.0
"""How long the latency of each file is measured."""

Say = Callable[[str], None]


def export_run(
    folder: Path,
    data: Path,
    out: Path,
    *,
    name: str = "allsub",
    version: str = "1",
    method: str = "minmax",
    paired: bool = True,
    max_drop: float = MAX_DROP,
    no_new_misses: bool = True,
    say: Say = print,
) -> list[Exported]:
    """Write ``NAME-VERSION-float32.onnx`` and ``NAME-VERSION-int8.onnx``.

    Args:
        folder: a finished run.
        data: the data set the run was trained on; for calibration and proof.
        out: where the files go.
        name: of the model.
        version: of the model.
        method: int8 calibration: minmax, entropy or percentile.
        paired: weights that overflow on no chip, see ``onnx_int8.Quantisation``.
        max_drop: accuracy that int8 may lose against the trained network, as a fraction.
        no_new_misses: refuse int8 if it calls one ALL field Benign that the network does not.
        say: takes one line for each stage.

    Returns:
        What was written, float32 first.

    Raises:
        DataError: the run is not finished or the data does not fit.
        ModelFileError: a file is not provably the same model; then it is not written.
    """
    plan = Plan(
        name=name,
        version=version,
        settings=Quantisation(method=method, paired=paired),
        gate=Gate(max_drop, no_new_misses),
        measured=False,
    )
    rows = export_subject(open_run(folder, data, None, say), plan, out, say)
    for row in rows:
        if row.status != WRITTEN:
            raise ModelFileError(
                "too_far", f"{row.path.name} was not written: {row.note}. Try another method"
            )
    return rows


def export_subject(subject: Subject, plan: Plan, out: Path, say: Say = print) -> list[Exported]:
    """Write every format of every interface of a plan.

    Args:
        subject: what is exported.
        plan: what to write.
        out: where the files go; a file that is not good enough is not written, and one of the same
            name from earlier is left as it was.
        say: takes one line for each stage.

    Returns:
        One row for each format and interface, written or not.

    Raises:
        ModelFileError: the network cannot be converted at all.
    """
    rows: list[Exported] = []
    for interface in plan.interfaces:
        folds = None
        if subject.folds is not None:
            folds = OutOfFold(
                subject.folds, plan.formats, interface, plan.settings, say, fused=plan.fused
            )
        rows += _interface(subject, plan, interface, folds, out, say, len(rows))
        gc.collect()
    return [_measured(row, plan, say) for row in rows] if plan.measured else rows


def _interface(
    subject: Subject,
    plan: Plan,
    interface: str,
    folds: OutOfFold | None,
    out: Path,
    say: Say,
    done: int,
) -> list[Exported]:
    """Every format of one interface; ``done`` formats are behind us."""
    rows: list[Exported] = []
    pooled: dict[str, Pooled] = {}
    steps = len(plan.formats) * len(plan.interfaces)
    material = subject.material
    model = MODELS[interface](subject.network, subject.temperature, subject.domain)
    feed = feeder(interface, subject.about["recipe"]["name"])
    kind = "training" if material.seen else "test"
    say(f"the trained network answers {len(material.test)} {kind} fields ({interface})")
    reference = collect(keras_answers(model, feed), material.test)
    feeds = [feed(one[None]) for one in material.calibration]
    with tempfile.TemporaryDirectory() as temporary:
        params = fusable(subject.about, interface)
        makers = makers_of(model, feeds, plan.settings, Path(temporary), say, params, plan.fused)
        for step, name in enumerate(plan.formats, done + 1):
            started = perf_counter()
            entry = FORMATS[name]
            say(f"[{step}/{steps}] {name}, {interface}")
            maker = makers[entry.container]
            attempt = Attempt(subject, plan, interface, entry, maker, reference, folds)
            row, answers = attempt.run(out, say)
            rows.append(row)
            if answers is not None:
                pooled[name] = answers
            say(f"{row.row()} ({perf_counter() - started:.0f} s)")
    # Programs that segment themselves get the same answers, so one table is enough.
    if folds is not None and pooled and interface == plan.interfaces[0]:
        say(f"answers of the folds, field by field: {folds.write_table(pooled)}")
    return rows


def report(rows: list[Exported], plan: Plan, subject: Subject, folder: Path) -> Path:
    """Write table, JSON and plot; returns the text's path."""
    stem = f"{plan.name}-{plan.version}-validation"
    about = {
        "name": plan.name,
        "version": plan.version,
        "backbone": subject.about["backbone"],
        "fusion": subject.about["fusion"],
        "gate": dict(vars(plan.gate)),
        "calibration_fields": len(subject.material.calibration),
        "test_fields": 0 if subject.material.seen else len(subject.material.test),
        "folds": 0 if subject.folds is None else len(subject.folds.runs),
        "training": subject.about["training"],
    }
    write_reports(rows, folder, stem, about)
    return folder / f"{stem}.txt"


def _measured(row: Exported, plan: Plan, say: Say) -> Exported:
    if row.status != WRITTEN:
        return row
    say(f"timing {row.path.name}")
    found = measure(row.path, plan.threads, TIMED_S)
    return dataclasses.replace(
        row,
        engine=found["engine"],
        threads=found["threads"],
        p50_ms=found["p50_ms"],
        peak_mib=found["peak_mib"],
    )
