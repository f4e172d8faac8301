"""A comparison as Markdown tables and as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from allsub_edge.evaluation import words
from allsub_edge.evaluation.compare_chart import Comparison, bubbles, timed
from allsub_edge.evaluation.frame import framed, grid
from allsub_edge.evaluation.markdown import table
from allsub_edge.evaluation.plots import Figures
from allsub_edge.report.html import escaped

HEAD: Final[tuple[str, ...]] = (
    "subject",
    "network",
    "accuracy (Wilson 95 %; group bootstrap)",
    "ALL called Benign",
    "Benign called ALL",
    "AUROC",
    "calibration error",
    "size",
    "ms per field, p50 (p95)",
)

PAIR_HEAD: Final[tuple[str, ...]] = (
    "pair",
    "only first right",
    "only second right",
    "difference, points (groups 95 %)",
    "McNemar p",
    "after Holm",
)

PAIRS_NOTE: Final[str] = (
    "McNemar's exact test counts fields as independent, which fields of one slide are not, so its "
    "p values are too small; the interval of the difference draws whole groups, and there is none "
    "(-) where a class has fewer than two."
)


def main_rows(found: Comparison) -> list[list[str]]:
    """The cells of the main table."""
    rows = []
    for name, latency in zip(found["names"], found["latency"], strict=True):
        report = found["reports"][name]
        measures = report["measures"]
        accuracy, benign = measures["accuracy"], measures["all_specificity"]
        rows.append(
            [
                name,
                network(report["subject"]),
                f"{words.percent(accuracy['value'])} ({words.ends(accuracy['wilson95'])}; "
                f"{words.ends(accuracy['bootstrap95'])})",
                words.missed(report),
                f"{benign['total'] - benign['count']} of {benign['total']}",
                words.value("auroc_macro", measures["auroc_macro"]),
                f"{measures['calibration_error']['value']:.4f}",
                size(report, latency),
                milliseconds(latency),
            ]
        )
    return rows


def network(subject: Mapping[str, Any]) -> str:
    """What sort of network it is, in a few words."""
    parts = [subject["backbone"], subject["fusion"], subject["recipe"]]
    config = subject.get("config", {})
    if subject["kind"] == "model":
        parts.append(subject["precision"])
    if config.get("shared"):
        parts.append("shared")
    if config and not config["white_balance"]:
        parts.append("no white balance")
    if "augment" in config:
        parts.append(f"augment {config['augment']}")
    return ", ".join(parts)


def size(report: Mapping[str, Any], latency: Mapping[str, Any]) -> str:
    """Bytes as a file, or parameters where there is none."""
    found = latency.get("bytes") or report["subject"].get("bytes")
    if found:
        return f"{found / 1e6:.2f} MB"
    return f"{report['subject']['parameters'] / 1e6:.2f} M parameters"


def milliseconds(latency: Mapping[str, Any]) -> str:
    """p50 and p95, or a dash."""
    if "p50_ms" not in latency:
        return "-"
    return f"{latency['p50_ms']:.2f} ({latency['p95_ms']:.2f})"


def pair_rows(found: Comparison) -> list[list[str]]:
    """The cells of the table of pairs."""
    rows = []
    for pair in found["pairs"]:
        rows.append(
            [
                f"{pair['first']} - {pair['second']}",
                str(pair["only_first_right"]),
                str(pair["only_second_right"]),
                f"{100 * pair['difference']:+.2f} ({_points(pair['difference95'])})",
                p_value(pair["p"]),
                p_value(pair["p_holm"]),
            ]
        )
    return rows


def _points(interval: Sequence[float | None]) -> str:
    """``-0.50 to +1.25``; a dash where there is none."""
    low, high = interval
    return "-" if low is None or high is None else f"{100 * low:+.2f} to {100 * high:+.2f}"


def p_value(value: float) -> str:
    """Three decimals, more where a p value is small."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def robust_rows(found: Comparison) -> list[list[str]]:
    """Accuracy of every subject under every condition that all were measured under."""
    rows = [["unchanged", *(words.rate(r["ablation"][0]["accuracy"]) for r in _reports(found))]]
    for condition in found["conditions"]:
        cells = [condition["name"]]
        for report in _reports(found):
            entry = next(e for e in report["robustness"] if e["key"] == condition["key"])
            cells.append(words.rate(entry["accuracy"]))
        rows.append(cells)
    return rows


def ablation_rows(found: Comparison) -> list[list[str]]:
    """Accuracy of every subject without one of its channels; a dash where it cannot be asked."""
    keys = {e["key"]: e["name"] for report in _reports(found) for e in report["ablation"]}
    rows = []
    for key, name in keys.items():
        cells = [name]
        for report in _reports(found):
            entry = next((e for e in report["ablation"] if e["key"] == key), None)
            cells.append(words.rate(entry["accuracy"]) if entry else "-")
        rows.append(cells)
    return rows


