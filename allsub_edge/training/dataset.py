"""The data set on disk: one folder of images for each class, read into records with hashes.

Two layouts are understood: the class folders directly inside the given folder, or the public
Kaggle set, which holds them in ``Original`` beside a ``Segmented`` folder that is ignored. Folder
names match without regard to case, and the names of the set's second release
(``[Malignant] early Pre-B`` and so on) are known. Everything is checked before anything is
returned: a folder that is missing, empty, misspelt or unexpected and a file that is not an image
stop the reading with one line that says what to do.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError, FieldError

Progress = Callable[[int, int], None]
"""Called with (done, total) after each step; must return quickly."""

_ALIASES: Final[dict[str, str]] = {
    "benign": "Benign",
    "early": "Early",
    "earlypre": "Early",
    "earlypreb": "Early",
    "pre": "Pre",
    "preb": "Pre",
    "pro": "Pro",
    "prob": "Pro",
}

# What the four supported containers begin with; a wrong suffix is the commonest mistake, so the
# content decides, not the name.
_SIGNATURES: Final[tuple[bytes, ...]] = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"BM",  # BMP
    b"II*\x00",  # TIFF, little-endian
    b"MM\x00*",  # TIFF, big-endian
)
_SUFFIXES: Final[frozenset[str]] = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".jpe"}
)
# Left behind by file managers; never worth stopping for.
_LITTER: Final[frozenset[str]] = frozenset({"thumbs.db", "desktop.ini"})

_FIELD_SIDE: Final[int] = 224
_NUMBER: Final = re.compile(r"^(?P<prefix>.*?)(?P<number>\d+)\)?$", re.DOTALL)


@dataclass(frozen=True)
class Sample:
    """One field of the data set.

    Attributes:
        file: path relative to the folder given to :func:`read_dataset`, with forward slashes.
        label: one of :data:`allsub_edge.classes.CLASSES`.
        number: the digits that end the file name, as a number; None when it ends otherwise.
            ``WBC-Benign-012.jpg`` gives 12, ``Sap_013 (4).jpg`` gives 4.
        sha256: hash of the file's bytes, 64 lower-case hexadecimal digits.
    """

    file: str
    label: str
    number: int | None
    sha256: str


def split_name(file: str) -> tuple[str, int | None]:
    """Part a file name into what stands before its closing number, and that number.

    Returns ``(stem, None)`` for a name without a closing number.
    """
    stem = file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    match = _NUMBER.match(stem)
    if match is None:
        return stem, None
    return match["prefix"], int(match["number"])


def read_dataset(root: Path, *, progress: Progress | None = None) -> list[Sample]:
    """Read every field's name, class and hash; pixels are not decoded here.

    Returns:
        Samples by class (in the order of ``CLASSES``), then by name with digits compared as
        numbers. Reading the same folder twice gives the same list.

    Raises:
        DataError: ``no_data``, ``missing_class``, ``empty_class``, ``unknown_class``,
            ``not_an_image`` or ``unreadable``; the message names the folder or file.
    """
    root = Path(root)
    listed: list[tuple[str, Path]] = []
    for label, folder in _class_folders(root).items():
        listed += [(label, path) for path in _images_in(folder, label)]
    samples: list[Sample] = []
    for done, (label, path) in enumerate(listed, 1):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(
                "unreadable", f"{path}: cannot be read ({error.strerror}); check its permissions"
            ) from error
        if not content.startswith(_SIGNATURES):
            what = "is empty" if not content else "is not a JPEG, PNG, BMP or TIFF image"
            raise DataError("not_an_image", f"{path}: {what}; remove it from the class folder")
        samples.append(
            Sample(
                file=_written(path.relative_to(root).as_posix()),
                label=label,
                number=split_name(path.name)[1],
                sha256=hashlib.sha256(content).hexdigest(),
            )
        )
        if progress is not None:
            progress(done, len(listed))
    return samples


def fingerprint(samples: Sequence[Sample]) -> str:
    """SHA-256 (64 hexadecimal digits) over the sorted (label, sha256) of all samples.

    The same images under the same labels give the same fingerprint, whatever the files are
    called and wherever they lie.
    """
    digest = hashlib.sha256()
    for label, sha256 in sorted((sample.label, sample.sha256) for sample in samples):
        digest.update(f"{label} {sha256}\n".encode("ascii"))
    return digest.hexdigest()


def load_fields(
    root: Path, samples: Sequence[Sample], *, progress: Progress | None = None
) -> npt.NDArray[np.uint8]:
    """Decode and squash every sample as a device does.

    Args:
        root: the folder that was given to :func:`read_dataset`.
        samples: what to load; the result has the same order.
        progress: called after each field.

    Returns:
        uint8 RGB array (N, 224, 224, 3): 150 528 bytes a field.

    Raises:
        DataError: ``unreadable``; a field cannot be decoded. The message names the file.
    """
    from allsub_edge.imaging.decode import read_field
    from allsub_edge.imaging.resize import squash

    fields = np.empty((len(samples), _FIELD_SIDE, _FIELD_SIDE, 3), np.uint8)
    for index, sample in enumerate(samples):
        try:
            fields[index] = squash(read_field(Path(root) / sample.file).rgb)
        except FieldError as error:
            raise DataError(
                "unreadable",
                f"{error.message}; mend or remove this file of the data set",
            ) from error
        if progress is not None:
            progress(index + 1, len(samples))
    return fields


def _written(file: str) -> str:
    """The name as a split file can hold it: UTF-8 on one line."""
    try:
        file.encode("utf-8")
    except UnicodeEncodeError:
        broken = True
    else:
        broken = "\n" in file or "\r" in file
    if broken:
        raise DataError(
            "unreadable", f"{file!r}: the name is not one line of UTF-8 text; rename the file"
        )
    return file


def _class_of(folder: str) -> str | None:
    return _ALIASES.get(_simplified(folder))


def _simplified(folder: str) -> str:
    return re.sub(r"[^a-z]", "", folder.lower().replace("malignant", ""))


def _class_folders(root: Path) -> dict[str, Path]:
    """Class -> folder in the order of ``CLASSES``; raises DataError on anything unexpected."""
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(
            "no_data", f"{root}: {what}; give the folder that holds {', '.join(CLASSES)}"
        )
    children = _visible(root)
    if not any(_class_of(child.name) for child in children if child.is_dir()):
        for child in children:
            if child.is_dir() and child.name.lower() == "original":
                root, children = child, _visible(child)
                break
    found: dict[str, Path] = {}
    unknown: list[Path] = []
    for child in children:
        if not child.is_dir():
            if child.suffix.lower() in _SUFFIXES:
                raise DataError(
                    "unknown_class",
                    f"{child}: an image outside the class folders; move it into one of "
                    f"{', '.join(CLASSES)} or away",
                )
            continue
        label = _class_of(child.name)
        if label is None:
            unknown.append(child)
        elif label in found:
            raise DataError(
                "unknown_class",
                f"{child}: a second folder for class {label} beside {found[label].name}; "
                "keep one of them",
            )
        else:
            found[label] = child
    missing = [label for label in CLASSES if label not in found]
    if len(missing) == len(CLASSES) and not any(_resembles(folder.name) for folder in unknown):
        raise DataError(
            "no_data",
            f"{root}: no class folders here; give the folder that holds {', '.join(CLASSES)} "
            "(or Original with these inside)",
        )
    for folder in unknown:
        guess = _resembles(folder.name)
        advice = f"rename it to {guess}" if guess in missing else "move it out of the data set"
        meant = f" (did you mean {guess}?)" if guess in missing else ""
        raise DataError("unknown_class", f"{folder}: not a class folder{meant}; {advice}")
    if missing:
        raise DataError(
            "missing_class",
            f"{root}: no folder for class {', '.join(missing)}; all of {', '.join(CLASSES)} "
            "are needed",
        )
    return {label: found[label] for label in CLASSES}


def _resembles(folder: str) -> str | None:
    close = difflib.get_close_matches(_simplified(folder), _ALIASES, n=1, cutoff=0.6)
    return _ALIASES[close[0]] if close else None


def _images_in(folder: Path, label: str) -> list[Path]:
    files = _visible(folder)
    for path in files:
        if path.is_dir():
            raise DataError(
                "unknown_class",
                f"{path}: a folder inside the class folder {folder.name}; "
                "put the images directly into the class folder",
            )
    if not files:
        raise DataError("empty_class", f"{folder}: no images of class {label}; add some")
    return sorted(files, key=lambda path: (_natural(path.name), path.name))


def _visible(folder: Path) -> list[Path]:
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            "unreadable", f"{folder}: cannot be listed ({error.strerror}); check its permissions"
        ) from error
    return [
        child
        for child in children
        if not child.name.startswith(".") and child.name.lower() not in _LITTER
    ]


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts field-9 before field-10."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"([0-9]+)", name)
        if part
    ]
