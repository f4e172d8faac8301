"""``allsub-edge evaluate``: what a run or a model file is worth, and what breaks it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from allsub_edge.errors import UsageError

if TYPE_CHECKING:
    from allsub_edge.evaluation.evaluate import Progress

HELP: Final[str] = """\
Measure a run or a model file on labelled fields and write a report that people can judge.

SUBJECT is a run folder (evaluated by Keras) or an .onnx or .tflite file (evaluated as a device
runs it). DIR holds the class folders Benign, Early, Pre and Pro, or has them under Original/.
A run is evaluated on the test role of its own split; images are recognised by their content, so
fields that it learned from never count as new ones. A model file needs --split for that: its
manifest names the hash of the split that it was trained with.

The report tells accuracy, sensitivity, specificity, AUROC and calibration with Wilson and
group-bootstrap intervals, what a classifier reaches that sees no cell, what each channel carries,
how answers hold under changed colour, focus, files, geometry and transplanted backgrounds, and
shows the worst mistakes. It is written as report.html (one file, opens anywhere), report.md and
report.json (what compare reads).
"""

_EPILOG: Final[str] = """\
examples:
  allsub-edge evaluate runs/first smears
  allsub-edge evaluate runs/first smears --quick              a third of the robustness grid
  allsub-edge evaluate models/allsub-1-int8.onnx smears --split runs/first/split.csv
  allsub-edge evaluate models/allsub-1-int8.onnx other-laboratory -o reports/other
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``evaluate``."""
    parser.epilog = _EPILOG
    parser.add_argument("subject", type=Path, metavar="RUN|MODEL", help="what is evaluated")
    parser.add_argument("data", type=Path, metavar="DIR", help="labelled fields")
    parser.add_argument(
        "--split", type=Path, metavar="CSV", help="who played which role [the run's own]"
    )
    parser.add_argument(
        "--role",
        metavar="ROLE",
        help="test, train, validation, calibration or all; anything but test is marked as not new "
        "[test where there is a split]",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where the report goes [RUN/evaluation, or MODEL-evaluation here]",
    )
    parser.add_argument("--quick", action="store_true", help="a third of the robustness grid")
    parser.add_argument(
        "--no-pictures", action="store_true", help="leave the fields out of the page"
    )
    parser.add_argument(
        "--resamples", type=_positive, default=2000, metavar="N", help="of the bootstrap [2000]"
    )
    parser.add_argument(
        "--seed", type=_seed, default=20251, metavar="N", help="of the bootstrap [20251]"
    )
    parser.add_argument("--engine", metavar="NAME", help="for a model file")
    parser.add_argument("--threads", type=_positive, metavar="N", help="for a model file")


def run(args: argparse.Namespace) -> int:
    """Evaluate and write; returns 0.

    Raises:
        UsageError: a wrong option, or the extra ``train`` is not installed.
        DataError, ModelFileError: the data, the split, the run or the model is not usable.
    """
    need_extra(("tensorflow", "keras") if args.subject.is_dir() else ())
    out = args.out
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError("usage", f"{out}: is a file; give a folder for --out")
    from allsub_edge.evaluation import output
    from allsub_edge.evaluation.evaluate import evaluate
    from allsub_edge.evaluation.subject import open_subject

    subject = open_subject(args.subject, engine=args.engine, threads=args.threads)
    with Bar() as bar:
        found = evaluate(
            subject,
            args.data,
            split_file=args.split,
            role=args.role,
            quick=args.quick,
            resamples=args.resamples,
            seed=args.seed,
            progress=bar,
        )
    written = output.write(
        found, out or output.default_folder(args.subject), pictures=not args.no_pictures
    )
    _print(found.report)
    print(f"report: {written[0]}   tables: {written[1]}   numbers: {written[2]}")
    return 0


def need_extra(also: tuple[str, ...]) -> None:
    """Refuse early where the packages of the extra ``train`` are missing."""
    from importlib.util import find_spec

    # TensorFlow greets on stderr unless told otherwise before its import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    missing = [p for p in ("sklearn", "matplotlib", "rich", *also) if find_spec(p) is None]
    if missing:
        raise UsageError(
            "extra_missing",
            f"this verb needs {', '.join(missing)}: pip install 'allsub-edge[train]'",
        )


class Bar:
    """Progress in one live line; plain lines where stderr is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("answers"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: Any = None
        self._total = self._done = 0

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print one line above the bar."""
        self._console.print(line, markup=False)

    def begin(self, total: int) -> None:
        """Start the bar."""
        self._total = total
        self._task = self._progress.add_task("", total=total)

    def step(self, count: int) -> None:
        """Move the bar; a line for every tenth where nobody watches a bar."""
        before, self._done = self._done, self._done + count
        self._progress.update(self._task, advance=count)
        tenth = 10 * self._done // max(1, self._total)
        if not self._console.is_terminal and tenth > 10 * before // max(1, self._total):
            self._console.print(f"{10 * tenth} %: {self._done} of {self._total} answers")


if TYPE_CHECKING:
    _check: Progress = Bar()


def _print(report: dict[str, Any]) -> None:
    from allsub_edge.evaluation import robustness, words

    print(f"{words.title(report)}: {words.setting(report)}")
    for warning in report["warnings"]:
        print(f"MIND: {warning}")
    for key in ("accuracy", "balanced_accuracy", "all_sensitivity", "all_specificity"):
        row = report["measures"][key]
        wilson = f"Wilson {words.ends(row['wilson95'])}; " if "wilson95" in row else ""
        interval = f"{wilson}groups {words.ends(row['bootstrap95'])}"
        print(f"  {row['name']:<46}{words.value(key, row):>9}  ({interval})")
    print(f"  {'ALL called Benign':<46}{words.missed(report):>9}")
    for entry in report["baselines"].values():
        print(f"  {'shortcut: ' + entry['name']:<46}{words.percent(entry.get('value')):>9}")
    worst = robustness.summary(report["robustness"])
    if worst:
        print(f"  {'worst change: ' + worst['name']:<46}{words.rate(worst['accuracy']):>9}")
    print(report["notice"])


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)
