"""``allsub-edge watch``: judge what arrives in a folder, each field exactly once."""

from __future__ import annotations

import argparse
import math
import os
import select
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from allsub_edge.classes import NOT_A_MEDICAL_DEVICE
from allsub_edge.cli.threads import add_threads
from allsub_edge.errors import UsageError

if TYPE_CHECKING:
    from allsub_edge.records.intake import Intake
    from allsub_edge.sources.watch import FolderWatch, Found

NO_CASE: Final[str] = "unassigned"
"""The case of a field for which none was named."""

HELP: Final[str] = """\
Judge the fields that arrive in a folder, each exactly once, and keep the answers.

A file is taken when it is completely written: its size and time of change stayed the same for a
while and it is a whole image. Hidden files and temporary names (.part, .tmp) are left alone. A
file that stays broken is recorded as an error, and judged again when it changes. What has its
record is not judged again after a restart, nor under another name. Stop it with Ctrl-C or
SIGTERM: the field at hand is finished and recorded, and the exit code is 0. What may not be read,
a file or a subfolder, is named once and tried again; with --once it counts as an error.
"""

EPILOG: Final[str] = """\
examples:
  allsub-edge watch /srv/smears --case-from-folder    one subfolder for each case
  allsub-edge watch incoming/ --case 2026-117 --once  what is there now, then stop
  allsub-edge records list --case 2026-117
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``watch``."""
    parser.epilog = EPILOG
    parser.add_argument("folder", metavar="DIR", help="where fields arrive, subfolders included")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--case", metavar="ID", help=f"their case (default: {NO_CASE})")
    which.add_argument(
        "--case-from-folder",
        action="store_true",
        help=f"the case is the subfolder of DIR; fields in DIR itself are {NO_CASE}",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where the records are (default: $XDG_DATA_HOME/allsub-edge, ~/.local/share/...)",
    )
    parser.add_argument("--model", metavar="FILE", help="model file (default: the shipped one)")
    parser.add_argument("--format", choices=("text", "ndjson"), default="text")
    add_threads(parser)
    parser.add_argument(
        "--interval", type=float, default=2.0, metavar="S", help="look every S seconds (default: 2)"
    )
    parser.add_argument(
        "--settle",
        type=float,
        default=1.0,
        metavar="S",
        help="a file is complete when it did not change for S seconds (default: 1)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=10.0,
        metavar="S",
        help="a broken file is recorded when it did not change for S seconds (default: 10)",
    )
    parser.add_argument("--once", action="store_true", help="stop when every file was dealt with")
    parser.add_argument("--quiet", action="store_true", help="no remarks and no summary on stderr")


class _Stop:
    """Asked for by SIGTERM or SIGINT; sleeping ends at once."""

    def __init__(self, wake: int) -> None:
        self._asked = False
        self._wake = wake

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self._asked = True

    def asked(self) -> bool:
        """True once a signal arrived."""
        return self._asked

    def sleep(self, seconds: float) -> None:
        """Sleep in the kernel until the time is over or a signal arrives."""
        select.select([self._wake], [], [], seconds)


