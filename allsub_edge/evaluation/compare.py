"""Several evaluations side by side; refused unless they are of the same fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from allsub_edge.classes import CITATION, CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.errors import DataError, UsageError
from allsub_edge.evaluation import bootstrap, output, words
from allsub_edge.evaluation.latency import measure
from allsub_edge.evaluation.pairs import compared
from allsub_edge.evaluation.subject import MODEL_SUFFIXES
from allsub_edge.version import __version__

SCHEMA: Final[str] = "allsub-edge/comparison/1"


def compare(
    paths: Sequence[Path],
    *,
    timed: bool = True,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = bootstrap.SEED,
    say: Callable[[str], None] = lambda line: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Any]:
    """Read the reports, check that they belong together, compare, time.

    Args:
        paths: run folders, model files with their report in ``NAME-evaluation`` here, folders or
            JSON files that ``evaluate`` wrote; two or more.
        timed: also measure the latency of those that are runs or model files, now and in turns.
        resamples: of the group bootstrap of the differences.
        seed: of the group bootstrap.
        say: takes one line for each stage.
        now: the clock.

    Returns:
        JSON-ready; schema ``SCHEMA``. ``reports`` holds the whole reports, for figures.

    Raises:
        UsageError: fewer than two, or one twice.
        DataError: a report is missing or bad, is not of the file beside it, or is of other fields.
    """
    if len(paths) < 2:
        raise UsageError("usage", "nothing to compare: give two or more evaluated runs")
    reports = [_report(path) for path in paths]
    names = _names(paths, reports)
    order = _same_fields(names, reports)
    first = reports[0]["fields"]
    labels = np.array([CLASSES.index(first[i]["class"]) for i in order[0]], np.int64)
    groups = [first[i]["group"] for i in order[0]]
    hits = [
        np.array([report["fields"][i]["top"] == report["fields"][i]["class"] for i in places])
        for report, places in zip(reports, order, strict=True)
    ]
    drawn = bootstrap.weights(labels, groups, resamples, seed)
    times = _times(paths, say) if timed else [{"how": "not measured"} for _ in paths]
    grids = [{e["key"] for e in report["robustness"] if e["fields"]} for report in reports]
    shared = [
        {"key": e["key"], "name": words.condition(e), "family": e["family"]}
        for e in reports[0]["robustness"]
        if all(e["key"] in grid for grid in grids)
    ]
    return {
        "schema": SCHEMA,
        "made": now().isoformat(timespec="seconds"),
        "tool": f"allsub-edge {__version__}",
        "names": names,
        "latency": times,
        "conditions": shared,
        "pairs": compared(names, hits, drawn),
        "bootstrap": {"resamples": resamples, "seed": seed},
        "notice": NOT_A_MEDICAL_DEVICE,
        "citation": CITATION,
        "reports": dict(zip(names, reports, strict=True)),
    }


def _report(path: Path) -> dict[str, Any]:
    if path.suffix.lower() not in MODEL_SUFFIXES or path.is_dir():
        if not path.exists():
            raise DataError("not_evaluated", f"{path}: does not exist; give an evaluated run")
        report = output.read(path)
        _still_the_same(path / "best.npz", report)
        return report
    if not path.is_file():
        raise DataError("not_evaluated", f"{path}: does not exist; give an evaluated model file")
    folder = output.default_folder(path)
    if not folder.is_dir():
        raise DataError(
            "not_evaluated",
            f"{path}: no report in {folder}; make it here with: allsub-edge evaluate {path} DIR, "
            "or give the folder of its report",
        )
    report = output.read(folder)
    _still_the_same(path, report)
    return report


def _still_the_same(weights: Path, report: dict[str, Any]) -> None:
    """A report is of the weights that lie beside it, not of earlier ones."""
    import hashlib

    if not weights.is_file():
        return
    if hashlib.sha256(weights.read_bytes()).hexdigest() != report["subject"]["sha256"]:
        raise DataError(
            "stale_report",
            f"{weights}: changed since it was evaluated; evaluate it again with allsub-edge "
            "evaluate",
        )


def _names(paths: Sequence[Path], reports: Sequence[dict[str, Any]]) -> list[str]:
    """Short names, made different by the folder above where they are alike."""
    names = [report["subject"]["name"] for report in reports]
    if len(set(names)) == len(names):
        return names
    above = [path.resolve().parent.name for path in paths]
    longer = [f"{folder}/{name}" for folder, name in zip(above, names, strict=True)]
    if len(set(longer)) < len(longer):
        twice = next(name for name in longer if longer.count(name) > 1)
        raise UsageError("usage", f"{twice} is given twice; give each once")
    return longer


def _same_fields(names: Sequence[str], reports: Sequence[dict[str, Any]]) -> list[list[int]]:
    """For each report the places of its fields in one common order; refuses other fields."""
    orders, keys = [], []
    for report in reports:
        fields = report["fields"]
        order = sorted(range(len(fields)), key=lambda i: (fields[i]["sha256"], fields[i]["file"]))
        orders.append(order)
        keys.append([(fields[i]["sha256"], fields[i]["class"]) for i in order])
    for name, key in zip(names[1:], keys[1:], strict=True):
        if key != keys[0]:
            common = len(set(key) & set(keys[0]))
            raise DataError(
                "other_fields",
                f"{names[0]} was evaluated on {len(keys[0])} fields and {name} on {len(key)}, of "
                f"which {common} are in both; a comparison needs the same: train and evaluate both "
                "with the same --split CSV",
            )
    return orders


def _times(paths: Sequence[Path], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Latency of runs and model files; a report alone has nothing to run."""
    runnable = [
        path
        for path in paths
        if path.suffix.lower() in MODEL_SUFFIXES or (path / "best.npz").is_file()
    ]
    measured = dict(zip(runnable, measure(runnable, say), strict=True))
    nothing = {"how": "not timed: a report alone; give the run folder or the model file"}
    return [measured.get(path, nothing) for path in paths]
