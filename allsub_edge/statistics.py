"""Counts as rates with their intervals; plain Python, because devices and training both use it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rate:
    """A count out of a total with its 95 % Wilson interval, all as fractions of one."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The rate; NaN when there is nothing to count."""
        return self.count / self.total if self.total else math.nan

    def interval(self, z: float = 1.959963984540054) -> tuple[float, float]:
        """Wilson score interval (Wilson, JASA 1927); z is the normal quantile, 95 % by default."""
        if not self.total:
            return (math.nan, math.nan)
        n, p = self.total, self.value
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (max(0.0, middle - half), min(1.0, middle + half))

    def to_dict(self) -> dict[str, Any]:
        """Count, total, value and interval, for JSON."""
        low, high = self.interval()
        return {
            "count": self.count,
            "total": self.total,
            "value": round(self.value, 6),
            "interval95": [round(low, 6), round(high, 6)],
        }

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{100 * self.value:.2f} % ({100 * low:.2f} to {100 * high:.2f}; n={self.total})"
