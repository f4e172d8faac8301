"""An audit as one self-contained HTML page: no script, nothing fetched, the fields inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from string import Template
from typing import Final

from allsub_edge.audit import pictures, scale_bar
from allsub_edge.audit.dataset_audit import PAIR_KINDS, Audit
from allsub_edge.audit.releases import FIRST, TOTALS
from allsub_edge.classes import CITATION, CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.report.html import escaped
from allsub_edge.report.svg import bar
from allsub_edge.report.template import STYLE
from allsub_edge.statistics import Rate
from allsub_edge.training.dataset import fingerprint
from allsub_edge.version import __version__

_LISTED: Final[int] = 200

_STYLE: Final[str] = """\
h3 { font-size: 13px; margin: 8px 0 3px; }
.findings { list-style: none; margin: 10px 0; padding: 0; }
.findings li { margin: 5px 0; padding: 6px 11px; border: 1px solid; border-left-width: 9px; }
.findings b { display: inline-block; min-width: 74px; text-transform: uppercase; font-size: 12px; }
.findings .alarm { border-color: #a11d2c; } .findings .warning { border-color: #a35a00; }
.findings .note { border-color: #8a93a6; }
table.counts td + td, table.counts th + th { text-align: right; padding-left: 10px; }
table.counts { width: auto; min-width: 62%; } tbody tr { border-top: 1px solid #e7e9ee; }
td.bar { width: 34%; } td.sees { width: 36%; }
.pairs { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 9px;
  margin: 0 0 9px; }
.pair div { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; }
.pair.alarm img { border-color: #a11d2c; }
.corners { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 9px; }
.corners img { aspect-ratio: 56 / 32; image-rendering: pixelated; }
svg.plot { width: 100%; max-width: 620px; height: auto; font-size: 12px; }
@media (max-width: 640px) { .pairs { grid-template-columns: 1fr; } }
"""

_PAGE: Final[Template] = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="allsub-edge $tool">
<title>Data set audit: $total fields</title>
<style>
$style</style>
</head>
<body>
<header><h1>Data set audit: $total fields</h1><p>allsub-edge $tool</p></header>
<main>
<p class="tool">$disclaimer</p>
<ul class="findings">
$findings
</ul>
$alarms
<h2>Told from what is no cell</h2>
<p>A support vector machine guesses the class from a few numbers that look at no single cell,
$folds-fold cross-validation. Dark bars: whole groups of neighbouring and look-alike fields held
out. Pale bars: single fields held out at random, so that neighbours leak. Lines are 95 % Wilson
intervals; they count fields as independent and are therefore too narrow, so the range of the folds
stands beside them. The commonest class alone gives $majority %.</p>
$baselines
<h3>Colour of the empty background</h3>
<p class="small">One dot a field, at most 300 a class. Where the classes part, a network can read
the lamp and the camera instead of the cells.</p>
$plot
<h2>Counts</h2>
$counts
<p class="small">$releases</p>
$gaps
<h2>Image sizes</h2>
$sizes
$unreadable
<h2>Fields that share cells</h2>
$pair_counts
<p class="small">Shown from the least sure to the surest of each kind; the number is the
correlation that decided.</p>
$pairs
<h2>Groups</h2>
$groups
<h2>Scale bar</h2>
$bars
<p>The kind of bar alone tells the class in $guess.</p>
$corners
<h2>The classes</h2>
$classes
</main>
<footer class="small">
<p>Data fingerprint $fingerprint; seed $seed, blocks of about $block file numbers. This page holds
pictures of the data set; the public one must not be redistributed.</p>
<p>$citation</p>
</footer>
</body>
</html>
""")


def audit_page(found: Audit) -> str:
    """The page of an audit, a whole HTML document; file names are escaped in it."""
    table = scale_bar.by_class(found.bar_kind, found.inventory.labels)
    counts, total = found.comparison.counts, found.comparison.total
    alarms = pictures.alarm_pairs(found)
    return _PAGE.substitute(
        tool=__version__,
        total=total,
        style=STYLE + _STYLE,
        disclaimer=escaped(NOT_A_MEDICAL_DEVICE),
        findings="\n".join(
            f'<li class="{f.level}"><b>{f.level}</b>{escaped(f.text)}</li>' for f in found.findings
        ),
        alarms=f"<h2>The same field under two classes</h2>\n{alarms}" if alarms else "",
        folds=found.options["folds"],
        majority=f"{100 * max(counts.values()) / total:.1f}",
        baselines=_baselines(found),
        plot=pictures.background_plot(found),
        counts=_counts(found),
        releases=escaped("; ".join(f"{known}: {what}" for known, what in TOTALS.items()) + "."),
        gaps=_gaps(found),
        sizes=_sizes(found),
        unreadable=_unreadable(found),
        pair_counts=_pair_counts(found),
        pairs=pictures.example_pairs(found),
        groups=_groups(found),
        bars=_table("Kind", [(name, [*r.values(), sum(r.values())]) for name, r in table.items()]),
        guess=_rate(scale_bar.best_guess(table)),
        corners=pictures.bar_pictures(found),
        classes=pictures.class_rows(found),
        fingerprint=fingerprint(found.inventory.samples)[:16],
        seed=found.options["seed"],
        block=found.options["block"],
        citation=escaped(CITATION),
    )


def _rate(rate: Rate) -> str:
    low, high = rate.interval()
    return f"{100 * rate.value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _table(first: str, rows: Sequence[tuple[str, Sequence[object]]]) -> str:
    """Rows of one name and a cell for each class and for all."""
    head = "".join(f'<th scope="col">{name}</th>' for name in (first, *CLASSES, "All"))
    body = "".join(
        f"<tr><td>{escaped(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, cells in rows
    )
    return f'<table class="counts"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _baselines(found: Audit) -> str:
    rows = []
    for baseline in found.baselines:
        bars = []
        for score, colour in ((baseline.grouped, "#2b5fab"), (baseline.random, "#a9bede")):
            rate = score.accuracy
            bars.append(bar(rate.value, _rate(rate), colour, *rate.interval()))
        folds = sorted(rate.value for rate in baseline.grouped.folds)
        rows.append(
            f'<tr><td class="sees">{escaped(baseline.sees)}</td>'
            f'<td class="number">{_rate(baseline.grouped.accuracy)}<br>'
            f'<span class="small">{_rate(baseline.random.accuracy)}</span></td>'
            f'<td class="bar">{bars[0]}<div style="height:5px"></div>{bars[1]}</td>'
            f'<td class="number">{100 * folds[0]:.1f} to {100 * folds[-1]:.1f} %</td></tr>'
        )
    return (
        '<table><thead><tr><th scope="col">Seen</th>'
        '<th scope="col" class="number">Groups held out<br>random fields</th>'
        '<th scope="col">Accuracy, 0 to 100 %</th>'
        f'<th scope="col" class="number">Folds</th></tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table>"
    )


def _counts(found: Audit) -> str:
    counts, missing = found.comparison.counts, found.comparison.missing
    rows: list[tuple[str, Sequence[object]]] = [
        ("readable fields", [*counts.values(), found.comparison.total]),
        ("first release", [*FIRST.values(), sum(FIRST.values())]),
        ("missing from it", [*missing.values(), sum(missing.values())]),
    ]
    if found.inventory.segmented is not None:
        segmented = found.inventory.segmented
        rows.append(("segmented images", [*segmented.values(), sum(segmented.values())]))
    return _table("Counted", rows)


def _gaps(found: Audit) -> str:
    gaps = found.comparison.gaps
    if not gaps:
        return ""
    shown = "; ".join(f"{gap.label} {gap.first} to {gap.last}" for gap in gaps[:_LISTED])
    return f'<p class="small">Missing file numbers: {shown}.</p>'


def _sizes(found: Audit) -> str:
    kinds = sorted({size for own in found.inventory.sizes.values() for size in own})
    rows: list[tuple[str, Sequence[object]]] = []
    for size in kinds[:_LISTED]:
        own = [found.inventory.sizes[label][size] for label in CLASSES]
        rows.append((f"{size[0]} x {size[1]} {size[2]}", [*own, sum(own)]))
    return _table("Width x height", rows)


def _unreadable(found: Audit) -> str:
    refused = found.inventory.refused
    if not refused:
        return ""
    rows = "".join(
        f"<tr><td>{escaped(entry.file)}</td><td>{escaped(entry.why)}</td></tr>"
        for entry in refused[:_LISTED]
    )
    more = len(refused) - _LISTED
    rest = f'<p class="small">and {more} more, all in the JSON</p>' if more > 0 else ""
    return (
        f"<h2>Not readable ({len(refused)})</h2>\n"
        f'<table class="refused"><tbody>{rows}</tbody></table>{rest}'
    )


def _pair_counts(found: Audit) -> str:
    samples = found.inventory.samples
    rows: list[tuple[str, Sequence[object]]] = []
    for kind in PAIR_KINDS:
        count = Counter(samples[pair.a].label for pair in found.pairs if pair.kind == kind)
        rows.append((f"{kind} pairs", [*(count[label] for label in CLASSES), count.total()]))
    across = Counter(pair.kind for pair in found.across)
    searched = PAIR_KINDS if found.across_shifted else PAIR_KINDS[:2]
    told = ", ".join(f"{across[kind]} {kind}" for kind in searched)
    rest = "" if found.across_shifted else " (overlapping fields were not searched across classes)"
    return f"{_table('Pairs', rows)}<p>Across classes: {told}{rest}.</p>"


def _groups(found: Audit) -> str:
    samples = found.inventory.samples
    sizes: dict[str, Counter[str]] = {label: Counter() for label in CLASSES}
    for sample, group in zip(samples, found.groups, strict=True):
        sizes[sample.label][group] += 1
    everything = Counter(found.groups)
    rows: list[tuple[str, Sequence[object]]] = [
        ("groups", [*(len(sizes[label]) for label in CLASSES), len(everything)]),
        ("fields in the largest", [*(max(sizes[label].values()) for label in CLASSES),
                                   max(everything.values())]),
        ("fields in the smallest", [*(min(sizes[label].values()) for label in CLASSES),
                                    min(everything.values())]),
    ]  # fmt: skip
    return _table("Groups", rows)
