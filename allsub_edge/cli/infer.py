"""``allsub-edge infer``: one record per field, in the order given, past every bad file."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Final

from allsub_edge.classes import NOT_A_MEDICAL_DEVICE
from allsub_edge.cli import output
from allsub_edge.cli.threads import add_threads
from allsub_edge.errors import UsageError

if TYPE_CHECKING:
    from types import FrameType

    from allsub_edge.classifier import Classifier, Field
    from allsub_edge.cli.overlay import Overlays
    from allsub_edge.cli.workers import Workers
    from allsub_edge.errors import AllsubError
    from allsub_edge.prediction import Prediction

STDIN: Final[str] = "-"
TERMINATED: Final[int] = 128 + signal.SIGTERM
"""Exit code when SIGTERM ended the run early: 143, what a shell says of a process it killed."""

FORMATS: Final[tuple[str, ...]] = ("text", "ndjson", "json", "csv")

MAX_WORKERS: Final[int] = 64

HELP: Final[str] = """\
Name the subtype in each field: one record per field, in the order given.

Each line says how far the device stands behind its answer: ok (it does), uncertain (more than
one class is possible), unfit (the field cannot be judged, and why), error (it cannot be read).
A bad file does not stop the others. Exit code: 0 every input was processed, 1 some were not,
2 nothing was done because of a usage or set-up error. SIGTERM: the field at hand (with --workers:
each field that was begun) is finished and its record written, then the exit code is 143; a file
named with -o does not appear then, since it would not be whole.
"""


def _workers(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_WORKERS:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 0 to {MAX_WORKERS}, not {text!r}"
        )
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``infer``."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a file, a folder or a glob; - reads one image from standard input",
    )
    parser.add_argument("--model", metavar="FILE", help="model file (default: the shipped one)")
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    parser.add_argument(
        "-o", "--out", metavar="OUT", help="write here, whole or not at all (default: stdout)"
    )
    parser.add_argument(
        "--overlay",
        metavar="DIR",
        help="also draw each field with its cells, verdict and reasons, one PNG each",
    )
    add_threads(parser)
    parser.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        default=1,
        help="processes that answer at once; records keep their order; 0: one for each core. Each "
        "takes the memory of a whole run, and one thread unless --threads says more [1]",
    )
    parser.add_argument("--quiet", action="store_true", help="no summary and no progress on stderr")


class _Stop:
    """Asked for by SIGTERM: no further field is begun; a wait for input ends at once.

    Only the main thread may listen; elsewhere the program that called decides.
    """

    def __init__(self) -> None:
        self._asked = False
        self._waiting = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM over, and give it back afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, SIGTERM raises ``_Terminated``: reading would go on until its end otherwise."""
        self._waiting = True
        try:
            self.obey()
            yield
        finally:
            self._waiting = False

    def obey(self) -> None:
        """Raise ``_Terminated`` if it was asked for."""
        if self._asked:
            raise _Terminated

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if self._waiting:
            self.obey()


class _Terminated(Exception):
    """SIGTERM arrived while there was nothing to finish."""


def _refuse_early(paths: list[str], outputs: output.Outputs) -> None:
    """Refuse an output that is there and is an input, before hours of work are spent on it."""
    from allsub_edge.sources.paths import expand

    for item in expand([path for path in paths if path != STDIN]):
        outputs.refuse(item.source)


def _inputs(
    paths: list[str], outputs: output.Outputs, overlays: Overlays | None, stop: _Stop
) -> Iterator[tuple[str, Field | AllsubError]]:
    from allsub_edge.sources.paths import expand

    for path in paths:
        if path == STDIN:
            outputs.refuse(0)
            yield STDIN, _standard_input(stop)
            continue
        for item in expand([path]):
            outputs.refuse(item.source)
            if item.path is not None and overlays is not None:
                overlays.refuse_inside(item.path)
            found = item.error if item.path is None else item.path
            stop.obey()
            if found is not None:
                yield item.source, found


def _standard_input(stop: _Stop) -> bytes | AllsubError:
    """The bytes of the image that is piped in, at most one more than a field may have."""
    from allsub_edge.errors import FieldError
    from allsub_edge.imaging.decode import MAX_BYTES

    with stop.waiting():
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        return FieldError(
            "too_large",
            f"-: more than the {MAX_BYTES / 1e6:.0f} MB that a field may have came from standard "
            "input; send one image",
        )
    return data or FieldError("empty", "-: nothing came from standard input; pipe an image in")


