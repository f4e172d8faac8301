"""Hold the records of one program against those of another, field by field.

    python examples/compare.py REFERENCE OTHER.ndjson

OTHER holds one JSON record a line, as `allsub-edge infer --format ndjson` and the examples here
write them; REFERENCE is such a file too, or `tests/vectors/expected-NAME-VERSION.json`. Records
belong together by the file name of their source, whatever folder stands before it. Printed are the
largest difference of a probability and every field whose status, label, top, prediction set or
reasons differ. The exit code is 0 when no word differs and no probability by more than the
tolerance, 1 when something does, 2 when the files do not fit each other.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

EXPECTED_SCHEMA = "allsub-edge/expected/1"
WORDS = ("status", "label", "top", "prediction_set", "reasons")
TOLERANCE = 0.02


def records(path: Path) -> list[dict[str, Any]]:
    """The records in a file of either kind.

    Raises:
        ValueError: a line is no JSON object.
    """
    text = path.read_text("utf-8")
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None  # more than one line
    if isinstance(whole, dict) and whole.get("schema") == EXPECTED_SCHEMA:
        return [record | {"source": record["file"]} for record in whole["fields"]]
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("source"), str):
            raise ValueError(f"{path}:{number}: not a record; one JSON object a line")
        found.append(record)
    return found


def read(path: Path) -> dict[str, dict[str, Any]]:
    """File name of the source -> record.

    Raises:
        ValueError: a line is no record, or two records have the same file name.
    """
    found: dict[str, dict[str, Any]] = {}
    for record in records(path):
        name = record["source"].replace("\\", "/").rpartition("/")[2]
        if name in found:
            raise ValueError(f"{path}: two records of {name}; give each file once")
        found[name] = record
    return found


def compare(
    reference: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]
) -> tuple[float, list[str]]:
    """Largest difference of a probability, and one line for each field whose words differ.

    Raises:
        ValueError: they are not records of the same fields.
    """
    if not reference or reference.keys() != other.keys():
        apart = sorted(reference.keys() ^ other.keys())
        raise ValueError(f"not the same fields: {len(apart)} stand in one file only {apart[:3]}")
    largest, lines = 0.0, []
    for name, wanted in reference.items():
        got = other[name]
        # The error record of a small program may hold its status alone.
        unread = wanted["status"] == got.get("status") == "error"
        words = () if unread else WORDS
        differ = [key for key in words if got.get(key, "absent") != wanted[key]]
        lines += [f"{name}: {key} {wanted[key]!r}, there {got.get(key)!r}" for key in differ]
        for label, probability in wanted["probabilities"].items():
            found = (got.get("probabilities") or {}).get(label, math.inf)
            apart = abs(found - probability)
            largest = max(largest, apart if math.isfinite(apart) else math.inf)
    return largest, lines


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reference", type=Path, metavar="REFERENCE")
    parser.add_argument("other", type=Path, metavar="OTHER.ndjson")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, metavar="P", help=f"default: {TOLERANCE}"
    )
    args = parser.parse_args(argv)
    try:
        reference = read(args.reference)
        largest, lines = compare(reference, read(args.other))
    except (OSError, ValueError) as problem:
        print(f"compare.py: error: {problem}", file=sys.stderr)
        return 2
    for line in lines:
        print(line)
    print(
        f"{len(reference)} fields, {len(lines)} differences in words, "
        f"largest difference of a probability {largest:.6f}"
    )
    return 1 if lines or largest > args.tolerance else 0


if __name__ == "__main__":
    sys.exit(main())
