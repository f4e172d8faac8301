"""Numbers of a report in words, the same in Markdown, on a page and in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Entry = Mapping[str, Any]


def percent(value: float | None, digits: int = 2) -> str:
    """``99.79 %``; a dash where there is nothing to tell."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def ends(interval: Sequence[float | None] | None, *, share: bool = True) -> str:
    """``98.81 to 99.96``, in percent unless ``share`` is off; a dash where there is none."""
    if interval is None or None in interval:
        return "-"
    factor, digits = (100, 2) if share else (1, 5)
    low, high = (float(end or 0) * factor for end in interval)
    return f"{low:.{digits}f} to {high:.{digits}f}"


def rate(entry: Entry | None) -> str:
    """``99.79 % (98.81 to 99.96)`` of an entry with ``value`` and ``interval95``."""
    if entry is None or entry.get("value") is None:
        return "-"
    return f"{percent(entry['value'])} ({ends(entry['interval95'])})"


def counted(entry: Entry | None) -> str:
    """``1 of 397`` of an entry with ``count`` and ``total``."""
    return "-" if entry is None else f"{entry['count']} of {entry['total']}"


def condition(entry: Entry) -> str:
    """The name of a condition, with the fields that it lacks because no donor was there."""
    lacking = entry.get("without_donor")
    if not lacking or not entry["fields"]:
        return str(entry["name"])
    told = ", ".join(f"{count} {name}" for name, count in lacking.items())
    return f"{entry['name']}; no donor for {told}"


def fitted(calibration: Entry) -> str:
    """Where the temperature comes from, to be read after it."""
    return f"fitted after training on {calibration['fitted_on']}"


def ablation_note(report: Entry) -> str:
    """What stands under the ablation: its note, and over which fields means were taken."""
    means = report.get("ablation_means")
    return f"{report['ablation_note']} {means}" if means else str(report["ablation_note"])


def is_share(key: str) -> bool:
    """Whether a measure is told in percent; areas and errors are told as numbers."""
    return not key.startswith("auroc") and key != "calibration_error"


def value(key: str, row: Entry) -> str:
    """A measure's value as it is told."""
    if row["value"] is None:
        return "-"
    return percent(row["value"]) if is_share(key) else f"{row['value']:.5f}"


def title(report: Entry) -> str:
    """What was evaluated, in a few words."""
    subject = report["subject"]
    kind = "run" if subject["kind"] == "run" else "model file"
    return f"{kind} {subject['name']}"


def setting(report: Entry) -> str:
    """On what, in one sentence."""
    data = report["data"]
    classes = ", ".join(f"{count} {name}" for name, count in data["classes"].items())
    role = "all fields of the folder" if data["role"] == "all" else f"role {data['role']}"
    return (
        f"{data['fields']} fields ({classes}) in {data['groups']} groups, {role}, "
        f"protocol {data['protocol']}."
    )


def headline(report: Entry) -> str:
    """The result in one sentence, the baseline that it must be held against in the same breath."""
    measures = report["measures"]
    best = strongest_baseline(report)
    against = f"; {best['name'].partition(',')[0]} {percent(best['value'])}" if best else ""
    row = measures["accuracy"]
    return f"Accuracy {percent(row['value'])} ({ends(row['wilson95'])}){against}"


def sentences(notes: Sequence[str]) -> str:
    """Notes as sentences, one after the other."""
    return " ".join(f"{note[:1].upper()}{note[1:]}." for note in notes)


def strongest_baseline(report: Entry) -> Entry | None:
    """The best of the baselines that see no cell."""
    blind = [report["baselines"][key] for key in ("background_colour", "corner")]
    told = [entry for entry in blind if entry.get("value") is not None]
    return max(told, key=lambda entry: float(entry["value"])) if told else None


def missed(report: Entry) -> str:
    """ALL fields called Benign, as ``1 of 397``."""
    row = report["measures"]["all_sensitivity"]
    return f"{row['total'] - row['count']} of {row['total']}"


INTERVALS = (
    "Wilson intervals count fields as if they were independent; the bootstrap draws whole groups "
    "(neighbouring file numbers, duplicates joined), which is nearer the truth. Where no error was "
    "seen the bootstrap shrinks to a point and Wilson's is the one to read. What needs a class of "
    "fewer than two groups has no bootstrap interval (-), and from few groups it is too narrow. "
    "Patients are unknown, so both are too narrow."
)
"""Stands under every table of measures."""
