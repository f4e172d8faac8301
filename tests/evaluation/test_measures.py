from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the training extra is not installed")

from allsub_edge.classes import CLASSES
from allsub_edge.evaluation import bootstrap, measures, words
from allsub_edge.training.metrics import confusion

MATRIX = np.array([[8, 2, 0, 0], [1, 18, 1, 0], [0, 0, 30, 0], [0, 0, 4, 36]])


def test_measures_of_a_matrix_counted_by_hand() -> None:
    found = measures.from_matrix(MATRIX)
    assert found["accuracy"] == pytest.approx(92 / 100)
    assert found["balanced_accuracy"] == pytest.approx((0.8 + 0.9 + 1 + 0.9) / 4)
    assert found["all_sensitivity"] == pytest.approx(89 / 90)
    assert found["all_specificity"] == pytest.approx(8 / 10)
    assert found["specificity_Benign"] == pytest.approx(89 / 90)
    assert found["specificity_Pre"] == pytest.approx(65 / 70)
    assert found["macro_specificity"] == pytest.approx((89 / 90 + 78 / 80 + 65 / 70 + 1) / 4)


def test_macro_accuracy_halves_the_error() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = measures.from_matrix(rng.integers(0, 9, (4, 4)) + np.eye(4, dtype=int))
        assert 1 - found["macro_accuracy"] == pytest.approx((1 - found["accuracy"]) / 2)


def test_counts_say_the_same_as_the_matrix() -> None:
    found = measures.from_matrix(MATRIX)
    for key, rate in measures.counted(MATRIX).items():
        assert rate.value == pytest.approx(float(found[key])), key


def test_a_class_without_fields_is_no_number_and_null_in_json() -> None:
    empty = MATRIX.copy()
    empty[0] = 0
    assert np.isnan(measures.from_matrix(empty)["all_specificity"])
    assert measures.number(float("nan")) is None


def test_areas_are_those_of_scikit_learn(answers: tuple) -> None:
    from sklearn.metrics import roc_auc_score

    labels, probabilities, _ = answers
    found = measures.auroc(labels, probabilities)
    wanted = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert found["auroc_macro"] == pytest.approx(wanted, abs=1e-6)
    assert 0.5 < found["auroc_macro"] < 1


def test_every_measure_under_equal_weights_is_the_value_itself(answers: tuple) -> None:
    labels, probabilities, _ = answers
    # Equal scores within and across classes, so that the half of a tie counts.
    probabilities[20:24] = probabilities[0]
    matrix = confusion(labels, probabilities.argmax(1))
    values = measures.values(labels, probabilities, matrix)
    once = bootstrap.intervals(labels, probabilities, np.ones((1, len(labels))))
    assert set(values) == set(measures.NAMES) <= set(once)
    for key, value in values.items():
        assert once[key] == pytest.approx((value, value), abs=1e-6), key


def test_resampling_moves_whole_groups_of_a_class(answers: tuple) -> None:
    labels, _, groups = answers
    drawn = bootstrap.weights(labels, groups, 50, seed=3)
    assert drawn.shape == (50, 60)
    names = np.array(groups)
    for name in set(groups):
        inside = drawn[:, names == name]
        assert (inside == inside[:, :1]).all()
    for i in range(len(CLASSES)):
        np.testing.assert_array_equal(drawn[:, labels == i].sum(1), 15)
    np.testing.assert_array_equal(drawn, bootstrap.weights(labels, groups, 50, seed=3))
    assert (drawn != bootstrap.weights(labels, groups, 50, seed=4)).any()


def test_clustered_mistakes_widen_the_interval(answers: tuple) -> None:
    labels, probabilities, groups = answers
    alone = [str(i) for i in range(len(labels))]

    def width(names: list[str]) -> float:
        drawn = bootstrap.weights(labels, names, 1000)
        low, high = bootstrap.intervals(labels, probabilities, drawn)["sensitivity_Benign"]
        return high - low

    assert width(groups) > 1.3 * width(alone) > 0


NEEDS_BENIGN = {
    *("accuracy", "balanced_accuracy", "all_specificity", "macro_sensitivity"),
    *("macro_specificity", "macro_accuracy", "auroc_macro", "auroc_all", "calibration_error"),
    "sensitivity_Benign",
    *(f"specificity_{name}" for name in CLASSES[1:]),
    *(f"auroc_{name}" for name in CLASSES),
}


def test_what_needs_a_class_of_one_group_has_no_interval(answers: tuple) -> None:
    labels, probabilities, groups = answers
    one = ["all" if label == 0 else group for label, group in zip(labels, groups, strict=True)]
    drawn = bootstrap.weights(labels, one, 200)
    found = bootstrap.intervals(labels, probabilities, drawn)
    none = {key for key, (low, high) in found.items() if np.isnan(low) and np.isnan(high)}
    assert none == NEEDS_BENIGN
    usual = bootstrap.intervals(labels, probabilities, bootstrap.weights(labels, groups, 200))
    for key in set(found) - none:
        assert found[key] != (1.0, 1.0) or usual[key] == (1.0, 1.0), key
    hits = probabilities.argmax(1) == labels
    assert np.isnan(bootstrap.rate_interval(hits, drawn)).all()
    assert not np.isnan(bootstrap.rate_interval(hits[15:], drawn[:, 15:])).any()


def test_one_group_in_every_class_is_no_interval_of_one_point() -> None:
    labels = np.repeat(np.arange(4), 10)
    probabilities = np.full((40, 4), 0.1, np.float32)
    called = labels.copy()
    called[[0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 30, 31, 32]] += 1
    probabilities[np.arange(40), called % 4] = 0.7
    matrix = confusion(labels, called % 4)
    drawn = bootstrap.weights(labels, [CLASSES[i] for i in labels], 200)
    table = measures.table(
        measures.values(labels, probabilities, matrix),
        measures.counted(matrix),
        bootstrap.intervals(labels, probabilities, drawn),
    )
    assert table["accuracy"]["value"] == pytest.approx(0.65)
    for key, row in table.items():
        assert words.ends(row["bootstrap95"]) == "-", key
    assert "fewer than two groups has no bootstrap interval (-)" in words.INTERVALS


def test_the_table_is_json_with_both_intervals(answers: tuple) -> None:
    labels, probabilities, groups = answers
    matrix = confusion(labels, probabilities.argmax(1))
    table = measures.table(
        measures.values(labels, probabilities, matrix),
        measures.counted(matrix),
        bootstrap.intervals(labels, probabilities, bootstrap.weights(labels, groups, 200)),
    )
    accuracy = table["accuracy"]
    assert accuracy["count"] == int(np.trace(matrix)) < accuracy["total"] == 60
    for low, high in (accuracy["wilson95"], accuracy["bootstrap95"]):
        assert low <= accuracy["value"] <= high
    assert "wilson95" not in table["macro_specificity"]
