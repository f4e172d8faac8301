"""A process of its own for one contender: what starting costs, and how much memory it takes.

    python -m allsub_edge.benchmarks.fresh WORD FIELD [THREADS]

Prints one JSON object: seconds from the interpreter's start to the end of the imports, to open the
contender, and for the first answers one by one; and the peak memory in MB.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from allsub_edge.errors import UsageError

FIRST_ANSWERS: Final[int] = 6
"""So many answers are noted one by one, to show the warm-up."""

TIMEOUT: Final[float] = 300.0
"""Keras needs 10 s on a small machine; this is for a machine that is about to give up."""


def since_start() -> float:
    """Seconds since this process began (Linux; 0.0 elsewhere)."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except OSError:
        return 0.0
    # Field 22 of the file, the 20th behind the name: start time in clock ticks since boot.
    return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def peak_mb() -> float:
    """Peak resident memory of this process in MB (2^20 bytes)."""
    try:
        # Not getrusage, which begins with what the parent held at the fork.
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main(arguments: list[str]) -> int:
    """Measure this process; see the module's text."""
    began = since_start()
    # perf_counter counts from the import of the first line on; the clock ticks are 10 ms coarse.
    zero = time.perf_counter()
    from allsub_edge.benchmarks.contenders import open_contender

    word, path = arguments[0], Path(arguments[1])
    threads = int(arguments[2]) if len(arguments) > 2 else None
    if word.startswith("ours:"):
        import allsub_edge.classifier  # noqa: F401
    imported = time.perf_counter()
    contender = open_contender(word, threads)
    opened = time.perf_counter()
    data = path.read_bytes()
    answers = []
    for _ in range(FIRST_ANSWERS):
        started = time.perf_counter()
        contender.answer(data)
        answers.append(1000 * (time.perf_counter() - started))
    found = {
        "import_ms": round(1000 * (began + imported - zero), 2),
        "open_ms": round(1000 * (opened - imported), 2),
        "answers_ms": [round(value, 3) for value in answers],
        "peak_mb": round(peak_mb(), 1),
    }
    print(json.dumps(found), flush=True)
    return 0


def measure(word: str, field: Path, threads: int | None, runs: int = 3) -> dict[str, Any]:
    """Start the contender ``runs`` times and give the medians, plus the largest memory.

    Raises:
        UsageError: ``contender_failed``; the message ends with the process's last line.
    """
    # Not above: a contender's own process must not pay for it.
    from allsub_edge.benchmarks.program import surroundings

    results = []
    command = [sys.executable, "-m", "allsub_edge.benchmarks.fresh", word, str(field)]
    if threads is not None:
        command.append(str(threads))
    for _ in range(runs):
        done = subprocess.run(
            command,
            capture_output=True,
            env=surroundings(),
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UsageError("contender_failed", f"{word}: cannot be measured: {last}")
        results.append(json.loads(done.stdout.splitlines()[-1]))

    def middle(values: list[float]) -> float:
        return sorted(values)[len(values) // 2]

    answers = [[r["answers_ms"][i] for r in results] for i in range(FIRST_ANSWERS)]
    return {
        "runs": runs,
        "import_ms": middle([r["import_ms"] for r in results]),
        "open_ms": middle([r["open_ms"] for r in results]),
        "first_answer_ms": middle(answers[0]),
        "warm_up_ms": [middle(values) for values in answers],
        "peak_mb": max(r["peak_mb"] for r in results),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
