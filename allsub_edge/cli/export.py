"""``allsub-edge export``: a run becomes model files, each proven to be the same model."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from allsub_edge.errors import UsageError

HELP: Final[str] = """\
Turn a finished run into model files that a device runs: ONNX in float32 and in int8.

Everything after decoding and resizing is inside the file: white balance, segmentation, network,
calibrated probabilities, domain distance. Each file is run on the test fields of the run's split
and compared with the trained network. A file that is not provably the same model, or that loses
accuracy beyond 0.2 points or misses one more ALL field, is not written.

example:
  allsub-edge export runs/first --data smears --out models
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``export``."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="made by allsub-edge train")
    parser.add_argument(
        "--data", required=True, type=Path, metavar="DIR", help="what the run was trained on"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where files go")
    parser.add_argument(
        "--card", type=Path, metavar="FILE.md", help="also write the model card (Markdown)"
    )
    parser.add_argument(
        "--card-note", default="", metavar="TEXT", help="what the card's reader must know besides"
    )
    parser.add_argument("--name", default="allsub", help="name of the model [%(default)s]")
    parser.add_argument("--model-version", default="1", help="version of the model [%(default)s]")
    parser.add_argument(
        "--calibration-method",
        choices=("minmax", "entropy", "percentile"),
        default="minmax",
        help="how int8 ranges are chosen [%(default)s]",
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.002,
        metavar="X",
        help="accuracy an int8 file may lose, as a fraction [%(default)s]",
    )
    parser.add_argument(
        "--allow-new-misses",
        action="store_true",
        help="write an int8 file even if it calls an ALL field benign that float32 does not",
    )
    parser.add_argument(
        "--full-range",
        action="store_true",
        help="8-bit instead of 7-bit weights: for ARM and for x86 with VNNI only, "
        "other x86 chips then saturate and answer differently",
    )


def run(args: argparse.Namespace) -> int:
    """Export; returns 0.

    Raises:
        UsageError: the extra ``export`` is not installed.
        DataError: the run is unfinished or the data is another.
        ModelFileError: a file is not provably the same model.
    """
    from importlib.util import find_spec

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for package in ("tensorflow", "tf2onnx", "onnx"):
        if find_spec(package) is None:
            raise UsageError(
                "extra_missing", f"export needs {package}: pip install 'allsub-edge[export]'"
            )
    from allsub_edge.export.pipeline import export_run

    written = export_run(
        args.run_folder,
        args.data,
        args.out,
        name=args.name,
        version=args.model_version,
        method=args.calibration_method,
        reduce_range=not args.full_range,
        max_drop=args.max_drop,
        no_new_misses=not args.allow_new_misses,
    )
    if args.card is not None:
        from allsub_edge.atomic import write_text
        from allsub_edge.export.card import write_card

        files = [e.path for e in written]
        write_text(args.card, write_card(files, args.run_folder, args.data, args.card_note))
        print(f"card: {args.card}")
    print(f"try it: allsub-edge infer FIELD --model {written[-1].path}")
    return 0
