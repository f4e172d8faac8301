"""How far from the machine's limit a model file runs, by kind of operator.

    python -m allsub_edge.benchmarks.limit MODEL... [--threads 1] [--json OUT.json]

For each kind: multiply-adds and bytes out of the graph, time out of the engine's own profile, and
the least time this machine could need: the larger of multiply-adds over the measured peak and
bytes over the measured bandwidth of a layer-sized copy (the roofline model: Williams, Waterman,
Patterson, Communications of the ACM 52, 2009). The share is least time over time. It is a bound on
each kind alone: operators that are fused move fewer bytes, so a share may exceed 100 %.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from allsub_edge.benchmarks import machine, peaks, profiles, program, work
from allsub_edge.benchmarks.chart import bars, need_matplotlib, panels, save
from allsub_edge.imaging.render import render_field
from allsub_edge.model_file import container

SCHEMA: Final[str] = "allsub-edge/limit/1"


def least_ms(done: work.Work, machine_peaks: dict[str, Any]) -> float:
    """Milliseconds this machine needs at least for some work."""
    gmacs, gbytes = machine_peaks["gmacs"], machine_peaks["gbytes"][peaks.LAYER]
    arithmetic = done.int8_macs / gmacs["int8"] + done.float_macs / gmacs["float32"]
    return float(max(arithmetic, done.bytes / gbytes) / 1e6)


def measure(path: str, machine_peaks: dict[str, Any], runs: int = 60) -> dict[str, Any]:
    """One model's rows; see the module's text.

    Raises:
        ModelFileError: the file is not usable.
        UsageError: a package that counts or profiles is missing.
    """
    model = container.read(path)
    counted = work.count(model)
    field, threads = render_field(1, "Pre"), machine_peaks["threads"]
    profile = profiles.profile_onnx if model.format == "onnx" else profiles.profile_tflite
    spent = profile(model.data, field, threads, runs)
    rows: list[dict[str, Any]] = []
    for kind in work.KINDS:
        done = counted.get(kind, work.Work())
        executed, ms = spent.get(kind, (0, 0.0))
        if not executed and not done.operators:
            continue
        least = least_ms(done, machine_peaks)
        rows.append(
            {
                "kind": kind,
                "operators": done.operators,
                "executed": executed,
                "million_macs": round((done.int8_macs + done.float_macs) / 1e6, 2),
                "megabytes": round(done.bytes / 1e6, 2),
                "ms": round(float(ms), 3),
                "least_ms": round(least, 3),
                "share": round(least / ms, 3) if ms else None,
            }
        )
    whole = work.total(counted)
    ms = sum(row["ms"] for row in rows)
    least = sum(row["least_ms"] for row in rows)
    return {
        "model": Path(path).name,
        "sha256": model.sha256,
        "int8_macs": whole.int8_macs,
        "float_macs": whole.float_macs,
        "bytes": whole.bytes,
        "ms": round(ms, 3),
        "least_ms": round(least, 3),
        "share": round(least / ms, 3),
        "rows": rows,
    }


def markdown(result: dict[str, Any]) -> str:
    """Tables for people: one row for each kind, the models side by side."""
    found, models = result["peaks"], result["models"]
    copies = ", ".join(f"{name}: {value:.0f}" for name, value in found["gbytes"].items())
    parts = [
        f"Measured on {found['threads']} thread{'s' * (found['threads'] > 1)}: "
        f"{found['gmacs']['int8']:.0f} billion int8 and {found['gmacs']['float32']:.0f} billion "
        f"float32 multiply-adds a second; copies on one thread (GB/s, reads and writes) {copies}."
    ]
    lines = [
        "| model | int8 multiply-adds | float32 multiply-adds | MB moved | ms | least ms | share |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {m['model']} | {m['int8_macs'] / 1e6:.1f} M | {m['float_macs'] / 1e6:.1f} M "
        f"| {m['bytes'] / 1e6:.1f} | {m['ms']:.2f} | {m['least_ms']:.2f} "
        f"| **{100 * m['share']:.0f} %** |"
        for m in models
    ]
    parts.append("\n".join(lines))
    lines = [
        "| kind, ms (least ms, share) | " + " | ".join(m["model"] for m in models) + " |",
        "|---" * (len(models) + 1) + "|",
    ]
    for kind in work.KINDS:
        cells = []
        for model in models:
            row = next((r for r in model["rows"] if r["kind"] == kind), None)
            if row is None:
                cells.append("-")
            else:
                share = "-" if row["share"] is None else f"{100 * row['share']:.0f} %"
                cells.append(f"{row['ms']:.2f} ({row['least_ms']:.2f}, {share})")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    parts.append("\n".join(lines))
    return "\n\n".join(parts)


def chart(result: dict[str, Any], path: Path) -> None:
    """Draw time and least time by kind for every model as a PNG.

    Raises:
        UsageError: ``matplotlib_missing``.
    """
    models = result["models"]
    figure, axes = panels(len(models), 1 + 2.4 * len(models), shared=True)
    for axis, model in zip(axes, models, strict=True):
        rows = [row for row in model["rows"] if row["ms"] >= 0.01]
        bars(
            axis,
            f"{model['model']}: {model['ms']:.2f} ms",
            [row["kind"] for row in rows],
            ("measured", [row["ms"] for row in rows]),
            ("least on this machine", [row["least_ms"] for row in rows]),
        )
    save(figure, axes, "milliseconds of one field", path)


def main(arguments: list[str]) -> int:
    """Run the program; returns 0, or 2 with one line on stderr."""
    parser = program.parser_of("limit", __doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="[%(default)s]")
    parser.add_argument("--chart", metavar="OUT.png", help="draw a chart (needs matplotlib)")
    args = parser.parse_args(arguments)

    def measured() -> program.Result:
        if args.chart is not None:
            need_matplotlib()
        found = peaks.measure(args.threads)
        return {
            "schema": SCHEMA,
            "machine": machine.describe(),
            "peaks": found,
            "models": [measure(path, found) for path in args.models],
        }

    def drawn(result: program.Result) -> None:
        if args.chart is not None:
            chart(result, Path(args.chart))

    code: int = program.finish("limit", measured, markdown, args.json, drawn)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
