"""The manifest: what a model file says about itself.

One JSON object, schema ``allsub-edge/model/1``. Everything a device needs to use the model rightly
(classes in order, calibration, thresholds) and everything a person needs to judge it (data, split,
metrics, licence, intended use) travels in it. Keys that this version does not know are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from allsub_edge.classes import CLASSES
from allsub_edge.errors import ModelFileError
from allsub_edge.imaging.resize import FIELD_SIZE, RESIZE_RULE
from allsub_edge.model_file.entries import (
    Calibration,
    Golden,
    GoldenCase,
    bad,
    mapping,
    take,
    text,
)

__all__ = [
    "FIELD_INPUT",
    "INPUTS",
    "INTERFACES",
    "RESIZE",
    "SCHEMA",
    "TWO_CHANNEL_INPUT",
    "Calibration",
    "Golden",
    "GoldenCase",
    "Manifest",
]

SCHEMA: Final[str] = "allsub-edge/model/1"
RESIZE: Final[str] = RESIZE_RULE
"""The ``resize`` entry of every model that this version runs."""

FIELD_INPUT: Final[dict[str, Any]] = {
    "name": "field",
    "dtype": "uint8",
    "layout": "NHWC",
    "size": [FIELD_SIZE, FIELD_SIZE],
    "colour": "RGB",
}
"""The ``input`` entry of every model with the ``field`` interface."""

TWO_CHANNEL_INPUT: Final[dict[str, Any]] = {
    "names": ["original", "segmented"],
    "dtype": "float32",
    "layout": "NHWC",
    "size": [FIELD_SIZE, FIELD_SIZE],
    "colour": "RGB",
    "range": [0, 1],
}
"""The ``input`` entry of every model with the ``two-channel`` interface: pixels divided by 255.

``segmented`` is the second channel of the manifest's recipe, black outside the cells."""

INPUTS: Final[dict[str, dict[str, Any]]] = {
    "field": FIELD_INPUT,
    "two-channel": TWO_CHANNEL_INPUT,
}
"""Interface -> ``input`` entry."""

INTERFACES: Final[tuple[str, ...]] = tuple(INPUTS)


@dataclass(frozen=True)
class Manifest:
    """A validated manifest; attributes have the names of the JSON keys.

    ``recipe`` holds ``name``, ``version`` and ``params``; ``training`` holds at least
    ``data_fingerprint``, ``split_sha256``, ``protocol`` and ``seed``; ``metrics`` is free;
    ``extra`` keeps the keys that this version does not know.
    """

    name: str
    version: str
    created: str
    precision: str
    interface: str
    classes: tuple[str, ...]
    input: dict[str, Any]
    resize: str
    recipe: dict[str, Any]
    white_balance: str | None
    fusion: str
    backbone: str
    calibration: Calibration
    training: dict[str, Any]
    metrics: dict[str, Any]
    licence: str
    citation: str
    intended_use: str
    golden: Golden
    schema: str = SCHEMA
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, value: Any) -> Manifest:
        """Validate a manifest given as a JSON-like mapping.

        Raises:
            ModelFileError: ``unknown_schema`` (made by a newer version), ``bad_manifest`` (a key
                is missing or wrong), ``wrong_classes``, ``unknown_interface``, ``unknown_resize``.
        """
        raw = mapping(value, "content")
        schema = raw.get("schema")
        if schema != SCHEMA:
            raise ModelFileError(
                "unknown_schema",
                f"the manifest has schema {schema!r}, this version reads {SCHEMA!r}: "
                "upgrade allsub-edge (pip install --upgrade allsub-edge)",
            )
        names = tuple(f.name for f in fields(cls) if f.name != "extra")
        take(raw, names, "content")
        _check_contract(raw)
        recipe = mapping(raw["recipe"], "recipe")
        take(recipe, ("name", "version", "params"), "recipe")
        training = mapping(raw["training"], "training")
        take(training, ("data_fingerprint", "split_sha256", "protocol", "seed"), "training")
        balance = raw["white_balance"]
        return cls(
            **{
                name: text(raw[name], name)
                for name in (
                    *("name", "version", "created", "precision", "interface", "resize", "fusion"),
                    *("backbone", "licence", "citation", "intended_use"),
                )
            },
            classes=tuple(raw["classes"]),
            input=mapping(raw["input"], "input"),
            recipe=recipe,
            white_balance=None if balance is None else text(balance, "white_balance"),
            calibration=Calibration.from_dict(raw["calibration"]),
            training=training,
            metrics=mapping(raw["metrics"], "metrics"),
            golden=Golden.from_dict(raw["golden"]),
            extra={k: v for k, v in raw.items() if k not in names},
        )

    @classmethod
    def from_json(cls, document: str | bytes) -> Manifest:
        """Parse and validate; raises as ``from_dict`` does, and ``bad_manifest`` if not JSON."""
        try:
            raw = json.loads(document)
        except (ValueError, RecursionError) as error:
            raise bad("content", f"is not JSON ({error}): export the model again") from error
        return cls.from_dict(raw)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, ``schema`` first, unknown keys last."""
        own: dict[str, Any] = {"schema": self.schema}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in ("schema", "extra"):
                own[item.name] = value.to_dict() if hasattr(value, "to_dict") else value
        return own | {"classes": list(self.classes)} | self.extra

    def to_json(self) -> str:
        """One line of ASCII JSON: the same bytes for the same manifest."""
        return json.dumps(self.to_dict(), ensure_ascii=True, allow_nan=False)


def _check_contract(raw: Mapping[str, Any]) -> None:
    """Refuse what this version would silently misread: classes, interface, input, resize."""
    if not isinstance(raw["classes"], list | tuple) or tuple(raw["classes"]) != CLASSES:
        raise ModelFileError(
            "wrong_classes",
            f"the model's classes are {raw['classes']!r}, this version reads "
            f"{list(CLASSES)!r} in this order: use a model made for it",
        )
    if raw["interface"] not in INTERFACES:
        raise ModelFileError(
            "unknown_interface",
            f"the model's interface is {raw['interface']!r}, this version runs "
            f"{', '.join(INTERFACES)}: upgrade allsub-edge",
        )
    given = mapping(raw["input"], "input")
    for key, value in INPUTS[raw["interface"]].items():
        if given.get(key) != value:
            raise bad(f"input.{key}", f"must be {value!r}, not {given.get(key)!r}")
    if raw["resize"] != RESIZE:
        raise ModelFileError(
            "unknown_resize",
            f"the model wants resize rule {raw['resize']!r}, this version has {RESIZE!r}: "
            "upgrade allsub-edge",
        )
