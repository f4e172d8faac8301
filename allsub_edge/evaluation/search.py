"""A list of configurations, all trained on one split; what is done is not done again.

The list is a TOML file: a table ``[common]`` with keys of the training configuration, and one
``[[configuration]]`` after the other, each with a ``name`` of its own and the keys in which it
differs. A ``teacher`` that is the name of an earlier entry means that entry's run; several, with
commas between them, teach together.

One fold is for discarding, not for choosing: what is left is trained on all folds by
``allsub-edge crossfit``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from allsub_edge.errors import AllsubError, DataError, UsageError
from allsub_edge.training.config import PATHS, TrainConfig, comma_separated, names_of
from allsub_edge.training.dataset import fingerprint, read_dataset
from allsub_edge.training.run import Run
from allsub_edge.training.split_file import read_split

NAME: Final[re.Pattern[str]] = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Entry:
    """One configuration of a search.

    Attributes:
        name: of its run folder, below the folder of the search.
        config: what is trained.
        differs: the keys that the list gives for it and not for all.
    """

    name: str
    config: TrainConfig
    differs: dict[str, Any]


class Train(Protocol):
    """Trains an entry to its end in a run folder; goes on where it was stopped."""

    def __call__(self, entry: Entry, folder: Path, /) -> None:
        """Train ``entry`` in ``folder``."""


def read_list(
    path: Path, out: Path, weights: Mapping[str, str] = MappingProxyType({})
) -> list[Entry]:
    """The entries of a list, each checked.

    Args:
        path: the TOML file.
        out: folder of the runs; teachers that are entries lie there.
        weights: backbone -> starting weights of the entries for which the list names none; those
            of ``""`` are for every other backbone.

    Raises:
        UsageError: the file cannot be read or is not TOML, or a key, a value or a name is wrong;
            the message names the file, the entry and the key.
    """
    try:
        listed = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError("bad_list", f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UsageError("bad_list", f"{path}: not TOML ({error})") from error
    wrong = set(listed) - {"common", "configuration"}
    rows, common = listed.get("configuration", []), listed.get("common", {})
    if wrong or not isinstance(rows, list) or not rows or not isinstance(common, dict):
        what = f"unknown key {min(wrong)!r}" if wrong else "no [[configuration]]"
        raise UsageError(
            "bad_list", f"{path}: {what}; a list is [common] and one [[configuration]] for each run"
        )
    entries: list[Entry] = []
    for number, row in enumerate(rows, 1):
        name = row.get("name") if isinstance(row, dict) else None
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UsageError("bad_list", f"{path}: configuration {number} has no usable name")
        if name in {entry.name for entry in entries}:
            raise UsageError("bad_list", f"{path}: {name} is there twice")
        differs = {key: value for key, value in row.items() if key != "name"}
        values = {**common, **differs}
        backbone = values.get("backbone", TrainConfig.backbone)
        start = weights.get(backbone, weights.get("", "none"))
        values = {"weights": start, **values}
        if isinstance(values.get("teacher"), str):
            earlier = {entry.name for entry in entries}
            named = comma_separated(values["teacher"])
            values["teacher"] = ",".join(str(out / n) if n in earlier else n for n in named)
        try:
            entries.append(Entry(name, TrainConfig.from_dict(values), differs))
        except UsageError as error:
            raise UsageError(error.code, f"{path}: {name}: {error.message}") from error
    return entries


def is_done(entry: Entry, folder: Path) -> bool:
    """Whether the entry's run is finished.

    Raises:
        UsageError: the folder holds a run of another configuration.
    """
    run = Run(folder)
    if not run.exists:
        return False
    other = run.config().differences(entry.config)
    if other:
        raise UsageError(
            "other_run",
            f"{folder}: holds a run with another {other[0]}; give {entry.name} another name or "
            "remove that run",
        )
    return (folder / "evaluation.json").is_file()


def search(
    entries: Sequence[Entry],
    out: Path,
    train: Train,
    *,
    after: Callable[[], object] = lambda: None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Train what is not done, in the order of the list.

    Args:
        entries: the list.
        out: folder of the runs.
        train: trains one.
        after: called after each training.
        say: takes one line for each entry.

    Raises:
        UsageError, DataError: of the first entry that cannot be trained; its name is added. All
            folders are looked at before the first training begins; a finished run on another split
            or on other fields than those of a :class:`Trainer` is refused too.
    """
    done = [is_done(entry, out / entry.name) for entry in entries]
    if isinstance(train, Trainer):
        train.check([out / e.name for e, finished in zip(entries, done, strict=True) if finished])
    for number, (entry, finished) in enumerate(zip(entries, done, strict=True), 1):
        place = f"{number} of {len(entries)}: {entry.name}"
        if finished:
            say(f"{place} is done")
            continue
        say(f"{place} ({told(entry)})")
        try:
            train(entry, out / entry.name)
        except AllsubError as error:
            kind = UsageError if isinstance(error, UsageError) else DataError
            raise kind(error.code, f"{entry.name}: {error.message}") from error
        after()


def told(entry: Entry) -> str:
    """How an entry differs, in one line."""
    shown = {k: names_of(v) if k in PATHS else v for k, v in entry.differs.items()}
    return ", ".join(f"{key} {value}" for key, value in shown.items()) or "as all"


@dataclass(frozen=True)
class Trainer:
    """Trains entries on ``split`` of ``data``, as ``allsub-edge train`` does.

    Attributes:
        data: folder of labelled fields.
        split: who plays which role, for all.
        progress: called after each step.
        say: takes one line for each stage.
    """

    data: Path
    split: Path
    progress: Callable[..., None]
    say: Callable[[str], None]

    def __call__(self, entry: Entry, folder: Path, /) -> None:
        """See :class:`Train`."""
        import keras

        from allsub_edge.training.train import train as train_run

        keras.backend.clear_session()
        train_run(
            self.data,
            folder,
            entry.config,
            split_file=self.split,
            progress=self.progress,
            say=self.say,
        )

    def check(self, finished: Sequence[Path]) -> None:
        """Hold finished runs against the split and the data: one table tells of one split.

        Raises:
            UsageError: ``other_run``, a run on another split.
            DataError: ``data_changed``, a run on other fields; or the split or the data is bad.
        """
        if not finished:
            return
        rows = read_split(self.split).rows
        for folder in finished:
            if read_split(Run(folder).split_path).rows != rows:
                raise UsageError(
                    "other_run",
                    f"{folder}: is done, on another split than {self.split}; choose another --out "
                    "for this split",
                )
        present = fingerprint(read_dataset(self.data))
        for folder in finished:
            if Run(folder).read_json("config.json")["data_fingerprint"] != present:
                raise DataError(
                    "data_changed",
                    f"{folder}: is done, on other fields than those of {self.data}; choose another "
                    "--out for this data",
                )
