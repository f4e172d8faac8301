"""The table of a search: what each finished run reached, how big and how fast it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from allsub_edge.classes import CITATION, NOT_A_MEDICAL_DEVICE
from allsub_edge.errors import DataError
from allsub_edge.evaluation.markdown import table
from allsub_edge.evaluation.search import Entry, is_done, told
from allsub_edge.training.run import Run
from allsub_edge.training.split_file import SplitRow, read_split
from allsub_edge.version import __version__

SCHEMA: Final[str] = "allsub-edge/search/1"

HEAD: Final[tuple[str, ...]] = (
    "run",
    "differs",
    "accuracy (Wilson 95 %)",
    "ALL called Benign",
    "gains ±10 %",
    "gains ±20 %",
    "calibration error",
    "parameters",
    "float32 ONNX",
    "ms per field, p50",
)


_Basis = tuple[list[SplitRow], str]
"""What a run stands on: the rows of its split, the fingerprint of its data."""


def collect(
    entries: Sequence[Entry], out: Path, latency: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Everything of the finished entries, JSON-ready.

    Args:
        entries: the list.
        out: folder of the runs.
        latency: of each name, from ``evaluation.latency.measure``; may lack some.

    Raises:
        DataError: a run is damaged, or the finished ones are not all on one split of one data set.
        UsageError: a folder holds another configuration.
    """
    rows = []
    first: tuple[Path, _Basis] | None = None
    for entry in entries:
        folder = out / entry.name
        if not is_done(entry, folder):
            continue
        run = Run(folder)
        basis = read_split(run.split_path).rows, run.read_json("config.json")["data_fingerprint"]
        first = first or (folder, basis)
        if basis != first[1]:
            raise DataError(
                "mixed_splits",
                f"{folder}: another split or other data than {first[0]}, so one table cannot tell "
                "of both; search each split into an --out of its own",
            )
        arrays = run.read_arrays("best.npz")
        rows.append(
            {
                "name": entry.name,
                "differs": told(entry),
                "evaluation": run.read_json("evaluation.json"),
                "parameters": sum(int(values.size) for values in arrays.values()),
                "epochs": len(run.read_json("history.json")),
                "seconds": round(sum(e["seconds"] for e in run.read_json("history.json"))),
                "latency": dict(latency.get(entry.name, {"how": "not measured"})),
            }
        )
    return {
        "schema": SCHEMA,
        "tool": f"allsub-edge {__version__}",
        "listed": len(entries),
        "rows": rows,
        "waiting": [
            entry.name for entry in entries if entry.name not in {row["name"] for row in rows}
        ],
        "notice": NOT_A_MEDICAL_DEVICE,
        "citation": CITATION,
    }


def markdown(found: Mapping[str, Any]) -> str:
    """The table, best accuracy under changed gains first, with what it does not say."""
    rows = sorted(found["rows"], key=_rank, reverse=True)
    fields = {row["evaluation"]["plain"]["fields"] for row in rows}
    shortcut = [row["evaluation"]["shortcut_background_colour"] for row in rows[:1]]
    lines = [
        f"{len(rows)} of {found['listed']} configurations are done"
        + (f"; waiting: {', '.join(found['waiting'])}." if found["waiting"] else "."),
        "",
        table(HEAD, [_cells(row) for row in rows]),
        "",
        f"Fields of one fold's test role: {', '.join(map(str, sorted(fields)))}. Wilson's interval "
        "counts fields as independent, which fields of one slide are not. Sorted by the mean of "
        "the accuracies as they are and with gains changed by up to 10 and 20 %. One fold is for "
        "discarding; what is left is decided on all folds.",
    ]
    lines += [
        f"Shortcut baseline, background colour alone: {100 * value['value']:.2f} %."
        for value in shortcut
    ]
    return "\n".join([*lines, "", found["notice"], ""])


def _rank(row: Mapping[str, Any]) -> float:
    told = row["evaluation"]
    return float(sum(told[name]["accuracy"]["value"] for name in ("plain", "gains_10", "gains_20")))


def _cells(row: Mapping[str, Any]) -> list[str]:
    told, latency = row["evaluation"], row["latency"]
    plain = told["plain"]
    low, high = plain["accuracy"]["interval95"]
    missed = plain["all_called_benign"]
    return [
        row["name"],
        row["differs"],
        f"{100 * plain['accuracy']['value']:.2f} % ({100 * low:.2f} to {100 * high:.2f})",
        f"{missed['count']} of {missed['total']}",
        f"{100 * told['gains_10']['accuracy']['value']:.2f} %",
        f"{100 * told['gains_20']['accuracy']['value']:.2f} %",
        f"{plain['calibration_error']:.4f}",
        f"{row['parameters']:,}",
        f"{latency['bytes'] / 1e6:.2f} MB" if "bytes" in latency else "-",
        f"{latency['p50_ms']:.2f}" if "p50_ms" in latency else "-",
    ]
