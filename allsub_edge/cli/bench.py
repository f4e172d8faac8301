"""``allsub-edge bench``: how fast is this on the machine at hand, and which model is faster?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from allsub_edge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

HELP: Final[str] = """\
Measure model files on this machine; without a file, the shipped model.

For each model: what starting costs in a process of its own (imports, opening, first answer, peak
memory), the steady state (p50, p90, p99; p90 is the headline), each stage apart, batches and
threads; on 224 px fields and on 12-megapixel camera JPEGs, all rendered. Several models take turns,
A B A B, and their ratio is told pair by pair with its 95 % interval, so that a machine that gets
slower meanwhile does not decide.

  allsub-edge bench                                    the shipped model, about a minute
  allsub-edge bench old.onnx new.onnx --json now.json  which one is faster?
  allsub-edge bench --compare then.json --fail-over 10 exit 1 if p90 grew by more than 10 %
  allsub-edge bench --reference                        against the published way (extra: train)

Exit code: 0 done, 1 slower than --fail-over allows, 2 nothing was measured.
"""


def _numbers(text: str) -> tuple[int, ...]:
    try:
        values = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        values = ()
    if not values or not all(1 <= value <= 256 for value in values):
        raise argparse.ArgumentTypeError(f"must be whole numbers of 1 to 256, as in 1,2: {text!r}")
    return values


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"must be a number above 0, at most 3600, not {text!r}")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bench``."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: the shipped model")
    parser.add_argument(
        "--seconds",
        type=_positive,
        default=3.0,
        metavar="S",
        help="least measured time for each model and workload [%(default)s]",
    )
    parser.add_argument(
        "--count",
        type=_count,
        default=100,
        metavar="N",
        help="least number of fields for each model and workload [%(default)s]",
    )
    parser.add_argument(
        "--threads",
        type=_numbers,
        metavar="N,...",
        help="threads to compare; the first is used for everything else "
        "[the usable cores, and 1 beside them]",
    )
    parser.add_argument(
        "--batch", type=_numbers, default=(1, 8), metavar="N,...", help="batch sizes [1,8]"
    )
    parser.add_argument(
        "--fields",
        choices=("both", "field224", "camera12mp"),
        default="both",
        help="what to read: 224 px fields, 12-megapixel JPEGs [both]",
    )
    parser.add_argument(
        "--reference",
        action="store_true",
        help="also measure the published way in Keras and the obvious way in float32",
    )
    parser.add_argument(
        "--float-model",
        metavar="FILE",
        help="float32 ONNX file whose network the obvious way runs [the shipped one]",
    )
    parser.add_argument(
        "--densenet",
        metavar="FILE",
        help="also measure this DenseNet201 in int8, made by "
        "python -m allsub_edge.benchmarks.densenet_int8 FILE",
    )
    parser.add_argument("--json", metavar="OUT", help="write the result here")
    parser.add_argument("--markdown", metavar="OUT", help="write the tables here [stdout]")
    parser.add_argument("--chart", metavar="OUT.png", help="draw a chart (needs matplotlib)")
    parser.add_argument("--compare", metavar="OLD.json", help="an earlier --json to compare with")
    parser.add_argument(
        "--fail-over",
        type=_positive,
        metavar="PERCENT",
        help="with --compare: exit 1 if a model's p90 grew by more than this",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def _plan(args: argparse.Namespace) -> Any:
    from allsub_edge import models
    from allsub_edge.benchmarks.suite import Plan
    from allsub_edge.engines.base import default_threads

    paths = tuple(Path(name) for name in args.models) or (models.default_path(),)
    threads = args.threads or tuple(dict.fromkeys((default_threads(), 1)))
    references = []
    if args.reference:
        plain = Path(args.float_model) if args.float_model else _float_beside(models.default_path())
        references += [f"obvious:{plain}", "published"]
    if args.densenet:
        references.append(f"densenet:{args.densenet}")
    kinds = ("field224", "camera12mp") if args.fields == "both" else (args.fields,)
    return Plan(
        models=paths,
        seconds=args.seconds,
        count=args.count,
        threads=threads,
        batches=args.batch,
        workloads=kinds,
        references=tuple(references),
    )


def _float_beside(path: Path) -> Path:
    found = path.with_name(path.name.replace("int8", "float32"))
    if not found.is_file():
        raise UsageError(
            "no_float_model", "no float32 model is shipped here: name one with --float-model FILE"
        )
    return found


def run(args: argparse.Namespace) -> int:
    """Measure, write, compare.

    Raises:
        UsageError, ModelFileError, DataError: before the first measurement.
    """
    from allsub_edge.atomic import write_text
    from allsub_edge.benchmarks import compare, suite, table
    from allsub_edge.benchmarks.chart import need_matplotlib
    from allsub_edge.cli.formats import dump

    if args.fail_over is not None and args.compare is None:
        raise UsageError("usage", "--fail-over needs an earlier result: --compare OLD.json")
    old = None if args.compare is None else compare.load(Path(args.compare))
    if args.chart is not None:
        need_matplotlib()
    say = (lambda line: None) if args.quiet else suite.say_to_stderr
    result = suite.run(_plan(args), say)
    if not args.quiet and sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    text = table.markdown(result)
    if args.json is not None:
        write_text(args.json, dump(result) + "\n")
    if args.markdown is not None:
        write_text(args.markdown, text)
    else:
        print(text, end="")
    if args.chart is not None:
        table.chart(result, Path(args.chart))
    return 0 if old is None else _compared(old, result, args.fail_over)


def _compared(old: Mapping[str, Any], new: Mapping[str, Any], fail_over: float | None) -> int:
    from allsub_edge.benchmarks import compare

    for line in compare.warnings(old, new):
        print(f"allsub-edge: note: {line}", file=sys.stderr)
    found = compare.changes(old, new)
    if not found:
        raise UsageError("nothing_to_compare", "no model of that name is in the earlier result")
    slow = False
    for change in found:
        over = fail_over is not None and not change["reference"] and change["percent"] > fail_over
        slow = slow or over
        print(
            f"{'SLOWER' if over else 'ok':<6}  {change['workload']:<10}  {change['name']}: "
            f"p90 {change['old_p90_ms']:.2f} ms -> {change['new_p90_ms']:.2f} ms, "
            f"{change['percent']:+.1f} %"
        )
    return 1 if slow else 0
