"""Latency and peak memory of one model file, in a process that has nothing else in it.

    python -m allsub_edge.export.measure FILE... [--threads 1] [--seconds 3]

The process loads the file as a device does and answers one rendered field over and over. Peak
memory is the high-water mark of its resident set, Python and libraries included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

MIN_RUNS: Final = 5
MAX_RUNS: Final = 300
LIMIT_S: Final = 300
"""A process that takes longer to measure a file is ended."""


def peak_mib() -> float | None:
    """Peak resident memory of this process in MiB; None where the system does not tell.

    Linux alone: ``ru_maxrss`` would count the parent's memory, from before ``exec``.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return round(int(found[0]) / 1024, 1) if found else None


def measure_here(path: str, threads: int, seconds: float) -> dict[str, Any]:
    """Measure in this process; see :func:`measure`."""
    from allsub_edge.engines import open_engine
    from allsub_edge.imaging.render import render_field
    from allsub_edge.model_file.container import read

    engine = open_engine(read(path), threads=threads)
    field = render_field(1, "Pre")[None]
    engine.run(field)
    spent: list[float] = []
    began = perf_counter()
    while len(spent) < MIN_RUNS or (perf_counter() - began < seconds and len(spent) < MAX_RUNS):
        started = perf_counter()
        engine.run(field)
        spent.append(1000 * (perf_counter() - started))
    return {
        "file": Path(path).name,
        "engine": f"{engine.name} {engine.version}",
        "threads": engine.threads,
        "runs": len(spent),
        "p50_ms": round(statistics.median(spent), 2),
        "peak_mib": peak_mib(),
    }


def measure(path: Path, threads: int = 1, seconds: float = 2.0) -> dict[str, Any]:
    """Measure a sealed model file in a fresh process.

    Args:
        path: the file.
        threads: that the engine gets.
        seconds: how long to repeat, at most 300 times; 5 runs are made in any case.

    Returns:
        ``file``, ``engine``, ``threads``, ``runs``, ``p50_ms``, ``peak_mib`` (None off Linux).

    Raises:
        RuntimeError: the process failed or took longer than 300 s; the message is its last line.
    """
    command = [sys.executable, "-m", "allsub_edge.export.measure", str(path)]
    command += ["--threads", str(threads), "--seconds", str(seconds)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, env={**os.environ}
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{path.name}: not measured within {LIMIT_S} s") from error
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"{path.name}: {last}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print one JSON object for each file; each is measured in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--threads", type=int, default=1, help="threads of the engine [1]")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each file [3]")
    args = parser.parse_args(argv)
    for path in args.files:
        if len(args.files) == 1:
            found = measure_here(str(path), args.threads, args.seconds)
        else:
            found = measure(path, args.threads, args.seconds)
        print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
