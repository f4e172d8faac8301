from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace
from typing import Any

import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.prediction import (
    ROW_COLUMNS,
    ModelInfo,
    Prediction,
    Problem,
    answer,
    prediction_set,
)
from allsub_edge.quality import Quality

QUALITY = Quality(
    focus=12.5,
    background=(240.0, 238.5, 241.0),
    cell_fraction=0.2,
    domain_distance=3,
    cells=4,
    brightness=239.8,
    clipped=0.01,
    black=0.002,
    cast=0.0105,
    stain=0.5,
    cell_blue=0.99,
)
MODEL = ModelInfo("toy", "0.1", "ab" * 32, "onnxruntime 1.2", 2)
TIMING = {"decode": 1.5, "prepare": 0.5, "infer": 3.0}
HALF = dict.fromkeys(CLASSES, 0.5)


def made(*probabilities: float, reasons: tuple[str, ...] = (), conformal: Any = HALF) -> Prediction:
    return answer("f.jpg", probabilities, conformal, QUALITY, reasons, TIMING, MODEL)


def failed() -> Prediction:
    return Prediction(
        source="f.jpg",
        status="error",
        label=None,
        top=None,
        probabilities={},
        prediction_set=[],
        reasons=[],
        quality=None,
        timing_ms={"decode": 0.1},
        model=MODEL,
        error=Problem("truncated", "f.jpg: cut short"),
    )


def test_the_json_is_the_contract() -> None:
    assert json.loads(made(0.0, 0.0, 0.0, 1.0).to_json()) == {
        "schema": "allsub-edge/prediction/1",
        "source": "f.jpg",
        "status": "ok",
        "label": "Pro",
        "top": "Pro",
        "probabilities": {"Benign": 0.0, "Early": 0.0, "Pre": 0.0, "Pro": 1.0},
        "prediction_set": ["Pro"],
        "reasons": [],
        "quality": {
            "focus": 12.5,
            "background": [240.0, 238.5, 241.0],
            "cell_fraction": 0.2,
            "domain_distance": 3,
            "cells": 4,
            "brightness": 239.8,
            "clipped": 0.01,
            "black": 0.002,
            "cast": 0.0105,
            "stain": 0.5,
            "cell_blue": 0.99,
            "red_cell_tint": None,
        },
        "timing_ms": {"decode": 1.5, "prepare": 0.5, "infer": 3.0},
        "model": {
            "name": "toy",
            "version": "0.1",
            "sha256": "ab" * 32,
            "engine": "onnxruntime 1.2",
            "threads": 2,
        },
        "error": None,
    }


def test_keys_come_in_the_order_of_the_contract() -> None:
    wanted = (
        "schema source status label top probabilities prediction_set reasons quality timing_ms "
        "model error"
    )
    assert list(made(0.1, 0.2, 0.3, 0.4).to_dict()) == wanted.split()
    assert list(failed().to_dict()) == wanted.split()


@pytest.mark.parametrize("record", [made(0.7, 0.1, 0.1, 0.1), failed()])
def test_the_contract_has_every_attribute_and_shares_nothing(record: Prediction) -> None:
    before = asdict(record)
    raw = record.to_dict()
    assert raw == json.loads(json.dumps(before))
    for value in raw.values():
        if isinstance(value, dict | list):
            value.clear()
    assert asdict(record) == before


@pytest.mark.parametrize("record", [made(0.7, 0.1, 0.1, 0.1), failed()])
def test_round_trips(record: Prediction) -> None:
    assert Prediction.from_dict(json.loads(record.to_json())) == record
    assert pickle.loads(pickle.dumps(record)) == record
    assert tuple(record.to_row()) == ROW_COLUMNS


def test_a_record_from_before_the_later_measures_is_read() -> None:
    raw = made(0.7, 0.1, 0.1, 0.1).to_dict()
    raw["quality"] = {
        name: raw["quality"][name]
        for name in ("focus", "background", "cell_fraction", "domain_distance")
    }
    read = Prediction.from_dict(raw)
    assert read.quality == Quality(12.5, (240.0, 238.5, 241.0), 0.2, 3)
    assert read.to_row()["cells"] is None
    assert Prediction.from_dict(json.loads(read.to_json())) == read


def test_a_row_is_flat() -> None:
    row = made(0.5, 0.5, 0.0, 0.0, reasons=("out_of_focus", "too_few_cells")).to_row()
    assert row["p_Early"] == 0.5
    assert row["prediction_set"] == "Benign|Early"
    assert row["reasons"] == "out_of_focus|too_few_cells"
    assert (row["background_b"], row["infer_ms"], row["threads"]) == (241.0, 3.0, 2)
    assert (row["cells"], row["clipped"], row["red_cell_tint"]) == (4, 0.01, None)
    assert all(value is None or isinstance(value, str | int | float) for value in row.values())
    assert failed().to_row()["error_code"] == "truncated"
    assert failed().to_row()["p_Pro"] is None


