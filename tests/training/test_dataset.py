"""Reading class folders: what is accepted, what is refused and with which words."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.training.dataset import (
    Sample,
    fingerprint,
    load_fields,
    read_dataset,
    split_name,
)


def write_image(path: Path, seed: int, size: int = 32) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return rgb


def write_classes(root: Path, names: tuple[str, ...] = CLASSES, count: int = 3) -> None:
    for place, name in enumerate(names):
        for number in range(1, count + 1):
            write_image(root / name / f"WBC-{number:03d}.png", 100 * place + number)


def test_reads_class_folders_in_order_with_numbers_and_hashes(tmp_path: Path) -> None:
    write_classes(tmp_path)
    samples = read_dataset(tmp_path)
    assert [s.label for s in samples] == [label for label in CLASSES for _ in range(3)]
    assert [s.number for s in samples] == [1, 2, 3] * 4
    assert samples[0].file == "Benign/WBC-001.png"
    content = (tmp_path / "Benign" / "WBC-001.png").read_bytes()
    assert samples[0].sha256 == hashlib.sha256(content).hexdigest()


def test_kaggle_layout_ignores_segmented_and_keeps_paths_from_the_root(tmp_path: Path) -> None:
    write_classes(tmp_path / "Original")
    write_classes(tmp_path / "Segmented", count=1)
    samples = read_dataset(tmp_path)
    assert len(samples) == 12
    assert all(s.file.startswith("Original/") for s in samples)
    assert all((tmp_path / s.file).is_file() for s in samples)


@pytest.mark.parametrize(
    "names",
    [
        ("benign", "EARLY", "pre", "pro"),
        ("Benign", "[Malignant] early Pre-B", "[Malignant] Pre-B", "[Malignant] Pro-B"),
    ],
)
def test_other_spellings_of_the_class_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    write_classes(tmp_path, names)
    found = {s.file.split("/")[0]: s.label for s in read_dataset(tmp_path)}
    assert found == dict(zip(names, CLASSES, strict=True))


def test_names_are_ordered_by_number_not_by_letter(tmp_path: Path) -> None:
    write_classes(tmp_path)
    for number in (9, 10, 100):
        write_image(tmp_path / "Pro" / f"f{number}.png", 900 + number)
    names = [s.file for s in read_dataset(tmp_path) if s.file.startswith("Pro/f")]
    assert names == ["Pro/f9.png", "Pro/f10.png", "Pro/f100.png"]


def test_closing_numbers_of_names() -> None:
    assert split_name("Pre/WBC-Malignant-Pre-012.jpg") == ("WBC-Malignant-Pre-", 12)
    assert split_name("Sap_013 (4).jpg") == ("Sap_013 (", 4)
    assert split_name("field.png") == ("field", None)
    assert split_name("7.png") == ("", 7)


def test_litter_of_file_managers_is_passed_over(tmp_path: Path) -> None:
    write_classes(tmp_path)
    for name in (".DS_Store", "Thumbs.db"):
        (tmp_path / "Pre" / name).write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.txt").write_text("about")
    assert len(read_dataset(tmp_path)) == 12


def refusal(root: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read_dataset(root)
    assert "\n" not in caught.value.message
    return caught.value


def test_refuses_a_path_that_is_no_folder_of_classes(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere").message
    (tmp_path / "file").write_text("x")
    assert "is a file" in refusal(tmp_path / "file").message
    (tmp_path / "holiday").mkdir()
    error = refusal(tmp_path)
    assert error.code == "no_data"
    assert "Benign, Early, Pre, Pro" in error.message


def test_refuses_a_missing_and_an_empty_class(tmp_path: Path) -> None:
    write_classes(tmp_path, CLASSES[:3])
    error = refusal(tmp_path)
    assert error.code == "missing_class"
    assert "class Pro" in error.message
    (tmp_path / "Pro").mkdir()
    error = refusal(tmp_path)
    assert error.code == "empty_class"
    assert str(tmp_path / "Pro") in error.message


def test_suggests_the_right_name_for_a_misspelt_class(tmp_path: Path) -> None:
    write_classes(tmp_path, ("Begnin", "Early", "Pre", "Pro"))
    error = refusal(tmp_path)
    assert error.code == "unknown_class"
    assert "did you mean Benign?" in error.message


def test_refuses_extra_folders_loose_images_and_twins(tmp_path: Path) -> None:
    write_classes(tmp_path)
    (tmp_path / "Normal").mkdir()
    error = refusal(tmp_path)
    assert (error.code, "Normal" in error.message) == ("unknown_class", True)
    (tmp_path / "Normal").rmdir()
    write_image(tmp_path / "loose.png", 1)
    assert "outside the class folders" in refusal(tmp_path).message
    (tmp_path / "loose.png").unlink()
    (tmp_path / "[Malignant] Pro-B").mkdir()
    assert "a second folder for class Pro" in refusal(tmp_path).message
    (tmp_path / "[Malignant] Pro-B").rmdir()
    (tmp_path / "Pre" / "more").mkdir()
    assert "folder inside the class folder" in refusal(tmp_path).message


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"hello", "is not a JPEG")])
def test_refuses_a_file_that_is_no_image(tmp_path: Path, content: bytes, words: str) -> None:
    write_classes(tmp_path)
    (tmp_path / "Early" / "WBC-002.png").write_bytes(content)
    error = refusal(tmp_path)
    assert error.code == "not_an_image"
    assert words in error.message
    assert "WBC-002.png" in error.message


def test_refuses_a_name_that_a_split_file_cannot_hold(tmp_path: Path) -> None:
    write_classes(tmp_path)
    (tmp_path / "Pre" / "WBC-001.png").rename(tmp_path / "Pre" / "two\nlines.png")
    assert "rename the file" in refusal(tmp_path).message


def test_progress_counts_every_file(tmp_path: Path) -> None:
    write_classes(tmp_path)
    steps: list[tuple[int, int]] = []
    read_dataset(tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 12) for done in range(1, 13)]


def test_fingerprint_follows_content_and_label_not_names_or_order() -> None:
    one = [Sample("a", "Pre", None, "11" * 32), Sample("b", "Pro", None, "22" * 32)]
    renamed = [Sample("x", "Pro", 4, "22" * 32), Sample("y", "Pre", None, "11" * 32)]
    swapped = [Sample("a", "Pro", None, "11" * 32), Sample("b", "Pre", None, "22" * 32)]
    assert fingerprint(one) == fingerprint(renamed)
    assert fingerprint(one) != fingerprint(swapped)
    assert fingerprint(one) != fingerprint(one[:1])


def test_load_fields_gives_rgb_in_the_order_of_the_samples(tmp_path: Path) -> None:
    write_classes(tmp_path)
    rgb = write_image(tmp_path / "Pro" / "WBC-004.png", 5, size=224)
    samples = read_dataset(tmp_path)
    fields = load_fields(tmp_path, samples[::-1])
    assert fields.shape == (13, 224, 224, 3)
    assert fields.dtype == np.uint8
    assert np.array_equal(fields[0], rgb)


def test_load_fields_names_the_file_that_cannot_be_decoded(tmp_path: Path) -> None:
    write_classes(tmp_path)
    path = tmp_path / "Pre" / "WBC-002.png"
    path.write_bytes(path.read_bytes()[:40])
    samples = read_dataset(tmp_path)
    with pytest.raises(DataError, match=r"Pre/WBC-002\.png"):
        load_fields(tmp_path, samples)
