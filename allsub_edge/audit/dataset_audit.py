"""The whole audit of one data set: counts, look-alikes, groups, scale bar, shortcuts, findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.audit import scale_bar
from allsub_edge.audit.baselines import (
    Baseline,
    grouped_folds,
    measure_baselines,
    random_folds,
)
from allsub_edge.audit.inventory import Inventory, take_inventory
from allsub_edge.audit.releases import Comparison, compare
from allsub_edge.classes import CITATION, CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.training.dataset import Progress, fingerprint
from allsub_edge.training.duplicates import Pair, find_pairs
from allsub_edge.training.groups import assign_groups
from allsub_edge.training.shortcuts import background_colour
from allsub_edge.version import __version__

SCHEMA: Final[str] = "allsub-edge/audit/1"

PAIR_KINDS: Final[tuple[str, ...]] = ("exact", "near", "shifted")

Bars = Callable[[str], Progress | None]
"""Gives the progress callback of a step by its name."""


@dataclass(frozen=True)
class Finding:
    """One thing a person should know.

    Attributes:
        level: ``alarm`` (mend it first), ``warning`` (accuracies mean less) or ``note``.
        text: one or two sentences.
    """

    level: str
    text: str


@dataclass(frozen=True)
class Audit:
    """Everything that was found.

    Attributes:
        inventory: what was read.
        comparison: counts beside the known releases.
        pairs: look-alikes inside a class, indices into ``inventory.samples``.
        across: look-alikes under two classes.
        across_shifted: whether overlapping fields were looked for across classes too.
        groups: the group of each sample.
        bar_kind: kind of scale bar of each sample, int64 (N,), indices into ``scale_bar.KINDS``.
        backgrounds: colour of each sample's background, float64 (N, 3).
        baselines: the shortcuts.
        options: folds, seed and block.
        findings: alarms first.
    """

    inventory: Inventory
    comparison: Comparison
    pairs: list[Pair]
    across: list[Pair]
    across_shifted: bool
    groups: list[str]
    bar_kind: npt.NDArray[np.int64]
    backgrounds: npt.NDArray[np.float64]
    baselines: list[Baseline]
    options: dict[str, int]
    findings: list[Finding]

    @property
    def clean(self) -> bool:
        """Whether there is no alarm."""
        return not any(finding.level == "alarm" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: everything but the pictures."""
        samples = self.inventory.samples
        labels = self.inventory.labels

        def shown(pair: Pair) -> dict[str, Any]:
            files = {"a": samples[pair.a].file, "b": samples[pair.b].file}
            return {**files, "kind": pair.kind, "score": round(pair.score, 4)}

        return {
            "schema": SCHEMA,
            "tool": __version__,
            "notice": NOT_A_MEDICAL_DEVICE,
            "citation": CITATION,
            "options": self.options,
            "fingerprint": fingerprint(samples),
            "findings": [vars(finding) for finding in self.findings],
            "counts": self.comparison.to_dict(),
            "segmented": self.inventory.segmented,
            "segmented_without_original": self.inventory.unpaired,
            "unreadable": [vars(entry) for entry in self.inventory.refused],
            "sizes": {
                label: [
                    {"width": width, "height": height, "format": form, "files": count}
                    for (width, height, form), count in found.most_common()
                ]
                for label, found in self.inventory.sizes.items()
            },
            "pairs": [shown(pair) for pair in self.pairs],
            "pairs_across_classes": [shown(pair) for pair in self.across],
            "overlaps_searched_across_classes": self.across_shifted,
            "fields_in_pairs": len(_members(self.pairs)),
            "groups": dict(Counter(self.groups)),
            "scale_bar": scale_bar.summary(self.bar_kind, labels),
            "background_colour_median": {
                label: np.median(self.backgrounds[labels == place], axis=0).round(1).tolist()
                for place, label in enumerate(CLASSES)
            },
            "baselines": [baseline.to_dict() for baseline in self.baselines],
        }


