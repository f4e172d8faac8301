"""What an audit finds in a data set whose faults are known."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from allsub_edge.audit import baselines, scale_bar
from allsub_edge.audit.dataset_audit import audit
from allsub_edge.audit.inventory import take_inventory
from allsub_edge.audit.releases import FIRST, compare, number_gaps
from allsub_edge.audit.text import render
from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.training.dataset import Sample
from tests.audit.toy_set import noise_field, write, write_set


def made(counts: dict[str, int], skip: tuple[int, ...] = ()) -> list[Sample]:
    return [
        Sample(f"{label}/f{number}.jpg", label, number, f"{label}{number}")
        for label, count in counts.items()
        for number in range(1, count + 1)
        if number not in skip
    ]


def test_counts_of_the_known_releases_are_named() -> None:
    whole = compare(made(dict(FIRST)), None)
    assert whole.verdict == "the first release, complete: 3256 fields" and not whole.gaps
    both = compare(made(dict(FIRST)), dict(FIRST))
    assert both.with_segmented == 6512 and "6512" in both.verdict
    twice = compare(made({label: 2 * count for label, count in FIRST.items()}), None)
    assert "half of these are segmented copies" in twice.verdict
    second = compare(made({**FIRST, "Pro": FIRST["Pro"] - 14}), None)
    assert second.verdict == "3242 fields: the second release"
    other = compare(made({**FIRST, "Pre": 1000, "Benign": 500}), None)
    assert "it lacks 4 Benign, and has 37 Pre more" in other.verdict
    moved = compare(made({**FIRST, "Pre": FIRST["Pre"] + 1, "Pro": FIRST["Pro"] - 1}), None)
    assert "distributed otherwise" in moved.verdict


def test_missing_numbers_are_found_where_names_form_one_series() -> None:
    gaps = number_gaps(made({"Benign": 9, "Pre": 5}, skip=(1, 4, 5)))
    assert [(g.label, g.first, g.last, g.size) for g in gaps] == [
        ("Benign", 1, 1, 1),
        ("Benign", 4, 5, 2),
        ("Pre", 1, 1, 1),
    ]
    mixed = [*made({"Pro": 2}), Sample("Pro/Sap_009.jpg", "Pro", 9, "x")]
    assert number_gaps(mixed) == []


def barred(kind: int) -> np.ndarray:
    """A grey-blue field with one kind of the public set's scale bars drawn in."""
    field = np.full((224, 224, 3), (190, 200, 225), np.uint8)
    if kind == 1:
        field[194:222, 193:] = 255
        field[214:216, 194:] = 0
    elif kind == 2:
        field[206:217, 194:218] = 255
        field[213:217, 196] = field[213:217, 215] = 30
        field[210:213, 200:210:3] = 40
    elif kind == 3:
        field[209:213, 198:214:2] = (220, 60, 70)
    return field


def test_the_kinds_of_scale_bar_are_told_apart() -> None:
    fields = np.stack([barred(kind) for kind in (0, 1, 2, 3)])
    assert scale_bar.kinds(fields).tolist() == [0, 1, 2, 3]


def test_what_the_scale_bar_tells_of_the_class() -> None:
    kind = np.array([1, 1, 3, 3, 3, 2, 2, 2, 2])
    labels = np.array([0, 1, 1, 1, 2, 2, 3, 3, 3])
    told = scale_bar.summary(kind, labels)
    assert told["by_class"]["red lettering"] == {"Benign": 0, "Early": 2, "Pre": 1, "Pro": 0}
    assert "none" not in told["by_class"]
    # large box: 1 of 2, small box: 3 of 4, red lettering: 2 of 3
    assert (told["best_guess_from_kind"]["count"], told["best_guess_from_kind"]["total"]) == (6, 9)
    assert "Pro has small box only (3 fields)" in told["differences"]
    assert "Early never has small box" in told["differences"]


def test_random_folds_are_stratified_and_hold_out_every_field_once() -> None:
    labels = np.repeat(np.arange(4), [10, 15, 20, 5])
    folds = baselines.random_folds(labels, 5, 3)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(50))
    for train, test in folds:
        assert not set(train) & set(test) and len(train) + len(test) == 50
        assert Counter(labels[test].tolist()) == {0: 2, 1: 3, 2: 4, 3: 1}
    again = baselines.random_folds(labels, 5, 3)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(folds, again, strict=True))


