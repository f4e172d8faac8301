"""What a shell script pays: ``allsub-edge infer`` on one field, from process start to exit.

    python -m allsub_edge.benchmarks.starting MODEL... [--runs 15] [--cold 5] [--json OUT.json]

Beside the models, the interpreter alone and ``allsub-edge --help`` are started. All take turns.
Processor time is the kernel's own count for the finished process, peak memory its count a few
milliseconds before the end. For each model one more process tells how long its imports took,
package by package (``-X importtime``).

A few runs are cold, as the first one after the board was switched on: before each, the kernel is
asked to forget what it keeps in memory of the environment's files. What is read from the disk then
is what a memory card must deliver. Files that another running program has open stay in memory, so
the environment must not be in use.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from allsub_edge.benchmarks import machine, program
from allsub_edge.benchmarks.sampling import percentile
from allsub_edge.errors import UsageError

SCHEMA: Final[str] = "allsub-edge/starting/2"

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
    """Run a process; wall and processor milliseconds, peak memory and what it read, in MB.

    Raises:
        UsageError: ``cannot_start``, it ended with something other than 0.
    """
    with tempfile.TemporaryFile() as words:
        started = perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
            env=program.surroundings(),
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
        "read_mb": usage.ru_inblock * 512 / 1e6,
    }


def _field(folder: str) -> str:
    """Write a field and return its path.

    In a process of its own: the kernel keeps what a process has mapped, and this one must have
    mapped neither numpy nor OpenCV when it asks to forget them.
    """
    code = (
        "import sys, pathlib; from allsub_edge.benchmarks import workload; "
        "print(workload.write(pathlib.Path(sys.argv[1]), 'field224', 1)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def forget(paths: list[Path]) -> None:
    """Ask the kernel to drop what it keeps in memory of the files below ``paths``."""
    files = [
        file
        for path in paths
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file() and not file.is_symlink()
    ]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def environment() -> list[Path]:
    """Folders and files that an interpreter of this environment reads from."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {Path(sysconfig.get_path(name)).resolve() for name in names}
    library = Path(sysconfig.get_config_var("LIBDIR") or "/")
    shared = library / str(sysconfig.get_config_var("INSTSONAME") or "")
    return sorted(folders) + ([shared.resolve()] if shared.is_file() else [])


def imports(command: list[str]) -> dict[str, float]:
    """Milliseconds that each of :data:`PACKAGES`, and Python's library, took to import.

    Args:
        command: begins with the interpreter, whose ``-X importtime`` writes to stderr.
    """
    traced = [command[0], "-X", "importtime", *command[1:]]
    done = subprocess.run(
        traced, capture_output=True, env=program.surroundings(), text=True, timeout=120, check=True
    )
    found = dict.fromkeys((*PACKAGES, "standard library"), 0.0)
    for line in done.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").partition("|")[0], 0, line.rsplit("|")[-1]
        if not line.startswith("import time:") or not own.strip().isdigit():
            continue
        package = name.strip().partition(".")[0]
        found[package if package in found else "standard library"] += int(own) / 1000
    return {name: round(value, 1) for name, value in found.items() if value}


def measure(models: list[str], runs: int, cold: int = 0) -> dict[str, Any]:
    """Start everything ``runs`` times, in turns, and each model ``cold`` times from the disk.

    Raises:
        UsageError: a process failed.
    """
    base = [sys.executable, "-m", "allsub_edge"]
    with tempfile.TemporaryDirectory() as folder:
        field = _field(folder)
        infer = {Path(m).name: [*base, "infer", field, "--model", m, "--quiet"] for m in models}
        commands = {"python -c pass": [sys.executable, "-c", "pass"]}
        commands |= {"allsub-edge --help": [*base, "--help"], **infer}
        samples: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for number in range(runs + 1):
            for name, command in commands.items():
                found = one(command)
                if number:  # the first round fills the file cache
                    samples[name].append(found)
        from_disk: dict[str, list[dict[str, float]]] = {name: [] for name in infer}
        for _ in range(cold):
            for name, command in infer.items():
                forget([*environment(), *map(Path, models)])
                from_disk[name].append(one(command))
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
            "cold": _cold(from_disk.get(name)),
            "imports_ms": traced.get(name),
        }
        for name, found in samples.items()
    ]
    return {"schema": SCHEMA, "machine": machine.describe(), "rows": rows}


def _cold(found: list[dict[str, float]] | None) -> dict[str, float] | None:
    if not found:
        return None
    return {
        "runs": len(found),
        "wall_ms_p50": round(percentile([f["wall_ms"] for f in found], 50), 1),
        "read_mb_p50": round(percentile([f["read_mb"] for f in found], 50), 1),
    }


def markdown(result: dict[str, Any]) -> str:
    """Tables for people."""
    lines = [
        "| process | wall p50 ms | p90 | processor p50 ms | peak MB | from disk p50 ms | MB read |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['name']} | **{r['wall_ms_p50']:.0f}** | {r['wall_ms_p90']:.0f} "
        f"| {r['cpu_ms_p50']:.0f} | {r['peak_mb']:.0f} | "
        + (
            f"{r['cold']['wall_ms_p50']:.0f} | {r['cold']['read_mb_p50']:.0f} |"
            if r["cold"]
            else "- | - |"
        )
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
    parser.add_argument(
        "--cold", type=int, default=5, metavar="N", help="runs from the disk; 0: none [%(default)s]"
    )
    args = parser.parse_args(arguments)
    if not hasattr(os, "posix_fadvise"):
        args.cold = 0
    code: int = program.finish(
        "starting",
        lambda: measure(
            args.models or [str(models.default_path())], max(1, args.runs), max(0, args.cold)
        ),
        markdown,
        args.json,
    )
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
