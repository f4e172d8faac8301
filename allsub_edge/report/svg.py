"""Bars as inline SVG: unlike CSS backgrounds, browsers print them."""

from __future__ import annotations

from typing import Final

WIDTH: Final[int] = 300
HEIGHT: Final[int] = 12


def bar(value: float, label: str, colour: str, low: float | None = None, high: float = 1.0) -> str:
    """A horizontal bar, optionally with an interval drawn over it.

    Args:
        value: 0..1.
        label: what it says, for readers that cannot see it; must be escaped already.
        colour: CSS colour of the bar.
        low: lower end of the interval, 0..1; None draws no interval.
        high: upper end of the interval, 0..1.
    """
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#e7e9ee"/>',
        f'<rect width="{WIDTH * value:.1f}" height="{HEIGHT}" fill="{colour}"/>',
    ]
    if low is not None:
        middle, left, right = HEIGHT / 2, WIDTH * low, WIDTH * high
        path = f"M{left:.1f} {middle}H{right:.1f}M{left:.1f} 2V10M{right:.1f} 2V10"
        parts.append(f'<path d="{path}" stroke="#111" stroke-width="2" fill="none"/>')
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'preserveAspectRatio="none">{"".join(parts)}</svg>'
    )