class _Progress:
    """A counter on stderr, only where a person looks at it and no records scroll past."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._next = 0.0

    def step(self, done: int) -> None:
        if self._shown and perf_counter() >= self._next:
            self._next = perf_counter() + 0.2
            print(f"\r{done} fields", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def summary(counts: Counter[str], seconds: float) -> str:
    """One line about a finished run: how many of each status, and the pace."""
    total = counts.total()
    parts = [f"{counts[name]} {name}" for name in ("ok", "uncertain", "unfit", "error")]
    pace = f", {1000 * seconds / total:.1f} ms each" if total else ""
    return f"{total} {'field' if total == 1 else 'fields'}: {', '.join(parts)}{pace}"


def _answering(args: argparse.Namespace) -> Classifier | Workers:
    """What answers: this process, or several others; both have ``view_many``."""
    if args.workers == 1:
        from allsub_edge.classifier import Classifier

        return Classifier.load(args.model, threads=args.threads)
    from allsub_edge.cli.workers import Workers, default_workers

    count = args.workers or default_workers()
    return Workers(args.model, count, args.threads or 1, views=args.overlay is not None)


def _overlays(args: argparse.Namespace) -> Overlays | None:
    if args.overlay is None:
        return None
    from allsub_edge.cli.overlay import Overlays

    return Overlays(args.overlay, args.paths)


def run(args: argparse.Namespace) -> int:
    """Answer for every input; returns 0, or 1 when some could not be processed.

    Raises:
        UsageError, ModelFileError: before the first record.
    """
    from allsub_edge.cli.formats import WRITERS

    if args.paths.count(STDIN) > 1:
        raise UsageError("usage", "- was given twice: standard input holds one image")
    if STDIN in args.paths and sys.stdin.isatty():
        raise UsageError("usage", "-: standard input is a terminal: pipe an image in")
    counts: Counter[str] = Counter()
    stop = _Stop()
    outputs = output.Outputs(args.out)
    outputs.refuse(args.model)
    if output.identity(args.out or "") is not None:
        _refuse_early(args.paths, outputs)
    with _answering(args) as classifier:
        overlays = _overlays(args)
        to_file = args.out is not None or not sys.stdout.isatty()
        progress = _Progress(to_file and sys.stderr.isatty() and not args.quiet)
        started = perf_counter()
        try:
            with stop.listening(), ExitStack() as stack:
                with stop.waiting():  # a FIFO opens only when somebody reads it
                    stream = stack.enter_context(output.opened(args.out))
                writer = WRITERS[args.format](stream)
                try:
                    answers = classifier.view_many(_inputs(args.paths, outputs, overlays, stop))
                    for record, view in answers:
                        if overlays is not None and view is not None:
                            overlays.write(record, view)
                        writer.write(record)
                        counts[record.status] += 1
                        _warn(record, args, progress)
                        progress.step(counts.total())
                finally:
                    writer.close()
                    progress.clear()
        except _Terminated:
            _tell_terminated(args, counts.total())
            return TERMINATED
    if not args.quiet:
        print(summary(counts, perf_counter() - started), file=sys.stderr)
        print(NOT_A_MEDICAL_DEVICE, file=sys.stderr)
    return 1 if counts["error"] or not counts.total() else 0


def _tell_terminated(args: argparse.Namespace, done: int) -> None:
    if args.quiet:
        return
    from allsub_edge.atomic import is_stream

    lost = "" if args.out is None or is_stream(args.out) else f"; {args.out} was not written"
    fields = "1 field" if done == 1 else f"{done} fields"
    print(f"allsub-edge: ended by SIGTERM after {fields}{lost}", file=sys.stderr)


def _warn(record: Prediction, args: argparse.Namespace, progress: _Progress) -> None:
    """Tell a person about a bad input whenever the record itself is not on their screen."""
    if record.error is None or args.quiet or (args.format == "text" and args.out is None):
        return
    from allsub_edge.cli.formats import text_line

    progress.clear()
    print(text_line(record), file=sys.stderr)
