"""Jitter in colour spaces that follow the chemistry of a stain or the eye.

:func:`hed_jitter` is the stain augmentation of Tellez et al., "Quantifying the effects of data
augmentation and stain color normalization in convolutional neural networks for computational
pathology", Medical Image Analysis 58 (2019), doi 10.1016/j.media.2019.101544: separate the stains
by colour deconvolution (Ruifrok and Johnston, "Quantification of histochemical staining by color
deconvolution", Analytical and Quantitative Cytology and Histology 23 (2001) 291-299), change the
amount of each stain at random, and put the colours together again.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from allsub_edge.training.perturb import LEVELS, Field, to_uint8

HED: Final[npt.NDArray[np.float64]] = np.array(
    [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]]
)
"""Ruifrok and Johnston's haematoxylin, eosin and DAB: the optical density that each stain (row) has
in red, green and blue (columns)."""

GIEMSA: Final[npt.NDArray[np.float64]] = np.array(
    [
        [0.834750233, 0.513556283, 0.196330403],
        [0.092789, 0.954111, 0.283111],
        np.cross([0.834750233, 0.513556283, 0.196330403], [0.092789, 0.954111, 0.283111]),
    ]
)
"""Methylene blue and eosin, the dyes of blood smear stains, as given in G. Landini's Colour
Deconvolution plugin of ImageJ; the third row is their cross product, the residue."""

_DENSITY: Final[npt.NDArray[np.float32]] = -np.log((LEVELS + 1) / 256).astype(np.float32)
"""Optical density (natural logarithm) of each grey level; the 1 keeps black finite."""


def hed_jitter(
    field: Field,
    rng: np.random.Generator,
    sigma: float = 0.05,
    bias: float = 0.05,
    *,
    stains: npt.NDArray[np.float64] = HED,
) -> Field:
    """Change the amount of each stain: ``amount * (1 + U(-sigma, sigma)) + U(-bias, bias)``.

    Args:
        field: uint8 RGB (H, W, 3).
        rng: decides the three factors and offsets.
        sigma: spread of the factors (Tellez et al. use 0.05 for light and 0.2 for strong jitter).
        bias: spread of the offsets, in natural optical density.
        stains: 3x3 matrix with one stain a row, :data:`HED` or :data:`GIEMSA`.

    Returns:
        uint8 RGB (H, W, 3).
    """
    factors = rng.uniform(1 - sigma, 1 + sigma, 3)
    offsets = rng.uniform(-bias, bias, 3)
    # As row vectors: density -> amounts (inverse) -> changed amounts -> density, in one matrix.
    unit = stains / np.linalg.norm(stains, axis=1, keepdims=True)
    matrix = np.linalg.inv(unit) @ np.diag(factors) @ unit
    # exp(log(256) - density) is 256 times the light that passes.
    affine = np.column_stack([-matrix.T, np.log(256) - offsets @ unit])
    light = cv2.exp(cv2.transform(cv2.LUT(field, _DENSITY), affine))
    return np.asarray(cv2.subtract(light, (1, 1, 1, 0), dtype=cv2.CV_8U), dtype=np.uint8)


def lab_jitter(
    field: Field, rng: np.random.Generator, lightness: float = 0.1, colour: float = 6.0
) -> Field:
    """Scale lightness by ``1 + U(-lightness, lightness)`` and shift a* and b* in CIE L*a*b*.

    Training leaves it out on purpose, so that it can serve as a change no model was trained on.

    Args:
        field: uint8 RGB (H, W, 3), taken as sRGB.
        rng: decides factor and shifts.
        lightness: spread of the factor.
        colour: largest shift of a* and of b*, in CIE units.

    Returns:
        uint8 RGB (H, W, 3).
    """
    factor = rng.uniform(1 - lightness, 1 + lightness)
    shifts = rng.uniform(-colour, colour, 2)
    # OpenCV's 8-bit L*a*b* keeps a* and b* with an offset of 128 and one level a unit.
    table = np.stack([LEVELS * factor, LEVELS + shifts[0], LEVELS + shifts[1]], axis=-1)
    lab = cv2.LUT(cv2.cvtColor(field, cv2.COLOR_RGB2LAB), to_uint8(table).reshape(256, 1, 3))
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), dtype=np.uint8)
