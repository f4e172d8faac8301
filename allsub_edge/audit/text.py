"""An audit as text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from allsub_edge.audit import scale_bar
from allsub_edge.audit.dataset_audit import PAIR_KINDS, Audit
from allsub_edge.audit.releases import FIRST, TOTALS
from allsub_edge.classes import CLASSES, NOT_A_MEDICAL_DEVICE

SHOWN: Final[int] = 10
"""Files and pairs that are named; the JSON and the page name more."""


def render(found: Audit) -> str:
    """The whole audit, lines ended by newlines; names of files stand in it as they are."""
    parts = (_findings, _counts, _sizes, _unreadable, _pairs, _groups, _bar, _baselines)
    blocks = ["\n".join(lines) for part in parts if (lines := list(part(found)))]
    return "\n\n".join([*blocks, NOT_A_MEDICAL_DEVICE]) + "\n"


def _row(name: str, cells: list[object]) -> str:
    return f"  {name:<22}" + "".join(f"{cell!s:>10}" for cell in cells)


def _findings(found: Audit) -> Iterator[str]:
    for finding in found.findings:
        yield f"{finding.level.upper():<8} {finding.text}"


def _counts(found: Audit) -> Iterator[str]:
    counts = found.comparison.counts
    yield "fields" + " " * 18 + "".join(f"{name:>10}" for name in (*CLASSES, "all"))
    yield _row("readable", [*counts.values(), found.comparison.total])
    yield _row("first release", [*FIRST.values(), sum(FIRST.values())])
    if found.inventory.segmented is not None:
        segmented = found.inventory.segmented
        yield _row("segmented images", [*segmented.values(), sum(segmented.values())])
    for total, what in TOTALS.items():
        yield f"  {total}: {what}"


def _sizes(found: Audit) -> Iterator[str]:
    yield "image sizes"
    for label, sizes in found.inventory.sizes.items():
        shown = ", ".join(
            f"{width}x{height} {form} {count}"
            for (width, height, form), count in sizes.most_common(4)
        )
        more = f", and {len(sizes) - 4} further sizes" if len(sizes) > 4 else ""
        yield f"  {label:<8} {shown}{more}"


def _unreadable(found: Audit) -> Iterator[str]:
    refused = found.inventory.refused
    if refused:
        yield "not readable"
    for entry in refused[:SHOWN]:
        yield f"  {entry.file}: {entry.why}"
    if len(refused) > SHOWN:
        yield f"  and {len(refused) - SHOWN} more; --json lists all"


def _pairs(found: Audit) -> Iterator[str]:
    samples = found.inventory.samples
    yield "pairs that share cells" + " " * 2 + "".join(f"{n:>10}" for n in (*CLASSES, "all"))
    for kind in PAIR_KINDS:
        count = Counter(samples[pair.a].label for pair in found.pairs if pair.kind == kind)
        yield _row(kind, [*(count[label] for label in CLASSES), count.total()])
    across = Counter(pair.kind for pair in found.across)
    searched = PAIR_KINDS if found.across_shifted else PAIR_KINDS[:2]
    yield (
        "  across classes: "
        + ", ".join(f"{across[kind]} {kind}" for kind in searched)
        + ("" if found.across_shifted else " (overlaps not searched: --across)")
    )
    for pair in found.across[:SHOWN]:
        one, other = samples[pair.a].file, samples[pair.b].file
        yield f"    {one}  {other}  {pair.kind} {pair.score:.2f}"


def _groups(found: Audit) -> Iterator[str]:
    sizes = Counter(found.groups)
    yield f"groups (blocks of about {found.options['block']} file numbers, joined by pairs)"
    for label in CLASSES:
        own = [group for group in sizes if group.startswith(f"{label}-")]
        largest = max(own, key=lambda group: sizes[group])
        yield f"  {label:<8} {len(own):>3} groups, the largest {largest} with {sizes[largest]}"


def _bar(found: Audit) -> Iterator[str]:
    table = scale_bar.by_class(found.bar_kind, found.inventory.labels)
    yield "scale bar" + " " * 15 + "".join(f"{name:>10}" for name in (*CLASSES, "all"))
    for name, row in table.items():
        yield _row(name, [*row.values(), sum(row.values())])
    yield f"  the kind alone tells the class in {scale_bar.best_guess(table)}"


def _baselines(found: Audit) -> Iterator[str]:
    folds = found.options["folds"]
    yield f"told from what is no cell, {folds}-fold cross-validation (95 % Wilson intervals)"
    for baseline in found.baselines:
        grouped, at_random = baseline.grouped, baseline.random
        worst, best = (f(rate.value for rate in grouped.folds) for f in (min, max))
        yield f"  {baseline.sees}"
        yield (
            f"    groups held out {grouped.accuracy}, folds {100 * worst:.1f} to {100 * best:.1f} %"
        )
        leak = 100 * (at_random.accuracy.value - grouped.accuracy.value)
        yield f"    random fields   {at_random.accuracy}: {leak:+.1f} points from leaking"
