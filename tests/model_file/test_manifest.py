from __future__ import annotations

import json
from typing import Any

import pytest

from allsub_edge.errors import ModelFileError
from allsub_edge.model_file.manifest import Manifest
from tests import toy_model


def refused(raw: dict[str, Any]) -> ModelFileError:
    with pytest.raises(ModelFileError) as caught:
        Manifest.from_json(json.dumps(raw))
    assert "\n" not in caught.value.message
    return caught.value


def test_survives_a_round_trip_with_unknown_keys() -> None:
    raw = toy_model.manifest_dict(novelty={"a": [1, 2]})
    raw["calibration"]["novel"] = 3
    manifest = Manifest.from_dict(raw)
    assert manifest.extra == {"novelty": {"a": [1, 2]}}
    assert json.loads(manifest.to_json()) == raw
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_unknown_schema_says_to_upgrade() -> None:
    error = refused(toy_model.manifest_dict(schema="allsub-edge/model/2"))
    assert error.code == "unknown_schema"
    assert "upgrade" in error.message


@pytest.mark.parametrize("key", sorted(set(toy_model.manifest_dict()) - {"schema"}))
def test_a_missing_key_is_named(key: str) -> None:
    raw = toy_model.manifest_dict()
    del raw[key]
    error = refused(raw)
    assert (error.code, key in error.message) == ("bad_manifest", True)


def test_all_missing_keys_are_named_at_once() -> None:
    raw = toy_model.manifest_dict()
    del raw["licence"], raw["fusion"]
    assert "fusion, licence" in refused(raw).message


def test_wrong_class_order_is_refused() -> None:
    error = refused(toy_model.manifest_dict(classes=["Benign", "Pre", "Early", "Pro"]))
    assert error.code == "wrong_classes"


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("interface", "three-channel", "unknown_interface"),
        ("interface", "two-channel", "bad_manifest"),
        ("resize", "area-exact/2", "unknown_resize"),
        ("name", "", "bad_manifest"),
        ("classes", None, "wrong_classes"),
        ("input", [1], "bad_manifest"),
        ("golden", {"renderer": "render/1", "tolerance": -1, "cases": []}, "bad_manifest"),
        ("golden", {"renderer": "render/1", "tolerance": 0, "cases": [{}]}, "bad_manifest"),
    ],
)
def test_what_would_be_misread_is_refused(key: str, value: object, code: str) -> None:
    assert refused(toy_model.manifest_dict(**{key: value})).code == code


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", 0),
        ("temperature", "1"),
        ("alpha", 1.5),
        ("conformal", {"Benign": 0.5}),
        ("conformal", {"Benign": 0.5, "Early": 0.5, "Pre": 0.5, "Pro": 1.5}),
        ("domain_threshold", True),
        ("quality", {"min_focus": "high"}),
    ],
)
def test_calibration_is_validated(key: str, value: object) -> None:
    raw = toy_model.manifest_dict()
    raw["calibration"][key] = value
    error = refused(raw)
    assert error.code == "bad_manifest"
    assert f"calibration.{key}" in error.message


@pytest.mark.parametrize("size", [[224, 225], [112, 112]])
def test_another_input_size_is_refused(size: list[int]) -> None:
    raw = toy_model.manifest_dict()
    raw["input"]["size"] = size
    assert "input.size" in refused(raw).message


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000])
def test_no_json_is_refused(text: str) -> None:
    with pytest.raises(ModelFileError):
        Manifest.from_json(text)
