"""Feature extractors by name, and the table of them."""

from __future__ import annotations

import difflib

from allsub_edge.errors import UsageError
from allsub_edge.training.backbone import Backbone, Cut, Factor
from allsub_edge.training.backbone_entries import ENTRIES

__all__ = ["BACKBONES", "Backbone", "Cut", "Factor", "get_backbone", "table"]

BACKBONES: dict[str, Backbone] = {backbone.name: backbone for backbone in ENTRIES}
"""Every backbone by its name."""


def get_backbone(name: str) -> Backbone:
    """Look a backbone up; an unknown name raises a UsageError that lists the valid ones."""
    try:
        return BACKBONES[name]
    except KeyError:
        close = difflib.get_close_matches(name, BACKBONES, n=1)
        guess = f" (did you mean {close[0]}?)" if close else ""
        raise UsageError(
            "unknown_backbone",
            f"unknown backbone {name!r}{guess}; choose from: {', '.join(BACKBONES)}",
        ) from None


def table() -> str:
    """The table as text: a line for each backbone and cut, then what int8 does to each."""
    lines = [
        f"{'backbone':<20}{'cut':<10}{'map':>12}{'parameters':>12}{'multiply-adds':>15}  "
        f"{'trained at':>10}  {'int8':<6}preprocessing"
    ]
    for name, backbone in BACKBONES.items():
        about = f"{backbone.size:>7} px  {backbone.int8:<6}{backbone.preprocessing}"
        for number, (cut, fact) in enumerate(backbone.cuts.items()):
            first = number == 0
            lines.append(
                f"{name if first else '':<20}{cut:<10}{f'{fact.channels} at 1/{fact.stride}':>12}"
                f"{fact.parameters / 1e6:>10.2f} M{fact.multiply_adds / 1e6:>13.0f} M"
                f"  {about if first else ''}{' *' if first and backbone.inside else ''}"
            )
    lines += [
        "",
        "map: channels at the share of the side. Cost is that of one 224 px field.",
        "* inside the network in keras.applications; taken out here. x is 0..255.",
        "int8, judged by operators:",
    ]
    reasons: dict[str, list[str]] = {}
    for name, backbone in BACKBONES.items():
        reasons.setdefault(f"{backbone.int8}: {backbone.int8_reason}", []).append(name)
    lines += [f"  {reason} ({', '.join(names)})" for reason, names in reasons.items()]
    return "\n".join(line.rstrip() for line in lines)