def audit(
    root: Path,
    *,
    folds: int = 5,
    seed: int = 1,
    block: int = 20,
    across_shifted: bool = False,
    bars: Bars = lambda _: None,
) -> Audit:
    """Examine a data set; about two minutes for 2500 fields on one core.

    Args:
        root: the folder that holds the class folders, or ``Original`` with these inside.
        folds: of the cross-validation, at least 2.
        seed: of the folds.
        block: wanted number of neighbouring files in a block, for the groups.
        across_shifted: look for overlapping fields across classes too, which takes about three
            times as long; identical files and near-duplicates always are.
        bars: progress of each step.

    Raises:
        DataError: the class folders are not usable, or ``too_few_groups``: a class has fewer
            groups than there are folds.
    """
    inventory = take_inventory(root, progress=bars("reading"))
    samples = inventory.samples
    # Look-alikes only join groups, so what is too few without them need not wait for them.
    grouped_folds(samples, assign_groups(samples, [], block=block), folds, seed)
    searched = [replace(s, label=CLASSES[0]) for s in samples] if across_shifted else samples
    everything = find_pairs(inventory.fields, searched, progress=bars("comparing"))
    pairs = [p for p in everything if samples[p.a].label == samples[p.b].label]
    across = [p for p in everything if samples[p.a].label != samples[p.b].label]
    groups = assign_groups(samples, pairs, block=block)
    labels = inventory.labels
    baselines = measure_baselines(
        inventory.fields,
        labels,
        grouped_folds(samples, groups, folds, seed),
        random_folds(labels, folds, seed),
        progress=bars("baselines"),
    )
    found = Audit(
        inventory,
        compare(samples, inventory.segmented),
        pairs,
        across,
        across_shifted,
        groups,
        scale_bar.kinds(inventory.fields),
        np.stack([background_colour(field) for field in inventory.fields]),
        baselines,
        {"folds": folds, "seed": seed, "block": block},
        [],
    )
    return replace(found, findings=_findings(found))


def _members(pairs: Sequence[Pair]) -> set[int]:
    return {place for pair in pairs for place in (pair.a, pair.b)}


def _findings(found: Audit) -> list[Finding]:
    samples = found.inventory.samples
    said: list[Finding] = []
    if found.across:
        first = found.across[0]
        said.append(
            Finding(
                "alarm",
                f"{len(found.across)} pairs show the same field under two classes, the first "
                f"{samples[first.a].file} and {samples[first.b].file} ({first.kind}, score "
                f"{first.score:.2f}): keep the right one of each",
            )
        )
    if found.inventory.refused:
        bad = found.inventory.refused
        said.append(
            Finding(
                "alarm",
                f"{len(bad)} files cannot be read as fields, the first {bad[0].file} "
                f"({bad[0].why}): mend or remove them; training stops at the first",
            )
        )
    said += _leaks(found)
    said.append(Finding("note", found.comparison.verdict))
    if found.inventory.unpaired:
        said.append(
            Finding(
                "note",
                f"{len(found.inventory.unpaired)} segmented images have no field of their name, "
                f"the first {found.inventory.unpaired[0]}",
            )
        )
    gaps = found.comparison.gaps
    if gaps:
        numbers = sum(gap.size for gap in gaps)
        said.append(Finding("note", f"{numbers} file numbers are missing, in {len(gaps)} runs"))
    return said


def _leaks(found: Audit) -> list[Finding]:
    said = []
    samples = found.inventory.samples
    if found.pairs:
        count = Counter(pair.kind for pair in found.pairs)
        kinds = ", ".join(f"{count[kind]} {kind}" for kind in PAIR_KINDS)
        apart = sum(abs((samples[p.a].number or 0) - (samples[p.b].number or 0)) > 10
                    for p in found.pairs)  # fmt: skip
        said.append(
            Finding(
                "warning",
                f"{len(_members(found.pairs))} of {len(samples)} fields share cells with another "
                f"({kinds} pairs; {apart} lie more than 10 numbers apart): a split must keep "
                "them together, as allsub-edge split does",
            )
        )
    best = max(found.baselines, key=lambda baseline: baseline.grouped.accuracy.value)
    majority = max(found.comparison.counts.values()) / found.comparison.total
    if best.grouped.accuracy.interval()[0] > majority + 0.1:
        said.append(
            Finding(
                "warning",
                f"{100 * best.grouped.accuracy.value:.1f} % of fields are told right from numbers "
                f"that look at no single cell ({best.sees}); the commonest class alone gives "
                f"{100 * majority:.1f} %. "
                "An accuracy proves something about cells only by what it has above that",
            )
        )
    widest = max(found.baselines, key=lambda b: b.random.accuracy.value - b.grouped.accuracy.value)
    leak = 100 * (widest.random.accuracy.value - widest.grouped.accuracy.value)
    if leak > 1:
        said.append(
            Finding(
                "warning",
                f"a random split flatters by up to {leak:.1f} points ({widest.sees}): quote "
                "grouped splits only",
            )
        )
    labels = found.inventory.labels
    differences = scale_bar.alarming(scale_bar.by_class(found.bar_kind, labels))
    if differences:
        said.append(
            Finding(
                "warning",
                "the scale bar goes with the class: " + "; ".join(differences) + ". Hide or "
                "randomise that corner",
            )
        )
    sizes = {label: frozenset(sizes) for label, sizes in found.inventory.sizes.items()}
    if len(set(sizes.values())) > 1:
        said.append(
            Finding(
                "warning",
                "image sizes or formats differ between classes: they must not tell the class; "
                "see the table",
            )
        )
    return said
