"""Figures as SVG images inside the page: nothing is fetched, and they print sharp."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final

from allsub_edge.evaluation.conditions import FAMILIES

BLUE: Final[str] = "#2b5fab"
RED: Final[str] = "#a11d2c"
GREEN: Final[str] = "#1d6b45"
GREY: Final[str] = "#8a93a6"
COLOURS: Final[tuple[str, ...]] = (
    *(BLUE, "#c2571a", GREEN, "#7b3fa0", RED, "#008b8b"),
    *("#6b5b00", "#d1478f", "#444b59", "#5aa02c"),
)
"""For several runs in one figure; all dark enough on white."""

_SETTINGS: Final[dict[str, Any]] = {
    "svg.hashsalt": "allsub-edge",  # the same figure gives the same bytes
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#4a5160",
    "axes.labelcolor": "#16181d",
    "xtick.color": "#4a5160",
    "ytick.color": "#4a5160",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
}


class Figures:
    """Matplotlib without a window, set up once for a page."""

    def __init__(self) -> None:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib.figure import Figure

        self._matplotlib, self._figure = matplotlib, Figure

    def draw(self, size: tuple[float, float], paint: Any) -> str:
        """An SVG data URI of a figure ``size`` inches large, filled by ``paint(figure)``."""
        with self._matplotlib.rc_context(_SETTINGS):
            figure = self._figure(figsize=size, layout="constrained")
            paint(figure)
            stream = io.BytesIO()
            figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        return "data:image/svg+xml;base64," + b64encode(stream.getvalue()).decode("ascii")

    def reliability(self, bins: Sequence[Mapping[str, Any]]) -> str:
        """Confidence against accuracy with intervals, and how many fields stand behind a bin."""

        def paint(figure: Any) -> None:
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
            upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
            for b in bins:
                low, high = b["interval95"]
                upper.plot([b["confidence"]] * 2, [low, high], color=BLUE, linewidth=1.5)
            # A dot at 0 or 1 is drawn whole, across the axis.
            confidence, right = [b["confidence"] for b in bins], [b["value"] for b in bins]
            upper.plot(confidence, right, "o", color=BLUE, clip_on=False, zorder=3)
            upper.set(xlim=(0, 1.02), ylim=(0, 1.03), ylabel="share that is right")
            lower.bar(
                [(b["from"] + b["to"]) / 2 for b in bins],
                [b["total"] for b in bins],
                width=0.055,
                color=GREY,
            )
            lower.set(yscale="log", xlabel="probability of the named class", ylabel="fields")
            lower.set_ylim(bottom=0.7)

        return self.draw((4.1, 3.3), paint)

    def robustness(
        self, runs: Mapping[str, Mapping[str, Any]], key: str = "accuracy", *, rows: int = 0
    ) -> str:
        """Small curves, one for each family of changes with a size.

        Args:
            runs: name -> report; several are drawn over one another, one alone with its interval.
            key: which rate of a condition is drawn.
            rows: rows of panels; 0 takes as many as three panels a row need.
        """
        curves = {
            family: {name: curve(report, family) for name, report in runs.items()}
            for family, (_, _, start) in FAMILIES.items()
            if start is not None
        }
        drawn = {f: c for f, c in curves.items() if any(len(points) > 1 for points in c.values())}
        rows = rows or max(1, -(-len(drawn) // 3))
        columns = max(1, -(-len(drawn) // rows))
        alone = len(runs) == 1
        points = [p[key] for c in drawn.values() for ps in c.values() for p in ps]
        lows = [p["interval95"][0] if alone else p["value"] for p in points]
        lowest = 100 * min(lows, default=1.0)

        def paint(figure: Any) -> None:
            panels = figure.subplots(rows, columns, squeeze=False)
            for panel, (family, by_run) in zip(panels.flat, drawn.items(), strict=False):
                title, axis, _ = FAMILIES[family]
                for points, colour in zip(by_run.values(), COLOURS * 3, strict=False):
                    _curve(panel, points, key, colour, band=alone)
                panel.set_title(title)
                # A little room below; above 100 % there is nothing, but a line needs its width.
                room = max(0.5, (100 - lowest) / 12)
                panel.set(xlabel=axis, ylim=(max(0.0, lowest - room), 100 + room / 2))
                panel.grid(axis="y", color="#e7e9ee")
            for panel in panels.flat[len(drawn) :]:
                panel.axis("off")
            for row in panels:
                row[0].set_ylabel("%")
            if not alone:
                figure.legend(
                    panels.flat[0].get_lines(), list(runs), loc="outside lower center", ncols=3
                )

        return self.draw((8.6, 1.95 * rows + (0.2 * len(runs) if not alone else 0)), paint)


def curve(report: Mapping[str, Any], family: str) -> list[Mapping[str, Any]]:
    """The conditions of a family in the order of their size, the unchanged field among them."""
    entries = [e for e in report["robustness"] if e["family"] == family and e["fields"]]
    start = FAMILIES[family][2]
    if entries and start is not None:
        entries.append({**report["ablation"][0], "level": start})
    return sorted(entries, key=lambda entry: float(entry["level"]))


def _curve(
    panel: Any, points: Sequence[Mapping[str, Any]], key: str, colour: str, *, band: bool
) -> None:
    levels = [p["level"] for p in points]
    if band:
        ends = [[100 * p[key]["interval95"][i] for p in points] for i in (0, 1)]
        panel.fill_between(levels, *ends, color=colour, alpha=0.18, linewidth=0)
    heights = [100 * p[key]["value"] for p in points]
    panel.plot(levels, heights, color=colour, marker="o", markersize=3, linewidth=1.4)
