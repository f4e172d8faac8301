"""What is known of a feature extractor: preprocessing, cut points, cost, and how to build it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from allsub_edge.errors import UsageError

Factor = float | tuple[float, float, float]
"""One number for all channels, or one each for red, green and blue."""

_DOTTED: Final = r"\.(\d+)\."


@dataclass(frozen=True)
class Cut:
    """A depth at which an extractor may end; cost of the part before it for a 224 px field.

    Attributes:
        stride: pixels between neighbouring positions of the feature map.
        channels: of the feature map.
        parameters: weights, batch-norm statistics included.
        multiply_adds: of convolutions, see ``training.extractor.multiply_adds``.
    """

    stride: int
    channels: int
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Backbone:
    """One feature extractor.

    Attributes:
        name: how the configuration names it.
        scale: multiplies the 0..255 field first.
        offset: is added after; the network sees ``rgb * scale + offset``.
        cuts: cut name -> :class:`Cut`; ``full`` is always there.
        build: ``(size, cut, name) -> keras.Model`` from the normalised field to a feature map.
        load: ``(extractor, source, cut)`` loads a weights file, or ``imagenet``, into such a model.
        size: side of the fields its ImageNet weights were trained on.
        min_size: smallest side that it can be built for.
        blocks: pattern of layer names for ``frozen_blocks``, see
            ``training.extractor.block_numbers``.
        inside: where Keras has it, preprocessing is part of the network; here it is taken out and
            done by ``scale`` and ``offset`` like everyone else's.
        preprocessing: ``scale`` and ``offset`` in words.
        fetch: downloads its ImageNet weights, unless they are here; None where nothing is.
        starts_from: backbone whose ImageNet weights it takes, having none of its own.
        imitates: patterns of layer names, one for each block that those weights do not have; it
            learns to give what the block of the same name gives there (``training.imitate``).
        int8: whether quantisation to 8 bits suits it, judged by its operators.
        int8_reason: why.
    """

    name: str
    scale: Factor
    offset: Factor
    cuts: Mapping[str, Cut]
    build: Callable[[int, str, str], Any]
    load: Callable[[Any, Path | str, str], None]
    size: int = 224
    min_size: int = 32
    blocks: str = _DOTTED
    inside: bool = False
    preprocessing: str = ""
    fetch: Callable[[], Any] | None = None
    starts_from: str = ""
    imitates: tuple[str, ...] = ()
    int8: Literal["good", "fair", "poor"] = "good"
    int8_reason: str = ""

    def is_own(self, layer: str) -> bool:
        """Whether a layer of this name is in a block that the starting weights do not have."""
        return any(re.search(block, layer) for block in self.imitates)

    def check_cut(self, cut: str) -> None:
        """Raise a UsageError that lists the valid cuts if ``cut`` is not one."""
        if cut not in self.cuts:
            raise UsageError(
                "unknown_cut",
                f"{self.name} has no cut {cut!r}; choose from: {', '.join(self.cuts)}",
            )
