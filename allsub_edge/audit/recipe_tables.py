"""The ablation of the recipes as Markdown tables and as plain values."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from allsub_edge.audit.recipe_ablation import (
    Ablation,
    accuracy,
    all_called_benign,
    difference,
)
from allsub_edge.audit.recipe_features import CONDITIONS
from allsub_edge.classes import CITATION, CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.evaluation import bootstrap
from allsub_edge.statistics import Rate
from allsub_edge.training.dataset import fingerprint
from allsub_edge.version import __version__

SCHEMA: Final[str] = "allsub-edge/recipe-ablation/1"


def to_dict(found: Ablation) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "schema": SCHEMA,
        "tool": __version__,
        "notice": NOT_A_MEDICAL_DEVICE,
        "citation": CITATION,
        "fingerprint": fingerprint(found.samples),
        "options": found.options,
        "rows": [
            {
                **vars(row.variant),
                "grouped": {
                    condition: {
                        "accuracy": accuracy(predicted, found.labels).to_dict(),
                        "all_called_benign": all_called_benign(predicted, found.labels).to_dict(),
                    }
                    for condition, predicted in row.grouped.items()
                },
                "random": accuracy(row.random, found.labels).to_dict(),
            }
            for row in found.rows
        ],
    }


def table(found: Ablation) -> str:
    """The rows as a Markdown table; rates in per cent with 95 % Wilson intervals."""

    def cell(rate: Rate) -> str:
        low, high = rate.interval()
        return f"{100 * rate.value:.1f} ({100 * low:.1f} to {100 * high:.1f})"

    lines = [
        "| channels | fusion | original | recipe | accuracy | gains ±10 % | gains ±20 % "
        "| ALL called benign | random split |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found.rows:
        told = row.variant
        cells = [cell(accuracy(row.grouped[condition], found.labels)) for condition in CONDITIONS]
        missed = all_called_benign(row.grouped["plain"], found.labels)
        lines.append(
            f"| {told.channels} | {told.fusion} | {told.original} | {told.recipe} | "
            + " | ".join(cells)
            + f" | {missed.count} of {missed.total} | {cell(accuracy(row.random, found.labels))} |"
        )
    return "\n".join(lines)


def recipe_differences(found: Ablation) -> str:
    """``cells`` less ``aria2022`` in otherwise equal rows, as a Markdown table in points."""
    drawn = bootstrap.weights(found.labels, found.groups)
    by_variant = {
        (r.variant.channels, r.variant.fusion, r.variant.original, r.variant.recipe): r
        for r in found.rows
    }
    lines = [
        "| channels | fusion | original | as they are | gains ±10 % | gains ±20 % |",
        "|---|---|---|---|---|---|",
    ]
    for (channels, fusion, original, recipe), row in by_variant.items():
        if recipe != "aria2022":
            continue
        ours = by_variant[(channels, fusion, original, "cells")]
        cells = []
        for condition in CONDITIONS:
            told = difference(ours.grouped[condition], row.grouped[condition], found.labels, drawn)
            cells.append("{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * value for value in told)))
        lines.append(f"| {channels} | {fusion} | {original} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def areas(found: Ablation) -> str:
    """Median share of a field that each recipe takes for cells, by class, as a Markdown table."""
    lines = [
        "| recipe | gains | " + " | ".join(CLASSES) + " |",
        "|---|---|" + "---|" * len(CLASSES),
    ]
    for name, by_condition in found.areas.items():
        for condition, spread in CONDITIONS.items():
            shares = by_condition[condition]
            medians = [np.median(shares[found.labels == place]) for place in range(len(CLASSES))]
            gains = f"±{100 * spread:.0f} %" if spread else "as they are"
            cells = " | ".join(f"{100 * median:.1f} %" for median in medians)
            lines.append(f"| {name} | {gains} | {cells} |")
    return "\n".join(lines)


def render(found: Ablation) -> str:
    """Everything for people: what was measured, then the three tables."""
    return "\n\n".join(
        [
            f"{len(found.samples)} fields, {len(set(found.groups))} groups, "
            f"{found.options['folds']} folds",
            table(found),
            "cells less aria2022, points of accuracy (95 % bootstrap over groups)",
            recipe_differences(found),
            "share of a field taken for cells, median",
            areas(found),
            NOT_A_MEDICAL_DEVICE,
        ]
    )
