"""The model card: what a model file is, what was measured on it, and what it is not for.

Everything in it is read from the file's own manifest, the run, or measured here on the run's test
fields by the very code a device runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import allsub_edge
from allsub_edge.classes import CITATION, CLASSES, CLINICAL_NAMES, NOT_A_MEDICAL_DEVICE
from allsub_edge.export.pipeline import Material, load_material
from allsub_edge.model_file.container import read
from allsub_edge.training.metrics import Rate
from allsub_edge.training.run import Run
from allsub_edge.training.split import read_split


def write_card(models: list[Path], run_folder: Path, data: Path, note: str = "") -> str:
    """The card of model files of one run, as Markdown.

    Args:
        models: files that ``export_run`` wrote, the default one last.
        run_folder: their run.
        data: the data set the run was trained on.
        note: what a reader must know about how this run came about, such as earlier looks at
            its test role.

    Raises:
        DataError, ModelFileError: a file, the run or the data does not fit.
    """
    run = Run(run_folder)
    material = load_material(run, data)
    main = read(models[-1]).manifest
    parts = [
        f"# Model card: {main.name} {main.version}",
        NOT_A_MEDICAL_DEVICE,
        _what(main.to_dict()),
        _data(run, main.to_dict(), note),
        _metrics(models),
        _confusion(main.metrics["test"]["confusion"]),
        _decisions(models[-1], material),
        _limits(main.to_dict()),
        f"## Citation\n\nThe data set and the two-channel method: {CITATION}",
        f"## Licence\n\n{main.licence}. The images are not redistributed here.",
    ]
    return "\n\n".join(parts) + "\n"


def _rate(value: dict[str, Any]) -> str:
    low, high = value["interval95"]
    return (
        f"{100 * value['value']:.2f} % ({100 * low:.2f} to {100 * high:.2f}; "
        f"{value['count']} of {value['total']})"
    )


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


def _data(run: Run, manifest: dict[str, Any], note: str) -> str:
    split = read_split(run.split_path)
    lines = []
    for role in ("train", "validation", "calibration", "test"):
        rows = [row for row in split.rows if row.role == role]
        counts = ", ".join(f"{sum(r.label == c for r in rows)} {c}" for c in CLASSES)
        lines.append(f"| {role} | {len(rows)} | {counts} | {len({r.group for r in rows})} |")
    training = manifest["training"]
    learned = "train and validation" if run.config().train_on_validation else "train"
    return (
        "## Data and protocol\n\n"
        f"Part of the public data set `mehradaria/leukemia`, {len(split.rows)} fields. Split "
        f"protocol `{training['protocol']}`, seed {training['seed']}: whole groups of "
        "neighbouring file numbers, with byte-identical, near-identical and overlapping fields "
        "kept together. There are no patient ids, so one patient may still be in two roles.\n\n"
        "| role | fields | by class | groups |\n|---|---|---|---|\n" + "\n".join(lines) + "\n\n"
        f"The network learned from the roles {learned}; thresholds come from calibration; every "
        f"number below is from test. {note}\n\n"
        "Known flaws of the data: one laboratory; classes photographed under different light, so "
        "that background colour gives most of them away (baseline below); the scale bar differs "
        "by class (training hides or replaces it); 1024x768 squashed to 224x224.\n\n"
        f"Data fingerprint `{training['data_fingerprint'][:16]}`, split "
        f"`{training['split_sha256'][:16]}`, versions "
        + ", ".join(f"{k} {v}" for k, v in training["versions"].items())
        + "."
    )


def _metrics(models: list[Path]) -> str:
    manifests = [read(path).manifest for path in models]
    head = "| on the test role | " + " | ".join(m.precision for m in manifests) + " |"
    rows = [head, "|---" * (len(models) + 1) + "|"]

    def row(text: str, pick: Any) -> None:
        rows.append(f"| {text} | " + " | ".join(_rate(pick(m.metrics)) for m in manifests) + " |")

    row("accuracy", lambda m: m["test"]["accuracy"])
    row("ALL called benign", lambda m: m["test"]["all_called_benign"])
    row("benign called ALL", lambda m: m["test"]["benign_called_all"])
    for name in CLASSES:
        row(f"sensitivity {name}", lambda m, n=name: m["test"]["per_class"][n]["sensitivity"])
        row(f"specificity {name}", lambda m, n=name: m["test"]["per_class"][n]["specificity"])
    row("accuracy, channel gains +-10 %", lambda m: m["test_gains_10"]["accuracy"])
    row("accuracy, channel gains +-20 %", lambda m: m["test_gains_20"]["accuracy"])
    row("accuracy, scale bar hidden", lambda m: m["test_scale_bar_hidden"]["accuracy"])
    row("shortcut baseline: background colour alone", lambda m: m["shortcut_background_colour"])
    rows.append(
        "| expected calibration error | "
        + " | ".join(f"{m.metrics['test']['calibration_error']:.4f}" for m in manifests)
        + " |"
    )
    rows.append(
        "| file size | " + " | ".join(f"{p.stat().st_size / 1e6:.2f} MB" for p in models) + " |"
    )
    return (
        "## Measured\n\n95 % Wilson intervals in brackets; they take fields as independent, which "
        "fields of one slide are not, so the truth is wider.\n\n" + "\n".join(rows)
    )


def _confusion(matrix: list[list[int]]) -> str:
    rows = [
        "| true, called | " + " | ".join(CLASSES) + " |",
        "|---" * (len(CLASSES) + 1) + "|",
        *(
            f"| {name} | " + " | ".join(str(n) for n in row) + " |"
            for name, row in zip(CLASSES, matrix, strict=True)
        ),
    ]
    return "## Confusion matrix, int8, test role\n\n" + "\n".join(rows)


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


def _limits(manifest: dict[str, Any]) -> str:
    calibration = manifest["calibration"]
    return (
        "## Limits\n\n"
        "Trained and tested on one public data set from one laboratory. Nothing here says how it "
        "does on another microscope, camera, stain or population. Thresholds were fitted on the "
        f"calibration role: temperature {calibration['temperature']}, prediction sets for at "
        f"most {100 * calibration['alpha']:.0f} % misses per class, domain distance at most "
        f"{calibration['domain_threshold']}."
    )
