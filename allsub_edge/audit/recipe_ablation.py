"""What a recipe is worth as the second channel: a head on frozen features, groups held out.

Fine-tuning every combination would take days and would mix the recipe's worth with the luck of a
training. Here the extractor is frozen (:mod:`allsub_edge.audit.recipe_features`) and a logistic
regression learns from its features, always with the same settings, chosen before the first result.
It learns from unchanged fields alone and is tested on fields of other groups: as they are, and with
channel gains it never saw.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.atomic import write_text
from allsub_edge.audit.baselines import Folds, grouped_folds, random_folds
from allsub_edge.audit.inventory import Inventory, take_inventory
from allsub_edge.audit.recipe_features import CONDITIONS, Extractor, Features, cached
from allsub_edge.classes import BENIGN
from allsub_edge.errors import DataError
from allsub_edge.evaluation import bootstrap
from allsub_edge.statistics import Rate
from allsub_edge.training.dataset import Progress, Sample, fingerprint
from allsub_edge.training.duplicates import find_pairs
from allsub_edge.training.groups import assign_groups
from allsub_edge.training.metrics import Labels

Say = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """One way to build the head's input.

    Attributes:
        channels: ``original only``, ``segmented only``, ``both`` or ``area only``.
        fusion: ``branches``, ``mask_pool`` or ``-``.
        original: ``raw``, ``balanced`` or ``-``: what the first channel shows.
        recipe: the second channel's, or ``-``.
        parts: names of the features that are put side by side.
    """

    channels: str
    fusion: str
    original: str
    recipe: str
    parts: tuple[str, ...]


def variants() -> list[Variant]:
    """Every combination, in the order of the table."""
    ways, recipes = ("raw", "balanced"), ("aria2022", "cells")
    found = [Variant("original only", "-", way, "-", (way,)) for way in ways]
    for name in recipes:
        second = f"second@{name}"
        found.append(Variant("segmented only", "branches", "-", name, (second,)))
        found += [Variant("both", "branches", way, name, (way, second)) for way in ways]
    for name in recipes:
        for way in ways:
            inside = f"{way}@{name}"
            found.append(Variant("segmented only", "mask_pool", way, name, (inside,)))
            found.append(Variant("both", "mask_pool", way, name, (way, inside)))
    found += [Variant("area only", "-", "-", name, (f"area@{name}",)) for name in recipes]
    return found


@dataclass(frozen=True)
class Row:
    """A variant and what was predicted, int64 (N,), under each condition.

    Attributes:
        variant: what the head saw.
        grouped: condition -> predictions with the field's group held out.
        random: predictions on unchanged fields with single fields held out.
    """

    variant: Variant
    grouped: dict[str, Labels]
    random: Labels


def _head() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # scikit-learn's own strength of regularisation: nothing was tuned.
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000))


def predictions(
    features: dict[str, npt.NDArray[np.float32]], labels: Labels, folds: Folds
) -> dict[str, Labels]:
    """Condition -> predictions, int64 (N,); heads learn from ``plain`` features alone.

    Args:
        features: condition -> float32 (N, F); ``plain`` is among them.
        labels: int64 (N,).
        folds: together they hold out every field once.
    """
    found = {condition: np.full(len(labels), -1, np.int64) for condition in features}
    for train, test in folds:
        head = _head().fit(features["plain"][train], labels[train])
        for condition, values in features.items():
            found[condition][test] = head.predict(values[test])
    return found


def measure(
    features: dict[str, Features],
    labels: Labels,
    grouped: Folds,
    at_random: Folds,
    say: Say = lambda line: None,
) -> list[Row]:
    """All variants.

    Args:
        features: condition -> features of every field.
        labels: int64 (N,).
        grouped: folds of whole groups.
        at_random: folds of single fields.
        say: takes the name of each variant when it is done.
    """
    rows = []
    for variant in variants():
        seen = {
            condition: np.concatenate([parts[name] for name in variant.parts], axis=1)
            for condition, parts in features.items()
        }
        held_out = predictions(seen, labels, grouped)
        leaking = predictions({"plain": seen["plain"]}, labels, at_random)["plain"]
        rows.append(Row(variant, held_out, leaking))
        say(f"  {_name(variant)}")
    return rows


def _name(variant: Variant) -> str:
    words = [variant.channels, variant.fusion, variant.original, variant.recipe]
    return ", ".join(word for word in words if word != "-")


def accuracy(predicted: Labels, labels: Labels) -> Rate:
    """Share of right predictions."""
    return Rate(int((predicted == labels).sum()), len(labels))


def all_called_benign(predicted: Labels, labels: Labels) -> Rate:
    """Share of leukaemia fields that were called benign."""
    sick = labels != BENIGN
    return Rate(int((predicted[sick] == BENIGN).sum()), int(sick.sum()))


def difference(
    one: Labels, other: Labels, labels: Labels, drawn: npt.NDArray[np.float64]
) -> tuple[float, float, float]:
    """Accuracy of ``one`` less that of ``other`` with its 95 % interval over groups.

    Args:
        one: predictions, int64 (N,).
        other: predictions on the same fields.
        labels: int64 (N,).
        drawn: weights of ``evaluation.bootstrap.weights``.
    """
    gain = (one == labels).astype(np.float64) - (other == labels)
    low, high = bootstrap.percentiles(drawn @ gain / drawn.sum(axis=1))
    return float(gain.mean()), low, high


@dataclass(frozen=True)
class Ablation:
    """All that was found on one data set.

    Attributes:
        rows: one for each variant.
        samples: the fields, in the order of the predictions.
        labels: int64 (N,).
        groups: the group of each field.
        areas: recipe -> condition -> share of each field that it takes for cells, float32 (N,).
        options: what it was made with, for the record.
    """

    rows: list[Row]
    samples: list[Sample]
    labels: Labels
    groups: list[str]
    areas: dict[str, dict[str, npt.NDArray[np.float32]]]
    options: dict[str, Any]


def ablate(
    root: Path,
    extractor: Extractor,
    *,
    cache: Path,
    folds: int = 5,
    seed: int = 1,
    block: int = 20,
    bars: Callable[[str], Progress | None] = lambda what: None,
    say: Say = lambda line: None,
) -> Ablation:
    """Measure every variant on a folder of labelled fields.

    Args:
        root: the folder.
        extractor: what computes the features.
        cache: folder where features and groups are kept; a second call is done in a minute.
        folds: of the cross-validation.
        seed: of folds and gains.
        block: neighbouring files in one block.
        bars: makes the progress of a stage from its name.
        say: takes one line for each variant.

    Raises:
        UsageError: unknown backbone or cut.
        DataError: unusable data or weights, a file that cannot be read, fewer groups than folds,
            or a damaged cache.
    """
    model = extractor.build()  # wrong names and weights are told before the data is read
    inventory = take_inventory(root, progress=bars("reading"))
    _all_read(inventory)
    samples, labels = inventory.samples, inventory.labels
    groups = _groups(inventory.fields, samples, block, cache, bars("comparing"))
    grouped = grouped_folds(samples, groups, folds, seed)
    features = {
        condition: cached(
            extractor,
            inventory.fields,
            samples,
            condition,
            seed,
            cache,
            model=model,
            progress=bars(condition),
        )
        for condition in CONDITIONS
    }
    rows = measure(features, labels, grouped, random_folds(labels, folds, seed), say)
    areas = {
        name: {condition: parts[f"area@{name}"][:, 0] for condition, parts in features.items()}
        for name in ("aria2022", "cells")
    }
    options = {
        "backbone": extractor.backbone,
        "cut": extractor.cut,
        "extractor": extractor.digest(),
        "folds": folds,
        "seed": seed,
        "block": block,
    }
    return Ablation(rows, samples, labels, groups, areas, options)


def _all_read(inventory: Inventory) -> None:
    if inventory.refused:
        first = inventory.refused[0]
        raise DataError(
            "unreadable",
            f"{first.file}: {first.why}; mend or remove it ({len(inventory.refused)} such files)",
        )


def _groups(
    fields: npt.NDArray[np.uint8],
    samples: list[Sample],
    block: int,
    folder: Path,
    progress: Progress | None,
) -> list[str]:
    """The group of each field; look-alikes take a minute to find and are kept in the cache."""
    path = folder / f"groups-{fingerprint(samples)[:16]}-{block}.json"
    names = [sample.file for sample in samples]
    if path.is_file():
        try:
            stored = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                "bad_cache", f"{path}: cannot be read ({error}); remove it and start again"
            ) from error
        if list(stored) == names:
            return list(stored.values())
    groups = assign_groups(samples, find_pairs(fields, samples, progress=progress), block=block)
    write_text(path, json.dumps(dict(zip(names, groups, strict=True))) + "\n")
    return groups
