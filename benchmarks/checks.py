"""A measured number beside what was asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from allsub_edge.statistics import Rate


@dataclass(frozen=True)
class Check:
    """One number and what was asked of it.

    Attributes:
        name: what was measured.
        measured: a rate, or a plain number.
        limit: the number that was asked for; None where nothing was asked.
        at_least: whether ``limit`` is the least or the most that is good.
        note: what else must be said.
    """

    name: str
    measured: Rate | float
    limit: float | None = None
    at_least: bool = True
    note: str = ""

    @property
    def value(self) -> float:
        """The number itself."""
        return self.measured.value if isinstance(self.measured, Rate) else self.measured

    @property
    def met(self) -> bool | None:
        """Whether the number is on the right side of the limit; None without a limit."""
        if self.limit is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; a share of nothing has the value null."""
        if isinstance(self.measured, Rate):
            nothing = {"count": 0, "total": 0, "value": None, "interval95": None}
            measured: Any = self.measured.to_dict() if self.measured.total else nothing
        else:
            measured = self.measured
        return {
            "name": self.name,
            "measured": measured,
            "unit": "share" if isinstance(self.measured, Rate) else "number",
            "limit": self.limit,
            "direction": "at least" if self.at_least else "at most",
            "met": self.met,
            "note": self.note,
        }

    def row(self) -> str:
        """One line for people."""
        mark = {True: "met   ", False: "NOT   ", None: "      "}[self.met]
        text = f"{self.measured}" if isinstance(self.measured, Rate) else f"{self.value:.3f}"
        asked = ""
        if self.limit is not None:
            limit = f"{100 * self.limit:g} %" if isinstance(self.measured, Rate) else self.limit
            asked = f"  [{'at least' if self.at_least else 'at most'} {limit}]"
        return f"{mark}{self.name:<58}{text}{asked}{'  ' + self.note if self.note else ''}"