def test_a_single_likely_class_is_ok() -> None:
    record = made(0.05, 0.8, 0.1, 0.05)
    assert (record.status, record.label, record.top) == ("ok", "Early", "Early")


def test_two_likely_classes_are_uncertain() -> None:
    record = made(0.3, 0.45, 0.2, 0.05, conformal=dict.fromkeys(CLASSES, 0.7))
    assert record.prediction_set == ["Benign", "Early"]
    assert (record.status, record.label, record.top) == ("uncertain", None, "Early")


def test_no_likely_class_is_uncertain() -> None:
    record = made(0.3, 0.4, 0.2, 0.1)
    assert (record.status, record.label, record.prediction_set) == ("uncertain", None, [])


def test_a_single_class_that_is_not_the_top_is_uncertain() -> None:
    record = made(0.4, 0.6, 0.0, 0.0, conformal=HALF | {"Benign": 0.7, "Early": 0.1})
    assert record.prediction_set == ["Benign"]
    assert (record.status, record.label, record.top) == ("uncertain", None, "Early")


def test_a_reason_makes_it_unfit_but_keeps_the_top() -> None:
    record = made(0.0, 0.0, 0.0, 1.0, reasons=("out_of_domain",))
    assert (record.status, record.label, record.top) == ("unfit", None, "Pro")


def test_the_set_has_the_documented_boundary() -> None:
    # 1 - threshold itself belongs to the set; a threshold of 0 still accepts full certainty.
    assert prediction_set([0.25, 0.75, 0, 0], HALF | {"Benign": 0.75}) == ["Benign", "Early"]
    assert prediction_set([0.24, 0.76, 0, 0], HALF | {"Benign": 0.75}) == ["Early"]
    assert prediction_set([1, 0, 0, 0], dict.fromkeys(CLASSES, 0.0)) == ["Benign"]
    assert prediction_set([0.1, 0.2, 0.4, 0.3], None) == ["Pre"]


def test_rounding_never_excludes_a_class() -> None:
    # Threshold taken from an unrounded score; the record's probability is rounded below it.
    probability = 0.6000004
    thresholds = HALF | {"Pro": 1 - probability}
    record = made(0.2, 0.1, 1 - 0.3 - probability, probability, conformal=thresholds)
    assert record.probabilities["Pro"] == 0.6
    assert record.prediction_set == ["Pro"]


@pytest.mark.parametrize(
    "change",
    [
        {"label": None},
        {"label": "Pre"},
        {"top": "Pre"},
        {"status": "uncertain"},
        {"status": "unfit"},
        {"status": "fine"},
        {"reasons": ["out_of_focus"]},
        {"reasons": ["bored"]},
        {"prediction_set": ["Pro", "Pre"]},
        {"prediction_set": ["Pre", "Pro"]},
        {"probabilities": {"Benign": 0.0, "Early": 0.0, "Pre": 0.0, "Pro": 0.9}},
        {"probabilities": {"Pro": 1.0}},
        {"probabilities": {"Benign": -0.5, "Early": 0.5, "Pre": 0.0, "Pro": 1.0}},
        {"probabilities": {"Benign": float("nan"), "Early": 0.0, "Pre": 0.0, "Pro": 1.0}},
        {"quality": None},
        {"error": Problem("a", "b")},
        {"timing_ms": {"lunch": 1.0}},
        {"schema": "allsub-edge/prediction/2"},
    ],
)
def test_contradictions_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a valid prediction"):
        replace(made(0.0, 0.0, 0.0, 1.0), **change)


@pytest.mark.parametrize(
    "change", [{"error": None}, {"top": "Pro"}, {"probabilities": {"Pro": 1.0}}]
)
def test_an_error_has_no_answer(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        replace(failed(), **change)


def test_foreign_records_are_refused() -> None:
    raw = made(0.0, 0.0, 0.0, 1.0).to_dict()
    with pytest.raises(DataError, match="upgrade"):
        Prediction.from_dict(raw | {"schema": "allsub-edge/prediction/2"})
    with pytest.raises(DataError, match="source"):
        Prediction.from_dict({key: raw[key] for key in raw if key != "source"})
    with pytest.raises(DataError):
        Prediction.from_dict(raw | {"probabilities": [1, 2]})
