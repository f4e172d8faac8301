"""Cost as work grows: ``infer`` on 1, 100 and 10 000 fields, by one process and by several.

    python -m allsub_edge.benchmarks.growth [--model FILE] [--counts 1,100,10000] [--workers 1,2]

A folder of links to eight rendered fields is read; the time is that of the whole process, start
included, and the memory the largest sum of what the process and its workers held at once (their
own pages, PSS: what they share is counted once). With several workers the records are compared
with those of one process: same order, same answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from allsub_edge.benchmarks import machine, program, workload
from allsub_edge.errors import UsageError

SCHEMA: Final[str] = "allsub-edge/growth/1"


def _tree(pid: int) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        for path in Path(f"/proc/{found[-1]}/task").glob("*/children"):
            try:
                waiting += map(int, path.read_text(encoding="ascii").split())
            except OSError:
                continue
    return found


def memory_mb(pid: int) -> float:
    """Proportional set size of a process and all below it, in MB; 0.0 where it is not told."""
    kilobytes = 0
    for member in _tree(pid):
        try:
            text = Path(f"/proc/{member}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        kilobytes += sum(int(s.split()[1]) for s in text.splitlines() if s.startswith("Pss:"))
    return kilobytes / 1024


def run(command: list[str], out: Path) -> dict[str, float]:
    """Run ``infer`` to its end; whole seconds and largest memory.

    Raises:
        UsageError: ``infer_failed``.
    """
    started = time.perf_counter()
    with out.open("wb") as target:
        process = subprocess.Popen(
            command, stdout=target, stderr=subprocess.PIPE, env=program.surroundings()
        )
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, memory_mb(process.pid))
            # What is short slips through longer pauses; later a look costs more than it tells.
            pause = 0.01 if time.perf_counter() - started < 3 else 0.25
            try:
                process.wait(pause)
            except subprocess.TimeoutExpired:
                continue
        spent = time.perf_counter() - started
    if process.returncode:
        words = process.stderr.read().decode(errors="replace") if process.stderr else ""
        raise UsageError("infer_failed", f"infer ended with {process.returncode}: {words[-300:]}")
    return {"seconds": round(spent, 3), "peak_mb": round(peak, 1)}


def _answers(path: Path) -> list[tuple[Any, ...]]:
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        r = json.loads(line)
        found.append((r["source"], r["status"], r["label"], tuple(r["probabilities"].values())))
    return found


def measure(model: str | None, counts: list[int], workers: list[int]) -> dict[str, Any]:
    """Measure every count with every number of workers.

    Raises:
        UsageError: a run failed, or several workers gave other records than one.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = workload.write(Path(folder), "field224", 8)
        for count in counts:
            fields = Path(folder) / f"fields-{count}"
            fields.mkdir()
            for number in range(count):
                (fields / f"{number:06d}.jpg").symlink_to(files[number % len(files)])
            base = [sys.executable, "-m", "allsub_edge", "infer", str(fields), "--quiet"]
            base += ["--format", "ndjson", *(["--model", model] if model else [])]
            first: list[tuple[Any, ...]] | None = None
            for number in workers:
                out = Path(folder) / f"{count}-{number}.ndjson"
                extra = ["--workers", str(number), "--threads", "1"]
                found = run([*base, *extra], out)
                answers = _answers(out)
                first = first or answers
                if answers != first:
                    raise UsageError("records_differ", f"{number} workers gave other records")
                each = 1000 * found["seconds"] / count
                rows.append(
                    {"fields": count, "workers": number, **found, "ms_a_field": round(each, 2)}
                )
                print(f"{count} fields, {number} workers: {found['seconds']} s", file=sys.stderr)
    return {"schema": SCHEMA, "machine": machine.describe(), "rows": rows}


def markdown(result: dict[str, Any]) -> str:
    """A table for people."""
    lines = ["| fields | workers | seconds | ms a field | peak MB |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['fields']} | {r['workers']} | {r['seconds']:.2f} | {r['ms_a_field']:.2f} "
        f"| {r['peak_mb']:.0f} |"
        for r in result["rows"]
    ]
    return "\n".join(lines)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(arguments: list[str]) -> int:
    """Run the program; returns 0, or 2 with one line on stderr."""
    parser = program.parser_of("growth", __doc__)
    parser.add_argument("--model", metavar="FILE", help="default: the shipped one")
    parser.add_argument("--counts", type=_numbers, default=[1, 100, 10_000], metavar="N,...")
    parser.add_argument("--workers", type=_numbers, default=[1, 2], metavar="N,...")
    args = parser.parse_args(arguments)
    code: int = program.finish(
        "growth", lambda: measure(args.model, args.counts, args.workers), markdown, args.json
    )
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
