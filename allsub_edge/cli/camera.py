"""``allsub-edge camera``: fields from a camera or a video, answered as the stage moves."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

from allsub_edge.classes import NOT_A_MEDICAL_DEVICE
from allsub_edge.cli.threads import add_threads
from allsub_edge.errors import UsageError

if TYPE_CHECKING:
    from allsub_edge.classifier import Classifier
    from allsub_edge.cli.formats import Writer
    from allsub_edge.sources import Capture, Fault
    from allsub_edge.sources.live import LiveSource

FORMATS: Final[tuple[str, ...]] = ("text", "ndjson", "json", "csv")

HELP: Final[str] = """\
Answer for each field under the microscope: move the stage, let it rest, read the line.

A field is taken when the picture has come to rest, from its sharpest frame, once: not again while
it stays in view or comes back soon. Exposure and white balance are switched off their automatics.
With a profile (allsub-edge calibrate-camera) light and colour are corrected. Ends with the video,
after --count fields, or with Ctrl-C. Exit code: 0 all went well, 1 the camera or some fields
failed, 2 nothing was done because of a usage or set-up error, 130 stopped with Ctrl-C.
"""

EPILOG: Final[str] = """\
examples:
  allsub-edge camera 0                                 the first USB camera
  allsub-edge camera picamera --profile scope.json     a Raspberry Pi camera, corrected
  allsub-edge camera smear.avi --format csv            a video file, read as fast as possible
  allsub-edge camera 0 --count 20 --save fields/       keep the fields as PNG
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``camera``."""
    parser.epilog = EPILOG
    add_camera_argument(parser)
    add_camera_options(parser)
    parser.add_argument("--model", metavar="FILE", help="model file (default: the shipped one)")
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    add_threads(parser)
    parser.add_argument("--quiet", action="store_true", help="no summary on stderr")


def add_camera_argument(parser: argparse.ArgumentParser) -> None:
    """Declare which camera."""
    parser.add_argument(
        "camera",
        metavar="CAMERA",
        help="0 or /dev/video0 (V4L2), picamera (Raspberry Pi), or a video file",
    )
    parser.add_argument(
        "--size", metavar="WxH", help="pixels to ask of the camera (default: its choice)"
    )


def add_camera_options(parser: argparse.ArgumentParser) -> None:
    """Declare what is done with its fields."""
    parser.add_argument(
        "--profile", metavar="FILE", help="correct light and colour; see calibrate-camera"
    )
    parser.add_argument(
        "--every", type=float, default=0.0, metavar="S", help="at least S seconds between fields"
    )
    parser.add_argument("--count", type=int, metavar="N", help="stop after N fields")
    parser.add_argument("--save", metavar="DIR", help="write each field as PNG into DIR")


def frame_size(text: str | None) -> tuple[int, int] | None:
    """Columns and rows from ``WxH``; None stays None; raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", text)
    if match is None:
        raise UsageError("usage", f"--size {text}: write it as 1920x1080")
    return int(match[1]), int(match[2])


def tell(text: str) -> None:
    """A warning in one line on stderr."""
    print(f"allsub-edge: warning: {' '.join(text.split())}", file=sys.stderr, flush=True)


def run(args: argparse.Namespace) -> int:
    """Answer for the camera's fields until it ends; returns 0, 1 or 130.

    Raises:
        UsageError, ModelFileError, DataError, FieldError: before the first record.
    """
    from allsub_edge.classifier import Classifier
    from allsub_edge.cli.formats import WRITERS

    counts: Counter[str] = Counter()
    stopped = False
    started = perf_counter()
    with (
        Classifier.load(args.model, threads=args.threads) as classifier,
        open_from(args, classifier) as source,
    ):
        items: Iterable[Capture | Fault] = source
        if args.save is not None:
            items = saving(items, Path(args.save))
        writer = WRITERS[args.format](sys.stdout)
        try:
            answer(items, classifier, writer, counts)
        except KeyboardInterrupt:  # the usual way to end a session at the microscope
            stopped = True
        finally:
            writer.close()
    if not args.quiet:
        from allsub_edge.cli.infer import summary

        print(summary(counts, perf_counter() - started), file=sys.stderr)
        print(NOT_A_MEDICAL_DEVICE, file=sys.stderr)
    return 130 if stopped else 1 if counts["error"] or not counts.total() else 0


def open_from(args: argparse.Namespace, classifier: Classifier) -> LiveSource:
    """Open the camera that the arguments name.

    Fields below the model's own focus limit are waited out rather than refused one by one.

    Raises:
        UsageError, DataError, FieldError: an option out of range, or see ``open_source``.
    """
    from allsub_edge.sources import camera_spec, open_camera
    from allsub_edge.sources.picker import PickerSettings

    if args.count is not None and args.count < 1:
        raise UsageError("usage", f"--count {args.count}: at least 1 field")
    if not 0 <= args.every < float("inf"):
        raise UsageError("usage", f"--every {args.every:g}: seconds, 0 or more")
    limit = classifier.manifest.calibration.quality.get("min_focus", 0.0)
    return open_camera(
        camera_spec(args.camera),
        size=frame_size(args.size),
        profile=args.profile,
        every=args.every,
        count=args.count,
        picker=PickerSettings(min_focus=limit),
        warn=tell,
    )


def answer(
    items: Iterable[Capture | Fault],
    classifier: Classifier,
    writer: Writer,
    counts: Counter[str],
) -> None:
    """Write one record per capture and fault, and count their statuses."""
    from allsub_edge.sources import sourced

    for record in classifier.predict_many(sourced(items)):
        writer.write(record)
        counts[record.status] += 1


def saving(items: Iterable[Capture | Fault], folder: Path) -> Iterator[Capture | Fault]:
    """Write each field as a PNG and name it by its file from then on; lazy.

    Files are called ``field-TIME-NUMBER.png``, TIME in UTC. A file that exists is never written
    over.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    import dataclasses
    from datetime import UTC, datetime

    import numpy as np

    from allsub_edge.atomic import write_bytes
    from allsub_edge.imaging.draw import encode_png
    from allsub_edge.sources import Capture

    number = 0
    for item in items:
        if isinstance(item, Capture) and isinstance(item.field, np.ndarray):
            moment = (item.taken_at or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
            number += 1
            while (path := folder / f"field-{moment}-{number:04d}.png").exists():
                number += 1
            write_bytes(path, encode_png(item.field))
            item = dataclasses.replace(item, source=str(path))
        yield item
