"""Is this run slower than an earlier one? For a gate in CI, or after an upgrade."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allsub_edge.benchmarks.suite import SCHEMA
from allsub_edge.errors import DataError


def load(path: Path) -> dict[str, Any]:
    """Read an earlier result.

    Raises:
        DataError: ``missing``, ``not_a_benchmark`` or ``unknown_schema``. An entry that the
            comparison reads and does not find makes it ``not_a_benchmark``.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("missing", f"{path}: there is no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise DataError(
            "not_a_benchmark", f"{path}: is no result of allsub-edge bench ({error})"
        ) from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        schema = found.get("schema") if isinstance(found, dict) else None
        raise DataError(
            "unknown_schema",
            f"{path}: has schema {schema!r}, this version reads {SCHEMA!r}: measure it again",
        )
    lacking = _lacking(found)
    if lacking:
        raise DataError(
            "not_a_benchmark",
            f"{path}: is no whole result of allsub-edge bench ({lacking}): measure it again",
        )
    return found


def _lacking(found: dict[str, Any]) -> str:
    """The first entry that :func:`changes` or :func:`warnings` would miss; empty if none."""
    machine, models = found.get("machine"), found.get("models")
    if not isinstance(machine, dict) or not isinstance(machine.get("versions"), dict):
        return "it lacks machine.versions"
    if not isinstance(models, list):
        return "it lacks models"
    for place, row in enumerate(models):
        steady = row.get("steady") if isinstance(row, dict) else None
        if not isinstance(steady, dict) or not isinstance(row.get("name"), str):
            return f"models[{place}] lacks name or steady"
        for kind, times in steady.items():
            p90 = times.get("p90_ms") if isinstance(times, dict) else None
            if not isinstance(p90, int | float) or not p90 > 0:
                return f"models[{place}].steady.{kind}.p90_ms is not a time"
    return ""


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """p90 of every model and workload that both results have, and the change in percent.

    Models are matched by name. Where both runs hold references, the change of a reference tells
    how much of the change is the machine's.
    """
    before = {row["name"]: row["steady"] for row in old["models"]}
    found = []
    for row in new["models"]:
        for kind, steady in row["steady"].items():
            was = before.get(row["name"], {}).get(kind)
            if was is None:
                continue
            percent = 100 * (steady["p90_ms"] / was["p90_ms"] - 1)
            found.append(
                {
                    "name": row["name"],
                    "workload": kind,
                    "old_p90_ms": was["p90_ms"],
                    "new_p90_ms": steady["p90_ms"],
                    "percent": round(percent, 2),
                    "reference": row["word"] != "ours",
                }
            )
    return found


def warnings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Why two results may not be comparable: another processor, core count or engine version."""
    found = []
    for key in ("cpu", "board", "cores", "architecture"):
        a, b = old["machine"].get(key), new["machine"].get(key)
        if a != b:
            found.append(f"another {key}: {a} then, {b} now")
    for name, a in old["machine"]["versions"].items():
        b = new["machine"]["versions"].get(name)
        if a != b:
            found.append(f"another {name}: {a} then, {b} now")
    return found
