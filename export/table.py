"""What became of each format: one row each, as text, JSON and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from allsub_edge.atomic import replacing, write_text
from allsub_edge.classes import CITATION, NOT_A_MEDICAL_DEVICE
from allsub_edge.export.about import without_nan
from allsub_edge.export.layer_error import LayerError
from allsub_edge.export.parity import Parity

WRITTEN: Final = "written"
REFUSED: Final = "refused"
CANNOT: Final = "cannot"

SCHEMA: Final = "allsub-edge/export/1"


@dataclass(frozen=True)
class Exported:
    """One format of one interface, and what was measured on it.

    Attributes:
        format: name in ``formats.FORMATS``.
        interface: ``field`` or ``two-channel``.
        precision: as in the manifest.
        status: ``written``; ``refused`` (made, but not good enough: there is no file); ``cannot``
            (this network cannot be written so).
        note: why, or what was done to get there.
        path: the file; where it would be if there is none.
        size: bytes; 0 if nothing was made.
        parity: against the trained network; None if nothing ran. Of a cross-fit: of the folds'
            files against their networks.
        metrics: ``training.metrics.summarise`` on unseen fields; empty if nothing ran on them.
        on_training_fields: of a cross-fit: this file against its own network, on fields that it
            learned from.
        folds: of the cross-fit that judged it; 0 where there is a test role.
        share: see ``makers.Made.share``.
        kept: layers left in float by the gate.
        attempts: how often the format was made.
        layers: errors of its layers, where they were measured.
        engine, threads, p50_ms, peak_mib: see ``measure``; None where it was not measured.
    """

    format: str
    interface: str
    precision: str
    status: str
    note: str
    path: Path
    size: int = 0
    parity: Parity | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    on_training_fields: Parity | None = None
    folds: int = 0
    share: float | None = None
    kept: tuple[str, ...] = ()
    attempts: int = 1
    layers: tuple[LayerError, ...] = ()
    engine: str | None = None
    threads: int | None = None
    p50_ms: float | None = None
    peak_mib: float | None = None

    def row(self) -> str:
        """One line for people."""
        head = f"{self.path.name}: {self.status}"
        if self.parity is None or not self.metrics:
            return f"{head}, {self.note}"
        accuracy = self.metrics["accuracy"]
        told = (
            f"{head}, {self.size / 1e6:.2f} MB, accuracy "
            f"{100 * accuracy['value']:.2f} % of {accuracy['total']}, same class as the trained "
            f"network on {100 * self.parity.same_top:.2f} %, probabilities differ by at most "
            f"{self.parity.largest_probability_difference:.2g}, newly missed ALL "
            f"{self.parity.new_missed}"
        )
        return f"{told} ({self.note})" if self.note else told

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the path is the file's name alone."""
        return {
            **{
                name: getattr(self, name)
                for name in (
                    *("format", "interface", "precision", "status", "note", "size", "share"),
                    *("attempts", "engine", "threads", "p50_ms", "peak_mib", "metrics", "folds"),
                )
            },
            "file": self.path.name if self.status == WRITTEN else None,
            "kept_in_float": list(self.kept),
            "parity_with_trained_network": _parity(self.parity),
            "parity_on_training_fields": _parity(self.on_training_fields),
            "layers": [layer.to_dict() for layer in self.layers],
        }


def _parity(parity: Parity | None) -> dict[str, Any] | None:
    return None if parity is None else parity.to_dict()


COLUMNS: Final = (
    *("format", "interface", "status", "MB", "accuracy %", "same class %", "max dp", "new misses"),
    *("int8 %", "p50 ms", "peak MiB", "note"),
)


def _cells(row: Exported) -> tuple[str, ...]:
    parity, blank = row.parity, "-"
    return (
        row.format,
        row.interface,
        row.status,
        f"{row.size / 1e6:.2f}" if row.size else blank,
        f"{100 * row.metrics['accuracy']['value']:.2f}" if row.metrics else blank,
        f"{100 * parity.same_top:.2f}" if parity else blank,
        f"{parity.largest_probability_difference:.2g}" if parity else blank,
        str(parity.new_missed) if parity else blank,
        f"{100 * row.share:.0f}" if row.share is not None else blank,
        f"{row.p50_ms:.1f}" if row.p50_ms is not None else blank,
        f"{row.peak_mib:.0f}" if row.peak_mib is not None else blank,
        row.note,
    )