def test_cross_validation_never_predicts_a_field_that_was_learned() -> None:
    """A machine that knows only its training fields by heart is always wrong."""

    class ByHeart:
        def fit(self, features: np.ndarray, labels: np.ndarray) -> ByHeart:
            self.known = dict(zip(features[:, 0].tolist(), labels.tolist(), strict=True))
            return self

        def predict(self, features: np.ndarray) -> np.ndarray:
            return np.array([self.known.get(value, 3) for value in features[:, 0].tolist()])

    labels = np.arange(30) % 3
    features = np.arange(30.0)[:, None]
    score = baselines.cross_validate(
        features, labels, baselines.random_folds(labels, 5, 1), ByHeart
    )
    assert score.accuracy.count == 0 and score.confusion[:, 3].sum() == 30
    with pytest.raises(ValueError, match="every field"):
        baselines.cross_validate(features, labels, [(np.arange(20), np.arange(20, 30))], ByHeart)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pro 2 = Pro 7; Early 3 = Benign 5; a cut-off JPEG, an empty file, an odd size."""
    root = write_set(tmp_path_factory.mktemp("faulty"))
    (root / "Pro" / "f07.png").write_bytes((root / "Pro" / "f02.png").read_bytes())
    (root / "Early" / "f03.png").write_bytes((root / "Benign" / "f05.png").read_bytes())
    write(root / "Pre" / "f09.jpg", noise_field(2, 9))
    whole = (root / "Pre" / "f09.jpg").read_bytes()
    (root / "Pre" / "f09.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "Pro" / "f10.png").write_bytes(b"")
    write(root / "Benign" / "f09.png", noise_field(0, 9, side=256))
    return root


def test_faults_are_listed_and_do_not_stop_the_audit(faulty: Path) -> None:
    found = audit(faulty, folds=2, block=2)
    assert len(found.inventory.samples) == 33
    assert [entry.file for entry in found.inventory.refused] == ["Pre/f09.jpg", "Pro/f10.png"]
    assert "copy" in found.inventory.refused[0].why
    samples = found.inventory.samples
    assert [(samples[p.a].file, samples[p.b].file, p.kind) for p in found.across] == [
        ("Benign/f05.png", "Early/f03.png", "exact")
    ]
    assert [(samples[p.a].file, samples[p.b].file, p.kind) for p in found.pairs] == [
        ("Pro/f02.png", "Pro/f07.png", "exact")
    ]
    group = {s.file: g for s, g in zip(samples, found.groups, strict=True)}
    assert group["Pro/f02.png"] == group["Pro/f07.png"]
    levels = [finding.level for finding in found.findings]
    assert levels == sorted(levels, key=["alarm", "warning", "note"].index)
    assert levels.count("alarm") == 2 and not found.clean
    assert found.inventory.sizes["Benign"] == {(224, 224, "png"): 8, (256, 256, "png"): 1}
    told = " ".join(finding.text for finding in found.findings)
    assert "Benign/f05.png and Early/f03.png" in told and "Pre/f09.jpg" in told
    assert "image sizes or formats differ between classes" in told


def test_the_baselines_see_the_tint_and_the_text_says_both_ways(faulty: Path) -> None:
    found = audit(faulty, folds=2, block=2)
    assert [b.name for b in found.baselines] == list(baselines.BASELINES)
    tint = next(b for b in found.baselines if b.name == "six_colour_statistics")
    assert tint.grouped.accuracy.count >= 30 and tint.grouped.accuracy.total == 33
    assert tint.grouped.confusion.sum() == tint.random.confusion.sum() == 33
    assert sum(rate.total for rate in tint.grouped.folds) == 33
    text = render(found)
    assert f"groups held out {tint.grouped.accuracy}" in text
    assert f"random fields   {tint.random.accuracy}" in text
    assert "ALARM" in text and "not readable" in text and "not a medical device" in text


def test_overlaps_across_classes_are_found_when_asked_for(tmp_path: Path) -> None:
    root = write_set(tmp_path, each=4)
    wide = np.random.default_rng(5).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    wide = np.kron(wide, np.ones((6, 6, 1), np.uint8))
    write(root / "Pre" / "f05.png", wide[:224, :224])
    write(root / "Pro" / "f05.png", wide[20:244, 30:254])
    assert audit(root, folds=2, block=1).across == []
    found = audit(root, folds=2, block=1, across_shifted=True)
    names = [(found.inventory.samples[p.a].file, p.kind) for p in found.across]
    assert names == [("Pre/f05.png", "shifted")]
    assert not found.clean and found.to_dict()["overlaps_searched_across_classes"]


def test_too_few_groups_are_told_before_the_long_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the search must not begin")

    monkeypatch.setattr("allsub_edge.audit.dataset_audit.find_pairs", never)
    root = write_set(tmp_path, each=4)
    with pytest.raises(DataError, match="class Benign has 1 groups but 5") as caught:
        audit(root, folds=5, block=20)
    assert caught.value.code == "too_few_groups" and "smaller blocks" in caught.value.message


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("missing", "missing_class", "no folder for class Pro"),
        ("empty", "empty_class", "no images of class Pro"),
        ("misspelt", "unknown_class", "did you mean Pro"),
        ("broken", "no_fields", "none of the 2 files is a readable field"),
    ],
)
def test_class_folders_that_are_not_usable(
    tmp_path: Path, change: str, code: str, words: str
) -> None:
    root = write_set(tmp_path, each=2)
    files = list((root / "Pro").iterdir())
    if change in ("missing", "empty"):
        for file in files:
            file.unlink()
    if change == "missing":
        (root / "Pro").rmdir()
    if change == "misspelt":
        (root / "Pro").rename(root / "Proo")
    if change == "broken":
        for file in files:
            file.write_bytes(b"no image")
    with pytest.raises(DataError, match=words) as caught:
        take_inventory(root)
    assert caught.value.code == code and "Pro" in caught.value.message


def test_segmented_images_are_counted_and_held_against_the_originals(tmp_path: Path) -> None:
    write_set(tmp_path / "Original", each=2)
    write_set(tmp_path / "Segmented", each=1)
    write(tmp_path / "Segmented" / "Pre" / "f77.png", noise_field(2, 77))
    found = take_inventory(tmp_path)
    assert found.segmented == {"Benign": 1, "Early": 1, "Pre": 2, "Pro": 1}
    assert found.unpaired == ["Segmented/Pre/f77.png"]
    assert found.samples[0].file == "Original/Benign/f01.png"


def test_a_name_of_two_lines_is_refused_like_in_training(tmp_path: Path) -> None:
    root = write_set(tmp_path, each=2)
    (root / "Pre" / "f01.png").rename(root / "Pre" / "f\n01.png")
    found = take_inventory(root)
    assert [(r.file, r.label) for r in found.refused] == [("Pre/f\\n01.png", "Pre")]
    assert "rename" in found.refused[0].why


@pytest.mark.slow
def test_the_public_set_is_as_its_description_says(shared: Path) -> None:
    found = audit(shared / "data" / "all-smears")
    assert found.comparison.counts == dict(zip(CLASSES, (379, 764, 747, 619), strict=True))
    assert found.comparison.missing == dict(zip(CLASSES, (125, 221, 216, 185), strict=True))
    assert len(found.comparison.gaps) == 8 and not found.inventory.refused
    assert Counter(pair.kind for pair in found.pairs) == {"exact": 23, "near": 42, "shifted": 241}
    assert not found.across and found.clean
    assert len(set(found.groups)) == 102
    table = scale_bar.by_class(found.bar_kind, found.inventory.labels)
    assert set(table) == {"large box", "small box", "red lettering"}
    assert table["small box"] == {"Benign": 140, "Early": 0, "Pre": 492, "Pro": 619}
    for baseline in found.baselines:
        assert baseline.random.accuracy.value > baseline.grouped.accuracy.value + 0.01
    grouped = {b.name: b.grouped.accuracy.value for b in found.baselines}
    assert grouped["background_colour"] > 0.80 and grouped["six_colour_statistics"] > 0.93
    assert 0.60 < grouped["corner_grey"] < 0.70
