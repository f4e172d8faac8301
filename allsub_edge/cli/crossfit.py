"""``allsub-edge crossfit``: one model from all groups, judged on none it learned from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from allsub_edge.cli import training

HELP: Final[str] = """\
Train one model on all groups, with thresholds and metrics from fields it never saw.

The configuration is trained once for each fold on the other folds, and at last on everything. The
temperature, the prediction sets, the domain and quality limits and every rate come from the
networks of the folds, each answering only for groups it did not learn from. OUT then holds fold1
to foldK and final, each a run; `allsub-edge export OUT/final` takes the last. A cross-fit that was
stopped goes on with the same command. It takes as long as K + 1 trainings.

example:
  allsub-edge crossfit --data smears --out runs/crossfit --weights imagenet --epochs 12
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``crossfit``; one for each key of the configuration."""
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="labelled fields")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT", help="folder to make")
    parser.add_argument("--folds", type=int, default=5, metavar="K", help="at least 2 [5]")
    parser.add_argument(
        "--alpha",
        type=float,
        default=None,
        metavar="X",
        help="prediction sets may miss the true class in this share of fields of each class [0.05]",
    )
    training.add_configuration(parser)


def run(args: argparse.Namespace) -> int:
    """Train; returns 0.

    Raises:
        UsageError: a wrong configuration, or the extra ``train`` is not installed.
        DataError: the data or an earlier run in the folder is not usable.
    """
    training.prepare_process()
    from allsub_edge.training.config import TrainConfig
    from allsub_edge.training.crossfit import crossfit
    from allsub_edge.training.train import ALPHA

    alpha = ALPHA if args.alpha is None else args.alpha
    with training.Bar() as bar:
        final = crossfit(
            args.data,
            args.out,
            TrainConfig.from_dict(training.given(args)),
            folds=args.folds,
            alpha=alpha,
            progress=bar.step,
            say=bar.say,
        )
    evaluation = final.read_json("evaluation.json")
    training.print_evaluation(evaluation)
    _print_folds(evaluation)
    print(f"run: {final.folder}   next: allsub-edge export {final.folder} --data {args.data}")
    return 0


def _print_folds(evaluation: dict[str, Any]) -> None:
    by_fold = ", ".join(f"{100 * rate['value']:.2f}" for rate in evaluation["by_fold"])
    print(f"  accuracy by fold: {by_fold} %")
    for name, rate in evaluation["coverage"].items():
        print(f"  true class in the prediction set, {name:<7} {100 * rate['value']:6.2f} %")
    print(f"  mean size of a prediction set: {evaluation['mean_set_size']}")
