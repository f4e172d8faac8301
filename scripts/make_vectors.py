"""Writes the test vectors: files from which any language can check that it reads fields as we do.

    python scripts/make_vectors.py                 everything, with the shipped int8 files
    python scripts/make_vectors.py --no-model      only what needs no model
    python scripts/make_vectors.py --model FILE    expectations of another model file

``tests/vectors/fields`` holds rendered PNG files, ``vectors.json`` what must come out of them
before the model runs, ``expected-NAME-VERSION.json`` what that model answers as an ONNX file and
``expected-NAME-VERSION-tflite.json`` as a TFLite file. The same program, renderer and model give
the same files; a PNG whose pixels are right already is left alone, because another zlib packs the
same pixels into other bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from allsub_edge import models
from allsub_edge.atomic import write_bytes, write_text
from allsub_edge.case.rule import FieldCounts, decide
from allsub_edge.classes import CLASSES
from allsub_edge.classifier import Classifier
from allsub_edge.errors import AllsubError, FieldError, ModelFileError
from allsub_edge.imaging.decode import decode
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.render import RENDERER, render_field
from allsub_edge.imaging.resize import FIELD_SIZE, RESIZE_RULE, squash
from allsub_edge.quality import measure

Field = npt.NDArray[np.uint8]

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "vectors"
SCHEMA = "allsub-edge/vectors/1"
EXPECTED_SCHEMA = "allsub-edge/expected/1"
RECIPE = "cells"
SAMPLES = ((0, 0), (0, 223), (111, 112), (223, 0), (223, 223), (57, 190))
"""(row, column) of the squashed field whose colours are written out."""


def sha256(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def _cut(seed: int, label: str, width: int, height: int) -> Field:
    """The upper left ``width`` x ``height`` of a rendered field."""
    return np.ascontiguousarray(render_field(seed, label, max(width, height))[:height, :width])


def _blue_kept(seed: int, label: str) -> Field:
    """A rendered field whose cells let twice as much blue through, as real stains do.

    Rendered cells are too dark in blue for a trained model's limits, which refuses most of them;
    some of these it answers.
    """
    field = render_field(seed, label).copy()
    field[..., 2] = 255 - (255 - field[..., 2]) // 2
    return field


def _blurred() -> Field:
    """A field drawn at 32 pixels and squashed up to 224: nothing in it is sharp."""
    return squash(render_field(5, "Early", 32))


def _empty() -> Field:
    """Glass without a cell: a bright ramp, so that no two rows are equal."""
    rows, columns = np.mgrid[0:FIELD_SIZE, 0:FIELD_SIZE]
    light = 236 + (rows // 32 + columns // 28) % 8
    return np.stack([light + 4, light + 6, light + 3], axis=-1).astype(np.uint8)


def _not_a_smear() -> Field:
    """A colour chart: saturated squares that no stain makes."""
    rows, columns = np.mgrid[0:240, 0:320]
    cell = rows // 40 * 8 + columns // 40
    chart = np.stack([cell * 53 % 256, cell * 101 % 256, cell * 197 % 256], axis=-1)
    return chart.astype(np.uint8)


FIELDS: dict[str, Callable[[], Field]] = {
    "benign-224x224": lambda: render_field(1, "Benign"),
    "early-224x224": lambda: _blue_kept(10, "Early"),
    "pre-224x224": lambda: _blue_kept(16, "Pre"),
    "pro-224x224": lambda: render_field(1, "Pro"),
    "between-224x224": lambda: _blue_kept(15, "Early"),
    "benign-300x200": lambda: _cut(2, "Benign", 300, 200),
    "early-160x120": lambda: _cut(3, "Early", 160, 120),
    "pre-512x380": lambda: _cut(2, "Pre", 512, 380),
    "pro-225x223": lambda: _cut(4, "Pro", 225, 223),
    "blurred-224x224": _blurred,
    "empty-224x224": _empty,
    "not-a-smear-320x240": _not_a_smear,
}
"""Name -> how the field is made."""

REFUSED: dict[str, Callable[[bytes], bytes]] = {
    "cut-short.png": lambda png: png[: len(png) // 2],
    "not-an-image.png": lambda png: b"This is a text file under an image's name.\n",
}
"""Files that no program may answer for; made from the bytes of one whole PNG."""

RESIZE_CASES: tuple[tuple[int, int, int], ...] = (
    *((3, 1, 2), (1, 1, 2), (2, 2, 1), (5, 3, 2), (2, 3, 5), (7, 4, 3), (4, 4, 4), (1, 6, 4)),
)
"""(width, height, size) of the small arrays in the resize vectors."""


def _small(width: int, height: int) -> Field:
    """Values all over 0..255, both ends among them; integers only."""
    index = np.arange(width * height * 3, dtype=np.int64)
    values = index * 89 + index * index * 7
    values[0], values[-1] = 255, 0
    return (values % 256).astype(np.uint8).reshape(height, width, 3)


def resize_vectors() -> list[dict[str, Any]]:
    """Tiny arrays and what rule ``area-exact/1`` makes of them; flat lists are row-major RGB."""
    found = []
    for width, height, size in RESIZE_CASES:
        rgb = _small(width, height)
        found.append(
            {
                "width": width,
                "height": height,
                "size": size,
                "rgb": rgb.ravel().tolist(),
                "expected": squash(rgb, size).ravel().tolist(),
            }
        )
    return found


def _counts(fit: int, kind: int) -> tuple[list[int], list[int], int]:
    """Votes and prediction sets of a case, and how many of those sets have any leukaemia.

    Whole numbers only: most fields say one class, every ``step``-th says another, and further
    sets have a second class or miss the first.
    """
    main, other = kind % 4, (kind // 4 + kind + 1) % 4
    step = (2, 3, 6, 11, 99)[kind % 5]
    wide = (1, 4, 9, 99)[kind % 4]
    votes, sets, sick = [0] * 4, [0] * 4, 0
    for number in range(fit):
        says = other if number % step == step - 1 else main
        chosen = {says, main if number % wide == wide - 1 else says}
        if kind % 7 == 6 and number % 2:
            chosen = set()
        if number % wide == wide - 1:
            chosen |= {other}
        votes[says] += 1
        for index in chosen:
            sets[index] += 1
        sick += bool(chosen - {0})
    return votes, sets, sick


def case_vectors() -> list[dict[str, Any]]:
    """Counts of the fields of a case, and what the rule for cases makes of them."""
    found = []
    for kind in range(28):
        for fit in (4, 30) if kind % 2 else (3, 8, 30) if kind else (0, 8, 40):
            votes, sets, sick = _counts(fit, kind)
            means = {name: votes[i] / fit for i, name in enumerate(CLASSES)} if fit else {}
            given = {
                "means": {name: round(value, 6) for name, value in means.items()},
                "votes": dict(zip(CLASSES, votes, strict=True)),
                "in_sets": dict(zip(CLASSES, sets, strict=True)),
                "leukaemia_in_set": sick,
            }
            counts = FieldCounts(ok=fit, unfit=(kind % 3) * fit)
            decision = decide(**given, fields=counts)
            found.append(
                given
                | {"fit": counts.fit, "unfit": counts.unfit}
                | {"expected": decision._asdict()}
            )
    return found


def describe(name: str, rgb: Field) -> dict[str, Any]:
    """What must come out of one field before the model runs."""
    small = squash(rgb)
    mask = get_recipe(RECIPE).mask(small)
    # The distance comes from a model, and there is none here.
    quality = asdict(measure(small, mask, 0.0))
    del quality["domain_distance"]
    quality["background"] = list(quality["background"])
    return {
        "file": f"fields/{name}.png",
        "width": int(rgb.shape[1]),
        "height": int(rgb.shape[0]),
        "rgb_sha256": sha256(rgb.tobytes()),
        "squashed_sha256": sha256(small.tobytes()),
        "squashed_samples": [
            {"row": row, "column": column, "rgb": small[row, column].tolist()}
            for row, column in SAMPLES
        ],
        "mask_sha256": sha256(mask.tobytes()),
        "mask_pixels": int(mask.sum()),
        "quality": quality,
    }


def build() -> tuple[dict[str, Field], dict[str, Any]]:
    """Fields by name, and ``vectors.json`` but for the SHA-256 of the files themselves."""
    fields = {name: make() for name, make in FIELDS.items()}
    document = {
        "schema": SCHEMA,
        "renderer": RENDERER,
        "resize": RESIZE_RULE,
        "recipe": {"name": RECIPE, "version": get_recipe(RECIPE).version},
        "fields": [describe(name, rgb) for name, rgb in fields.items()],
        "resize_vectors": resize_vectors(),
        "case_vectors": case_vectors(),
    }
    return fields, document


def expectations(classifier: Classifier, folder: Path = FOLDER) -> dict[str, Any]:
    """What a model answers on the files in ``folder``."""
    info, manifest = classifier.info, classifier.manifest
    answers = []
    for path in sorted((folder / "fields").glob("*.png")):
        rgb = decode(path.read_bytes()).rgb
        mask = classifier.engine.run(squash(rgb)[None]).mask[0]
        record = classifier.predict(path, source=f"fields/{path.name}").to_dict()
        kept = ("status", "label", "top", "probabilities", "prediction_set", "reasons", "quality")
        answers.append(
            {"file": record["source"]}
            | {key: record[key] for key in kept}
            | {"mask_sha256": sha256(np.ascontiguousarray(mask).tobytes())}
        )
    return {
        "schema": EXPECTED_SCHEMA,
        "model": {
            "name": info.name,
            "version": info.version,
            "precision": manifest.precision,
            "sha256": info.sha256,
        },
        "engine": info.engine,
        # What other engines and chips may differ by, in a probability and relatively in a distance.
        "tolerance": manifest.golden.tolerance,
        "fields": answers,
    }


def shipped() -> list[Path]:
    """The int8 files that ship: the ONNX file, and the TFLite file where there is one."""
    first = models.default_path()
    return [first, *(path for path in [first.with_suffix(".tflite")] if path.is_file())]


def expected_name(classifier: Classifier, model: Path) -> str:
    """File name of the expectations of a model in one file format."""
    kind = "-tflite" if model.suffix == ".tflite" else ""
    return f"expected-{classifier.info.name}-{classifier.info.version}{kind}.json"


def to_text(document: dict[str, Any]) -> str:
    """Indented ASCII JSON, lists of numbers on one line, and every case vector."""
    cases = document.get("case_vectors", [])
    shown = document | {"case_vectors": []} if cases else document
    text = json.dumps(shown, indent=1, ensure_ascii=True, allow_nan=False)
    lines: list[str] = []
    for line in text.split("\n"):
        # A number, or the bracket that ends a list of them, joins the line before.
        bare = line.strip()
        number = bare.rstrip(",").lstrip("-").replace(".", "", 1).isdigit()
        closing = bare in ("]", "],") and lines and lines[-1][-1:].isdigit()
        if number or closing:
            gap = "" if closing or lines[-1].endswith("[") else " "
            lines[-1] += gap + bare
        else:
            lines.append(line)
    text = "\n".join(lines) + "\n"
    rows = [f"  {json.dumps(case, ensure_ascii=True, allow_nan=False)}" for case in cases]
    return text.replace('"case_vectors": []', '"case_vectors": [\n' + ",\n".join(rows) + "\n ]")


def _png(rgb: Field) -> bytes:
    done, data = cv2.imencode(".png", rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not done:
        raise ValueError("OpenCV could not write a PNG")
    return bytes(data)


def _write_fields(fields: dict[str, Field], folder: Path) -> None:
    for name, rgb in fields.items():
        path = folder / "fields" / f"{name}.png"
        same = path.is_file() and np.array_equal(decode(path.read_bytes()).rgb, rgb)
        if not same:
            write_bytes(path, _png(rgb))
    for path in (folder / "fields").glob("*.png"):
        if path.stem not in fields:
            path.unlink()


def _write_refused(folder: Path) -> list[dict[str, str]]:
    whole = (folder / "fields" / "pro-224x224.png").read_bytes()
    found = []
    for name, spoil in REFUSED.items():
        data = spoil(whole)
        write_bytes(folder / "refused" / name, data)
        try:
            decode(data, source=name)
        except FieldError as error:
            entry = {"file": f"refused/{name}", "sha256": sha256(data), "code": error.code}
            found.append(entry)
    return found


def write(folder: Path = FOLDER) -> None:
    """Write the fields and ``vectors.json``."""
    fields, document = build()
    _write_fields(fields, folder)
    for entry in document["fields"]:
        entry["sha256"] = sha256((folder / entry["file"]).read_bytes())
    document["refused"] = _write_refused(folder)
    write_text(folder / "vectors.json", to_text(document))


def write_expected(files: list[Path], folder: Path = FOLDER) -> list[Path]:
    """Write the expectations of model files in place of all others; returns the paths."""
    texts = {}
    for model in files:
        # One thread: the sums inside the engine then have one order.
        with Classifier.load(model, threads=1) as classifier:
            texts[folder / expected_name(classifier, model)] = to_text(
                expectations(classifier, folder)
            )
    for old in folder.glob("expected-*.json"):
        if old not in texts:
            old.unlink()
    for target, text in texts.items():
        write_text(target, text)
    return list(texts)


def main() -> int:
    """Write everything; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the test vectors.")
    parser.add_argument(
        "--model", type=Path, nargs="+", help="model files (default: the shipped int8 ones)"
    )
    parser.add_argument("--no-model", action="store_true", help="only what needs no model")
    parser.add_argument("--out", type=Path, default=FOLDER, help="default: tests/vectors")
    args = parser.parse_args()
    try:
        write(args.out)
        if not args.no_model:
            print(*write_expected(args.model or shipped(), args.out), sep="\n")
    except ModelFileError as error:
        print(f"{error.message}; or leave the model out with --no-model", file=sys.stderr)
        return 2
    except (AllsubError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
