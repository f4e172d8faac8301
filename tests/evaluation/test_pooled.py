"""Reports of folds as one: counts are added, nothing is counted twice, nothing old is taken."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the training extra is not installed")

from allsub_edge.classes import CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.errors import DataError
from allsub_edge.evaluation.measures import NAMES
from allsub_edge.evaluation.pooled import by_group, changed_fields, main, markdown, pool
from allsub_edge.statistics import Rate

WRONG = {1: 2, 2: 1}
"""Fold -> how many Benign fields of it are called Early."""


def report(fold: int, each: int = 6) -> dict[str, Any]:
    """As ``allsub-edge evaluate`` writes it, with what the pool reads."""
    fields = []
    for label in CLASSES:
        for number in range(each):
            missed = label == "Benign" and number < WRONG[fold]
            top = "Early" if missed else label
            fields.append(
                {
                    "file": f"{label}/{fold}-{number}.jpg",
                    "sha256": f"{label}{fold}{number}",
                    "class": label,
                    "group": f"g{fold}",
                    "top": top,
                    "probabilities": [0.91 if name == top else 0.03 for name in CLASSES],
                }
            )
    total = len(fields)
    condition = {
        "key": "gains_10",
        "name": "channel gains at random, +-10 %",
        "family": "gains",
        "fields": total,
        "accuracy": Rate(total - fold, total).to_dict(),
        "all_called_benign": Rate(0, total - each).to_dict(),
        "flipped": Rate(1, total).to_dict(),
        "labels_given": Rate(total - 2, total).to_dict(),
        "wrong_labels": Rate(1, total - 2).to_dict() if fold == 1 else None,
    }
    background = {"name": "background colour", "how": "-", **Rate(10 + fold, total).to_dict()}
    return {
        "schema": "allsub-edge/evaluation/1",
        "subject": {
            "kind": "run",
            "name": f"fold{fold}",
            **dict.fromkeys(("sha256", "backbone", "fusion", "recipe"), "-"),
        },
        "data": {
            "role": "test",
            "fingerprint": "f",
            **dict.fromkeys(("protocol", "fields", "groups", "classes")),
        },
        "warnings": [],
        "measures": {key: {"name": key, "value": None, "bootstrap95": None} for key in NAMES},
        "fields": fields,
        "ablation": [{**condition, "key": "both", "name": "both channels"}],
        "ablation_note": "-",
        "robustness": [condition, *([{**condition, "key": "blur_1"}] if fold == 1 else [])],
        "baselines": {"background_colour": background, "corner": {**background, "name": "corner"}},
    }


def test_counts_are_added() -> None:
    found = pool([report(1), report(2)])
    assert (found["fields"], found["groups"]) == (48, 8)
    assert np.array(found["confusion"]).sum() == 48
    assert found["confusion"][0] == [9, 3, 0, 0]
    assert found["measures"]["accuracy"]["count"] == 45
    (condition,) = found["robustness"]
    assert condition["key"] == "gains_10", "what one fold alone was asked is no rate of all"
    assert (condition["accuracy"]["count"], condition["accuracy"]["total"]) == (45, 48)
    assert condition["wrong_labels"]["total"] == 22, "where no label was given none was wrong"
    assert condition["accuracy"]["interval95"] == Rate(45, 48).to_dict()["interval95"]
    assert found["baselines"]["background_colour"]["count"] == 23
    assert [(g["class"], g["group"], g["wrong"]) for g in found["by_group"]] == [
        ("Benign", "g1", 2),
        ("Benign", "g2", 1),
    ]


def test_the_tables_say_what_they_are() -> None:
    text = markdown(pool([report(1), report(2)]))
    assert NOT_A_MEDICAL_DEVICE in text
    assert "48 fields in 8 groups" in text
    assert "3 mistakes lie in 2 of 8 groups" in text
    assert "channel gains at random" in text


def test_a_card_shows_how_changed_fields_are_answered() -> None:
    text = changed_fields(pool([report(1), report(2)]))
    assert text.startswith("## Changed fields") and "48 fields in 8 groups" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| channel gains")]
    assert row.startswith("| channel gains at random, +-10 % | 93.75 %") and "0 of 36" in row


def test_a_card_names_the_groups_with_mistakes_and_what_needs_no_network() -> None:
    pooled = pool([report(1), report(2)])
    text = by_group(pooled)
    assert text.startswith("## By group") and "Every group with a mistake, 2 of 8:" in text
    for group in pooled["by_group"]:
        row = f"| {group['class']} | {group['group']} | {group['wrong']} | {group['fields']} |"
        assert row in text
    assert "| accuracy | 93.75 % |" in text
    assert all(entry["name"] in text for entry in pooled["baselines"].values())


def test_a_baseline_that_one_report_lacks_has_no_rate() -> None:
    bare = report(2)
    bare["baselines"]["corner"] = {
        "name": "corner",
        "how": "not measured: a class has fewer than two groups",
    }
    for reports in ([report(1), bare], [bare, report(1)]):
        found = pool(reports)
        assert found["baselines"]["corner"] == {"name": "corner"}
        assert found["baselines"]["background_colour"]["total"] == 48
        assert "| corner | - |" in markdown(found) and "| corner | - |" in by_group(found)


def test_warnings_are_repeated_with_the_names_they_are_about() -> None:
    one, two = report(1), report(2)
    one["warnings"] = ["the split is optimistic"]
    two["warnings"] = ["the split is optimistic", "another split"]
    found = pool([one, two])
    assert found["warnings"] == ["fold1, fold2: the split is optimistic", "fold2: another split"]
    for text in (markdown(found), by_group(found)):
        assert "**Mind:** fold1, fold2: the split is optimistic." in text
        assert "**Mind:** fold2: another split." in text
    assert "Mind" not in markdown(pool([report(1), report(2)]))


def test_a_class_of_one_group_over_all_folds_has_no_interval() -> None:
    one, two = report(1), report(2)
    for row in (*one["fields"], *two["fields"]):
        if row["class"] == "Pro":
            row["group"] = "g1"
    found = pool([one, two])
    assert found["measures"]["sensitivity_Pro"]["bootstrap95"] == [None, None]
    assert found["measures"]["sensitivity_Benign"]["bootstrap95"] != [None, None]
    assert "| accuracy | 93.75 % | - |" in by_group(found)


def transplants(total: int, control: int) -> list[dict[str, Any]]:
    """Entries of a transplant and its control on so many fields, as ``robustness.grid`` makes."""

    def entry(key: str, fields: int, wrong: int) -> dict[str, Any]:
        told = {"key": key, "name": key, "family": "background", "fields": fields}
        if not fields:
            return told
        names = ("all_called_benign", "flipped", "labels_given", "wrong_labels", "flipped_to_donor")
        rates = {name: Rate(wrong, fields).to_dict() for name in names}
        return {**told, **rates, "accuracy": Rate(fields - wrong, fields).to_dict()}

    found = [entry("background_other_class", total, 5), entry("background_same_class", control, 1)]
    if control < total:
        found[1]["without_donor"] = {"Benign": total - control}
    if 0 < control < total:
        found.insert(1, entry("background_other_class_on_control", control, 3))
    return found


@pytest.mark.parametrize(
    ("controls", "told"),
    [((24, 24), None), ((24, 18), (42, 8)), ((18, 24), (42, 8)), ((18, 0), (18, 3))],
)
def test_a_transplant_is_pooled_on_the_fields_of_its_control(
    controls: tuple[int, int], told: tuple[int, int] | None
) -> None:
    reports = [
        {**report(fold), "robustness": transplants(24, control)}
        for fold, control in zip((1, 2), controls, strict=True)
    ]
    by_key = {entry["key"]: entry for entry in pool(reports)["robustness"]}
    assert by_key["background_other_class"]["fields"] == 48
    control = by_key["background_same_class"]
    assert control["fields"] == sum(controls)
    alone = by_key.get("background_other_class_on_control")
    if told is None:
        assert alone is None and "without_donor" not in control
        return
    assert alone is not None
    assert (alone["fields"], alone["flipped"]["count"]) == told
    assert alone["name"] == "background_other_class_on_control"
    assert control["without_donor"] == {"Benign": 48 - sum(controls)}
    text = changed_fields(pool(reports))
    assert f"background_same_class; no donor for {48 - sum(controls)} Benign |" in text


def test_reports_that_cannot_tell_a_transplant_on_the_control_leave_it_out() -> None:
    older = transplants(24, 18)
    del older[1]
    reports = [
        {**report(1), "robustness": transplants(24, 18)},
        {**report(2), "robustness": older},
    ]
    keys = [entry["key"] for entry in pool(reports)["robustness"]]
    assert keys == ["background_other_class", "background_same_class"]


def test_a_field_counts_once() -> None:
    with pytest.raises(DataError, match="two reports"):
        pool([report(1), report(1)])


def test_fields_that_are_not_new_or_of_other_data_are_refused() -> None:
    old = copy.deepcopy(report(2))
    old["data"]["role"] = "train"
    with pytest.raises(DataError, match=r"fold2.*train"):
        pool([report(1), old])
    other = copy.deepcopy(report(2))
    other["data"]["fingerprint"] = "g"
    with pytest.raises(DataError, match="different data"):
        pool([report(1), other])


def test_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for fold in (1, 2):
        path = tmp_path / f"{fold}" / "report.json"
        path.parent.mkdir()
        path.write_text(json.dumps(report(fold)))
        paths.append(str(path.parent))
    assert main([*paths, "-o", str(tmp_path / "all.md")]) == 0
    assert (tmp_path / "all.md").read_text().startswith("48 fields")
    assert main([*paths, str(tmp_path / "none")]) == 2
    assert "allsub-edge evaluate" in capsys.readouterr().err
