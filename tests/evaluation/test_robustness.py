from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.evaluation import robustness
from allsub_edge.evaluation.answers import NO_LABEL, Answers
from allsub_edge.evaluation.conditions import CONDITIONS, FAMILIES, ON_CONTROL, conditions
from allsub_edge.evaluation.markdown import condition_row
from allsub_edge.evaluation.robustness import Material
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.render import render_field
from allsub_edge.training.background import background_colour
from allsub_edge.training.labelled import shifted_fields
from allsub_edge.training.perturb import gains

EACH = 4
TINTS = np.array([[1.0, 0.9, 0.9], [0.9, 1.0, 0.9], [0.9, 0.9, 1.0], [1.0, 1.0, 0.85]])


class Reader:
    """Names the class whose tint is nearest to the colour it looks at."""

    kind, path, calibration = "model", Path("reader.onnx"), None

    def __init__(self, sees: Any) -> None:
        self.sees = sees
        self.asked: list[np.ndarray] = []

    def answer(self, fields: np.ndarray) -> Answers:
        self.asked.append(fields)
        colours = np.array([self.sees(f) for f in fields])
        colours = colours / colours.max(1, keepdims=True)
        gap = np.abs(colours[:, None] - TINTS / TINTS.max(1, keepdims=True)).sum(2)
        top = gap.argmin(1)
        probabilities = np.full((len(top), 4), 0.1, np.float32)
        probabilities[np.arange(len(top)), top] = 0.7
        given = np.where(top == 0, NO_LABEL, top)
        statuses = ["ok" if label != NO_LABEL else "unfit" for label in given]
        return Answers(
            probabilities,
            given,
            probabilities > 0.5,
            statuses,
            [[] for _ in top],
            np.zeros(len(top)),
        )

    def identity(self) -> dict[str, Any]:
        return {}

    def trained_on(self) -> dict[str, Any]:
        return {}


def _glass(field: np.ndarray) -> np.ndarray:
    return background_colour(field)


def _marker(field: np.ndarray) -> np.ndarray:
    """Colour of the most saturated dark pixels: the painted cells below."""
    flat = field.reshape(-1, 3).astype(float)
    dark = flat[flat.sum(1) <= np.quantile(flat.sum(1), 0.01)]
    return dark.mean(0)


@pytest.fixture(scope="module")
def material() -> Material:
    """Rendered fields, each class in a light of its own."""
    fields, labels, groups = [], [], []
    for i, label in enumerate(CLASSES):
        for seed in range(1, EACH + 1):
            fields.append(gains(render_field(seed, label), TINTS[i].tolist()))
            labels.append(i)
            groups.append(f"{label}-{seed // 2}")
    stacked = np.stack(fields)
    mask = get_recipe("cells").mask
    return Material(stacked, np.stack([mask(f) for f in stacked]), np.array(labels), groups)


def _grid(subject: Reader, material: Material, quick: bool = False) -> dict[str, dict[str, Any]]:
    steps: list[int] = []
    plain = subject.answer(material.fields)
    found = robustness.grid(subject, material, plain, quick=quick, step=steps.append)
    assert sum(steps) == len(found) * len(material.labels)
    return {entry["key"]: entry for entry in found}


def test_a_reader_of_the_background_is_caught_by_the_transplant(material: Material) -> None:
    found = _grid(Reader(_glass), material)
    assert [c.key for c in CONDITIONS] == list(found)
    other = found["background_other_class"]
    assert other["accuracy"]["count"] == 0
    assert other["flipped"]["count"] == other["flipped_to_donor"]["count"] == 4 * EACH
    # The control has the same seams and no other class; in the field's own glass colour there is
    # nothing left for this reader to be misled by.
    assert found["background_same_class"]["accuracy"]["count"] == 4 * EACH
    assert found["background_other_class_matched"]["flipped"]["count"] == 0
    for key in ("rotation_90", "mirror", "scale_bar_removed"):
        assert found[key]["flipped"]["count"] == 0, key


def test_labels_given_and_wrong_labels_are_counted(material: Material) -> None:
    entry = _grid(Reader(_glass), material, quick=True)["background_other_class"]
    top_benign = entry["all_called_benign"]["count"]
    # This reader refuses whatever it calls Benign.
    assert 0 < entry["labels_given"]["count"] < 4 * EACH
    assert entry["wrong_labels"]["count"] == entry["wrong_labels"]["total"]
    assert entry["wrong_labels"]["total"] == 4 * EACH - top_benign


def test_the_quick_grid_is_a_part_of_the_grid(material: Material) -> None:
    quick = [c.key for c in conditions(quick=True)]
    assert set(quick) < {c.key for c in CONDITIONS} and 10 < len(quick) < len(CONDITIONS) / 2
    assert len({c.key for c in CONDITIONS}) == len(CONDITIONS)
    assert {c.family for c in CONDITIONS} == set(FAMILIES)


