"""What the verbs that train share: options, a progress bar, and how an evaluation is shown."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allsub_edge.errors import UsageError

if TYPE_CHECKING:
    from allsub_edge.training.loop import Progress


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Declare one argument for each key of the training configuration."""
    from allsub_edge.training.config import options

    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file with the keys below, '_' for '-' (epochs = 12); options given here win",
    )
    parser.add_argument(
        "--list-backbones", action=_ListBackbones, help="print the table of backbones and stop"
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


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The configuration keys that ``--config`` and the command line name; the latter win.

    Raises:
        UsageError: the file is not usable; the message names the key.
    """
    from allsub_edge.training.config import options, read_toml

    file = read_toml(args.config) if args.config is not None else {}
    line = {
        name: getattr(args, name) for name, _, _ in options() if getattr(args, name) is not None
    }
    return {**file, **line}


class _ListBackbones(argparse.Action):
    """Prints the table and stops, as ``--help`` does, whatever else is given or missing."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        from allsub_edge.training.backbones import table

        print(table())
        parser.exit()


def prepare_process() -> None:
    """What a verb that trains does first: quiet, repeatable TensorFlow, and freed memory kept.

    Raises:
        UsageError: TensorFlow is absent; the message names the extra.
    """
    import os
    from importlib.util import find_spec

    # TensorFlow greets on stderr unless told otherwise before its import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Operators that run side by side share the threads within operators, and how many of these a
    # kernel gets decides in which order it adds: a step then comes out one way or another.
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    if find_spec("tensorflow") is None or find_spec("keras") is None:
        raise UsageError(
            "extra_missing", "training needs TensorFlow: pip install 'allsub-edge[train]'"
        )
    from allsub_edge.training.allocator import keep_freed_memory

    keep_freed_memory()


class Bar:
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

    def __enter__(self) -> Bar:
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
    _check: Progress = Bar().step


def print_evaluation(evaluation: dict[str, Any]) -> None:
    """Print what a run measured on fields it did not learn from."""
    from allsub_edge.classes import NOT_A_MEDICAL_DEVICE

    def rate(value: dict[str, Any]) -> str:
        low, high = value["interval95"]
        return (
            f"{100 * value['value']:6.2f} %  (95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f}; {value['count']} of {value['total']})"
        )

    print(f"role {evaluation['role']}, protocol {evaluation['protocol']}")
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
