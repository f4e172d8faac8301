"""A training small enough for a test: three convolutions on 64 px fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from allsub_edge.classes import CLASSES
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import squash
from allsub_edge.training.backbones import Backbone, Cut


def toy_extractor(size: int, cut: str, name: str) -> Any:
    import keras

    inputs = keras.Input((size, size, 3), name=f"{name}_input")
    x = inputs
    for i, width in enumerate((8, 16, 16, 16)):
        x = keras.layers.Conv2D(
            width, 3, strides=2, padding="same", use_bias=False, name=f"{name}.{i}.conv"
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.7, name=f"{name}.{i}.norm")(x)
        x = keras.layers.ReLU(6.0, name=f"{name}.{i}.relu")(x)
    return keras.Model(inputs, x, name=name)


def _no_weights(extractor: Any, source: Path | str, cut: str) -> None:
    raise AssertionError("the toy has no starting weights")


TOY = Backbone(
    name="toy",
    scale=1 / 128,
    offset=-127 / 128,
    cuts={"stride16": Cut(16, 16, 6328, 421_888)},
    build=toy_extractor,
    load=_no_weights,
)


def toy_fields(
    each: int = 6, size: int = 64, first_seed: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rendered fields, their masks and labels; ``each`` for every class."""
    fields, labels = [], []
    for index, label in enumerate(CLASSES):
        for seed in range(first_seed, first_seed + each):
            fields.append(squash(render_field(seed, label), size))
            labels.append(index)
    mask = get_recipe("cells").mask
    stacked = np.stack(fields)
    return stacked, np.stack([mask(f) for f in stacked]), np.array(labels, dtype=np.int64)
