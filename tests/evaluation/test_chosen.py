from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from allsub_edge.errors import DataError, UsageError
from allsub_edge.evaluation.chosen import EVERY_ROLE, choose
from allsub_edge.evaluation.learned import fitted_on
from allsub_edge.training.dataset import Sample, fingerprint
from allsub_edge.training.split_file import CROSS_FIT, RANDOM, Split, SplitRow, write_split

LABELS = ("Benign", "Early", "Pre", "Pro")
ROLES = ("train", "train", "validation", "calibration", "test", "test")


@dataclass
class Fake:
    """A subject that only knows where it comes from."""

    kind: str
    path: Path
    trained: dict[str, Any]
    calibration: Any = None

    def trained_on(self) -> dict[str, Any]:
        return self.trained

    def answer(self, fields: Any) -> Any:
        raise AssertionError

    def identity(self) -> dict[str, Any]:
        raise AssertionError


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


SAMPLES = [
    Sample(f"{label}/{i:03d}.png", label, i, _hash(f"{label}{i}"))
    for label in LABELS
    for i in range(len(ROLES))
]


def _split(roles: tuple[str, ...] = ROLES, protocol: str = "grouped") -> Split:
    rows = [
        SplitRow(s.file, s.sha256, s.label, f"{s.label}-{s.number}", roles[s.number or 0])
        for s in SAMPLES
    ]
    return Split(rows, protocol)


@pytest.fixture
def run(tmp_path: Path) -> Fake:
    write_split(_split(), tmp_path / "split.csv")
    return Fake("run", tmp_path, {"data_fingerprint": fingerprint(SAMPLES), "split_sha256": ""})


@pytest.fixture
def model(tmp_path: Path) -> Fake:
    write_split(_split(), tmp_path / "split.csv")
    sha256 = hashlib.sha256((tmp_path / "split.csv").read_bytes()).hexdigest()
    trained = {"data_fingerprint": fingerprint(SAMPLES), "split_sha256": sha256}
    return Fake("model", tmp_path / "m.onnx", trained)


def test_a_run_is_tested_on_its_own_test_role_whatever_the_files_are_called(run: Fake) -> None:
    renamed = [replace(s, file=f"copy/{s.label}/x{i}.png") for i, s in enumerate(SAMPLES)]
    chosen = choose(run, renamed)
    assert [s.sha256 for s in chosen.samples] == [s.sha256 for s in SAMPLES if s.number in (4, 5)]
    assert (chosen.role, chosen.warnings) == ("test", [])
    assert len(chosen.train) == 8 and len(chosen.calibration) == 4
    assert chosen.groups[0] == "Benign-4"


LEARNED = "the network learned from {}: the result says nothing about new ones"
DECIDED = "{} decided which weights were kept: the result is optimistic"
FITTED = "temperature and thresholds were fitted on {}: calibration and coverage are optimistic"


def told(*warnings: tuple[str, int], total: int) -> list[str]:
    """Warnings about so many of ``total`` fields."""
    return [
        text.format("these fields" if count == total else f"{count} of these {total} fields")
        for text, count in warnings
    ]


@pytest.mark.parametrize(
    ("role", "warnings"),
    [
        ("train", told((LEARNED, 8), total=8)),
        ("validation", told((DECIDED, 4), total=4)),
        ("calibration", told((FITTED, 4), total=4)),
        ("all", told((LEARNED, 8), (DECIDED, 4), (FITTED, 4), total=24)),
    ],
)
def test_fields_that_are_not_new_are_marked(run: Fake, role: str, warnings: list[str]) -> None:
    chosen = choose(run, SAMPLES, role=role)
    assert chosen.warnings == warnings
    evaluated = {s.sha256 for s in chosen.samples}
    assert not evaluated & {s.sha256 for s in chosen.train}


def test_a_run_on_foreign_fields_takes_all_of_them(run: Fake) -> None:
    foreign = [replace(s, sha256=_hash("foreign" + s.sha256)) for s in SAMPLES]
    chosen = choose(run, foreign)
    assert len(chosen.samples) == len(foreign) and chosen.role == "all"
    assert chosen.warnings == [] and "none of these images" in chosen.notes[0]
    with pytest.raises(UsageError, match="none of these fields is in the run's split"):
        choose(run, foreign, role="calibration")


