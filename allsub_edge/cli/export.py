"""``allsub-edge export``: a run becomes model files, each proven to be the same model."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from allsub_edge.errors import UsageError

HELP: Final[str] = """\
Turn a finished run into model files that a device runs: ONNX and TFLite, float and integer.

Everything after decoding and resizing is inside the file: white balance, segmentation, network,
calibrated probabilities, domain distance. Each file is run on the test fields of the run's split
and compared with the trained network. A file that is not provably the same model, or that loses
accuracy beyond 0.2 points or misses one more ALL field, is not written; a static integer file is
first tried again with the layers that hurt most left in float32. What became of each format is
printed as a table and stored as text, JSON and a plot of accuracy over latency.

formats (--formats takes names, onnx, tflite or all, joined by commas):
  onnx-float32           the trained network as it is
  onnx-float16           half the size; computes in float32
  onnx-dynamic           int8 weights, ranges found anew for each field
  onnx-int8              static int8 (QDQ), one weight scale for each output channel
  onnx-int8-per-tensor   static int8 (QDQ), one weight scale for each layer
  tflite-float32, tflite-float16, tflite-dynamic, tflite-int8, tflite-int8-per-tensor
                         the same for LiteRT
  tflite-int16x8         int16 activations, int8 weights; as good as int8, 30 to 60 times slower

python -m allsub_edge.export is this same command. Exit code: 0 every file was written, 1 some were
not (the table says why), 2 usage, or the run or the data does not fit.

examples:
  allsub-edge export runs/first --data smears --out models
  allsub-edge export runs/first --data smears --out models --formats all --interfaces both
  allsub-edge export runs/first --data smears --out models --formats onnx-int8 --explain \\
      --calibration my-microscope/ --calibration-method percentile
