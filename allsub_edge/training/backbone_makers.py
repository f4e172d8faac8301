"""How the facts of a backbone become one that can be built, loaded and fetched.

Keras is imported when a network is built, not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from allsub_edge.training.backbone import Backbone, Cut, Factor

Way = tuple[Factor, Factor, str]
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _per_channel(values: Iterable[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


# Preprocessing in the ways of the original trainings: scale, offset, words.
LITE: Final[Way] = (1 / 128, -127 / 128, "(x - 127) / 128")
SIGNED: Final[Way] = (1 / 127.5, -1.0, "x / 127.5 - 1")
STANDARD: Final[Way] = (
    _per_channel(1 / (255 * d) for d in _DEVIATION),
    _per_channel(-m / d for m, d in zip(_MEAN, _DEVIATION, strict=True)),
    "(x / 255 - mean) / deviation",
)
CAFFE: Final[Way] = (1.0, (-123.68, -116.779, -103.939), "x - mean")

RELU6: Final = "ReLU6 bounds every activation; no squeeze-and-excite"


def lite(name: str, size: int, cuts: Mapping[str, Cut]) -> Backbone:
    """An EfficientNet-Lite; ``size`` is the side in pixels that its weights were trained at."""

    def build(size: int, cut: str, model: str) -> Any:
        from allsub_edge.training.efficientnet_lite import efficientnet_lite

        return efficientnet_lite(name, size, cut, model)

    def load(extractor: Any, source: Path | str, cut: str) -> None:
        from allsub_edge.training.efficientnet_lite import load_weights

        load_weights(extractor, Path(source), name)

    return Backbone(
        name,
        *LITE[:2],
        cuts,
        build,
        load,
        size=size,
        blocks=r"blocks_(\d+)_",
        preprocessing=LITE[2],
        int8="good",
        int8_reason=RELU6,
    )


def fused(name: str, size: int, cuts: Mapping[str, Cut], blocks: Iterable[int]) -> Backbone:
    """EfficientNet-Lite0 with fused blocks; ``blocks`` are the numbers of those."""
    whole = lite("efficientnet_lite0", size, cuts)

    def build(size: int, cut: str, model: str) -> Any:
        from allsub_edge.training.fused_lite import fused_lite

        return fused_lite(size, cut, model)

    def load(extractor: Any, source: Path | str, cut: str) -> None:
        original = whole.build(extractor.input.shape[1], cut, "original")
        whole.load(original, source, cut)
        for layer in extractor.layers:
            if layer.weights and not made.is_own(layer.name):
                layer.set_weights(original.get_layer(layer.name).get_weights())

    made = replace(
        whole,
        name=name,
        build=build,
        load=load,
        starts_from=whole.name,
        imitates=tuple(rf"^lite_blocks_{number}_" for number in blocks),
    )
    return made


def application(
    name: str,
    function: str,
    way: Way,
    cuts: Mapping[str, tuple[str, Cut]],
    *,
    options: Mapping[str, Any] | None = None,
    **rest: Any,
) -> Backbone:
    """An entry from keras.applications; ``cuts`` name the layer that each ends with."""

    def network() -> Any:
        from allsub_edge.training.applications import Application

        layers = {cut: layer for cut, (layer, _) in cuts.items()}
        return Application(function, layers, options or {}, bgr=way is CAFFE)

    def build(size: int, cut: str, model: str) -> Any:
        return network().build(size, cut, model)

    def load(extractor: Any, source: Path | str, cut: str) -> None:
        network().load(extractor, source, cut)

    def fetch() -> Any:
        return network().download()

    facts = {cut: fact for cut, (_, fact) in cuts.items()}
    return Backbone(name, *way[:2], facts, build, load, preprocessing=way[2], fetch=fetch, **rest)
