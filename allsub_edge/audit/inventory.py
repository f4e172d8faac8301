"""Every field of a data set that can be read, and the reasons for every file that cannot.

:func:`allsub_edge.training.dataset.read_dataset` stops at the first file that is no image, because
a training must not go on without it. An audit goes on and lists them all. A class folder that is
missing, empty or misspelt stops both with the same words.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError, FieldError
from allsub_edge.imaging.decode import decode, read_bytes
from allsub_edge.imaging.resize import FIELD_SIZE, squash
from allsub_edge.training.dataset import (
    Progress,
    Sample,
    _class_folders,
    _images_in,
    split_name,
)


@dataclass(frozen=True)
class Refused:
    """A file in a class folder that is not a readable field.

    Attributes:
        file: path relative to the audited folder.
        label: the class whose folder holds it.
        why: what is wrong and what to do, one sentence.
    """

    file: str
    label: str
    why: str


@dataclass(frozen=True)
class Inventory:
    """What lies in the class folders.

    Attributes:
        root: the audited folder.
        samples: the readable fields by class and natural order of their names.
        fields: uint8 RGB (N, 224, 224, 3), in the order of ``samples``.
        sizes: for each class, (width, height, format) of the files -> how many.
        refused: what could not be read.
        segmented: files per class in a ``Segmented`` folder beside ``Original``; None without one.
        unpaired: of those, the ones whose name no field has; relative to ``root``.
    """

    root: Path
    samples: list[Sample]
    fields: npt.NDArray[np.uint8]
    sizes: dict[str, Counter[tuple[int, int, str]]]
    refused: list[Refused]
    segmented: dict[str, int] | None
    unpaired: list[str]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each field, int64 (N,), indices into CLASSES."""
        return np.array([CLASSES.index(sample.label) for sample in self.samples], np.int64)


def take_inventory(root: Path, *, progress: Progress | None = None) -> Inventory:
    """Read, hash, decode and squash every file of the class folders.

    150 528 bytes a field are held: 490 MB for the 3256 fields of the public set.

    Raises:
        DataError: ``no_data``, ``missing_class``, ``empty_class`` or ``unknown_class``, naming the
            folder; ``no_fields`` when a class has files and none is a readable field.
    """
    root = Path(root)
    folders = _class_folders(root)
    listed = [
        (label, path) for label, folder in folders.items() for path in _images_in(folder, label)
    ]
    samples: list[Sample] = []
    fields: list[npt.NDArray[np.uint8]] = []
    refused: list[Refused] = []
    sizes: dict[str, Counter[tuple[int, int, str]]] = {label: Counter() for label in CLASSES}
    for done, (label, path) in enumerate(listed, 1):
        file = path.relative_to(root).as_posix()
        try:
            _check_name(file)
            content = read_bytes(path)
            decoded = decode(content, source=file)
        except FieldError as error:
            why = error.message.removeprefix(f"{file}: ").removeprefix(f"{path}: ")
            written = file.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n")
            refused.append(Refused(written.replace("\r", "\\r"), label, why))
        else:
            digest = hashlib.sha256(content).hexdigest()
            samples.append(Sample(file, label, split_name(path.name)[1], digest))
            fields.append(squash(decoded.rgb))
            sizes[label][(decoded.width, decoded.height, decoded.format)] += 1
        if progress is not None:
            progress(done, len(listed))
    for label, folder in folders.items():
        if not sizes[label]:
            first = next(entry for entry in refused if entry.label == label)
            raise DataError(
                "no_fields",
                f"{folder}: none of the {sum(r.label == label for r in refused)} files is a "
                f"readable field (the first, {first.file}, {first.why})",
            )
    stacked = np.empty((len(fields), FIELD_SIZE, FIELD_SIZE, 3), np.uint8)
    for index in range(len(fields)):
        stacked[index] = fields[index]
        fields[index] = stacked[index]  # drop the copy at once: the set is held once, not twice
    segmented, unpaired = _segmented(root, folders, samples)
    return Inventory(root, samples, stacked, sizes, refused, segmented, unpaired)


def _check_name(file: str) -> None:
    """Refuse a name that no split file can hold, as ``read_dataset`` does."""
    if "\n" in file or "\r" in file or file != file.encode("utf-8", "replace").decode():
        raise FieldError("unreadable", "its name is not one line of UTF-8 text; rename the file")


def _segmented(
    root: Path, folders: dict[str, Path], samples: list[Sample]
) -> tuple[dict[str, int] | None, list[str]]:
    """Count the data set's own segmented images, if they lie beside the originals."""
    if folders[CLASSES[0]].parent == root or not (root / "Segmented").is_dir():
        return None, []
    own = _class_folders(root / "Segmented")
    names = {(sample.label, Path(sample.file).stem) for sample in samples}
    counts: dict[str, int] = {}
    unpaired: list[str] = []
    for label, folder in own.items():
        paths = _images_in(folder, label)
        counts[label] = len(paths)
        unpaired += [
            path.relative_to(root).as_posix() for path in paths if (label, path.stem) not in names
        ]
    return counts, unpaired
