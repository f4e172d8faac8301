from __future__ import annotations

import numpy as np
import pytest

from allsub_edge.training.metrics import Rate, calibration_error, confusion, log_loss, summarise


def test_wilson_interval_equals_the_published_example() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 and 0 of 20, method 3.
    low, high = Rate(81, 263).interval()
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = Rate(0, 20).interval()
    assert (low, round(high, 4)) == (0.0, 0.1611)


def test_rate_of_nothing_is_not_a_number() -> None:
    assert np.isnan(Rate(0, 0).value)
    assert all(np.isnan(Rate(0, 0).interval()))


def test_confusion_has_true_classes_in_rows() -> None:
    matrix = confusion(np.array([0, 0, 3]), np.array([0, 1, 3]))
    assert matrix[0].tolist() == [1, 1, 0, 0]
    assert matrix[3].tolist() == [0, 0, 0, 1]
    assert matrix.sum() == 3


def test_calibration_error_of_an_overconfident_answer() -> None:
    probabilities = np.array([[1.0, 0, 0, 0]] * 4, dtype=np.float32)
    labels = np.array([0, 0, 0, 1])
    assert calibration_error(labels, probabilities) == pytest.approx(0.25)
    assert calibration_error(np.zeros(4, int), probabilities) == 0.0


def test_log_loss_of_a_coin() -> None:
    probabilities = np.full((3, 4), 0.25, dtype=np.float32)
    assert log_loss(np.array([0, 1, 2]), probabilities) == pytest.approx(np.log(4))


def test_summary_tells_the_two_dangerous_errors_apart() -> None:
    labels = np.array([0, 0, 1, 2, 3, 3])
    top = np.array([0, 1, 0, 2, 3, 0])
    result = summarise(labels, np.eye(4, dtype=np.float32)[top])
    assert result["all_called_benign"]["count"] == 2
    assert result["all_called_benign"]["total"] == 4
    assert result["benign_called_all"]["count"] == 1
    assert result["accuracy"]["value"] == 0.5
    assert result["per_class"]["Benign"]["specificity"]["count"] == 2
    assert result["per_class"]["Pro"]["sensitivity"]["value"] == 0.5