def test_random_gains_are_the_condition_of_the_training_evaluation(material: Material) -> None:
    subject = Reader(_glass)
    plain = subject.answer(material.fields)
    condition = next(c for c in CONDITIONS if c.key == "gains_10")
    subject.asked.clear()
    robustness._measure(subject, material, plain, condition, lambda count: None)
    np.testing.assert_array_equal(
        np.concatenate(subject.asked), shifted_fields(material.fields, 0.10, seed=10)
    )


def test_every_condition_changes_fields_and_repeats(material: Material) -> None:
    few = Material(material.fields[::4], material.masks[::4], material.labels[::4], list("abcd"))
    subject = Reader(_glass)
    plain = subject.answer(few.fields)
    for condition in CONDITIONS:
        asked = []
        for _ in range(2):
            subject.asked.clear()
            robustness._measure(subject, few, plain, condition, lambda count: None)
            asked.append(np.concatenate(subject.asked) if subject.asked else None)
        if condition.donor == "same":
            assert asked[0] is None, "one field a class has no donor of its class"
            continue
        np.testing.assert_array_equal(asked[0], asked[1])
        assert (asked[0] != few.fields).any(), condition.key


def test_no_donor_is_told_and_not_counted(material: Material) -> None:
    one = Material(material.fields[:2], material.masks[:2], material.labels[:2], ["a", "a"])
    subject = Reader(_glass)
    plain = subject.answer(one.fields)
    found = robustness.grid(subject, one, plain, quick=True, step=lambda count: None)
    entry = next(e for e in found if e["key"] == "background_other_class")
    assert entry["fields"] == 0 and "accuracy" not in entry
    worst = robustness.summary(found)
    assert worst is not None and worst["fields"] == 2


def _only_benign_has_two_groups(material: Material) -> Material:
    names = [CLASSES[i] for i in material.labels]
    groups = [
        group if name == "Benign" else name
        for name, group in zip(names, material.groups, strict=True)
    ]
    return Material(material.fields, material.masks, material.labels, groups)


def test_a_rate_of_nothing_is_null(material: Material) -> None:
    """The control has donors for Benign fields only, so no ALL field can be called Benign."""
    subject, few = Reader(_glass), _only_benign_has_two_groups(material)
    found = robustness.grid(
        subject, few, subject.answer(few.fields), quick=True, step=lambda count: None
    )
    control = next(e for e in found if e["key"] == "background_same_class")
    assert control["fields"] == EACH and control["all_called_benign"] is None
    assert control["wrong_labels"] is None, "this reader refuses what it calls Benign"
    json.dumps(found, allow_nan=False)
    assert condition_row(control)[2:] == ["-", "0 of 4", "0 of 4", "-"]


def test_control_and_treatment_are_told_on_the_same_fields(material: Material) -> None:
    subject, few = Reader(_glass), _only_benign_has_two_groups(material)
    steps: list[int] = []
    found = robustness.grid(
        subject, few, subject.answer(few.fields), quick=False, step=steps.append
    )
    assert sum(steps) == len(CONDITIONS) * len(few.labels), "nothing is answered twice"
    by_key = {entry["key"]: entry for entry in found}
    control = by_key["background_same_class"]
    assert control["without_donor"] == dict.fromkeys(CLASSES[1:], EACH)
    assert condition_row(control)[0] == (
        "background of the same class (control); no donor for 4 Early, 4 Pre, 4 Pro"
    )
    for key in ("background_other_class", "background_other_class_matched"):
        whole, alone = by_key[key], by_key[key + ON_CONTROL]
        assert whole["fields"] == 4 * EACH and alone["fields"] == control["fields"] == EACH
        assert "without_donor" not in whole and "without_donor" not in alone
        assert alone["name"] == whole["name"] + ", on the control's fields alone"
    # Benign alone: every one of its fields flips to its donor's class.
    assert by_key["background_other_class" + ON_CONTROL]["flipped_to_donor"]["count"] == EACH


def test_where_the_control_has_every_field_nothing_is_told_twice(material: Material) -> None:
    found = _grid(Reader(_glass), material, quick=True)
    assert not any(key.endswith(ON_CONTROL) for key in found)
    assert not any("without_donor" in entry for entry in found.values())


def test_donors_are_of_other_groups(material: Material) -> None:
    for key in ("background_other_class", "background_same_class"):
        condition = next(c for c in CONDITIONS if c.key == key)
        donors = robustness._donors(material, condition.donor)
        assert donors is not None and (donors >= 0).all()
        for field, donor in enumerate(donors):
            assert material.groups[field] != material.groups[donor]
            same = material.labels[field] == material.labels[donor]
            assert same == (condition.donor == "same")
