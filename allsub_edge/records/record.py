"""One record: its values, its JSON and its table row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

SCHEMA: Final[str] = "allsub-edge/record/1"

Settings = Mapping[str, str | int | float | bool | None]
"""What was set, beside the model, that an answer depends on: the engine, for one. Threads are
not: they change the time an answer takes."""


@dataclass(frozen=True)
class Seen:
    """Where a field was found.

    Attributes:
        source: its path, absolute, or another name.
        size: bytes, or None if it is not a file.
        mtime_ns: time of its last change in nanoseconds, or None.
    """

    source: str
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True)
class Record:
    """What was said about one field.

    Attributes:
        id: number of the record, never used again after a purge.
        case: the case it belongs to.
        source: where the field was found first.
        field_sha256: SHA-256 of the file's bytes, hex.
        model_sha256: SHA-256 of the model file, hex.
        settings: see ``Settings``.
        status: of the prediction: ok, uncertain, unfit or error.
        label: the class the device stands behind, or None.
        time: when the record was made, UTC, ISO 8601 with milliseconds.
        result: the prediction as ``Prediction.to_dict`` gives it.
    """

    id: int
    case: str
    source: str
    field_sha256: str
    model_sha256: str
    settings: dict[str, Any]
    status: str
    label: str | None
    time: str
    result: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, ``schema`` first."""
        return {"schema": SCHEMA, **vars(self)}

    def to_json(self) -> str:
        """One line of ASCII JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=True, allow_nan=False)


def canonical(settings: Settings) -> str:
    """Settings as text that is the same for the same settings in any order."""
    return json.dumps(
        dict(settings), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def storable(text: str) -> str:
    """Text that SQLite can hold: bytes of a file name that are not UTF-8 become ``\\xNN``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def in_64_bits(number: int | None) -> int | None:
    """A whole number that SQLite can hold; what is too large wraps round.

    File systems know times after 2262-04-11, where nanoseconds need more than 63 bits. Wrapped,
    unlike clamped, two such times remain two.
    """
    return None if number is None else (number + 2**63) % 2**64 - 2**63


def stamp(moment: datetime) -> str:
    """UTC with milliseconds and a final Z: text of one width, so that it sorts as time does."""
    # Not strftime: glibc writes the year 999 with three digits, which sorts behind 2026.
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='milliseconds')}Z"
