"""``allsub-edge compare``: several evaluations side by side, with tests for their differences."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

HELP: Final[str] = """\
Compare evaluated runs and model files: one table, one plot, McNemar's exact test for each pair.

Give run folders that allsub-edge evaluate was called on, model files whose report lies in
NAME-evaluation here, or folders that evaluate wrote. All must have been evaluated on the same
fields; anything else is refused, because then a difference may be one of the fields.

Latency is measured now, one field at a time on one thread, all subjects in turns; a run is
converted to float32 ONNX for it (extra: export). --no-latency leaves that out.
"""

_EPILOG: Final[str] = """\
examples:
  allsub-edge compare runs/first runs/second -o comparison
  allsub-edge compare runs/* --no-latency -o comparison
  allsub-edge compare runs/first models/allsub-1-int8.onnx -o comparison
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``compare``."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="RUN", help="evaluated runs, model files or reports"
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("comparison"),
        metavar="FOLDER",
        help="where comparison.html, .md and .json go [%(default)s]",
    )
    parser.add_argument("--no-latency", action="store_true", help="measure no times")


def run(args: argparse.Namespace) -> int:
    """Compare and write; returns 0.

    Raises:
        UsageError: fewer than two, a wrong option, or the extra ``train`` is not installed.
        DataError: a report is missing, stale or of other fields.
    """
    from allsub_edge.cli.evaluate import Bar, need_extra
    from allsub_edge.errors import UsageError

    need_extra(())
    if args.out.exists() and not args.out.is_dir():
        raise UsageError("usage", f"{args.out}: is a file; give a folder for --out")
    from allsub_edge.evaluation import compare_page
    from allsub_edge.evaluation.compare import compare
    from allsub_edge.evaluation.output import write_together

    with Bar() as bar:
        found = compare(args.paths, timed=not args.no_latency, say=bar.say)
    # What each subject said of each field stands in its own report.
    kept = {
        name: {key: value for key, value in report.items() if key != "fields"}
        for name, report in found["reports"].items()
    }
    texts = {
        "comparison.html": compare_page.page(found),
        "comparison.md": compare_page.markdown(found),
        "comparison.json": json.dumps({**found, "reports": kept}, indent=1, allow_nan=False) + "\n",
    }
    write_together(args.out, texts)
    for row in compare_page.main_rows(found):
        print(f"{row[0]:<24} accuracy {row[2]}, ALL called Benign {row[3]}, {row[7]}, {row[8]} ms")
    for row in compare_page.pair_rows(found):
        print(f"{row[0]}: {row[3]} points, McNemar p {row[4]}, after Holm {row[5]}")
    print(found["notice"])
    print(f"report: {args.out / 'comparison.html'}")
    return 0
