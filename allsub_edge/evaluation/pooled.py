"""The reports of a cross-fit's folds as one: every field answered once, by a network new to it.

    python -m allsub_edge.evaluation.pooled REPORT REPORT ... [-o FILE.md]

Each REPORT is a folder or ``report.json`` of ``allsub-edge evaluate`` on one fold. Counts are
added, so a rate is one over all fields and its interval Wilson's; measures are computed anew from
the pooled answers, with the group bootstrap over the groups of all folds.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from allsub_edge.atomic import write_text
from allsub_edge.classes import CITATION, CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.errors import AllsubError, DataError
from allsub_edge.evaluation import bootstrap, measures, words
from allsub_edge.evaluation.conditions import CONTROL, ON_CONTROL
from allsub_edge.evaluation.markdown import CONDITION_HEAD, condition_row, table
from allsub_edge.evaluation.output import read
from allsub_edge.statistics import Rate

_COUNTS: Final = ("accuracy", "all_called_benign", "flipped", "labels_given", "wrong_labels")

Report = Mapping[str, Any]


def pool(reports: Sequence[Report]) -> dict[str, Any]:
    """One summary of several reports on different fields.

    Returns:
        ``fields``, ``groups``, ``warnings`` (of the reports, with the names of those that have
        them), ``confusion``, ``measures`` (as in a report), ``ablation`` and ``robustness``
        (conditions that every report has), ``baselines`` (without a rate where one report has
        none), and ``by_group``: class, group, wrong, fields of the groups with a mistake, the most
        mistakes first.

    Raises:
        DataError: ``overlap`` when a field is in two reports, ``not_new`` when one of them is on
            fields that its subject learned from, ``other_data`` when they are of different data.
    """
    rows = [row for report in reports for row in report["fields"]]
    twice = [file for file, n in Counter(row["file"] for row in rows).items() if n > 1]
    if twice:
        raise DataError("overlap", f"{twice[0]}: is in two reports; give each fold once")
    for report in reports:
        if report["data"]["role"] != "test":
            raise DataError(
                "not_new",
                f"{report['subject']['name']}: evaluated on the role {report['data']['role']}: "
                "give reports on the test role",
            )
    if len({report["data"]["fingerprint"] for report in reports}) > 1:
        raise DataError("other_data", "the reports are about different data sets")
    labels = np.array([CLASSES.index(row["class"]) for row in rows])
    probabilities = np.array([row["probabilities"] for row in rows], np.float32)
    matrix = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(matrix, (labels, probabilities.argmax(1)), 1)
    groups = [f"{row['class']}/{row['group']}" for row in rows]
    drawn = bootstrap.weights(labels, groups)
    return {
        "fields": len(rows),
        "groups": len(set(groups)),
        "warnings": _warnings(reports),
        "confusion": matrix.tolist(),
        "measures": measures.table(
            measures.values(labels, probabilities, matrix),
            measures.counted(matrix),
            bootstrap.intervals(labels, probabilities, drawn),
        ),
        "ablation": _added([report["ablation"] for report in reports]),
        "robustness": _added([report["robustness"] for report in reports]),
        "baselines": {name: _baseline(name, reports) for name in reports[0]["baselines"]},
        "by_group": _by_group(rows),
    }


def _warnings(reports: Sequence[Report]) -> list[str]:
    """What the reports warn of, each once, with the names of the subjects that it is about."""
    about: dict[str, list[str]] = {}
    for report in reports:
        for warning in report["warnings"]:
            about.setdefault(warning, []).append(report["subject"]["name"])
    return [f"{', '.join(names)}: {warning}" for warning, names in about.items()]


def _baseline(name: str, reports: Sequence[Report]) -> dict[str, Any]:
    """Its rate over all fields; none where one report could not measure it.

    A rate over some of the fields would stand beside accuracies over all of them.
    """
    entries = [report["baselines"][name] for report in reports]
    added = _sum(entries) if all("count" in entry for entry in entries) else None
    return {"name": entries[0]["name"], **(added or {})}


def _sum(entries: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Counts added; None, as in a report, where there was nothing to count."""
    rates = [entry for entry in entries if entry is not None]
    if not rates:
        return None
    return Rate(sum(r["count"] for r in rates), sum(r["total"] for r in rates)).to_dict()


