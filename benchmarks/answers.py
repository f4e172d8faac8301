"""The answers of model files on one machine, exactly, and how far another machine's are from them.

    python -m allsub_edge.benchmarks.answers record --out HERE.json --fields FOLDER MODEL...
    python -m allsub_edge.benchmarks.answers compare HERE.json THERE.json

``record`` replays the golden cases of every model, reads fields of a folder with every engine that
is installed for it, and measures their quality. Numbers are kept as they are in float32, so
``compare`` can tell equal to the bit from merely close. Both sides must read the same files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from allsub_edge import engines
from allsub_edge.benchmarks.machine import versions
from allsub_edge.classes import CLASSES
from allsub_edge.engines.base import Engine
from allsub_edge.errors import AllsubError, DataError
from allsub_edge.imaging.decode import decode, read_bytes
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import squash
from allsub_edge.model_file import container, golden
from allsub_edge.quality import measure
from allsub_edge.sources.paths import expand

SCHEMA: Final[str] = "allsub-edge/answers/2"

Field = np.ndarray[Any, np.dtype[np.uint8]]


def _sha(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def fields_of(folder: str | None, count: int) -> Iterator[tuple[str, Field]]:
    """``count`` fields spread evenly over a folder, squashed to 224x224; rendered ones without.

    Raises:
        FieldError: a file cannot be read.
        UsageError: there is no such folder.
    """
    if folder is None:
        for seed in range(count):
            yield f"rendered-{seed}", render_field(seed, CLASSES[seed % len(CLASSES)])
        return
    found = [item.path for item in expand([folder]) if item.path is not None]
    for path in found[:: max(1, len(found) // count)][:count]:
        yield path.name, squash(decode(read_bytes(path), source=str(path)).rgb)


def _answers(engine: Engine, fields: list[tuple[str, Field]]) -> dict[str, Any]:
    found = {}
    for name, field in fields:
        raw = engine.run(field[None])
        found[name] = {
            "field": _sha(field),
            "mask": _sha(raw.mask[0]),
            # A float32 survives the way through a Python float and JSON unchanged.
            "probabilities": [float(value) for value in raw.probabilities[0]],
            "distance": float(raw.domain_distance[0]),
            "quality": asdict(measure(field, raw.mask[0], 0.0)),
        }
    return found


def record(models: list[str], folder: str | None, count: int) -> dict[str, Any]:
    """All answers of this machine.

    Raises:
        AllsubError: a model or a field cannot be used.
    """
    fields = list(fields_of(folder, count))
    rows = []
    for path in models:
        model = container.read(path)
        for name in engines.variants(model.format):
            # tensorflow brings the very interpreter again, and takes long to load.
            if name == "litert:tensorflow":
                continue
            print(f"{Path(path).name} on {name}", file=sys.stderr, flush=True)
            engine = engines.open_engine(model, engine=name, threads=1)
            cases = golden.replay(model.manifest.golden, engine.run)
            rows.append(
                {
                    "model": Path(path).name,
                    "sha256": model.sha256,
                    "engine": name,
                    "golden": {"cases": len(cases), "passed": sum(case.passed for case in cases)},
                    "answers": _answers(engine, fields),
                }
            )
            engine.close()
    return {
        "schema": SCHEMA,
        "architecture": platform.machine(),
        "versions": versions(),
        "rows": rows,
    }


def load(path: str) -> dict[str, Any]:
    """Read what ``record`` wrote.

    Raises:
        DataError: ``not_answers``.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("not_answers", f"{path}: cannot be read as answers ({error})") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise DataError("not_answers", f"{path}: was not written by `answers record`")
    return found


def compare(here: dict[str, Any], there: dict[str, Any]) -> list[dict[str, Any]]:
    """How far ``there`` is from ``here``, one row for each model and engine that both have.

    Raises:
        DataError: ``not_the_same``, the two did not read the same fields with the same models.
    """
    rows = []
    others = {(row["model"], row["engine"]): row for row in there["rows"]}
    for row in here["rows"]:
        other = others.get((row["model"], row["engine"]))
        if other is None:
            continue
        if other["sha256"] != row["sha256"] or other["answers"].keys() != row["answers"].keys():
            raise DataError(
                "not_the_same",
                f"{row['model']}: the two sides read other fields or have another file: "
                "record both again from the same folder",
            )
        pairs = [(mine, other["answers"][name]) for name, mine in row["answers"].items()]
        p = np.array([[a["probabilities"], b["probabilities"]] for a, b in pairs])
        d = np.array([[a["distance"], b["distance"]] for a, b in pairs])
        apart = np.abs(p[:, 0] - p[:, 1]).max(axis=1)
        rows.append(
            {
                "model": row["model"],
                "engine": row["engine"],
                "golden": other["golden"],
                "fields": len(pairs),
                "pixels_equal": sum(a["field"] == b["field"] for a, b in pairs),
                "masks_equal": sum(a["mask"] == b["mask"] for a, b in pairs),
                "quality_equal": sum(a["quality"] == b["quality"] for a, b in pairs),
                "bit_equal": sum(
                    (a["probabilities"], a["distance"]) == (b["probabilities"], b["distance"])
                    for a, b in pairs
                ),
                "same_class": int((p[:, 0].argmax(axis=1) == p[:, 1].argmax(axis=1)).sum()),
                "largest_probability_difference": float(apart.max()),
                "largest_distance_difference": float(
                    (np.abs(d[:, 0] - d[:, 1]) / np.maximum(np.abs(d[:, 0]), 1)).max()
                ),
            }
        )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table for people."""
    lines = [
        "| model | engine | golden cases | fields | pixels equal | masks equal "
        "| quality equal | equal to the bit | same class "
        "| largest difference of a probability / distance |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        case = row["golden"]
        lines.append(
            f"| {row['model']} | {row['engine']} | {case['passed']} of {case['cases']} "
            f"| {row['fields']} | {row['pixels_equal']} | {row['masks_equal']} "
            f"| {row['quality_equal']} | **{row['bit_equal']}** | {row['same_class']} "
            f"| {row['largest_probability_difference']:.2g} / "
            f"{row['largest_distance_difference']:.2g} |"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run the program; returns 0, or 2 with one line on stderr."""
    from allsub_edge.atomic import write_text

    parser = argparse.ArgumentParser(prog="answers", description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record", help="answer here")
    recording.add_argument("models", nargs="+", metavar="MODEL")
    recording.add_argument("--fields", metavar="FOLDER", help="default: rendered fields")
    recording.add_argument("--count", type=int, default=50, metavar="N", help="[%(default)s]")
    recording.add_argument("--out", required=True, metavar="OUT.json")
    comparing = verbs.add_parser("compare", help="hold two machines' answers against each other")
    comparing.add_argument("here", metavar="HERE.json")
    comparing.add_argument("there", metavar="THERE.json")
    args = parser.parse_args(arguments)
    try:
        if args.verb == "record":
            found = record(args.models, args.fields, args.count)
            write_text(args.out, json.dumps(found) + "\n")
        else:
            here, there = load(args.here), load(args.there)
            print(f"{here['architecture']} against {there['architecture']}\n")
            print(markdown(compare(here, there)))
    except AllsubError as error:
        print(f"answers: error: {error.message}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
