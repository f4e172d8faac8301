"""Feature extractors by name, each with its own preprocessing and cut points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allsub_edge.errors import UsageError
from allsub_edge.training import efficientnet_lite


@dataclass(frozen=True)
class Backbone:
    """One feature extractor.

    Attributes:
        name: how the configuration names it.
        scale: multiplies the 0..255 field first.
        offset: is added after; the network sees ``rgb * scale + offset``.
        cuts: cut name -> stride of the feature map there.
        build: ``(size, cut, name) -> keras.Model`` from the normalised field to a feature map.
        load: loads a weights file into such a model.
    """

    name: str
    scale: float
    offset: float
    cuts: Mapping[str, int]
    build: Callable[[int, str, str], Any]
    load: Callable[[Any, Path], None]

    def check_cut(self, cut: str) -> None:
        """Raise a UsageError that lists the valid cuts if ``cut`` is not one."""
        if cut not in self.cuts:
            raise UsageError(
                "unknown_cut",
                f"{self.name} has no cut {cut!r}; choose from: {', '.join(self.cuts)}",
            )


BACKBONES: dict[str, Backbone] = {
    "efficientnet_lite0": Backbone(
        name="efficientnet_lite0",
        scale=1 / 128,
        offset=-127 / 128,
        cuts={"stride16": 16, "full": 32},
        build=efficientnet_lite.efficientnet_lite0,
        load=efficientnet_lite.load_weights,
    ),
}


def get_backbone(name: str) -> Backbone:
    """Look a backbone up; an unknown name raises a UsageError that lists the valid ones."""
    try:
        return BACKBONES[name]
    except KeyError:
        raise UsageError(
            "unknown_backbone", f"unknown backbone {name!r}; choose from: {', '.join(BACKBONES)}"
        ) from None