def _added(lists: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Conditions that all reports have, with their counts added, in the order of the first."""
    names = {entry["key"]: entry["name"] for entries in reversed(lists) for entry in entries}
    found = []
    for key in dict.fromkeys(entry["key"] for entries in lists for entry in entries):
        same = [e for e in (_entry(entries, key) for entries in lists) if e is not None]
        if len(same) < len(lists):
            continue
        added: dict[str, Any] = {"key": key, "name": names[key]}
        added["fields"] = sum(e["fields"] for e in same)
        lacking = [e.get("without_donor", {}) for e in same]
        if any(lacking):
            added["without_donor"] = {
                name: count
                for name in CLASSES
                if (count := sum(counts.get(name, 0) for counts in lacking))
            }
        counted = [e for e in same if e["fields"]]
        for name in (*_COUNTS, "flipped_to_donor"):
            if counted and all(name in e for e in counted):
                added[name] = _sum([e[name] for e in counted])
        found.append(added)
    return found


def _entry(entries: Sequence[Mapping[str, Any]], key: str) -> Mapping[str, Any] | None:
    """The entry of a key; None where a report lacks it.

    A transplant is told anew on the control's fields only where these are other fields than its
    own, so elsewhere the entry itself stands for it.
    """
    by_key = {entry["key"]: entry for entry in entries}
    plain, control = by_key.get(key.removesuffix(ON_CONTROL)), by_key.get(CONTROL)
    if key in by_key or plain is None or control is None or plain["key"] == key:
        return by_key.get(key)
    # Without donors of its own class a report adds nothing on either side.
    if not control["fields"]:
        return control
    return plain if plain["fields"] == control["fields"] else None


def _by_group(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    total: Counter[tuple[str, str]] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    for row in rows:
        key = (row["class"], row["group"])
        total[key] += 1
        wrong[key] += row["top"] != row["class"]
    return [
        {"class": key[0], "group": key[1], "wrong": count, "fields": total[key]}
        for key, count in wrong.most_common()
        if count
    ]


def markdown(pooled: Mapping[str, Any]) -> str:
    """The pooled tables; ends with a line feed."""
    rows = [
        [
            row["name"],
            words.value(key, row),
            words.ends(row["wilson95"]) if "wilson95" in row else "",
            words.ends(row["bootstrap95"], share=words.is_share(key)),
        ]
        for key, row in pooled["measures"].items()
    ]
    mistakes = pooled["by_group"]
    spread = (
        f"{sum(g['wrong'] for g in mistakes)} mistakes lie in {len(mistakes)} of "
        f"{pooled['groups']} groups."
    )
    parts = [
        f"{pooled['fields']} fields in {pooled['groups']} groups, each answered once, by the fold "
        f"that did not learn its group. {NOT_A_MEDICAL_DEVICE}",
        *_minds(pooled),
        table(["measure", "value", "Wilson 95 %", "group bootstrap 95 %"], rows),
        "Confusion (rows: true class):",
        table(
            ["", *CLASSES],
            [[n, *map(str, r)] for n, r in zip(CLASSES, pooled["confusion"], strict=True)],
        ),
        "What can be had without the network:",
        _baselines(pooled),
        "Ablation, at test time (an upper bound of what the missing channel is worth):",
        table(CONDITION_HEAD, [condition_row(entry) for entry in pooled["ablation"]]),
        "Robustness:",
        table(CONDITION_HEAD, [condition_row(entry) for entry in pooled["robustness"]]),
        f"{spread} The groups with most:",
        _groups(mistakes[:12]),
        CITATION,
    ]
    return "\n\n".join(parts) + "\n"


def changed_fields(pooled: Mapping[str, Any]) -> str:
    """A section of a model card: how fields are answered that were changed."""
    return (
        "## Changed fields\n\n"
        f"{pooled['fields']} fields in {pooled['groups']} groups, each answered by a file whose "
        "network did not learn its group.\n\n"
        + table(
            CONDITION_HEAD,
            [condition_row(entry) for entry in [*pooled["ablation"], *pooled["robustness"]]],
        )
    )


def by_group(pooled: Mapping[str, Any]) -> str:
    """A section of a model card: what groups do to the rates, and what needs no network."""
    mistakes = pooled["by_group"]
    rows = [
        [row["name"], words.value(key, row), words.ends(row["bootstrap95"])]
        for key, row in pooled["measures"].items()
        if key in ("accuracy", "balanced_accuracy", "all_sensitivity", "all_specificity")
    ]
    return "\n\n".join(
        [
            "## By group",
            *_minds(pooled),
            "Fields of one slide err together. These intervals draw whole groups anew (bootstrap), "
            f"{pooled['groups']} of them:",
            table(["measure", "value", "group bootstrap 95 %"], rows),
            f"Every group with a mistake, {len(mistakes)} of {pooled['groups']}:",
            _groups(mistakes),
            "What can be had without the network:",
            _baselines(pooled),
        ]
    )


def _minds(pooled: Mapping[str, Any]) -> list[str]:
    return [f"**Mind:** {warning}." for warning in pooled["warnings"]]


def _groups(mistakes: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ["class", "group (first file number)", "wrong", "of"],
        [[g["class"], g["group"], str(g["wrong"]), str(g["fields"])] for g in mistakes],
    )


def _baselines(pooled: Mapping[str, Any]) -> str:
    return table(
        ["shortcut baseline", "accuracy (Wilson 95 %)"],
        [[b["name"], words.rate(b)] for b in pooled["baselines"].values()],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write the pooled tables; 0, or 2 when a report does not fit."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", maxsplit=1)[0], epilog=NOT_A_MEDICAL_DEVICE
    )
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE.md", help="[standard output]")
    args = parser.parse_args(arguments)
    try:
        text = markdown(pool([read(path) for path in args.reports]))
    except (AllsubError, OSError) as error:
        print(f"pooled: error: {error}", file=sys.stderr)
        return 2
    if args.out is None:
        print(text, end="")
    else:
        write_text(args.out, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