def text_table(rows: Sequence[Exported]) -> str:
    """The table in aligned columns, with a legend."""
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS) - 1)]
    lines = [
        "  ".join(
            [
                *(
                    cell.ljust(width) if i < 3 else cell.rjust(width)
                    for i, (cell, width) in enumerate(zip(line[:-1], widths, strict=True))
                ),
                line[-1],
            ]
        ).rstrip()
        for line in cells
    ]
    measured = next((row for row in rows if row.parity is not None and row.metrics), None)
    fields = measured.parity.fields if measured is not None and measured.parity else 0
    threads = next((row.threads for row in rows if row.threads is not None), None)
    how = "that no training and no calibration saw"
    if measured is not None and measured.folds:
        how = f"each by a file of the one of {measured.folds} folds that did not learn its group"
    legend = [
        f"accuracy on {fields} labelled fields, {how}",
        "same class, max dp: against the trained float32 network; dp is a probability's difference",
        "new misses: ALL fields called Benign by this file alone",
        "int8 %: convolutions that run in integers (dynamic: whose weights are integers)",
    ]
    if threads is not None:
        legend.append(f"p50, peak: one field at a time, {threads} thread, a process of its own")
    return "\n".join([*lines, "", *legend, NOT_A_MEDICAL_DEVICE]) + "\n"


def layer_table(row: Exported, most: int = 15) -> str:
    """The worst layers of one row, for ``--explain``."""
    if not row.layers:
        return f"{row.format}: no layer errors (only static integer formats have them)"
    width = max(len(layer.label) for layer in row.layers[:most])
    lines = [
        f"{row.format}, {row.interface}: relative error of each layer's output, worst of "
        f"{len(row.layers)} first; own: what the layer adds",
        f"  {'layer':<{width}}   error     own",
    ]
    for layer in row.layers[:most]:
        kept = "  kept in float" if layer.name in row.kept else ""
        lines.append(f"  {layer.label:<{width}}  {layer.error:6.4f}  {layer.own:6.4f}{kept}")
    return "\n".join(lines)


def write_reports(rows: Sequence[Exported], folder: Path, stem: str, about: dict[str, Any]) -> None:
    """Write ``STEM.txt``, ``STEM.json`` and ``STEM.png`` into ``folder``."""
    text = text_table(rows)
    explained = [layer_table(row) for row in rows if row.layers]
    write_text(folder / f"{stem}.txt", "\n\n".join([text.rstrip("\n"), *explained]) + "\n")
    document = {
        "schema": SCHEMA,
        **about,
        "rows": [row.to_dict() for row in rows],
        "notice": NOT_A_MEDICAL_DEVICE,
        "citation": CITATION,
    }
    write_text(folder / f"{stem}.json", json.dumps(without_nan(document), indent=2) + "\n")
    plot(rows, folder / f"{stem}.png")


def pareto(rows: Sequence[Exported]) -> list[Exported]:
    """The written rows that no other beats in both latency and accuracy, fastest first."""
    timed = [r for r in rows if r.status == WRITTEN and r.p50_ms is not None]

    def key(row: Exported) -> tuple[float, float, int]:
        return (row.p50_ms or 0.0, -row.metrics["accuracy"]["value"], row.size)

    front: list[Exported] = []
    for row in sorted(timed, key=key):
        if not front or row.metrics["accuracy"]["value"] > front[-1].metrics["accuracy"]["value"]:
            front.append(row)
    return front


def plot(rows: Sequence[Exported], path: Path) -> None:
    """Accuracy over latency, the area of a dot its file's size, the Pareto front as a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = [r for r in rows if r.status == WRITTEN and r.p50_ms is not None]
    colours = {"onnx": "tab:blue", "tflite": "tab:orange"}
    for row in shown:
        accuracy, x = row.metrics["accuracy"], row.p50_ms or 0.0
        y, (low, high) = accuracy["value"], accuracy["interval95"]
        bars = [[100 * (y - low)], [100 * (high - y)]]
        axes.errorbar([x], [100 * y], bars, color="0.85", zorder=1)
        axes.scatter(
            [x],
            [100 * y],
            s=40 * row.size / 1e6,
            c=colours[row.format.split("-")[0]],
            marker="o" if row.interface == "field" else "s",
            zorder=2,
        )
        axes.annotate(row.format, (x, 100 * y), (4, 5), textcoords="offset points", fontsize=8)
    front = pareto(rows)
    axes.plot(
        [r.p50_ms or 0.0 for r in front],
        [100 * r.metrics["accuracy"]["value"] for r in front],
        color="0.4",
        linestyle="--",
        label="Pareto front",
    )
    if shown:
        axes.set_xscale("log")
        axes.legend(loc="lower right")
    axes.set_xlabel("p50 of one field, ms (log scale)")
    axes.set_ylabel("accuracy on unseen fields, % (bars: 95 % Wilson)")
    axes.set_title("Circles: field, squares: two-channel; area: size. Research tool.", fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
