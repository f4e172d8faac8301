"""The report as Markdown tables, to paste into a paper's notebook or a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from allsub_edge.classes import CLASSES
from allsub_edge.evaluation import words
from allsub_edge.evaluation.measures import HEADLINES


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others to the right."""
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """What a file name holds must not end a cell."""
    return " ".join(text.replace("|", "\\|").split())


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report; ends with a line feed."""
    measures, calibration = report["measures"], report["calibration"]
    parts = [
        f"# Evaluation of {words.title(report)}",
        f"{words.setting(report)} Made {report['made']} with {report['tool']}.",
        f"**{words.headline(report)}; ALL called Benign {words.missed(report)}.**",
        *(f"**Mind:** {warning}." for warning in report["warnings"]),
        words.sentences(report["notes"]),
        report["notice"],
        "## Measures",
        table(
            ["measure", "value", "count", "Wilson 95 %", "group bootstrap 95 %"],
            [_measure(key, measures[key]) for key in HEADLINES],
        ),
        words.INTERVALS,
        "## What can be had without the network",
        table(
            ["shortcut baseline", "accuracy (Wilson 95 %)", "how"],
            [[b["name"], words.rate(b), b["how"]] for b in report["baselines"].values()],
        ),
        "## Classes, one versus rest",
        table(
            ["class", "sensitivity", "specificity", "AUROC", "coverage of the set"],
            [_class(name, report) for name in CLASSES],
        ),
        "## Confusion (rows: true class)",
        table(
            ["", *CLASSES],
            [
                [name, *map(str, row)]
                for name, row in zip(CLASSES, report["confusion"], strict=True)
            ],
        ),
        "## Probabilities and labels",
        _trust(calibration, report),
        "## Ablation",
        table(*_conditions(report["ablation"])),
        words.ablation_note(report),
        "## Robustness" + (" (quick grid)" if report["quick"] else ""),
        table(*_conditions(report["robustness"])),
        "## Worst mistakes",
        _worst(report),
        report["citation"],
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _measure(key: str, row: Mapping[str, Any]) -> list[str]:
    share = words.is_share(key)
    return [
        row["name"],
        words.value(key, row),
        f"{row['count']} of {row['total']}" if "count" in row else "",
        words.ends(row["wilson95"]) if "wilson95" in row else "",
        words.ends(row["bootstrap95"], share=share),
    ]


def _class(name: str, report: Mapping[str, Any]) -> list[str]:
    measures = report["measures"]

    def told(key: str) -> str:
        row = measures[key]
        return f"{words.value(key, row)} ({words.ends(row['wilson95'])})"

    area = measures[f"auroc_{name}"]
    return [
        name,
        told(f"sensitivity_{name}"),
        told(f"specificity_{name}"),
        words.value(f"auroc_{name}", area),
        words.rate(report["calibration"]["coverage"][name]),
    ]


def _trust(calibration: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    decisions = report["decisions"]
    sizes = ", ".join(f"{count} x {size}" for size, count in calibration["set_sizes"].items())
    promised = words.percent(1 - calibration["alpha"], 0)
    lines = [
        f"- Expected calibration error {calibration['error_before']:.4f} before and "
        f"{calibration['error_after']:.4f} after temperature {calibration['temperature']:g}, "
        f"{words.fitted(calibration)}.",
        f"- Prediction sets hold the true class in {words.rate(calibration['coverage_all'])}; "
        f"meant were {promised} of each class. Sizes: {sizes}.",
        f"- Labels given: {words.counted(decisions['labels_given'])}; right: "
        f"{words.counted(decisions['labels_right'])}.",
    ]
    again = calibration.get("fitted_again")
    if again:
        lines.append(
            f"- Fitted again on the {again['fields']} fields of the calibration role: temperature "
            f"{again['temperature']:g}."
        )
    return "\n".join(lines)


CONDITION_HEAD = (
    "condition",
    "accuracy (Wilson 95 %)",
    "ALL called Benign",
    "flipped",
    "labels given",
    "of these wrong",
)


def _conditions(entries: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], list[list[str]]]:
    return CONDITION_HEAD, [condition_row(entry) for entry in entries]


def condition_row(entry: Mapping[str, Any]) -> list[str]:
    """The cells of one condition of the ablation or the grid."""
    name = words.condition(entry)
    if not entry["fields"]:
        return [name, "no donor", "", "", "", ""]
    flipped = words.counted(entry["flipped"])
    if "flipped_to_donor" in entry:
        flipped += f" (donor's class: {entry['flipped_to_donor']['count']})"
    return [
        name,
        words.rate(entry["accuracy"]),
        words.counted(entry["all_called_benign"]),
        flipped,
        words.counted(entry["labels_given"]),
        words.counted(entry["wrong_labels"]),
    ]


def _worst(report: Mapping[str, Any]) -> str:
    wrong = [row for row in report["worst"] if not row["right"]]
    if not wrong:
        return "No field was called the wrong class."
    return table(
        ["field", "is", "called", "probability", "status"],
        [
            [
                row["file"],
                row["class"],
                row["top"],
                words.percent(row["probability_of_top"], 1),
                row["status"],
            ]
            for row in wrong
        ],
    )
