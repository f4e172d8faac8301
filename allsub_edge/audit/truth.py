"""Fields with masks to hold a recipe against: drawn by hand, or the public set's own.

Two layouts. A folder of images, each with a mask of the same name as PNG: 255 is nucleus, 128
cytoplasm, 0 background. Or the public data set, whose ``Segmented`` folder holds cut-out cells
beside ``Original``: there the mask is where the cut-out is not black.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from allsub_edge.audit.inventory import Refused
from allsub_edge.errors import DataError, FieldError
from allsub_edge.imaging.decode import decode, read_bytes
from allsub_edge.imaging.resize import squash
from allsub_edge.imaging.white_balance import BLOCK
from allsub_edge.training.dataset import _class_folders, _images_in

Mask = npt.NDArray[np.bool_]

TARGETS: Final[tuple[str, ...]] = ("nucleus", "cell")
"""What a hand-made mask can be asked for: the nucleus, or nucleus and cytoplasm."""

BLACK: Final[int] = 80
"""Brightest channel up to which a pixel of a released cut-out is background: JPEG leaves ringing of
that height around the cells. Between 40 and 120 the median IoU of aria2022 stays in 0.83 to 0.84
(Benign), 0.83 to 0.87 (Early), 0.90 to 0.91 (Pre) and 0.36 to 0.42 (Pro)."""

_IMAGES: Final[frozenset[str]] = frozenset({".bmp", ".jpg", ".jpeg", ".tif", ".tiff"})
_LEVELS: Final[tuple[int, ...]] = (0, 128, 255)


@dataclass(frozen=True)
class Case:
    """A field and where its white cells are.

    Attributes:
        file: path of the image relative to the folder.
        label: its class; empty where there are none.
        rgb: uint8 (H, W, 3), H and W multiples of 4.
        truth: bool (H, W).
    """

    file: str
    label: str
    rgb: npt.NDArray[np.uint8]
    truth: Mask


def is_release(root: Path) -> bool:
    """Whether the folder is the public data set with its segmented images."""
    return (root / "Segmented").is_dir() and (root / "Original").is_dir()


def find_cases(root: Path) -> list[tuple[Path, Path, str]]:
    """(image, mask or cut-out, class) of everything to measure, in order of the names.

    The mask is named even where it does not exist; reading says so then.

    Raises:
        DataError: ``no_data`` when the folder does not exist, ``no_truth`` when nothing in it is
            an image with a mask; or what is wrong with the class folders.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError("no_data", f"{root}: {what}; give a folder of images with masks")
    if is_release(root):
        originals, cut_outs = _class_folders(root / "Original"), _class_folders(root / "Segmented")
        return [
            (originals[label] / path.name, path, label)
            for label, folder in cut_outs.items()
            for path in _images_in(folder, label)
        ]
    children = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    found = [(p, p.with_suffix(".png"), "") for p in children if p.suffix.lower() in _IMAGES]
    if not any(mask.is_file() for _, mask, _ in found):
        raise DataError(
            "no_truth",
            f"{root}: no image with a mask here; put NAME.png (255 nucleus, 128 cytoplasm, "
            "0 background) beside each NAME.bmp, .jpg or .tif, or give the public data set's "
            "folder with Original and Segmented inside",
        )
    known = {mask for _, mask, _ in found}
    alone = [p for p in children if p.suffix.lower() == ".png" and p not in known]
    return found + [(path.with_suffix(".bmp"), path, "") for path in alone]


def read_cases(
    root: Path,
    cases: Sequence[tuple[Path, Path, str]],
    target: str,
    squashed: bool,
    refused: list[Refused],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Case]:
    """Read cases one by one; what cannot be read goes to ``refused``.

    Args:
        root: the folder, for relative names.
        cases: from :func:`find_cases`.
        target: ``nucleus`` or ``cell``; without meaning for released cut-outs.
        squashed: bring field and mask to 224x224, as a model sees them; otherwise up to 3 columns
            and rows are cut off on the right and below, because recipes need multiples of 4.
        refused: is appended to.
        progress: called after each case.
    """
    for done, (image, mask, label) in enumerate(cases, 1):
        file = image.relative_to(root).as_posix()
        try:
            rgb = decode(read_bytes(image), source=file, smallest_side=None).rgb
            truth = _cut_out(mask) if label else _hand_made(mask, target)
            if truth.shape != rgb.shape[:2]:
                raise FieldError(
                    "unreadable",
                    f"{mask.name} has {truth.shape[1]}x{truth.shape[0]} pixels, the image "
                    f"{rgb.shape[1]}x{rgb.shape[0]}; give masks of the image's size",
                )
        except FieldError as error:
            why = error.message.removeprefix(f"{file}: ").removeprefix(f"{image}: ")
            refused.append(Refused(file, label, why))
        else:
            yield Case(file, label, *(_squash(rgb, truth) if squashed else _trim(rgb, truth)))
        if progress is not None:
            progress(done, len(cases))


def _trim(rgb: npt.NDArray[np.uint8], truth: Mask) -> tuple[npt.NDArray[np.uint8], Mask]:
    height, width = (side // BLOCK * BLOCK for side in truth.shape)
    return np.ascontiguousarray(rgb[:height, :width]), truth[:height, :width]


def _squash(rgb: npt.NDArray[np.uint8], truth: Mask) -> tuple[npt.NDArray[np.uint8], Mask]:
    spread = np.repeat(truth.astype(np.uint8)[:, :, None] * 255, 3, axis=2)
    return squash(rgb), squash(spread)[:, :, 0] >= 128


def _hand_made(path: Path, target: str) -> Mask:
    pixels = cv2.imdecode(np.frombuffer(_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise FieldError("unreadable", f"{path.name} is not a readable PNG; export it again")
    levels = np.asarray(pixels)
    if levels.ndim != 2 or not np.isin(levels, _LEVELS).all():
        raise FieldError(
            "unreadable",
            f"{path.name} is not a mask of one channel with 0, 128 and 255; export it as such",
        )
    return np.asarray(levels == 255 if target == "nucleus" else levels > 0)


def _cut_out(path: Path) -> Mask:
    try:
        return np.asarray(decode(_bytes(path), source=path.name).rgb.max(axis=2) > BLACK)
    except FieldError as error:
        if error.code != "grey":
            raise
        # Nothing was cut out at all: an all-black image is an empty mask, not a wrong one.
        grey = cv2.imdecode(np.frombuffer(_bytes(path), np.uint8), cv2.IMREAD_GRAYSCALE)
        return np.asarray(grey) > BLACK


def _bytes(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except FieldError as error:
        if error.code == "missing":
            raise FieldError("missing", f"there is no mask {path.name}; add it") from None
        raise
