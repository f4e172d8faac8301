"""EfficientNet-Lite0 whose first blocks are fused: one dense convolution for two thin ones.

An inverted residual widens with a 1x1 convolution and looks around with a depthwise one. Processors
are made for neither: on the large maps of a network's beginning the first moves more bytes than it
multiplies, and depthwise kernels use no dot-product instructions. A fused block does both with one
dense convolution (Gupta & Tan, "EfficientNet-EdgeTPU", Google AI blog 2019; "Fused-MBConv" of Tan &
Le, "EfficientNetV2", ICML 2021, arXiv 2104.00298): more multiply-adds, less time in 8-bit integers.

There are no published weights of this network. Its stem and later blocks take those of Lite0; the
fused blocks learn from the blocks whose work they do (:mod:`allsub_edge.training.imitate`).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import keras

from allsub_edge.training.efficientnet_lite import batch_norm, efficientnet_lite

ORIGINAL: Final = "efficientnet_lite0"
"""Whose blocks are fused."""


class Fused(NamedTuple):
    """One fused block: side of its window, stride, and channels inside and at its end."""

    kernel: int
    stride: int
    inner: int
    out: int


FUSED: Final[dict[int, Fused | None]] = {
    0: None,
    1: Fused(3, 2, 96, 24),
    2: None,
    3: Fused(5, 2, 144, 40),
    4: Fused(3, 1, 96, 40),
}
"""Number of a block of Lite0 -> what stands in its place. None: the next one does its work too.

Windows and widths are what took an int8 file least for what was left unlike (docs/search.md)."""


def fused_lite(size: int, cut: str, name: str) -> Any:
    """Build the extractor with random weights.

    Args:
        size, cut, name: see ``efficientnet_lite.efficientnet_lite``, whose map it makes.

    Returns:
        A Keras model; layers outside the fused blocks have their names of Lite0.
    """

    def replaced(x: Any, index: int, prefix: str) -> Any | None:
        if index not in FUSED:
            return None
        block = FUSED[index]
        return x if block is None else _fused_block(x, index, block, prefix)

    return efficientnet_lite(ORIGINAL, size, cut, name, replaced)


def _fused_block(x: Any, index: int, block: Fused, prefix: str) -> Any:
    name, shortcut = f"{prefix}blocks_{index}_", x
    x = keras.layers.Conv2D(
        block.inner,
        block.kernel,
        strides=block.stride,
        padding="same",
        use_bias=False,
        name=name + "_fused_conv",
    )(x)
    x = batch_norm(name + "_bn1")(x)
    x = keras.layers.ReLU(6.0, name=name + "fused_relu")(x)
    x = keras.layers.Conv2D(block.out, 1, use_bias=False, name=name + "_project_conv")(x)
    x = batch_norm(name + "_bn2")(x)
    if block.stride == 1 and shortcut.shape[-1] == block.out:
        x = keras.layers.Add(name=name + "add")([x, shortcut])
    return x
