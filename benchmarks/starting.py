"""What a shell script pays: ``allsub-edge infer`` on one field, from process start to exit.

    python -m allsub_edge.benchmarks.starting MODEL... [--runs 15] [--json OUT.json]

Beside the models, the interpreter alone and ``allsub-edge --help`` are started. All take turns.
Processor time is the kernel's own count for the finished process, peak memory its count a few
milliseconds before the end. For each model one more process tells how long its imports took,
package by package (``-X importtime``).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from allsub_edge.benchmarks import machine, program, workload
from allsub_edge.benchmarks.sampling import percentile
from allsub_edge.errors import UsageError

SCHEMA: Final[str] = "allsub-edge/starting/1"

PACKAGES: Final[tuple[str, ...]] = (
    *("numpy", "cv2", "onnxruntime", "ai_edge_litert", "tflite_runtime", "allsub_edge"),
)
"""Whose imports are told apart; the rest is Python's own library."""


def _peak_mb(pid: int) -> float:
    """Peak resident memory of a running process so far, in MB; 0.0 where it is not told."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    found = [line for line in text.splitlines() if line.startswith("VmHWM")]
    return int(found[0].split()[1]) / 1024 if found else 0.0


def one(command: list[str]) -> dict[str, float]:
    """Run a process; wall and processor milliseconds, and peak memory in MB.

    Raises:
        UsageError: ``cannot_start``, it ended with something other than 0.
    """
    with tempfile.TemporaryFile() as words:
        started = perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=words
        )
        peak, pid = 0.0, 0
        while pid == 0:
            # Not ru_maxrss, which begins with what this process held at the fork.
            peak = max(peak, _peak_mb(process.pid))
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid == 0:
                time.sleep(0.004)
        wall = perf_counter() - started
        words.seek(0)
        told = words.read().decode(errors="replace").strip().splitlines() or ["no message"]
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UsageError("cannot_start", f"{' '.join(command[1:5])} ...: {told[-1]}")
    return {
        "wall_ms": 1000 * wall,
        "cpu_ms": 1000 * (usage.ru_utime + usage.ru_stime),
        "peak_mb": peak,
    }


def imports(command: list[str]) -> dict[str, float]:
    """Milliseconds that each of :data:`PACKAGES`, and Python's library, took to import.

    Args:
        command: begins with the interpreter, whose ``-X importtime`` writes to stderr.
    """
    traced = [command[0], "-X", "importtime", *command[1:]]
    done = subprocess.run(traced, capture_output=True, text=True, timeout=120, check=True)
    found = dict.fromkeys((*PACKAGES, "standard library"), 0.0)
    for line in done.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").partition("|")[0], 0, line.rsplit("|")[-1]
        if not line.startswith("import time:") or not own.strip().isdigit():
            continue
        package = name.strip().partition(".")[0]
        found[package if package in found else "standard library"] += int(own) / 1000
    return {name: round(value, 1) for name, value in found.items() if value}


def measure(models: list[str], runs: int) -> dict[str, Any]:
    """Start everything ``runs`` times, in turns.

    Raises:
        UsageError: a process failed.
    """
    base = [sys.executable, "-m", "allsub_edge"]
    with tempfile.TemporaryDirectory() as folder:
        field = str(workload.write(Path(folder), "field224", 1)[0])
        infer = {Path(m).name: [*base, "infer", field, "--model", m, "--quiet"] for m in models}
        commands = {"python -c pass": [sys.executable, "-c", "pass"]}
        commands |= {"allsub-edge --help": [*base, "--help"], **infer}
        samples: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for number in range(runs + 1):
            for name, command in commands.items():
                found = one(command)
                if number:  # the first round fills the file cache
                    samples[name].append(found)
        traced = {name: imports(command) for name, command in infer.items()}
    rows = [
        {
            "name": name,
            "runs": len(found),
            **{
                f"{key}_{word}": round(percentile([f[key] for f in found], percent), 1)
                for key in ("wall_ms", "cpu_ms")
                for word, percent in (("p50", 50), ("p90", 90))
            },
            "peak_mb": round(max(f["peak_mb"] for f in found), 1),
            "imports_ms": traced.get(name),
        }
        for name, found in samples.items()
    ]
    return {"schema": SCHEMA, "machine": machine.describe(), "rows": rows}


def markdown(result: dict[str, Any]) -> str:
    """Tables for people."""
    lines = [
        "| process | wall p50 ms | p90 | processor p50 ms | peak MB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['name']} | **{r['wall_ms_p50']:.0f}** | {r['wall_ms_p90']:.0f} "
        f"| {r['cpu_ms_p50']:.0f} | {r['peak_mb']:.0f} |"
        for r in result["rows"]
    ]
    traced = [row for row in result["rows"] if row["imports_ms"]]
    names = list(dict.fromkeys(name for row in traced for name in row["imports_ms"]))
    lines += ["", "| imports, ms | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in traced:
        cells = (f"{row['imports_ms'][n]:.0f}" if n in row["imports_ms"] else "-" for n in names)
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run the program; returns 0, or 2 with one line on stderr."""
    from allsub_edge import models

    parser = program.parser_of("starting", __doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: the shipped one")
    parser.add_argument("--runs", type=int, default=15, metavar="N", help="[%(default)s]")
    args = parser.parse_args(arguments)
    code: int = program.finish(
        "starting",
        lambda: measure(args.models or [str(models.default_path())], max(1, args.runs)),
        markdown,
        args.json,
    )
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
