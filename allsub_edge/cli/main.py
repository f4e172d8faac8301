"""The ``allsub-edge`` command: finds the verb, imports only that verb's module, and runs it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn, Protocol, cast

from allsub_edge.classes import NOT_A_MEDICAL_DEVICE
from allsub_edge.cli.leaving import Leaving
from allsub_edge.errors import AllsubError, UsageError
from allsub_edge.version import __version__

USAGE_ERROR: Final[int] = 2
INTERRUPTED: Final[int] = 130
PIPE_CLOSED: Final[int] = 141

VERBS: Final[dict[str, tuple[str, str]]] = {
    "infer": ("allsub_edge.cli.infer", "name the subtype in each field: files, folders, globs"),
    "camera": ("allsub_edge.cli.camera", "name the subtype as the stage moves: camera or video"),
    "calibrate-camera": (
        "allsub_edge.cli.calibrate_camera",
        "store a camera's white field, or see whether it drifted",
    ),
    "watch": ("allsub_edge.cli.watch", "judge what arrives in a folder, each field exactly once"),
    "records": ("allsub_edge.cli.records", "list, show, export or purge what was recorded"),
    "case": ("allsub_edge.cli.case", "many fields of one patient: one verdict, one page"),
    "segment": ("allsub_edge.cli.segment", "show which pixels count as cells"),
    "check": ("allsub_edge.cli.check", "prove that a model file is whole and answers right here"),
    "verify": ("allsub_edge.cli.verify", "compare two model files field by field"),
    "bench": ("allsub_edge.cli.bench", "measure speed and memory here; compare model files"),
    "info": ("allsub_edge.cli.info", "say what a model file is, learned from and is for"),
    "render": ("allsub_edge.cli.render", "draw artificial fields to try things out with"),
    "audit": (
        "allsub_edge.cli.audit",
        "what would make an accuracy on a data set meaningless (extra: train)",
    ),
    "split": ("allsub_edge.cli.split", "divide a data set so that look-alikes stay together"),
    "train": ("allsub_edge.cli.train", "train a model on labelled fields (extra: train)"),
    "crossfit": (
        "allsub_edge.cli.crossfit",
        "train one model on all groups, judged on none it learned from (extra: train)",
    ),
    "search": (
        "allsub_edge.cli.search",
        "a list of configurations on one split, one table (extra: train)",
    ),
    "evaluate": (
        "allsub_edge.cli.evaluate",
        "what a run or model file is worth, and what breaks it (extra: train)",
    ),
    "evaluate-segmentation": (
        "allsub_edge.cli.evaluate_segmentation",
        "how well the recipes find white cells, against masks (extra: train)",
    ),
    "compare-recipes": (
        "allsub_edge.cli.compare_recipes",
        "what each recipe is worth as the second channel (extra: train)",
    ),
    "compare": (
        "allsub_edge.cli.compare",
        "evaluated runs side by side, with tests for their differences (extra: train)",
    ),
    "export": ("allsub_edge.cli.export", "turn a run into one model file (extra: export)"),
}
"""Verb -> (module, help). The helps stand here so that ``--help`` imports no verb."""

EXTRAS: Final[dict[str, str]] = {
    "tensorflow": "train",
    "keras": "train",
    "sklearn": "train",
    "scipy": "train",
    "matplotlib": "train",
    "rich": "train",
    "onnx": "export",
    "tf2onnx": "export",
}
"""Import name -> the extra that brings it."""

DEVICE_VERBS: Final[frozenset[str]] = frozenset(
    {"infer", "camera", "calibrate-camera", "watch", "records", "case", "segment", "check", "info"}
)
"""What runs beside the microscope. None of it multiplies matrices by numpy."""

EXAMPLES: Final[str] = """\
from nothing to an answer:
  allsub-edge render --label Pro -o field.png     draw a field to try with
  allsub-edge infer field.png                     one line: what it is, how sure, how fast
  allsub-edge infer smears/ --format csv -o results.csv

can I trust this model on this machine?
  allsub-edge check                               whole file? same answers as where it was made?
  allsub-edge info                                data, metrics, licence, intended use

