"""Whether a report that was read back holds what comparing and pooling take from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from allsub_edge.evaluation.measures import NAMES

OBJECTS: Final[dict[str, tuple[str, ...]]] = {
    "subject": ("kind", "name", "sha256", "backbone", "fusion", "recipe"),
    "data": ("fingerprint", "role", "protocol", "fields", "groups", "classes"),
    "measures": tuple(NAMES),
    "baselines": ("background_colour", "corner"),
}
"""Objects of a report and the keys that each must have."""

ROWS: Final[dict[str, tuple[str, ...]]] = {
    "measures": ("name", "value", "bootstrap95"),
    "baselines": ("name",),
    "fields": ("file", "sha256", "class", "group", "top", "probabilities"),
    "ablation": ("key", "name", "fields", "accuracy"),
    "robustness": ("key", "name", "family", "fields"),
}
"""Objects and lists of objects, and the keys that each of these must have."""


def lacking(report: Mapping[str, Any]) -> str:
    """The first thing that a report lacks, such as ``subject.name``; empty for a whole one.

    Keys that came later than the schema are not asked for, so that older reports can be read.
    """
    return next(_absent(report), "")


def _absent(report: Mapping[str, Any]) -> Iterator[str]:
    for name, keys in OBJECTS.items():
        yield from _keys(name, report.get(name), keys)
    for name, keys in ROWS.items():
        held = report.get(name)
        if not isinstance(held, dict | list) or not held:
            yield name
            continue
        for place, row in held.items() if isinstance(held, dict) else enumerate(held):
            yield from _keys(f"{name}.{place}", row, keys)
            if name == "robustness" and row["fields"]:
                yield from _keys(f"{name}.{place}", row, ("accuracy",))
    if not isinstance(report.get("ablation_note"), str):
        yield "ablation_note"
    if not isinstance(report.get("warnings"), list):
        yield "warnings"


def _keys(where: str, value: object, keys: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(value, dict):
        yield where
        return
    yield from (f"{where}.{key}" for key in keys if key not in value)
