"""The preparation again, in the operators that ONNX Runtime runs fastest; not one pixel changes.

What the converter makes of the Keras layers works on planes: it transposes the field, splits it,
and reshapes around every pooling. A profile says that this takes a quarter of the int8 file's time.
Here the same integers are computed on the field as it comes, channels last:

* block sums are a product with a matrix of zeros and ones (12 values of four pixels -> 3), and so
  are the sum over the background and, in 8-bit integers, ``2 green - red - blue``;
* the gain is spread over one row, so that scaling is a product of whole rows. ``QuantizeLinear``
  then rounds and clips at once. It rounds half to even where the rule says half up, so every gain
  is larger by 2^-21 of itself: a product has 12 fractional bits, so this lifts each half over the
  edge and moves nothing else (:data:`NUDGE`; a test goes through every gain and every pixel value);
* opening and closing run on 8-bit integers, and each square as a column and a row: a maximum over
  columns with the picture's own columns in the place of channels takes a whole vector of pixels at
  once, where ONNX Runtime pools the single channel of a float picture pixel by pixel. Turning the
  picture between the two costs less than that saves. Reshapes stand between a turn and a maximum
  because ONNX Runtime would otherwise join the turns around them and pool slowly again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.imaging import white_balance
from allsub_edge.imaging.recipes import strong_blocks

NUDGE: Final[float] = 1 + 2.0**-21
"""Factor on a gain that turns rounding half to even into rounding half up. Products below 256 grow
by less than 2^-13, half a step of their 12 fractional bits; the smallest half, 0.5, grows by 2^-22,
which float32 still holds there."""

PREFIX: Final = "lean/"
U8_NHWC: Final = PREFIX + "balanced"
"""Tensor: the balanced field, uint8 [N, H, 3 W], channels innermost."""

MASK_FLOAT: Final = PREFIX + "mask_float"
"""Tensor: float32 [N, 1, H, W] of 0 and 1."""

MASK_BYTES: Final = PREFIX + "mask_bytes"
"""Tensor: uint8 [N, 1, H, W] of 0 and 1."""


class Builder:
    """Collects nodes and constants whose names begin with a prefix that nothing else has."""

    def __init__(self, prefix: str = PREFIX) -> None:
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Name of a constant tensor; equal ones are shared."""
        array = np.asarray(value, dtype)
        for name, known in self.constants.items():
            same = known.dtype == array.dtype and known.shape == array.shape
            if same and (known == array).all():
                return name
        name = f"{self.prefix}const_{len(self.constants)}"
        self.constants[name] = array
        return name

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Append an operator with one output; returns the output's name."""
        from onnx import helper

        name = output or f"{self.prefix}{kind}_{len(self.nodes)}"
        outputs = [name] if kind != "TopK" else [name, f"{name}_indices"]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return name

    def reshape(self, data: str, *shape: int) -> str:
        """Reshape; 0 copies the batch dimension."""
        return self.add("Reshape", [data, self.constant(shape, np.int64)])

    def reduce_sum(self, data: str, axis: int, *, keepdims: int) -> str:
        """Sum over one axis."""
        return self.add("ReduceSum", [data, self.constant([axis], np.int64)], keepdims=keepdims)


def prepare_cells(
    field: str,
    height: int,
    width: int,
    params: Mapping[str, int | float],
    prefix: str = PREFIX,
) -> Builder:
    """White balance and mask of recipe ``cells`` on a uint8 field.

    Args:
        field: name of the input tensor, uint8 [N, height, width, 3].
        height: rows, a multiple of the block size.
        width: columns, a multiple of the block size.
        params: of the recipe.
        prefix: of all names but the three below.

    Returns:
        Operators of opset 13 or later that make :data:`U8_NHWC`, :data:`MASK_FLOAT` and
        :data:`MASK_BYTES`.
    """
    build = Builder(prefix)
    pixels = build.add("Cast", [field], to=float_type())
    _balance(build, pixels, height, width)
    purple = _minus_purple(build, height, width)
    _mask(build, purple, height, width, params)
    return build


def float_type() -> int:
    """ONNX number of float32."""
    from onnx import TensorProto

    return int(TensorProto.FLOAT)


