"""Splits by groups, folds, the optimistic random split, and the file they are kept in."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.training.dataset import Sample, load_fields, read_dataset
from allsub_edge.training.duplicates import find_pairs
from allsub_edge.training.groups import assign_groups
from allsub_edge.training.split import (
    ROLES,
    Split,
    make_folds,
    make_random_split,
    make_split,
    read_split,
    split_dataset,
    write_split,
)


def made(count: int = 200) -> list[Sample]:
    return [
        Sample(f"{label}/f{n:04d}.jpg", label, n, f"{place:02x}{n:062x}")
        for place, label in enumerate(CLASSES)
        for n in range(1, count + 1)
    ]


def grouped(samples: list[Sample], block: int = 10) -> list[str]:
    return assign_groups(samples, [], block=block)


def share(split: Split, label: str, role: str) -> float:
    of_class = [row for row in split.rows if row.label == label]
    return sum(row.role == role for row in of_class) / len(of_class)


def runs(split: Split, samples: list[Sample], label: str, role: str) -> int:
    """In how many stretches of consecutive file numbers a role lies."""
    numbers = [
        sample.number or 0
        for sample, row in zip(samples, split.rows, strict=True)
        if (row.label, row.role) == (label, role)
    ]
    return 1 + sum(b != a + 1 for a, b in pairwise(numbers))


@pytest.mark.parametrize("seed", range(6))
def test_grouped_split_holds_its_shares_in_at_most_two_runs(seed: int) -> None:
    samples = made()
    split = make_split(samples, grouped(samples), seed=seed)
    assert split.protocol == "grouped"
    assert [row.file for row in split.rows] == [sample.file for sample in samples]
    for label in CLASSES:
        assert 0.16 <= share(split, label, "test") <= 0.21
        assert 0.05 <= share(split, label, "validation") <= 0.11
        assert 0.08 <= share(split, label, "calibration") <= 0.13
        for role in ROLES[1:]:
            assert runs(split, samples, label, role) <= 2
    roles: dict[str, set[str]] = {}
    for row in split.rows:
        roles.setdefault(row.group, set()).add(row.role)
    assert all(len(found) == 1 for found in roles.values())


def test_seed_decides_and_nothing_else() -> None:
    samples = made()
    groups = grouped(samples)
    assert make_split(samples, groups, seed=3) == make_split(samples, groups, seed=3)
    assert make_split(samples, groups, seed=3) != make_split(samples, groups, seed=4)


def test_a_giant_group_does_not_swell_the_test_role() -> None:
    samples = made()
    groups = grouped(samples)
    groups = [
        "Pro-big" if s.label == "Pro" and 60 < (s.number or 0) <= 140 else g
        for s, g in zip(samples, groups, strict=True)
    ]
    for seed in range(6):
        assert 0.16 <= share(make_split(samples, groups, seed=seed), "Pro", "test") <= 0.21


def test_other_fractions_and_roles_left_out() -> None:
    samples = made()
    split = make_split(samples, grouped(samples), fractions={"test": 0.3, "validation": 0.0})
    assert {row.role for row in split.rows} == {"train", "test"}
    assert 0.28 <= share(split, "Early", "test") <= 0.35
    assert list(split.indices("test")) == [
        i for i, row in enumerate(split.rows) if row.role == "test"
    ]


@pytest.mark.parametrize(
    "fractions", [{"train": 0.5}, {"test": -0.1}, {"test": 0.6, "validation": 0.4}]
)
def test_senseless_fractions_are_refused(fractions: dict[str, float]) -> None:
    samples = made(40)
    with pytest.raises(DataError):
        make_split(samples, grouped(samples), fractions=fractions)


def test_just_enough_groups_are_enough_and_fewer_are_refused() -> None:
    samples = [s for s in made(40) if s.label != "Pre" or (s.number or 0) <= 30]
    with pytest.raises(DataError, match="class Pre has 3 groups but 4 are needed"):
        make_split(samples, grouped(samples))
    samples = made(40)
    split = make_split(samples, grouped(samples))
    for label in CLASSES:
        assert {row.role for row in split.rows if row.label == label} == set(ROLES)


def test_folds_test_every_field_once_with_every_class_and_contiguously() -> None:
    samples = made()
    folds = make_folds(samples, grouped(samples), folds=5, seed=2)
    assert [fold.notes["fold"] for fold in folds] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    tested = [index for fold in folds for index in fold.indices("test")]
    assert sorted(tested) == list(range(len(samples)))
    for fold in folds:
        for label in CLASSES:
            assert 0.15 <= share(fold, label, "test") <= 0.25
            assert runs(fold, samples, label, "test") == 1
            assert {row.role for row in fold.rows if row.label == label} == set(ROLES)


def test_more_folds_than_groups_are_refused() -> None:
    samples = made(40)
    with pytest.raises(DataError, match="class Benign has 4 groups but 5 are needed for the folds"):
        make_folds(samples, grouped(samples), folds=5)
    with pytest.raises(DataError, match="roles beside test"):
        make_folds(samples, grouped(samples), folds=2)


def test_random_split_is_labelled_and_keeps_identical_files_together(tmp_path: Path) -> None:
    samples = made()
    samples = [
        replace(s, sha256=f"{(s.number or 0) // 2:064x}") if s.label == "Pro" else s
        for s in samples
    ]
    split = make_random_split(samples, grouped(samples))
    assert split.protocol == "random-optimistic"
    role_of: dict[str, set[str]] = {}
    for row in split.rows:
        role_of.setdefault(row.sha256, set()).add(row.role)
    assert all(len(roles) == 1 for roles in role_of.values())
    assert runs(split, samples, "Early", "test") > 10
    write_split(split, tmp_path / "s.csv")
    assert read_split(tmp_path / "s.csv") == split


def test_file_round_trip_and_plain_readers(tmp_path: Path) -> None:
    samples = made(40)
    samples[0] = replace(samples[0], file='Benign/a, "quoted" name 1.jpg')
    split = make_split(samples, grouped(samples), seed=7)
    path = tmp_path / "split.csv"
    write_split(split, path)
    assert read_split(path) == split
    lines = path.read_text("utf-8").splitlines()
    assert lines[0] == "# protocol=grouped seed=7"
    table = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert table[0]["file"] == samples[0].file
    assert set(table[0]) == {"file", "sha256", "class", "group", "role"}
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_split(path).rows == split.rows


def edited(tmp_path: Path, line: int, old: str, new: str) -> str:
    samples = made(40)
    path = tmp_path / "split.csv"
    write_split(make_split(samples, grouped(samples)), path)
    lines = path.read_text("utf-8").splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    with pytest.raises(DataError) as caught:
        read_split(path)
    assert caught.value.code == "bad_split"
    return caught.value.message


def test_reading_names_the_line_of_every_fault(tmp_path: Path) -> None:
    samples = made(40)
    role = make_split(samples, grouped(samples)).rows[4].role
    other = "train" if role != "train" else "test"
    assert "line 7: unknown role 'exam'" in edited(tmp_path, 7, f",{role}", ",exam")
    assert "line 7: unknown class 'Blast'" in edited(tmp_path, 7, ",Benign,", ",Blast,")
    assert "line 7: 4 columns instead of 5" in edited(tmp_path, 7, ",Benign,", ",")
    assert "not a SHA-256" in edited(tmp_path, 7, samples[4].sha256, "abc")
    assert "stands already in line 6" in edited(tmp_path, 7, "f0005", "f0004")
    assert "group Benign-0001 is" in edited(tmp_path, 7, f",{role}", f",{other}")
    assert "expected the columns" in edited(tmp_path, 2, "file,", "path,")


def test_reading_refuses_one_image_in_two_roles(tmp_path: Path) -> None:
    samples = made(40)
    split = make_split(samples, grouped(samples))
    first = split.rows[0]
    at = next(i for i, r in enumerate(split.rows) if r.role != first.role)
    rows = list(split.rows)
    rows[at] = replace(rows[at], sha256=first.sha256)
    write_split(Split(rows, split.protocol, split.notes), tmp_path / "s.csv")
    with pytest.raises(DataError, match=rf"line {at + 3}: .*image .* but {first.role} in line 3"):
        read_split(tmp_path / "s.csv")


def test_reading_refuses_what_is_no_split_file(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    with pytest.raises(DataError, match="no such split file"):
        read_split(path)
    for content in (b"", b"\xff\xd8\xff", b"# protocol=grouped\nfile,sha256,class,group,role\n"):
        path.write_bytes(content)
        with pytest.raises(DataError):
            read_split(path)


def test_check_finds_missing_moved_changed_and_relabelled_files() -> None:
    samples = made(40)
    split = make_split(samples, grouped(samples))
    split.check([*samples, Sample("Pro/new.jpg", "Pro", None, "ff" * 32)])
    with pytest.raises(DataError, match=r"Benign/f0001\.jpg: in the split but not .*1 of 160"):
        split.check(samples[1:])
    moved = [replace(s, file=f"Original/{s.file}") for s in samples]
    with pytest.raises(DataError, match="under other names"):
        split.check(moved)
    with pytest.raises(DataError, match=r"Benign/f0001\.jpg: not the image"):
        split.check([replace(samples[0], sha256="ee" * 32), *samples[1:]])
    with pytest.raises(DataError, match="not the image"):
        split.check([replace(samples[0], label="Pro"), *samples[1:]])


@pytest.mark.slow
def test_split_of_the_public_set(shared: Path) -> None:
    root = shared / "data" / "all-smears"
    samples = read_dataset(root)
    pairs = find_pairs(load_fields(root, samples), samples)
    split = make_split(samples, assign_groups(samples, pairs))
    for pair in pairs:
        assert split.rows[pair.a].role == split.rows[pair.b].role
    for label in CLASSES:
        assert 0.15 <= share(split, label, "test") <= 0.22
        # Two runs of groups; a group that joins distant blocks, and the numbers that the set
        # itself lacks, can part each of them once more.
        assert runs(split, samples, label, "test") <= 4
    assert split_dataset(root, samples).rows == split.rows
