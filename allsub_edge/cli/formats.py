"""Writers of prediction records: text for people, ndjson, json and csv for programs."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from typing import Final, Protocol, TextIO

from allsub_edge.prediction import ROW_COLUMNS, Prediction
from allsub_edge.quality import REASONS


class Writer(Protocol):
    """Writes records one by one; ``close`` ends the document but not the stream."""

    def write(self, record: Prediction) -> None:
        """Write one record."""

    def close(self) -> None:
        """Finish what was begun."""


def printable(text: str) -> str:
    """The text on one line: control characters escaped, so that a file name cannot forge lines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def text_line(record: Prediction) -> str:
    """One aligned line: status, class, probability, milliseconds, source, remark."""
    if record.error is not None:
        message = printable(record.error.message)
        # Messages name files as the system does: without a leading "./", for one.
        named = printable(os.path.normpath(record.source)) in message
        told = message if named else f"{printable(record.source)}: {message}"
        return f"{'error':<10} {'-':<7} {'-':>7} {'-':>9}  {told}"
    top = record.top or "-"
    # Only a class the device stands behind is printed without a question mark.
    name = record.label or f"{top}?"
    sure = f"{100 * record.probabilities[top]:.1f} %"
    spent = f"{sum(record.timing_ms.values()):.1f} ms"
    line = f"{record.status:<10} {name:<7} {sure:>7} {spent:>9}  {printable(record.source)}"
    if record.reasons:
        return f"{line}  ({'; '.join(REASONS[code] for code in record.reasons)})"
    if record.status == "uncertain":
        options = " or ".join(record.prediction_set) or "no class is likely enough"
        return f"{line}  ({options})"
    return line


class TextWriter:
    """Aligned lines for people."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, record: Prediction) -> None:
        """Write one line."""
        self._stream.write(text_line(record) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing to end."""


class NdjsonWriter:
    """One JSON object per line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, record: Prediction) -> None:
        """Write one object."""
        self._stream.write(record.to_json() + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing to end."""


class JsonWriter:
    """One JSON array, written as it grows: no record is held in memory."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._before = "[\n"

    def write(self, record: Prediction) -> None:
        """Write one element."""
        self._stream.write(self._before + record.to_json())
        self._before = ",\n"

    def close(self) -> None:
        """End the array."""
        self._stream.write("\n]\n" if self._before == ",\n" else "[]\n")
        self._stream.flush()


class CsvWriter:
    """A header and one row per record, with ``\\n`` line ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rows = csv.DictWriter(stream, ROW_COLUMNS, lineterminator="\n")
        self._rows.writeheader()

    def write(self, record: Prediction) -> None:
        """Write one row."""
        self._rows.writerow(record.to_row())
        self._stream.flush()

    def close(self) -> None:
        """Nothing to end."""


WRITERS: Final[dict[str, Callable[[TextIO], Writer]]] = {
    "text": TextWriter,
    "ndjson": NdjsonWriter,
    "json": JsonWriter,
    "csv": CsvWriter,
}
"""Format name -> writer."""


def dump(value: object) -> str:
    """Indented ASCII JSON for people and programs alike."""
    return json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False)
