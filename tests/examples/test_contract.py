"""What is written for people who embed the model is what the package does."""

from __future__ import annotations

import re
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import pytest

from allsub_edge.case import CASE_REASONS
from allsub_edge.case.rule import BENIGN_BAR, INDEPENDENCE, LEUKAEMIA_BAR
from allsub_edge.classes import NOT_A_MEDICAL_DEVICE
from allsub_edge.engines.base import INPUT_NAME, OUTPUT_NAMES
from allsub_edge.model_file.container import DIGEST_KEY, MANIFEST_KEY
from allsub_edge.model_file.entries import Calibration
from allsub_edge.model_file.manifest import INTERFACES, RESIZE, SCHEMA, Manifest
from allsub_edge.model_file.tflite_bytes import MANIFEST_FILE
from allsub_edge.quality import LIMITS, REASONS

ROOT = Path(__file__).parents[2]
CONTRACT = (ROOT / "docs" / "embedding.md").read_text("utf-8")


def rows() -> list[list[str]]:
    """The cells of every table row of the contract."""
    lines = [line for line in CONTRACT.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_limit_stands_with_its_reason() -> None:
    told = {}
    for row in rows():
        for name in re.findall(r"`((?:min|max)_\w+)`", row[0]):
            told[name] = row[-1].strip("`")
    assert told == {name: reason for name, _, reason in LIMITS}


def test_every_reason_stands_with_its_sentence() -> None:
    told = {row[0].strip("`"): row[1] for row in rows() if len(row) == 2}
    assert {code: told[code] for code in REASONS} == REASONS
    listed = re.search(r"\*\*reasons\*\*, in this order:(.*?);", CONTRACT, re.DOTALL)
    assert listed is not None
    assert re.findall(r"`(\w+)`", listed[1]) == list(REASONS)


def test_the_rule_for_cases_stands_with_its_numbers_and_sentences() -> None:
    told = {row[0].strip("`"): row[2] for row in rows() if len(row) == 3}
    assert {code: told.get(code) for code in CASE_REASONS} == CASE_REASONS
    order = [row[0].strip("`") for row in rows() if row[0].strip("`") in CASE_REASONS]
    assert order == list(CASE_REASONS)
    plain = " ".join(CONTRACT.split())
    assert INDEPENDENCE in plain
    bars = re.search(r"a leukaemia (.*?); for Benign (.*?)\.", plain)
    assert bars is not None
    for text, bar in zip(bars.groups(), (LEUKAEMIA_BAR, BENIGN_BAR), strict=True):
        numbers = [float(Fraction(n)) for n in re.findall(r"\d+(?:/\d+)?", text)]
        assert numbers == pytest.approx(list(bar))


def test_every_key_of_the_manifest_is_explained() -> None:
    keys = " ".join(row[0] for row in rows())
    names = {item.name for item in fields(Manifest)} - {"extra", "calibration"}
    names |= {f"calibration.{item.name}" for item in fields(Calibration) if item.name != "extra"}
    assert [name for name in sorted(names) if f"`{name}`" not in keys] == []


def test_fixed_words_are_written_as_they_are() -> None:
    words = (SCHEMA, RESIZE, *INTERFACES, MANIFEST_KEY, DIGEST_KEY, MANIFEST_FILE, INPUT_NAME)
    assert [word for word in (*words, *OUTPUT_NAMES) if f"`{word}`" not in CONTRACT] == []
    assert NOT_A_MEDICAL_DEVICE in CONTRACT


@pytest.mark.parametrize("folder", ["python", "beam"])
def test_examples_pin_what_the_project_tests(folder: str) -> None:
    def pins(path: Path) -> dict[str, str]:
        lines = re.findall(r"^([\w-]+)==(\S+)$", path.read_text("utf-8"), re.MULTILINE)
        return {name.lower(): version for name, version in lines}

    ours = pins(ROOT / "constraints.txt")
    theirs = pins(ROOT / "examples" / folder / "requirements.txt")
    shared = set(ours) & set(theirs)
    assert {"numpy", "onnxruntime"} <= shared
    assert {name: theirs[name] for name in shared} == {name: ours[name] for name in shared}
