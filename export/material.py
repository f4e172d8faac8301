"""Fields an export works with: some show the ranges of activations, others prove the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.training.run import Run

CALIBRATION_FIELDS: Final = 128

SEEN_FIELDS: Final = 512
"""How many training fields a file is compared with its network on, where there is no test role."""


@dataclass(frozen=True)
class Material:
    """Fields an export works with.

    Attributes:
        calibration: uint8 [M, 224, 224, 3], never test fields.
        test: uint8 [N, 224, 224, 3], on which a file is compared with its network.
        labels: int64 [N], true classes of ``test``.
        seen: the run has no test role, and ``test`` holds training fields: good for telling
            whether a file is the same network, and for nothing else.
    """

    calibration: npt.NDArray[np.uint8]
    test: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    seen: bool = False


def load_material(
    run: Run,
    data: Path,
    calibration_fields: int = CALIBRATION_FIELDS,
    calibration: Path | None = None,
) -> Material:
    """Read the fields of a run's split again from the data folder.

    Args:
        run: the run.
        data: the data set it was trained on.
        calibration_fields: how many fields show the ranges of activations.
        calibration: a folder of other fields to take them from, such as unlabelled ones of the
            microscope at hand; None takes training fields, as many of each class, evenly over
            its slides.

    Raises:
        DataError: the data is not what the run was trained on; the other folder has no field, one
            that cannot be read, or one of the test fields.
    """
    from allsub_edge.training.dataset import fingerprint, load_fields, read_dataset
    from allsub_edge.training.split import read_split

    samples = read_dataset(data)
    if fingerprint(samples) != run.read_json("config.json")["data_fingerprint"]:
        raise DataError("data_changed", f"{data}: not the fields that {run.folder} was trained on")
    by_file = {sample.file: sample for sample in samples}
    roles: dict[str, list[Any]] = {"train": [], "test": []}
    for row in read_split(run.split_path).rows:
        if row.role in roles:
            roles[row.role].append(by_file[row.file])
    ranges = _balanced(roles["train"], calibration_fields)
    judges, seen = roles["test"], not roles["test"]
    if seen:
        known = {id(sample) for sample in ranges}
        others = [sample for sample in roles["train"] if id(sample) not in known]
        judges = _balanced(others or roles["train"], SEEN_FIELDS)
    test = load_fields(data, judges)
    if calibration is None:
        shown = load_fields(data, ranges)
    else:
        shown = _other_fields(calibration, calibration_fields)
        if not seen:
            _refuse_test_fields(calibration, shown, test)
    labels = np.array([CLASSES.index(s.label) for s in judges], dtype=np.int64)
    return Material(calibration=shown, test=test, labels=labels, seen=seen)


def _evenly(items: list[Any], count: int) -> list[Any]:
    if len(items) <= count:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, count).astype(int)]


def _balanced(samples: list[Any], count: int) -> list[Any]:
    """At most ``count``, the same number of each class, in the order of the data set."""
    each = -(-count // len(CLASSES))
    chosen = [_evenly([s for s in samples if s.label == name], each) for name in CLASSES]
    return [sample for part in chosen for sample in part]


def _other_fields(folder: Path, count: int) -> npt.NDArray[np.uint8]:
    from allsub_edge.errors import FieldError
    from allsub_edge.imaging.decode import read_field
    from allsub_edge.imaging.resize import squash
    from allsub_edge.sources.paths import expand

    fields = []
    for item in _evenly(list(expand([str(folder)])), count):
        try:
            if item.path is None:
                raise item.error or FieldError("missing", f"{folder}: no field")
            fields.append(squash(read_field(item.path).rgb))
        except FieldError as error:
            raise DataError("bad_calibration", f"--calibration: {error.message}") from error
    if not fields:
        raise DataError("bad_calibration", f"--calibration {folder}: no image in it")
    return np.stack(fields)


def _refuse_test_fields(
    folder: Path, shown: npt.NDArray[np.uint8], test: npt.NDArray[np.uint8]
) -> None:
    known = {field.tobytes() for field in test}
    overlap = sum(field.tobytes() in known for field in shown)
    if overlap:
        raise DataError(
            "bad_calibration",
            f"--calibration {folder}: {overlap} of its fields are test fields of the run, on which "
            "the files are judged; take others",
        )
