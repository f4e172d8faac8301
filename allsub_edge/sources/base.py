"""What every source of fields looks like: an iterable of captures and faults that can be closed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from allsub_edge.errors import AllsubError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from allsub_edge.sources.paths import Item


@dataclass(frozen=True, eq=False)
class Capture:
    """One field that a source gives.

    Attributes:
        source: how records and messages name the field.
        field: the path of an image file, the bytes of one, or a uint8 RGB array (H, W, 3).
        taken_at: when the field was taken, in UTC: a file's time of last change, a camera's time
            of reading; None where nobody knows (standard input, a frame of a video file).
    """

    source: str
    field: Path | bytes | NDArray[np.uint8]
    taken_at: datetime | None = None


@dataclass(frozen=True)
class Fault:
    """One input, or one stretch of a stream, that gave no field; the source may go on after it.

    Attributes:
        source: how records and messages name the input.
        error: what happened, and what to do about it.
    """

    source: str
    error: AllsubError


@runtime_checkable
class Source(Protocol):
    """Where fields come from. Iterate once, in order; close it, or use it in a ``with`` block.

    A problem with one field is a ``Fault`` among the captures. Only what makes the whole source
    useless is raised, when the source is opened.
    """

    def __iter__(self) -> Iterator[Capture | Fault]:
        """Give captures and faults as they come; lazy."""

    def close(self) -> None:
        """Free files and devices; may be called twice."""

    def __enter__(self) -> Source:
        """Give the source itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""


class PathSource:
    """Files behind items of ``paths.expand``, as a source."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = items
        self._closed = False

    def __iter__(self) -> Iterator[Capture | Fault]:
        for item in self._items:
            if self._closed:
                return
            if item.path is not None:
                yield Capture(item.source, item.path, _changed(item.path))
            elif item.error is not None:
                yield Fault(item.source, item.error)

    def close(self) -> None:
        """Stop giving fields; may be called twice."""
        self._closed = True

    def __enter__(self) -> PathSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def sourced(
    items: Iterable[Capture | Fault],
) -> Iterator[tuple[str, Path | bytes | NDArray[np.uint8] | AllsubError]]:
    """Pairs as ``Classifier.predict_many`` takes them; lazy."""
    for item in items:
        yield item.source, item.error if isinstance(item, Fault) else item.field


def _changed(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, OverflowError, ValueError):
        return None  # whoever reads the file will say what is wrong with it