def _reports(found: Comparison) -> list[Mapping[str, Any]]:
    return [found["reports"][name] for name in found["names"]]


def _ablation_note(found: Comparison) -> str:
    """The note of all, and for each subject over which fields its means were taken."""
    means = [
        f"{name}: {found['reports'][name]['ablation_means']}"
        for name in found["names"]
        if found["reports"][name].get("ablation_means")
    ]
    return " ".join([_reports(found)[0]["ablation_note"], *means])


def _warnings(found: Comparison) -> list[str]:
    return [
        f"{name}: {warning}"
        for name in found["names"]
        for warning in found["reports"][name]["warnings"]
    ]


def _against(found: Comparison) -> str:
    report = _reports(found)[0]
    return "; ".join(f"{b['name']}: {words.rate(b)}" for b in report["baselines"].values())


def markdown(found: Comparison) -> str:
    """The comparison as Markdown; ends with a line feed."""
    names = found["names"]
    parts = [
        f"# Comparison of {len(names)} evaluations",
        f"{words.setting(_reports(found)[0])} Made {found['made']} with {found['tool']}.",
        *(f"**Mind:** {warning}." for warning in _warnings(found)),
        found["notice"],
        table(HEAD, main_rows(found)),
        f"Shortcut baselines on the same fields: {_against(found)}.",
        "## Pairs",
        table(PAIR_HEAD, pair_rows(found)),
        PAIRS_NOTE,
        "## Robustness: accuracy (Wilson 95 %)",
        table(["condition", *names], robust_rows(found)),
        "## Ablation: accuracy (Wilson 95 %)",
        table(["ablation", *names], ablation_rows(found)),
        _ablation_note(found),
        found["citation"],
    ]
    return "\n\n".join(parts) + "\n"


def page(found: Comparison) -> str:
    """The comparison as a whole HTML document."""
    figures, names = Figures(), found["names"]
    body = [
        f'<p class="lead">{escaped(words.setting(_reports(found)[0]))}</p>',
        f'<p class="tool">{escaped(found["notice"])}</p>',
        *(f'<p class="mind"><b>Mind:</b> {escaped(w)}.</p>' for w in _warnings(found)),
        _main(found),
        f'<p class="small">Shortcut baselines on the same fields: {escaped(_against(found))}. '
        f"{escaped(_timing(found))}</p>",
        "<h2>Accuracy against latency</h2>" if timed(found) else "<h2>Accuracy against size</h2>",
        f'<div class="wide"><img alt="Accuracy against latency, size as area" '
        f'src="{bubbles(figures, found)}"></div>',
        "<h2>Pairs on the same fields</h2>",
        _table(PAIR_HEAD, pair_rows(found)),
        f'<p class="small">{escaped(PAIRS_NOTE)}</p>',
        "<h2>Robustness: accuracy</h2>",
        f'<div class="wide"><img alt="Accuracy under growing changes" '
        f'src="{figures.robustness(found["reports"])}"></div>'
        if found["conditions"]
        else "",
        _table(["condition", *names], robust_rows(found)),
        "<h2>Ablation: accuracy</h2>",
        _table(["ablation", *names], ablation_rows(found)),
        f'<p class="small">{escaped(_ablation_note(found))}</p>',
    ]
    return framed(f"Comparison of {len(names)} evaluations", found, body)


def _main(found: Comparison) -> str:
    """The main table, with the network below the name so that nine columns fit."""
    rows = []
    for name, what, accuracy, *others in main_rows(found):
        value, _, interval = accuracy.partition(" (")
        wilson, _, groups = interval.rstrip(")").partition("; ")
        rows.append(
            [
                f"<b>{escaped(name)}</b><br><small>{escaped(what)}</small>",
                f"{value}<br><small>{wilson}<br>groups {groups}</small>",
                *map(_stacked, others),
            ]
        )
    heads = [HEAD[0], "accuracy (Wilson 95 %)", *HEAD[3:]]
    return grid([_stacked(text) for text in heads], rows)


def _stacked(text: str) -> str:
    """Escaped, with what stands in brackets on a line of its own."""
    value, bracket, rest = text.partition(" (")
    if not bracket or not rest.endswith(")"):
        return escaped(text)
    return f"{escaped(value)}<br><small>{escaped(rest[:-1])}</small>"


def _table(head: Sequence[str], rows: list[list[str]]) -> str:
    """A table of texts whose first column holds names; see :func:`_stacked` for the others."""
    return grid(
        [escaped(text) for text in head],
        [[escaped(row[0]), *map(_stacked, row[1:])] for row in rows],
    )


def _timing(found: Comparison) -> str:
    told = sorted({latency["how"] for latency in found["latency"]})
    return f"Latency, one field at a time, measured in turns on one machine: {'; '.join(told)}."