def _block_sums(build: Builder, pixels: str, height: int, width: int) -> str:
    """Sums over blocks as [N, blocks, 3]; whole numbers up to 4080."""
    block = white_balance.BLOCK
    blocks = height * width // block**2
    # Whole rows first: that leaves a quarter of the field to the product.
    rows = build.reshape(pixels, 0, height // block, block, 3 * width)
    down = build.reduce_sum(rows, 2, keepdims=0)
    fold = build.constant(np.tile(np.eye(3), (block, 1)))
    both = build.add("MatMul", [build.reshape(down, 0, blocks, 3 * block), fold])
    return build.reshape(both, 0, blocks, 3)


def _balance(build: Builder, pixels: str, height: int, width: int) -> None:
    """Steps 1 to 5 of ``imaging.white_balance``; makes :data:`U8_NHWC`."""
    blocks = height * width // white_balance.BLOCK**2
    sums = _block_sums(build, pixels, height, width)
    darkest = build.add("ReduceMin", [sums], axes=[2], keepdims=1)
    darkest = build.reshape(darkest, 0, 1, blocks)
    count = build.constant([white_balance.background_blocks(blocks)], np.int64)
    brightest = build.add("TopK", [darkest, count], axis=2, largest=1, sorted=0)
    limit = build.add("ReduceMin", [brightest], axes=[2], keepdims=1)
    inside = build.add("GreaterOrEqual", [darkest, limit])
    inside = build.add("Cast", [inside], to=float_type())
    # Whole numbers below 2^24 in any order of summation.
    total = build.add("MatMul", [inside, sums])
    members = build.reduce_sum(inside, 2, keepdims=1)
    half = build.constant(0.5)
    point = build.add("Div", [total, members])
    point = build.add("Floor", [build.add("Add", [point, half])])
    least = white_balance.TARGET * 16 // white_balance.MAX_GAIN
    point = build.add("Max", [point, build.constant(least)])
    shift = white_balance.GAIN_SHIFT
    gain = build.add("Div", [build.constant(white_balance.TARGET << (4 + shift)), point])
    gain = build.add("Floor", [build.add("Add", [gain, half])])
    gain = build.add("Mul", [gain, build.constant(NUDGE / (1 << shift))])
    row = build.add("Tile", [gain, build.constant([1, 1, width], np.int64)])
    scaled = build.add("Mul", [build.reshape(pixels, 0, height, 3 * width), row])
    one, zero = build.constant(1), build.constant(0, np.uint8)
    build.add("QuantizeLinear", [scaled, one, zero], U8_NHWC)


def _minus_purple(build: Builder, height: int, width: int) -> str:
    """``2 green - red - blue`` of the balanced field as [N, 1, H, W]."""
    # Sixteen pixels to a product: a product with one column takes three times as long. In integers
    # no sum of two neighbouring products leaves 16 bits, where kernels without VNNI would saturate.
    group = white_balance.BLOCK**2
    pixels = build.reshape(U8_NHWC, 0, height * width // group, 3 * group)
    weights = build.constant(np.kron(np.eye(group), [[-1], [2], [-1]]), np.int8)
    minus = build.add("MatMulInteger", [pixels, weights])
    return build.reshape(build.add("Cast", [minus], to=float_type()), 0, 1, height, width)


def _mask(
    build: Builder, minus: str, height: int, width: int, params: Mapping[str, int | float]
) -> None:
    """Recipe ``cells`` on negated purple, so that every erosion is a maximum."""
    from onnx import TensorProto

    block = white_balance.BLOCK
    blocks = height * width // block**2
    means = build.add("AveragePool", [minus], kernel_shape=[block, block], strides=[block, block])
    means = build.reshape(means, 0, 1, 1, blocks)
    count = build.constant([strong_blocks(blocks, params["strong_percent"])], np.int64)
    strongest = build.add("TopK", [means, count], axis=3, largest=0, sorted=0)
    limit = build.add("ReduceMax", [strongest], axes=[3], keepdims=1)
    limit = build.add("Mul", [limit, build.constant(params["share"])])
    ends = [build.constant(-params[name]) for name in ("purple_max", "purple_min")]
    limit = build.add("Clip", [limit, *ends])
    opened, closed = int(params["open"]), int(params["close"])
    # Outside the cells, as 8-bit integers: 0 and 1, or 0 and -1 after a Neg.
    outside = build.add("Cast", [build.add("Greater", [minus, limit])], to=int(TensorProto.INT8))
    outside = build.reshape(outside, 0, height, width)
    # The dilations that end the opening and begin the closing are one larger square.
    inside = build.add("Neg", [_grow(build, outside, height, width, opened)])
    outside = build.add("Neg", [_grow(build, inside, width, height, opened + closed - 1)])
    outside = _grow(build, outside, height, width, closed)
    outside = build.add("Transpose", [outside], perm=[0, 2, 1])
    outside = build.add("Cast", [outside], to=int(TensorProto.BOOL))
    inside = build.reshape(build.add("Not", [outside]), 0, 1, height, width)
    build.add("Cast", [inside], MASK_FLOAT, to=float_type())
    build.add("Cast", [inside], MASK_BYTES, to=int(TensorProto.UINT8))


def _grow(build: Builder, image: str, height: int, width: int, side: int) -> str:
    """Largest value in a square around each pixel of int8 [N, H, W]; comes out as [N, W, H]."""
    image = _grow_down(build, image, height, width, side)
    image = build.add("Transpose", [image], perm=[0, 2, 1])
    return _grow_down(build, image, width, height, side)


def _grow_down(build: Builder, image: str, height: int, width: int, side: int) -> str:
    """Largest value in a column of pixels: columns in the place of channels, as which ONNX Runtime
    takes 32 or 64 at once."""
    image = build.reshape(image, 0, height, 1, width)
    planes = build.add("Transpose", [image], perm=[0, 3, 1, 2])
    pad = side // 2
    # Padding never wins in MaxPool, which is OpenCV's border rule too.
    most = build.add(
        "MaxPool", [planes], kernel_shape=[side, 1], pads=[pad, 0, pad, 0], strides=[1, 1]
    )
    most = build.add("Transpose", [most], perm=[0, 2, 3, 1])
    return build.reshape(most, 0, height, width)
