"""The verb ``split`` on a small rendered data set."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.cli import split as verb
from allsub_edge.errors import DataError, UsageError
from allsub_edge.training.split import read_split


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve fields a class; Pro 2 and Pro 11 are byte-identical."""
    root = tmp_path_factory.mktemp("smears")
    for place, label in enumerate(CLASSES):
        (root / label).mkdir()
        for number in range(1, 13):
            generator = np.random.default_rng([place, number])
            coarse = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            field = cv2.resize(coarse, (224, 224), interpolation=cv2.INTER_NEAREST)
            assert cv2.imwrite(str(root / label / f"f{number:02d}.png"), field)
    (root / "Pro" / "f11.png").write_bytes((root / "Pro" / "f02.png").read_bytes())
    return root


def call(*words: object) -> int:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.run(parser.parse_args([str(word) for word in words]))


def test_writes_a_grouped_split_and_says_what_it_found(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "split.csv"
    assert call(data, "-o", out, "--block", 2, "--seed", 5) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "48 fields, pairs that share cells: 1 exact, 0 near, 0 shifted" in shown.out
    assert "protocol grouped" in shown.out
    split = read_split(out)
    assert (split.protocol, split.notes) == ("grouped", {"seed": "5", "block": "2"})
    role = {row.file: row.role for row in split.rows}
    group = {row.file: row.group for row in split.rows}
    assert role["Pro/f02.png"] == role["Pro/f11.png"]
    assert group["Pro/f01.png"] == group["Pro/f11.png"] == "Pro-0001"
    last = [line for line in shown.out.splitlines() if line.startswith("all")][-1]
    tests = [row for row in split.rows if row.role == "test"]
    assert f"{len(tests)} ({len({row.group for row in tests})})" in last
    assert last.endswith("48 (23)")


def test_folds_give_one_file_each(data: Path, tmp_path: Path) -> None:
    assert call(data, "-o", tmp_path / "cv.csv", "--folds", 2, "--block", 1) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cv-fold1.csv", "cv-fold2.csv"]
    splits = [read_split(tmp_path / f"cv-fold{fold}.csv") for fold in (1, 2)]
    assert sum(len(split.indices("test")) for split in splits) == 48
    assert splits[1].notes["fold"] == "2/2"


def test_random_says_that_it_is_optimistic(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(data, "-o", tmp_path / "r.csv", "--random") == 0
    assert "OPTIMISTIC" in capsys.readouterr().out
    assert read_split(tmp_path / "r.csv").protocol == "random-optimistic"


def test_too_few_groups_write_nothing(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="class Benign has 1 groups"):
        call(data, "-o", tmp_path / "s.csv", "--block", 20)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_split_file(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        call(data, "-o", tmp_path)


@pytest.mark.parametrize("words", [("--block", "0"), ("--seed", "-1"), ("--folds", "x")])
def test_wrong_numbers_are_usage_errors(
    words: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call(tmp_path, "-o", tmp_path / "s.csv", *words)
    assert "is not a whole number from" in capsys.readouterr().err


def test_importing_the_verb_imports_nothing_heavy() -> None:
    program = (
        "import sys, allsub_edge.cli.split;"
        "print([m for m in ('numpy', 'cv2', 'tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_training_modules_of_the_verb_need_no_tensorflow() -> None:
    program = (
        "import sys, allsub_edge.training.split;"
        "print([m for m in ('tensorflow', 'keras', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