def test_a_split_that_calls_trained_fields_test_is_refused(run: Fake, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    write_split(_split(("test", "train", "validation", "calibration", "train", "test")), other)
    with pytest.raises(DataError, match=r"Benign/000.png: test by other.csv but train .*4 of 8"):
        choose(run, SAMPLES, split_file=other)


OTHER_ROLES = ("test", "validation", "train", "validation", "train", "calibration")
"""Of another split: what it calls train, validation and calibration was partly test for the run."""


@pytest.mark.parametrize(
    ("role", "warnings", "note"),
    [
        ("train", told((DECIDED, 4), total=8), "4 validation, 4 test"),
        ("validation", told((LEARNED, 4), (FITTED, 4), total=8), "4 train, 4 calibration"),
        ("calibration", [], "none of the evaluated images had another role than test"),
        (
            "all",
            told((LEARNED, 8), (DECIDED, 4), (FITTED, 4), total=24),
            "8 train, 4 validation, 4 calibration, 8 test",
        ),
    ],
)
def test_beside_another_split_the_roles_of_the_run_are_told(
    run: Fake, tmp_path: Path, role: str, warnings: list[str], note: str
) -> None:
    other = tmp_path / "other.csv"
    write_split(_split(OTHER_ROLES), other)
    chosen = choose(run, SAMPLES, split_file=other, role=role)
    assert chosen.warnings == warnings
    assert chosen.notes[0].startswith("roles of other.csv; ") and note in chosen.notes[0]
    assert len(chosen.warnings) == 0 or "none of the evaluated" not in chosen.notes[0]
    # Thresholds are fitted again on what the run calls calibration, not on what this split does.
    assert {s.number for s in chosen.calibration} == {3}


def test_fields_in_no_row_of_the_runs_split_are_new(run: Fake, tmp_path: Path) -> None:
    new = [replace(s, file="new/" + s.file, sha256=_hash("new" + s.sha256)) for s in SAMPLES]
    rows = [
        *_split().rows,
        *(SplitRow(s.file, s.sha256, s.label, f"new-{s.label}", "calibration") for s in new),
    ]
    other = tmp_path / "other.csv"
    write_split(Split(rows, "grouped"), other)
    chosen = choose(run, [*SAMPLES, *new], split_file=other, role="calibration")
    assert chosen.warnings == told((FITTED, 4), total=28)
    assert "4 calibration, 24 in no row" in chosen.notes[0]


def test_a_validation_role_that_was_learned_from_is_called_so(run: Fake, tmp_path: Path) -> None:
    run.trained["config"] = {"train_on_validation": True}
    assert choose(run, SAMPLES, role="validation").warnings == told((LEARNED, 4), total=4)
    everything = choose(run, SAMPLES, role="all").warnings
    assert everything == told((LEARNED, 12), (FITTED, 4), total=24)


def test_what_thresholds_were_fitted_on_is_told_by_protocol(
    run: Fake, model: Fake, tmp_path: Path
) -> None:
    from allsub_edge.training import crossfit, out_of_fold

    # What a cross-fit writes is what is recognised here, and what stored runs hold.
    assert crossfit.CROSS_FIT == out_of_fold.CROSS_FIT == CROSS_FIT == "grouped-cross-validation"
    own = tmp_path / "split.csv"
    assert fitted_on(run, None) == fitted_on(model, own) == "the calibration role"
    assert fitted_on(model, None) == "fields that the file does not name"
    other = tmp_path / "other.csv"
    write_split(_split(OTHER_ROLES), other)
    assert fitted_on(run, other) == "the calibration role"
    assert fitted_on(model, other) == "fields that the file does not name"
    shipped = Fake("model", model.path, {**model.trained, "protocol": CROSS_FIT})
    assert fitted_on(shipped, None).startswith("the answers of the folds of its cross-fit, each")
    write_split(_split(("train", "train", "train", "train", "test", "test")), own)
    assert fitted_on(run, None) == "the answers of the other folds of its cross-fit"
    model.trained["split_sha256"] = hashlib.sha256(own.read_bytes()).hexdigest()
    assert fitted_on(model, own) == "the answers of the other folds of its cross-fit"
    write_split(_split(("train",) * 6, CROSS_FIT), own)
    run.trained["protocol"] = CROSS_FIT
    assert fitted_on(run, None) == fitted_on(shipped, None)


def test_a_model_on_its_training_data_needs_the_split(model: Fake) -> None:
    with pytest.raises(DataError, match="--split CSV") as caught:
        choose(model, SAMPLES)
    assert caught.value.code == "training_data"
    assert choose(model, SAMPLES, role="all").warnings == [EVERY_ROLE]
    proven = choose(model, SAMPLES, split_file=model.path.parent / "split.csv")
    assert proven.warnings == [] and "manifest names" in proven.notes[0]
    assert len(proven.samples) == 8


def test_another_split_than_the_manifest_names_is_marked(model: Fake, tmp_path: Path) -> None:
    write_split(
        _split(("train", "test", "validation", "calibration", "train", "train")), tmp_path / "o.csv"
    )
    chosen = choose(model, SAMPLES, split_file=tmp_path / "o.csv")
    assert any("not the one that the manifest names" in w for w in chosen.warnings)


def test_a_model_on_foreign_fields_says_what_it_cannot_know(model: Fake) -> None:
    chosen = choose(model, SAMPLES[1:])
    assert chosen.warnings == [] and "cannot tell" in chosen.notes[0]
    assert chosen.protocol == "no split"
    with pytest.raises(UsageError, match="needs a split"):
        choose(model, SAMPLES[1:], role="test")


def test_an_optimistic_split_is_marked(run: Fake, tmp_path: Path) -> None:
    write_split(_split(protocol=RANDOM), tmp_path / "split.csv")
    assert any("random-optimistic" in w for w in choose(run, SAMPLES).warnings)


def test_fields_in_no_row_are_left_out_and_told(run: Fake) -> None:
    more = [*SAMPLES, Sample("Pro/new.png", "Pro", None, _hash("new"))]
    chosen = choose(run, more)
    assert len(chosen.samples) == 8 and any("1 fields" in note for note in chosen.notes)


def test_what_cannot_be_evaluated_is_refused_with_a_next_step(run: Fake, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose from train, validation"):
        choose(run, SAMPLES, role="tets")
    everything = tmp_path / "all-train.csv"
    write_split(_split(("train",) * 6), everything)
    with pytest.raises(DataError, match=r"24 train, 0 validation.*--role"):
        choose(run, SAMPLES, split_file=everything)
    with pytest.raises(DataError, match="no field of class Pro"):
        choose(run, [s for s in SAMPLES if s.label != "Pro" or s.number == 0])
    moved = [replace(SAMPLES[-1], label="Pre"), *SAMPLES[:-1]]
    with pytest.raises(DataError, match="class Pre in the folder but Pro"):
        choose(run, moved)