make a model of your own:
  allsub-edge split --help
  allsub-edge train --help
  allsub-edge export --help

Every verb explains itself: allsub-edge VERB --help
"""


class Verb(Protocol):
    """What the module of a verb has."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


class _Parser(argparse.ArgumentParser):
    """Errors in one line, as everywhere else in this command."""

    def error(self, message: str) -> NoReturn:
        raise UsageError("usage", f"{message}: see {self.prog} --help")


def help_text() -> str:
    """What ``allsub-edge --help`` prints."""
    width = max(len(verb) for verb in VERBS) + 2
    lines = [f"  {verb:<{width}}{text}" for verb, (_, text) in VERBS.items()]
    return "\n".join(
        [
            "usage: allsub-edge VERB ...  |  --help  |  --version",
            "",
            "Reads blood smear fields for B-cell acute lymphoblastic leukaemia on the CPU.",
            NOT_A_MEDICAL_DEVICE,
            "",
            "verbs:",
            *lines,
            "",
            EXAMPLES,
        ]
    )


def _load_verb(verb: str) -> Verb:
    if verb not in VERBS:
        import difflib

        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else "see allsub-edge --help"
        raise UsageError("unknown_verb", f"there is no verb {verb!r}: {hint}")
    name = VERBS[verb][0]
    try:
        return cast(Verb, importlib.import_module(name))
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UsageError("no_verb", f"this installation lacks the verb {verb!r}") from error


def _dispatch(argv: Sequence[str]) -> int:
    if not argv:
        print(help_text(), file=sys.stderr, end="")
        return USAGE_ERROR
    first = argv[0]
    if first in ("-h", "--help", "help"):
        print(help_text(), end="")
        return 0
    if first in ("-V", "--version"):
        print(f"allsub-edge {__version__}")
        return 0
    module = _load_verb(first)
    parser = _Parser(
        prog=f"allsub-edge {first}",
        description=module.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return module.run(parser.parse_args(argv[1:]))


def _missing_package(error: ModuleNotFoundError) -> str | None:
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    return (
        f"{package} is not installed: pip install 'allsub-edge[{EXTRAS[package]}]' "
        "on the machine that trains"
    )


def _complain(message: str) -> int:
    line = " ".join(message.split())
    if not line.isprintable():
        # The formats import numpy, which an error in a word of the command line can do without.
        from allsub_edge.cli.formats import printable

        line = printable(line)
    print(f"allsub-edge: error: {line}", file=sys.stderr)
    return USAGE_ERROR


def _open_streams() -> None:
    """Open what was closed before the start (``2>&-``, some service managers) on nothing.

    Python has None for such a stream, and the next file that is opened gets its number: what a
    library then writes to stderr would end in that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: PTH123, SIM115


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        argv: arguments without the program's name; None means those of the process.

    Returns:
        The verb's code: 0 done, 1 not for every input; 2 for a usage or set-up error, 130 when
        interrupted, 141 when the reader of a pipe went away.
    """
    _open_streams()
    # A file name need not be valid text; printing one must not stop the run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except SystemExit as leaving:  # argparse, after --help
        return leaving.code if isinstance(leaving.code, int) else USAGE_ERROR
    except AllsubError as error:
        return _complain(error.message)
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        reason = error.strerror or str(error)
        return _complain(f"{error.filename}: {reason}" if error.filename else reason)
    except ModuleNotFoundError as error:
        message = _missing_package(error)
        if message is None:
            raise
        return _complain(message)
    except KeyboardInterrupt:
        print("allsub-edge: interrupted", file=sys.stderr)
        return INTERRUPTED


def entry() -> None:
    """The console script."""
    leaving = Leaving()
    if sys.argv[1:] and sys.argv[1] in DEVICE_VERBS:
        # Importing numpy starts a thread of its BLAS for each further core, and each spins for a
        # tenth of a second: two fifths of the processor time of an `infer`, for nothing.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    leaving.code = main()
    sys.exit(leaving.code)
