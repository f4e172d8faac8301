"""Augmentation of training fields: one configuration, one callable, all chance from the outside.

Colour comes first among the things a smear classifier must not rely on: the network divides the
field by its own background colour, which undoes moderate channel gains, so what counts here is what
the division cannot undo: clipping, gamma, saturation, hue and stain, and the background itself.

The steps follow the light: smear (background, geometry, focus, stain), camera (colour, exposure),
file (scale bar, noise, JPEG). Point operations share one look-up table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.training import perturb, stain
from allsub_edge.training.augment_config import PRESETS, AugmentConfig
from allsub_edge.training.background import (
    Background,
    place_cells,
    prepare_background,
    recolour_background,
)
from allsub_edge.training.perturb import LEVELS, Field

__all__ = ["PRESETS", "AugmentConfig", "Augmenter", "Donor", "sample_rng"]

MIN_CELLS: Final[float] = 0.01
"""A field with less white cell than this keeps its background: without cells, nothing of its class
would be left in it."""

MAX_PAINTED: Final[float] = 0.5
"""A donor whose white cells cover more than this is not used."""

Donor = Background | tuple[Field, Field] | Field
"""A prepared background, a field with its white-cell mask, or a field alone (uint8 224x224x3)."""


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one field in one epoch.

    It depends on the three numbers (each >= 0) alone, so a training that is taken up again sees the
    same fields whatever the order, the batch size or the number of workers.
    """
    return np.random.default_rng((seed, epoch, index))


class Augmenter:
    """Applies an :class:`AugmentConfig` to one field at a time."""

    def __init__(self, config: AugmentConfig, *, donors: Sequence[Donor] | None = None) -> None:
        """Take ``donors`` (other training fields) as backgrounds.

        Each donor is prepared when it is first drawn and then kept, 150 kB each at 224x224.
        Without donors, ``background_p`` has no effect.
        """
        self.config = config
        self._donors: Sequence[Donor] = () if donors is None else donors
        self._prepared: dict[int, Background] = {}

    def __call__(self, field: Field, rng: np.random.Generator, mask: Field | None = None) -> Field:
        """Augment one field.

        Args:
            field: uint8 RGB (H, W, 3), 224x224 in training; it is not written to.
            rng: the only source of chance, see :func:`sample_rng`.
            mask: uint8 (H, W), 1 on white cells, if it is at hand; otherwise recipe ``cells`` finds
                them when they are needed.

        Returns:
            uint8 RGB (H, W, 3).
        """
        c = self.config
        out = field
        replace = rng.random() < c.background_p and len(self._donors) > 0
        recolour = rng.random() < c.recolour_p
        if (replace or recolour) and mask is None:
            mask = get_recipe("cells").mask(field)
        if c.scale_bar != "keep":
            out = perturb.hide_scale_bar(out)
            mask = None if mask is None else perturb.hide_scale_bar(mask)
        if mask is not None and replace:
            out = self._replace(out, mask, rng)
        if mask is not None and recolour:
            out = recolour_background(out, mask, rng)
        out = self._geometry(out, rng)
        if rng.random() < c.blur_p:
            out = perturb.blur(out, rng.uniform(0, c.blur))
        if rng.random() < c.stain_p:
            stains = stain.GIEMSA if rng.random() < 0.5 else stain.HED
            out = stain.hed_jitter(out, rng, c.stain_sigma, c.stain_bias, stains=stains)
        out = self._camera(out, rng)
        if c.scale_bar == "random":
            out = perturb.stamp_scale_bar(out, rng)
        if rng.random() < c.noise_p:
            out = perturb.noise(out, rng.uniform(0, c.noise), rng)
        if rng.random() < c.jpeg_p:
            out = perturb.jpeg(out, int(rng.integers(c.jpeg[0], c.jpeg[1] + 1)))
        return out.copy() if out is field else out

    def _replace(self, field: Field, mask: Field, rng: np.random.Generator) -> Field:
        number = int(rng.integers(len(self._donors)))
        match = rng.random() < self.config.background_match_p
        if (mask > 0).mean() < MIN_CELLS:
            return field
        background = self._background(number)
        if background.painted > MAX_PAINTED:
            return field
        return place_cells(field, mask, background, rng, match_colour=match)

    def _background(self, number: int) -> Background:
        if number not in self._prepared:
            donor = self._donors[number]
            if isinstance(donor, tuple):
                donor = prepare_background(*donor)
            elif not isinstance(donor, Background):
                donor = prepare_background(donor, get_recipe("cells").mask(donor))
            self._prepared[number] = donor
        return self._prepared[number]

    def _geometry(self, field: Field, rng: np.random.Generator) -> Field:
        c = self.config
        out = field
        if c.quarter_turns:
            # A field that is not square keeps its shape: half turns only.
            step = 1 if field.shape[0] == field.shape[1] else 2
            out = perturb.rotate90(out, step * int(rng.integers(4)))
        if c.flip and rng.random() < 0.5:
            out = perturb.flip(out)
        if rng.random() < c.affine_p:
            height, width = out.shape[:2]
            scale = np.exp(rng.uniform(-1, 1) * np.log1p(c.scale))
            dx, dy = rng.uniform(-c.shift, c.shift, 2) * (width, height)
            angle = rng.uniform(-c.rotation, c.rotation)
            out = perturb.affine(out, float(scale), float(dx), float(dy), float(angle))
        return out

    def _camera(self, field: Field, rng: np.random.Generator) -> Field:
        """Saturation and hue in one matrix; gamma, brightness and gains in one table."""
        c = self.config
        if rng.random() < c.colour_p:
            factor = rng.uniform(1 - c.saturation, 1 + c.saturation)
            turn = perturb.hue_matrix(rng.uniform(-c.hue, c.hue))
            field = perturb.colour_matrix(field, perturb.saturation_matrix(factor) @ turn)
        factors: npt.NDArray[np.float64] = np.ones(3)
        exponent = 1.0
        if rng.random() < c.exposure_p:
            exponent = float(np.exp(rng.uniform(*np.log(c.gamma))))
            factors = factors * rng.uniform(1 - c.brightness, 1 + c.brightness)
        if rng.random() < c.gain_p:
            factors = factors * rng.uniform(1 - c.gain, 1 + c.gain, 3)
        if exponent == 1.0 and (factors == 1.0).all():
            return field
        curve = 255 * (LEVELS / 255) ** np.float32(exponent)
        # Beyond the cap pale cytoplasm bleaches to the white of the glass. The ratio of the
        # channels stays.
        factors = factors / max(1.0, factors.max() * curve[190] / 190 / c.max_brightening)
        return perturb.apply_table(field, perturb.to_uint8(curve[:, None] * factors))