"""

# The formats that a card speaks of; the last one written is the one that a device gets.
_CARD_FORMATS: Final = ("onnx-float32", "tflite-int8", "onnx-int8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``export``."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="made by allsub-edge train")
    parser.add_argument(
        "--data", required=True, type=Path, metavar="DIR", help="what the run was trained on"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where files go")
    parser.add_argument(
        "--formats",
        default="onnx-float32,onnx-int8",
        metavar="A,B",
        help="what to write, see above [%(default)s]",
    )
    parser.add_argument(
        "--interfaces",
        choices=("field", "two-channel", "both"),
        default="field",
        help="field: the file segments (for devices); two-channel: the program does, as with the "
        "published network [%(default)s]",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="where table, JSON and plot go [a folder validation/ in --out]",
    )
    parser.add_argument(
        "--card",
        type=Path,
        metavar="FILE.md",
        help="also write the model card (Markdown) of the field files among "
        + ", ".join(_CARD_FORMATS),
    )
    parser.add_argument(
        "--card-note", default="", metavar="TEXT", help="what the card's reader must know besides"
    )
    parser.add_argument(
        "--card-report",
        type=Path,
        action="append",
        default=[],
        metavar="REPORT",
        help="folder or report.json of allsub-edge evaluate, of a cross-fit one of each fold's "
        "file: the card shows groups with mistakes and how answers stand changed fields; "
        "repeatable",
    )
    parser.add_argument("--name", default="allsub", help="name of the model [%(default)s]")
    parser.add_argument("--model-version", default="1", help="version of the model [%(default)s]")
    group = parser.add_argument_group("integer formats")
    group.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="fields that show the range of activations, labelled or not; never test fields "
        "[128 training fields]",
    )
    group.add_argument(
        "--calibration-method",
        choices=("minmax", "entropy", "percentile"),
        default="minmax",
        help="how ONNX int8 ranges are chosen; TFLite knows minmax alone [%(default)s]",
    )
    group.add_argument(
        "--activation-type",
        choices=("uint8", "int8"),
        default="uint8",
        help="of ONNX int8; int8 is slower on x86, on ARM measure it [%(default)s]",
    )
    group.add_argument(
        "--full-range",
        action="store_true",
        help="ONNX: all 8 bits for every weight, also where two of them overflow in the 16 bits "
        "of x86 chips without VNNI, which then answer something else: for ARM and VNNI only",
    )
    group.add_argument(
        "--max-drop",
        type=float,
        default=0.002,
        metavar="X",
        help="accuracy a file may lose, as a fraction [%(default)s]",
    )
    misses = group.add_mutually_exclusive_group()
    misses.add_argument(
        "--no-new-misses",
        dest="no_new_misses",
        action="store_true",
        default=True,
        help="refuse a file that calls an ALL field benign that the network does not [default]",
    )
    misses.add_argument(
        "--allow-new-misses",
        dest="no_new_misses",
        action="store_false",
        help="write it nevertheless",
    )
    group.add_argument(
        "--explain",
        action="store_true",
        help="print how far each layer of the static integer files is off",
    )
    parser.add_argument(
        "--as-converted",
        action="store_true",
        help="leave out the passes that make ONNX files faster: the same answers, more slowly; for "
        "python -m allsub_edge.benchmarks.steps, which shows what each pass brings",
    )
    group = parser.add_argument_group("timing")
    group.add_argument("--threads", type=int, default=1, metavar="N", help="[%(default)s]")
    group.add_argument(
        "--no-timing", action="store_true", help="leave latency and memory out of the table"
    )


def run(args: argparse.Namespace) -> int:
    """Export; returns 0, or 1 if a format was not written.

    Raises:
        UsageError: the extra ``export`` is not installed, a format is unknown, or a card is asked
            for of formats that it cannot speak of.
        DataError: the run is unfinished or the data is another.
        ModelFileError: the network cannot be converted.
    """
    from importlib.util import find_spec

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for package in ("tensorflow", "tf2onnx", "onnx", "ai_edge_litert"):
        if find_spec(package) is None:
            raise UsageError(
                "extra_missing", f"export needs {package}: pip install 'allsub-edge[export]'"
            )
    if not 0 <= args.max_drop < 1:
        raise UsageError("usage", "--max-drop is a fraction from 0 to below 1, such as 0.002")
    if args.threads < 1:
        raise UsageError("usage", "--threads must be at least 1")
    from allsub_edge.export.formats import INTERFACES, chosen

    formats = chosen(args.formats)
    speakable = args.interfaces != "two-channel" and set(formats) & set(_CARD_FORMATS)
    if args.card is not None and not speakable:
        raise UsageError(
            "usage",
            f"--card needs the interface field and one of the formats {', '.join(_CARD_FORMATS)}",
        )
    from allsub_edge.export.onnx_int8 import Quantisation
    from allsub_edge.export.pipeline import Gate, Plan, export_subject, open_run, report
    from allsub_edge.export.table import WRITTEN, layer_table, text_table

    plan = Plan(
        name=args.name,
        version=args.model_version,
        formats=formats,
        interfaces=INTERFACES if args.interfaces == "both" else (args.interfaces,),
        settings=Quantisation(
            method=args.calibration_method,
            activation_type=args.activation_type,
            paired=not args.full_range,
        ),
        gate=Gate(args.max_drop, args.no_new_misses),
        fused=not args.as_converted,
        explain=args.explain,
        measured=not args.no_timing,
        threads=args.threads,
    )

    def say(line: str) -> None:
        print(line, flush=True)

    # Before the long work: a report that does not fit must not cost it.
    more = _sections(args.card_report) if args.card_report else []
    subject = open_run(args.run_folder, args.data, args.calibration, say)
    rows = export_subject(subject, plan, args.out, say)
    table = report(rows, plan, subject, args.report or args.out / "validation")
    if args.explain:
        for row in rows:
            if row.layers:
                print(f"\n{layer_table(row)}")
    print(f"\n{text_table(rows)}\ntable, JSON and plot: {table.parent}")
    written = [row for row in rows if row.status == WRITTEN]
    files = [row for row in written if row.format in _CARD_FORMATS and row.interface == "field"]
    if args.card is not None and files:
        from allsub_edge.atomic import write_text
        from allsub_edge.benchmarks import machine
        from allsub_edge.export.card import latency, write_card

        files.sort(key=lambda row: _CARD_FORMATS.index(row.format))
        timed = latency(files, machine.in_words(machine.describe()))
        sections = [*more, timed] if timed else more
        paths = [row.path for row in files]
        card = write_card(paths, args.run_folder, args.data, args.card_note, sections)
        write_text(args.card, card)
        print(f"card: {args.card}")
    elif args.card is not None:
        print("card: not written, because no file that it speaks of was")
    if written:
        print(f"try it: allsub-edge infer FIELD --model {written[-1].path}")
    return 0 if len(written) == len(rows) else 1


def _sections(reports: list[Path]) -> list[str]:
    """What the reports say of groups and of changed fields, for the card.

    Raises:
        DataError: one cannot be read, or does not fit the others.
    """
    from allsub_edge.evaluation.output import read
    from allsub_edge.evaluation.pooled import by_group, changed_fields, pool

    pooled = pool([read(path) for path in reports])
    return [by_group(pooled), changed_fields(pooled)]
