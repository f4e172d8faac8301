"""Charts of two bars to a name: a wide pale one, and a narrow dark one on it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from allsub_edge.errors import UsageError


def need_matplotlib() -> None:
    """Raise UsageError ``matplotlib_missing`` before anything is measured in vain."""
    if find_spec("matplotlib") is None:
        raise UsageError(
            "matplotlib_missing",
            "a chart needs matplotlib: pip install 'allsub-edge[train]', or leave --chart away",
        )


def panels(count: int, height: float, *, shared: bool = False) -> tuple[Any, list[Any]]:
    """A figure of so many panels, one below the other, and their axes.

    Args:
        count: of panels.
        height: of the figure, inches.
        shared: all panels have the same scale.

    Raises:
        UsageError: ``matplotlib_missing``.
    """
    need_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    return figure, list(figure.subplots(count, 1, squeeze=False, sharex=shared)[:, 0])


def bars(
    axis: Any,
    title: str,
    names: Sequence[str],
    wide: tuple[str, Sequence[float]],
    narrow: tuple[str, Sequence[float]],
) -> None:
    """Draw both bars of every name, the first name on top; each pair is a label and values."""
    axis.barh(names, wide[1], color="#c6d3e6", label=wide[0])
    axis.barh(names, narrow[1], height=0.45, color="#31588a", label=narrow[0])
    axis.invert_yaxis()
    axis.set_title(title, loc="left", fontsize=10)
    axis.tick_params(labelsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def save(figure: Any, axes: Sequence[Any], below: str, path: Path) -> None:
    """Write a PNG whole or not at all, with a legend in the first panel and a line below all."""
    from allsub_edge.atomic import replacing

    axes[0].legend(loc="lower right", fontsize=8, frameon=False)
    axes[-1].set_xlabel(below)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
