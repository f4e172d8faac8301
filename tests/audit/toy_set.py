"""A data set of rendered noise: small, and no two fields alike unless a test makes them so."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from allsub_edge.classes import CLASSES


def noise_field(place: int, number: int, side: int = 224) -> np.ndarray:
    """Coarse random blocks, uint8 RGB (side, side, 3), tinted by class."""
    generator = np.random.default_rng([place, number])
    coarse = generator.integers(0, 200, (40, 40, 3), dtype=np.uint8)
    coarse[..., place % 3] //= 2 if place < 3 else 1
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_NEAREST))


def write(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1]))


def write_set(root: Path, each: int = 8) -> Path:
    """``each`` fields a class as root/CLASS/f01.png and so on."""
    for place, label in enumerate(CLASSES):
        for number in range(1, each + 1):
            write(root / label / f"f{number:02d}.png", noise_field(place, number))
    return root
