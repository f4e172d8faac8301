"""A benchmark's result for people: Markdown tables, and a chart (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allsub_edge.benchmarks.chart import bars, panels, save
from allsub_edge.benchmarks.machine import in_words
from allsub_edge.benchmarks.stages import NAMES


def _row(*cells: object) -> str:
    return "| " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |"


def _table(head: list[str], rows: list[list[object]]) -> str:
    return "\n".join([_row(*head), "|---" * len(head) + "|", *(_row(*row) for row in rows)])


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _health(state: Mapping[str, Any]) -> str:
    parts = [f"load {state['load']}"]
    if state["governor"]:
        parts.append(f"governor {state['governor']}")
    if state["clock_mhz"]:
        parts.append(f"{state['clock_mhz']} MHz")
    if state["temperature_c"] is not None:
        parts.append(f"{state['temperature_c']:.0f} °C")
    if state["throttled"] is not None:
        parts.append(", ".join(state["throttled"]) or "not throttled")
    return ", ".join(parts)


def _machine(result: Mapping[str, Any]) -> str:
    machine, health = result["machine"], result["health"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    return (
        f"{in_words(machine)}. {versions}. "
        f"Before: {_health(health['before'])}. After: {_health(health['after'])}."
    )


def markdown(result: Mapping[str, Any]) -> str:
    """The whole result as Markdown."""
    models = result["models"]
    parts = [_machine(result)]
    for kind in result["plan"]["workloads"]:
        rows: list[list[object]] = []
        for row in models:
            steady = row["steady"][kind]
            numbers = [_ms(steady[key]) for key in ("p50_ms", "p90_ms", "p99_ms")]
            rows.append([row["name"], *numbers, f"{steady['per_second']:.1f}", steady["count"]])
        head = [f"{kind}, ms a field", "p50", "**p90**", "p99", "fields/s", "fields"]
        parts.append(_table(head, rows))
    if result["ratios"]:
        rows = [
            [
                *(r["workload"], r["of"], r["against"], f"**{r['ratio']:.2f}**"),
                f"{r['interval95'][0]:.2f} to {r['interval95'][1]:.2f}",
                r["rounds"],
            ]
            for r in result["ratios"]
        ]
        head = ["workload", "time of", "against", "ratio", "95 % interval", "pairs"]
        parts.append(_table(head, rows))
    rows = [
        [row["name"], row.get("threads"), f"{row['bytes'] / 1e6:.2f}" if "bytes" in row else None]
        + [_ms(row["fresh"][k]) for k in ("import_ms", "open_ms", "first_answer_ms", "peak_mb")]
        for row in models
    ]
    head = ["a process of its own", "threads", "file MB", "imports ms", "open ms"]
    parts.append(_table([*head, "first answer ms", "peak MB"], rows))
    parts += [_stages(row) for row in models if "stages" in row]
    parts += [_variants(row) for row in models if "batches" in row or "threads_compared" in row]
    return "\n\n".join(part for part in parts if part) + "\n"


def _stages(row: Mapping[str, Any]) -> str:
    rows = [
        [kind, *(_ms(found[name]["p50_ms"]) for name in (*NAMES, "total"))]
        for kind, found in row["stages"].items()
    ]
    text = _table([f"{row['name']}, p50 ms", *NAMES, "total"], rows)
    share = row.get("graph_preparation")
    if share:
        low, high = share["share_interval95"]
        text += (
            f"\n\nOf the network stage, white balance and mask take {100 * share['share']:.0f} % "
            f"({100 * low:.0f} to {100 * high:.0f})."
        )
    return text


def _variants(row: Mapping[str, Any]) -> str:
    rows: list[list[object]] = [
        [f"batch {size}", _ms(found["p50_ms"]), _ms(found["p90_ms"]), None]
        for size, found in row.get("batches", {}).items()
    ]
    for threads, found in row.get("threads_compared", {}).items():
        up = found["speed_up"]
        text = f"{up['ratio']:.2f} ({up['interval95'][0]:.2f} to {up['interval95'][1]:.2f})"
        rows.append([f"threads {threads}", _ms(found["p50_ms"]), _ms(found["p90_ms"]), text])
    return _table([f"{row['name']}, ms a field", "p50", "p90", "speed-up"], rows)


def chart(result: Mapping[str, Any], path: Path) -> None:
    """Draw p50 and p90 of every model and workload as a PNG.

    Raises:
        UsageError: ``matplotlib_missing``.
    """
    kinds, models = result["plan"]["workloads"], result["models"]
    figure, axes = panels(len(kinds), 1.2 + 0.55 * len(models) * len(kinds))
    for axis, kind in zip(axes, kinds, strict=True):
        middle = [row["steady"][kind]["p50_ms"] for row in models]
        late = [row["steady"][kind]["p90_ms"] for row in models]
        bars(axis, kind, [row["name"] for row in models], ("p90", late), ("p50", middle))
        for index, value in enumerate(late):
            axis.text(value, index, f" {value:.3g} ms", va="center", fontsize=8)
        if max(late) > 20 * min(late):
            axis.set_xscale("log")
        axis.margins(x=0.18)
    save(figure, axes, "milliseconds a field, from the bytes of the file to the record", path)
