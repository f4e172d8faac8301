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
        "subject": {"name": f"fold{fold}"},
        "data": {"role": "test", "fingerprint": "f"},
        "fields": fields,
        "ablation": [],
        "robustness": [condition, *([{**condition, "key": "blur_1"}] if fold == 1 else [])],
        "baselines": {"background_colour": background},
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
