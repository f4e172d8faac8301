"""Finding fields that share cells, on synthetic smears cut from larger canvases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from allsub_edge.training.dataset import Sample, load_fields, read_dataset
from allsub_edge.training.duplicates import Pair, find_pairs

Field = npt.NDArray[np.uint8]


def canvas(seed: int, side: int = 400) -> Field:
    """A smear: shaded background, many pale discs, a few dark ones, and sensor noise."""
    generator = np.random.default_rng(seed)
    image = np.full((side, side, 3), 225, np.uint8)
    for _ in range(side * side // 500):
        x, y = (int(v) for v in generator.integers(0, side, 2))
        cv2.circle(image, (x, y), int(generator.integers(6, 10)), (190, 180, 205), -1)
    for _ in range(side * side // 8000):
        x, y = (int(v) for v in generator.integers(0, side, 2))
        cv2.circle(image, (x, y), int(generator.integers(11, 15)), (110, 60, 160), -1)
    noisy = image + generator.normal(0, 4, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def cut(image: Field, x: int = 60, y: int = 60) -> Field:
    """A field with a scale bar burned in and the same shading as all others."""
    shade = np.linspace(0.85, 1.0, 224)[None, :, None]
    field = (image[y : y + 224, x : x + 224] * shade).astype(np.uint8)
    field[-20:-6, -40:-4] = 255
    field[-12:-9, -36:-8] = 0
    return field


def recoded(field: Field) -> Field:
    done, data = cv2.imencode(".jpg", field, [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert done
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def samples_for(labels: list[str], hashes: list[str] | None = None) -> list[Sample]:
    hashes = hashes or [f"{i:064x}" for i in range(len(labels))]
    return [
        Sample(f"{label}/f{i:03d}.png", label, i, sha)
        for i, (label, sha) in enumerate(zip(labels, hashes, strict=True))
    ]


def test_unrelated_fields_with_the_same_shading_and_scale_bar_are_no_pairs() -> None:
    fields = np.stack([cut(canvas(seed)) for seed in range(12)])
    assert find_pairs(fields, samples_for(["Pre"] * 12)) == []


def test_empty_fields_of_one_colour_are_no_pairs() -> None:
    fields = np.full((3, 224, 224, 3), 230, np.uint8)
    assert find_pairs(fields, samples_for(["Pre"] * 3)) == []


def test_identical_files_are_exact() -> None:
    fields = np.stack([cut(canvas(0)), cut(canvas(1)), cut(canvas(0))])
    pairs = find_pairs(fields, samples_for(["Pro"] * 3, ["aa", "bb", "aa"]))
    assert pairs == [Pair(0, 2, "exact", 1.0)]


def test_recoded_and_brightened_copies_are_near_across_classes_too() -> None:
    field = cut(canvas(0))
    brighter = np.clip(field * 1.1, 0, 255).astype(np.uint8)
    fields = np.stack([field, cut(canvas(1)), recoded(field), brighter])
    pairs = find_pairs(fields, samples_for(["Benign", "Benign", "Benign", "Pro"]))
    assert [(p.a, p.b, p.kind) for p in pairs] == [
        (0, 2, "near"),
        (0, 3, "near"),
        (2, 3, "near"),
    ]
    assert all(0.9 <= p.score <= 1.0 for p in pairs)


@pytest.mark.parametrize("shift", [(9, 0), (0, -13), (31, 22), (-50, 50), (57, -41)])
def test_overlapping_fields_are_shifted(shift: tuple[int, int]) -> None:
    image = canvas(3)
    moved = recoded(cut(image, 60 + shift[0], 60 + shift[1]))
    fields = np.stack([cut(image), cut(canvas(4)), moved])
    pairs = find_pairs(fields, samples_for(["Early"] * 3))
    assert [(p.a, p.b, p.kind) for p in pairs] == [(0, 2, "shifted")]
    assert 0.55 <= pairs[0].score <= 1.0


def test_overlap_is_found_at_any_distance_unless_reach_forbids_it() -> None:
    image = canvas(3)
    others = [cut(canvas(seed)) for seed in range(10, 18)]
    fields = np.stack([cut(image), *others, cut(image, 90, 75)])
    samples = samples_for(["Early"] * 10)
    assert [(p.a, p.b) for p in find_pairs(fields, samples)] == [(0, 9)]
    assert [(p.a, p.b) for p in find_pairs(fields, samples, reach=9)] == [(0, 9)]
    assert find_pairs(fields, samples, reach=8) == []


def test_refuses_fields_that_do_not_fit_the_samples() -> None:
    with pytest.raises(ValueError, match="must be uint8"):
        find_pairs(np.zeros((2, 224, 224, 3), np.uint8), samples_for(["Pre"]))
    with pytest.raises(ValueError, match="float32"):
        find_pairs(np.zeros((1, 224, 224, 3), np.float32), samples_for(["Pre"]))  # type: ignore[arg-type]


def test_progress_ends_at_the_number_of_samples() -> None:
    steps: list[tuple[int, int]] = []
    fields = np.stack([cut(canvas(seed)) for seed in range(3)])
    samples = samples_for(["Pre", "Pre", "Pro"])
    find_pairs(fields, samples, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_known_pairs_of_the_public_set(shared: Path) -> None:
    """Three overlaps that were confirmed by eye, one far apart, among unrelated fields."""
    root = shared / "data" / "all-smears"
    wanted = {"Pro": {9, 11, 12, 15, 387, 506}, "Early": {487, 617, 600}}
    samples = [s for s in read_dataset(root) if s.number in wanted.get(s.label, set())]
    pairs = find_pairs(load_fields(root, samples), samples)
    found = {(samples[p.a].label, samples[p.a].number, samples[p.b].number): p.kind for p in pairs}
    assert found[("Pro", 11, 12)] == "exact"
    assert ("Pro", 387, 506) in found
    assert found[("Early", 487, 617)] == "shifted"
    assert Counter(found.values())["exact"] == 1
    assert len(found) == 3
