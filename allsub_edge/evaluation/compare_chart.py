"""The chart of a comparison: accuracy against latency, or against size."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi, sqrt
from typing import Any

from allsub_edge.evaluation.plots import COLOURS, Figures

Comparison = Mapping[str, Any]


def timed(found: Comparison) -> bool:
    """Whether a latency was measured."""
    return any("p50_ms" in latency for latency in found["latency"])


def bubbles(figures: Figures, found: Comparison) -> str:
    """Accuracy with its interval against latency, the size of the file as area.

    Without a measured latency the horizontal axis is the size itself.
    """
    points = []
    for name, latency in zip(found["names"], found["latency"], strict=True):
        report = found["reports"][name]
        subject = report["subject"]
        megabytes = (
            latency.get("bytes") or subject.get("bytes") or 4 * subject.get("parameters", 0)
        ) / 1e6
        across = latency.get("p50_ms") if timed(found) else megabytes
        if across:
            points.append((name, across, megabytes, report["measures"]["accuracy"]))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        largest = max((p[2] for p in points), default=1.0)
        for (name, across, megabytes, row), colour in zip(points, COLOURS * 3, strict=False):
            middle = 100 * row["value"]
            low, high = (100 * end for end in row["wilson95"])
            axes.plot([across, across], [low, high], color=colour, linewidth=1, zorder=1)
            axes.scatter(
                [across], [middle], s=_area(megabytes, largest), color=colour, alpha=0.55, zorder=2
            )
            axes.scatter([across], [middle], s=6, color="#16181d", zorder=3, label=name)
        axes.set_xscale("log")
        # 3 and 0.5 rather than powers of ten with a factor.
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if value < 1000 else "")
        axes.margins(x=0.25)
        axes.grid(color="#e7e9ee")
        axes.set_ylabel("accuracy, % (Wilson 95 %)")
        axes.set_xlabel(
            "ms per field, one thread (log scale); area: bytes of the file"
            if timed(found)
            else "size, MB (log scale)"
        )
        for (name, across, megabytes, row), colour in zip(points, COLOURS * 3, strict=False):
            axes.annotate(
                f"{name}\n{megabytes:.2f} MB",
                (across, 100 * row["value"]),
                xytext=(4 + sqrt(_area(megabytes, largest) / pi), -4),
                textcoords="offset points",
                fontsize=8,
                color=colour,
            )

    return figures.draw((8.6, 4.2), paint)


def _area(megabytes: float, largest: float) -> float:
    """Of a bubble, in square points."""
    return 30 + 600 * megabytes / largest
