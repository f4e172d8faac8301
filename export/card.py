"""The model card: what a model file is, what was measured on it, and what it is not for.

Everything in it is read from the file's own manifest, the run, or measured here on the run's test
fields by the very code a device runs. The final run of a cross-fit has no test fields; its card
tells what the files of the folds answered, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import allsub_edge
from allsub_edge.classes import CITATION, CLASSES, CLINICAL_NAMES, NOT_A_MEDICAL_DEVICE
from allsub_edge.export import public_set
from allsub_edge.export.card_data import OUT_OF_FOLD, TEST, data_section
from allsub_edge.export.material import Material, load_material
from allsub_edge.export.table import Exported
from allsub_edge.model_file.container import read
from allsub_edge.model_file.manifest import Manifest
from allsub_edge.training.metrics import Rate
from allsub_edge.training.run import Run


def write_card(
    models: list[Path],
    run_folder: Path,
    data: Path,
    note: str = "",
    more: Sequence[str] = (),
) -> str:
    """The card of model files of one run, as Markdown.

    Args:
        models: files that ``export_run`` wrote, the default one last.
        run_folder: their run.
        data: the data set the run was trained on.
        note: what a reader must know about how this run came about, such as earlier looks at
            its test role.
        more: Markdown sections to stand before the limits, such as how changed fields do.

    Raises:
        DataError, ModelFileError: a file, the run or the data does not fit.
    """
    run = Run(run_folder)
    main = read(models[-1]).manifest
    pooled = OUT_OF_FOLD in main.metrics
    metrics = main.metrics[OUT_OF_FOLD if pooled else TEST]
    if pooled:
        decisions = _decisions_of_folds(metrics)
    else:
        decisions = _decisions(models[-1], load_material(run, data))
    what = f"out of fold, {metrics['folds']} folds" if pooled else "test role"
    fitted_on = "the folds' answers" if pooled else "the calibration role"
    public = bool(public_set.as_known(run))
    source = "The data set and the two-channel method" if public else "The two-channel method"
    parts = [
        f"# Model card: {main.name} {main.version}",
        NOT_A_MEDICAL_DEVICE,
        _what(main.to_dict()),
        data_section(run, main.to_dict(), note),
        _metrics(models, what),
        _confusion(metrics["confusion"], f"{main.precision}, {what}"),
        decisions,
        *more,
        _limits(main.to_dict(), fitted_on, public),
        f"## Citation\n\n{source}: {CITATION}",
        f"## Licence\n\n{main.licence}. The images are not redistributed here.",
    ]
    return "\n\n".join(parts) + "\n"


def latency(rows: Sequence[Exported], where: str) -> str:
    """A section of the card: how long the written files take; empty if nobody measured.

    Args:
        rows: of the table of the export.
        where: the machine, in words.
    """
    measured = [row for row in rows if row.p50_ms is not None]
    if not measured:
        return ""
    lines = [
        f"| {row.path.name} | {row.engine} | {row.threads} | {row.p50_ms:.1f} | "
        f"{row.peak_mib:.0f} |"
        for row in measured
    ]
    return (
        "## Latency\n\n"
        f"One field after another, each file in a process of its own, on {where}; "
        "`allsub-edge bench` measures the machine in front of you.\n\n"
        "| file | engine | threads | p50, ms a field | peak MiB |\n|---|---|---|---|---|\n"
        + "\n".join(lines)
    )


def _rate(value: dict[str, Any] | None) -> str:
    if value is None or value["value"] is None:
        return "-"
    ends, interval = value["interval95"], "-"
    if ends is not None and None not in ends:
        interval = f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}"
    return f"{100 * value['value']:.2f} % ({interval}; {value['count']} of {value['total']})"


def _what(manifest: dict[str, Any]) -> str:
    return (
        "## What it is\n\n"
        f"A two-channel network on {manifest['backbone']}, fusion `{manifest['fusion']}`, second "
        f"channel by recipe `{manifest['recipe']['name']}`. Input: a field squashed to 224x224, "
        "uint8 RGB; white balance, segmentation, normalisation, network, calibrated "
        "probabilities and domain distance are inside the file. Classes: "
        + ", ".join(f"`{c}` ({CLINICAL_NAMES[c]})" for c in CLASSES)
        + f".\n\nIntended use: {manifest['intended_use']}\n\n"
        "Not for: diagnosis, screening, triage or monitoring of a person; other stains, other "
        "magnifications, marrow smears, single-cell crops; deciding between B-ALL and anything "
        "that is not one of the four classes."
    )


def _metrics(models: list[Path], what: str) -> str:
    manifests = [read(path).manifest for path in models]
    kind = OUT_OF_FOLD if OUT_OF_FOLD in manifests[-1].metrics else TEST
    names = [_format(m, p) for m, p in zip(manifests, models, strict=True)]
    rows = [f"| {what} | " + " | ".join(names) + " |", "|---" * (len(models) + 1) + "|"]

    def row(text: str, pick: Any) -> None:
        cells = [_rate(pick(m.metrics)) for m in manifests]
        rows.append(f"| {text} | " + " | ".join(cells) + " |")

    row("accuracy", lambda m: m[kind]["accuracy"])
    folds = manifests[-1].metrics[kind].get("by_fold", [])
    for number in range(len(folds)):
        row(f"accuracy, fold {number + 1}", lambda m, k=number: m[kind]["by_fold"][k])
    row("ALL called benign", lambda m: m[kind]["all_called_benign"])
    row("benign called ALL", lambda m: m[kind]["benign_called_all"])
    for name in CLASSES:
        row(f"sensitivity {name}", lambda m, n=name: m[kind]["per_class"][n]["sensitivity"])
        row(f"specificity {name}", lambda m, n=name: m[kind]["per_class"][n]["specificity"])
    for entry, text in (
        ("gains_10", "accuracy, channel gains +-10 %"),
        ("gains_20", "accuracy, channel gains +-20 %"),
        ("scale_bar_hidden", "accuracy, scale bar hidden"),
    ):
        # A format that is too slow was not tried on changed fields.
        key = f"{kind}_{entry}"
        row(text, lambda m, k=key: m[k]["accuracy"] if k in m else None)
    row("shortcut baseline: background colour alone", lambda m: m["shortcut_background_colour"])
    rows.append(
        "| expected calibration error | "
        + " | ".join(f"{m.metrics[kind]['calibration_error']:.4f}" for m in manifests)
        + " |"
    )
    rows.append(
        "| file size | " + " | ".join(f"{p.stat().st_size / 1e6:.2f} MB" for p in models) + " |"
    )
    return (
        "## Measured\n\n95 % Wilson intervals in brackets; they take fields as independent, which "
        "fields of one slide are not, so the truth is wider.\n\n" + "\n".join(rows)
    )


def _format(manifest: Manifest, path: Path) -> str:
    return f"{manifest.precision}, {path.suffix.removeprefix('.')}"


def _confusion(matrix: list[list[int]], what: str) -> str:
    rows = [
        "| true, called | " + " | ".join(CLASSES) + " |",
        "|---" * (len(CLASSES) + 1) + "|",
        *(
            f"| {name} | " + " | ".join(str(n) for n in row) + " |"
            for name, row in zip(CLASSES, matrix, strict=True)
        ),
    ]
    return f"## Confusion matrix, {what}\n\n" + "\n".join(rows)


def _decisions(path: Path, material: Material) -> str:
    """What the device says, with thresholds: how often it stands behind a label, and is right."""
    with allsub_edge.load(path, threads=1) as classifier:
        answers = [classifier.predict(field) for field in material.test]
    truth: npt.NDArray[np.str_] = np.array(CLASSES)[material.labels]
    labelled = [(a.label, t) for a, t in zip(answers, truth, strict=True) if a.label]
    right = sum(label == t for label, t in labelled)
    covered = sum(t in a.prediction_set for a, t in zip(answers, truth, strict=True))
    total = len(answers)
    statuses = {s: sum(a.status == s for a in answers) for s in ("ok", "uncertain", "unfit")}
    return (
        "## What the device says\n\n"
        "With the thresholds of the file, on the same test fields:\n\n"
        "| | |\n|---|---|\n"
        f"| a label is given (`ok`) | {_rate(Rate(statuses['ok'], total).to_dict())} |\n"
        f"| `uncertain` | {_rate(Rate(statuses['uncertain'], total).to_dict())} |\n"
        f"| `unfit` | {_rate(Rate(statuses['unfit'], total).to_dict())} |\n"
        f"| labels that are right | {_rate(Rate(right, len(labelled)).to_dict())} |\n"
        f"| true class in the prediction set | {_rate(Rate(covered, total).to_dict())} |"
    )


def _decisions_of_folds(found: dict[str, Any]) -> str:
    """As :func:`_decisions`, from what the folds' files said."""
    said = found["said"]
    by_class = "\n".join(
        f"| true class in the prediction set, {name} | {_rate(rate)} |"
        for name, rate in found["coverage"].items()
    )
    return (
        "## What the device says\n\n"
        "The folds' files, each with the thresholds that the other folds gave:\n\n"
        "| | |\n|---|---|\n"
        f"| a label is given (`ok`) | {_rate(said['ok'])} |\n"
        f"| `uncertain` | {_rate(said['uncertain'])} |\n"
        f"| `unfit` | {_rate(said['unfit'])} |\n"
        f"| labels that are right | {_rate(found['labels_right'])} |\n"
        f"| true class in the prediction set | {_rate(found['covered'])} |\n"
        f"{by_class}\n"
        f"| mean size of a prediction set | {found['mean_set_size']} |"
    )


def _limits(manifest: dict[str, Any], fitted_on: str, public: bool) -> str:
    calibration = manifest["calibration"]
    data = "one public data set from one laboratory" if public else "one data set"
    return (
        "## Limits\n\n"
        f"Trained and tested on {data}. Nothing here says how it does on another microscope, "
        f"camera, stain or population. Thresholds were fitted on {fitted_on}: temperature "
        f"{calibration['temperature']}, prediction sets for at most "
        f"{100 * calibration['alpha']:.0f} % misses per class, domain distance at most "
        f"{calibration['domain_threshold']}."
    )