@contextmanager
def _stopping() -> Iterator[_Stop]:
    """Let signals only ask, so that nothing is broken off; as it was before afterwards."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    stop = _Stop(read_end)
    # A signal also writes to the pipe: one that arrives just before the sleep is not missed.
    wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, stop.ask) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(read_end)
        os.close(write_end)


def case_of(path: str, folder: str, args: argparse.Namespace) -> str:
    """The case of a file in a watched folder, as the arguments say."""
    if not args.case_from_folder:
        return NO_CASE if args.case is None else str(args.case)
    below = Path(path).relative_to(folder).parts
    return below[0] if len(below) > 1 else NO_CASE


def _checked(args: argparse.Namespace) -> str:
    """The watched folder, absolute; refuses what cannot work."""
    for name, least in (("interval", 0.01), ("settle", 0.0), ("patience", 0.0)):
        value = getattr(args, name)
        if not (math.isfinite(value) and least <= value <= 86400):
            raise UsageError("usage", f"--{name} {value:g}: give seconds from {least:g} to 86400")
    if args.case is not None and not args.case.strip():
        raise UsageError("usage", "--case: give the name of a case, or leave it out")
    folder = Path(args.folder)
    if not folder.is_dir():
        raise UsageError("bad_folder", f"{folder}: there is no such folder: make it or check it")
    return str(folder.absolute())


def run(args: argparse.Namespace) -> int:
    """Watch until asked to stop; returns 0, or with ``--once`` 1 when some were not answered.

    A folder that cannot be read counts as one that was not answered.

    Raises:
        UsageError, ModelFileError: before the first field.
        RecordsError: the records cannot be opened or written any more.
    """
    folder = _checked(args)
    counts: Counter[str] = Counter()
    with _stopping() as stop:
        from allsub_edge.classifier import Classifier
        from allsub_edge.records import Records, Seen
        from allsub_edge.records.intake import Intake
        from allsub_edge.sources.watch import FolderWatch

        with (
            Records.open(args.data_dir) as records,
            Classifier.load(args.model, threads=args.threads) as classifier,
        ):
            intake = Intake(classifier, records)

            def known(path: str, size: int, mtime_ns: int) -> bool:
                return intake.known(Seen(path, size, mtime_ns), case_of(path, folder, args))

            watch = FolderWatch(folder, settle=args.settle, patience=args.patience, known=known)
            _remark(args, f"watching {folder}, records in {records.path}")
            _loop(watch, intake, args, stop, counts)
    parts = [f"{counts[name]} {name}" for name in ("ok", "uncertain", "unfit", "error")]
    _remark(args, f"recorded {counts.total()}: {', '.join(parts)}")
    _remark(args, NOT_A_MEDICAL_DEVICE)
    return 1 if args.once and counts["error"] else 0


def _loop(
    watch: FolderWatch,
    intake: Intake,
    args: argparse.Namespace,
    stop: _Stop,
    counts: Counter[str],
) -> None:
    unreadable: set[str] = set()
    unread: dict[str, str] = {}
    away = False
    while not stop.asked():
        try:
            ready = watch.scan()
            away = False
        except OSError as error:  # a share that is not mounted at the moment: it may come back
            if args.once:
                raise
            ready = []
            if not away:
                _remark(args, f"{watch.folder}: cannot be read ({error.strerror}); waiting for it")
            away = True
        else:
            unread = _passed_over(watch, args, unread)
        for found in ready:
            if stop.asked():
                return
            _take(found, watch, intake, args, counts, unreadable)
        if args.once and not watch.waiting:
            counts["error"] += len(unread)
            return
        stop.sleep(args.interval)


def _passed_over(
    watch: FolderWatch, args: argparse.Namespace, before: dict[str, str]
) -> dict[str, str]:
    """Say which folders cannot be read that could be before; gives all that cannot.

    Args:
        before: what the call before gave.
    """
    from allsub_edge.cli.formats import printable

    unread = watch.unread
    for path in sorted(unread.keys() - before.keys()):
        _remark(
            args,
            f"{printable(path)}: fields in it cannot be read ({unread[path]}) and are not judged "
            "until they can: give this account the right to read them",
        )
    return unread


def _take(
    found: Found,
    watch: FolderWatch,
    intake: Intake,
    args: argparse.Namespace,
    counts: Counter[str],
    unreadable: set[str],
) -> None:
    """Deal with one file that settled, and say so."""
    from allsub_edge.cli.formats import printable, text_line
    from allsub_edge.records import Seen

    seen = Seen(found.path, found.size, found.mtime_ns)
    taken = intake.take(seen, case_of(found.path, watch.folder, args), last=found.last)
    if taken.outcome in ("recorded", "known", "copy"):
        watch.done(found)
        unreadable.discard(found.path)
    elif taken.outcome == "unfinished":
        watch.not_yet(found)
    if taken.prediction is not None:
        counts[taken.prediction.status] += 1
        as_text = args.format == "text"
        print(text_line(taken.prediction) if as_text else taken.prediction.to_json(), flush=True)
    elif taken.outcome == "copy" and taken.record is not None:
        same = printable(taken.record.source)
        _remark(args, f"{printable(found.path)}: the same bytes as {same}; not judged again")
    elif taken.outcome == "unreadable":
        # No bytes, no record: it is tried again, and with --once it counts as not answered.
        if found.path not in unreadable:
            unreadable.add(found.path)
            _remark(args, printable(taken.problem))
        if args.once:
            counts["error"] += 1
            watch.done(found)


def _remark(args: argparse.Namespace, text: str) -> None:
    if not args.quiet:
        print(text, file=sys.stderr, flush=True)
