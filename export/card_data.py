"""The model card's section on data and protocol: which fields, how they were parted, by what seed.

Only what the run's own files tell is told. The seed of a split is not that of the training, and
nothing but the public data set has the flaws that were found in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from allsub_edge.classes import CLASSES
from allsub_edge.export import public_set
from allsub_edge.export.subject import fold_runs
from allsub_edge.training.run import Run
from allsub_edge.training.split import GROUPED, RANDOM, Split, SplitRow, read_split

TEST: Final = "test"
OUT_OF_FOLD: Final = "out_of_fold"
"""Entries of a manifest's metrics; a file has one of them."""

_GROUPS: Final = (
    "neighbouring file numbers, with byte-identical, near-identical and overlapping fields kept "
    "together"
)

_FLAWS: Final = (
    "Known flaws of the data: one laboratory; classes photographed under different light, so that "
    "background colour gives most of them away (baseline below); the scale bar differs by class "
    "(training hides or replaces it); 1024x768 squashed to 224x224."
)
_NO_FLAWS_KNOWN: Final = (
    "Nothing is known here of its laboratories, light and scale bars; `allsub-edge audit` looks "
    "for what would make these numbers worth less."
)


def data_section(run: Run, manifest: Mapping[str, Any], note: str) -> str:
    """The section, as Markdown.

    Args:
        run: of the files; of a cross-fit the final one, beside its folds.
        manifest: of one of the files.
        note: see ``card.write_card``.

    Raises:
        DataError: the run or its folds are damaged.
    """
    training, metrics = manifest["training"], manifest["metrics"]
    split = read_split(run.split_path)
    if OUT_OF_FOLD in metrics:
        folds = [read_split(fold.split_path) for fold in fold_runs(run)]
        parts = {f"fold {k}": _of_role(fold, TEST) for k, fold in enumerate(folds, 1)}
        head, how = "fold", _how_folds(folds)
        told = _told_of_folds(metrics["parity_on_training_fields"])
    else:
        roles = ("train", "validation", "calibration", TEST)
        parts = {role: _of_role(split, role) for role in roles}
        head, how = "role", _how(split)
        learned = "train and validation" if run.config().train_on_validation else "train"
        told = (
            f"The network learned from the roles {learned}; thresholds come from calibration; "
            "every number below is from test."
        )
    public = public_set.as_known(run)
    size = f"{len(split.rows)} fields in {len({row.group for row in split.rows})} groups"
    what = f"{public}, {size}" if public else f"A data set of {size}"
    patients = "There are no patient ids" if public else "The split knows no patients"
    return (
        "## Data and protocol\n\n"
        f"{what}. Split protocol `{training['protocol']}`{how}. {patients}, so one patient may "
        f"still be in two {head}s.\n\n"
        + _parts(head, parts)
        + f"\n\n{told} {note}\n\n{_FLAWS if public else _NO_FLAWS_KNOWN}\n\n"
        f"Data fingerprint `{training['data_fingerprint'][:16]}`, split "
        f"`{training['split_sha256'][:16]}`, versions "
        + ", ".join(f"{k} {v}" for k, v in training["versions"].items())
        + "."
    )


def _of_role(split: Split, role: str) -> list[SplitRow]:
    return [row for row in split.rows if row.role == role]


def _how(split: Split) -> str:
    """How one split was made, as far as its file says; continues the name of its protocol."""
    notes = "".join(f", {key} {split.notes[key]}" for key in ("seed", "fold") if key in split.notes)
    if split.protocol == GROUPED:
        return f"{notes}: whole groups of {_GROUPS}"
    if split.protocol == RANDOM:
        return (
            f"{notes}: fields at random without regard to groups, only byte-identical ones kept "
            "together; the network may have learned from neighbours and look-alikes of the fields "
            "it is tested on, so every number below is optimistic"
        )
    return f"{notes}: whole groups, but how these were formed the split file does not say"


def _how_folds(folds: Sequence[Split]) -> str:
    """As :func:`_how`, for the folds of a cross-fit."""
    seeds = {fold.notes.get("seed") for fold in folds}
    seed = seeds.pop() if len(seeds) == 1 else None
    cut = f", cut with seed {seed}" if seed is not None else ""
    if any(fold.protocol != GROUPED for fold in folds):
        return f": {len(folds)} folds{cut}, but how these were formed the split files do not say"
    return (
        f": {len(folds)} folds, each of them in every class one run of neighbouring whole groups"
        f"{cut}; a group is {_GROUPS}"
    )


def _told_of_folds(parity: Mapping[str, Any]) -> str:
    return (
        "The network of these files learned from all fields. The same configuration was trained "
        "once more for each fold, on the other folds; each of those networks was exported in the "
        "same format and answered the fields of its fold, whose groups it did not learn from, with "
        "thresholds that the other folds gave. Every number below counts those answers, of every "
        "field once. It tells what such a file does on unseen groups. This very file cannot be "
        "measured: its network has seen every field. It was compared with its own network on "
        f"{parity['fields']} fields that it learned from: the same class on "
        f"{100 * parity['same_top']:.2f} % of them."
    )


def _parts(head: str, parts: Mapping[str, Sequence[SplitRow]]) -> str:
    lines = [f"| {head} | fields | by class | groups |", "|---|---|---|---|"]
    for name, rows in parts.items():
        counts = ", ".join(f"{sum(r.label == c for r in rows)} {c}" for c in CLASSES)
        lines.append(f"| {name} | {len(rows)} | {counts} | {len({r.group for r in rows})} |")
    return "\n".join(lines)
