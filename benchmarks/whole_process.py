"""Whole processes against each other: ``allsub-edge infer`` and the published way.

    python -m allsub_edge.benchmarks.whole_process FOLDER [--fields 500] [--model FILE]

Both read the same files, one after the other, each from process start to process exit. Ours runs
twice, before and after the reference, so that a machine that gets slower or faster shows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from allsub_edge.benchmarks.program import surroundings


def timed(command: list[str], expected_lines: int) -> float:
    """Wall seconds of one process; the process must answer every field."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, env=surroundings(), text=True)
    spent = time.perf_counter() - started
    lines = len(done.stdout.splitlines())
    if done.returncode or lines != expected_lines:
        raise SystemExit(
            f"{' '.join(command[:5])} ...: exit {done.returncode}, {lines} of {expected_lines} "
            f"fields answered\n{done.stderr[-2000:]}"
        )
    return spent


def main() -> int:
    """Measure and print one JSON object."""
    from allsub_edge.sources.paths import expand

    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", help="folder with fields")
    parser.add_argument("--fields", type=int, default=500, help="how many of them [%(default)s]")
    parser.add_argument("--model", help="model file; default: the shipped one")
    args = parser.parse_args()
    found = [str(item.path.resolve()) for item in expand([args.folder]) if item.path is not None]
    step = max(1, len(found) // args.fields)
    chosen = found[::step][: args.fields]
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(chosen):
            (Path(folder) / f"{number:05d}{Path(path).suffix}").symlink_to(path)
        ours = [sys.executable, "-m", "allsub_edge", "infer", folder, "--format", "ndjson"]
        if args.model:
            ours += ["--model", args.model]
        published = [sys.executable, "-m", "allsub_edge.benchmarks.published_way", *chosen]
        before = timed(ours, len(chosen))
        reference = timed(published, len(chosen))
        after = timed(ours, len(chosen))
    slower = max(before, after)
    print(
        json.dumps(
            {
                "fields": len(chosen),
                "allsub_edge_infer_s": [round(before, 2), round(after, 2)],
                "published_way_s": round(reference, 2),
                "ratio_against_our_slower_run": round(reference / slower, 1),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
