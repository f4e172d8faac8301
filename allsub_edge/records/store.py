"""Records written, found, listed and deleted."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from allsub_edge.records.database import FILE_NAME, connect, default_folder
from allsub_edge.records.problems import RecordsError, explaining
from allsub_edge.records.record import (
    Record,
    Seen,
    Settings,
    canonical,
    in_64_bits,
    stamp,
    storable,
)

if TYPE_CHECKING:  # the package imports OpenCV; listing records needs none of it
    from allsub_edge.prediction import Prediction

_COLUMNS: Final[str] = (
    "id, case_id, source, field_sha256, model_sha256, settings, status, label, time, result"
)
_KEY: Final[str] = "case_id = ? AND field_sha256 = ? AND model_sha256 = ? AND settings = ?"


class Records:
    """An open records database; use it as a context manager, or call ``close``.

    Every method raises RecordsError when the database cannot be read or written. Several programs
    may have the same database open; one instance belongs to the thread that opened it.
    """

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._database = database

    @classmethod
    def open(cls, folder: str | os.PathLike[str] | None = None, *, create: bool = True) -> Records:
        """Open the records in a data directory; None means ``default_folder()``.

        Raises:
            RecordsError, OSError: see ``database.connect`` and ``default_folder``.
        """
        where = default_folder() if folder is None else Path(folder)
        return cls(connect(where, create=create), where / FILE_NAME)

    def add(
        self,
        prediction: Prediction,
        *,
        case: str,
        field_sha256: str,
        settings: Settings,
        seen: Seen,
        time: datetime | None = None,
    ) -> tuple[int, bool]:
        """Write a prediction, unless the same question was answered before.

        The question is (case, field_sha256, the prediction's model, settings); its first answer
        stays. In either case it is noted where the field was seen. All in one transaction.

        Args:
            time: when; None means now.

        Returns:
            The record's id, and whether it is new.
        """
        key = (storable(case), field_sha256, prediction.model.sha256, canonical(settings))
        when = stamp(datetime.now(UTC) if time is None else time)
        source = storable(seen.source)
        with self._writing():
            row = self._database.execute(
                "INSERT INTO records (case_id, field_sha256, model_sha256, settings, source, "
                "status, label, time, result) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING RETURNING id",
                (*key, source, prediction.status, prediction.label, when, prediction.to_json()),
            ).fetchone()
            new = row is not None
            if row is None:
                row = self._database.execute(f"SELECT id FROM records WHERE {_KEY}", key).fetchone()
            record_id = int(row[0])
            self._note(record_id, seen, when)
        return record_id, new

    def note(self, record_id: int, seen: Seen) -> bool:
        """Note where the field of a record was seen; True if it was not known by that name."""
        with self._writing():
            known = self._database.execute(
                "SELECT 1 FROM sightings WHERE source = ? AND record_id = ?",
                (storable(seen.source), record_id),
            ).fetchone()
            self._note(record_id, seen, stamp(datetime.now(UTC)))
        return known is None

    def _note(self, record_id: int, seen: Seen, when: str) -> None:
        self._database.execute(
            "INSERT INTO sightings (source, record_id, size, mtime_ns, time) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET size = excluded.size, mtime_ns = excluded.mtime_ns",
            (storable(seen.source), record_id, seen.size, in_64_bits(seen.mtime_ns), when),
        )

    def find(
        self, *, case: str, field_sha256: str, model_sha256: str, settings: Settings
    ) -> Record | None:
        """The record that answers a question, or None."""
        key = (storable(case), field_sha256, model_sha256, canonical(settings))
        return next(self._records(f"WHERE {_KEY}", key), None)

    def get(self, record_id: int) -> Record:
        """The record with this id.

        Raises:
            RecordsError: ``no_such_record``.
        """
        # A number that SQLite cannot hold is no record's either.
        storable_id = in_64_bits(record_id) == record_id
        found = next(self._records("WHERE id = ?", (record_id,)), None) if storable_id else None
        if found is None:
            raise RecordsError(
                "no_such_record",
                f"{self.path}: there is no record {record_id}: see allsub-edge records list",
            )
        return found

    def sighted(self, seen: Seen, *, case: str, model_sha256: str, settings: Settings) -> bool:
        """True if a file of this name, size and time has its record for case, model, settings."""
        with explaining(self.path):
            row = self._database.execute(
                "SELECT 1 FROM sightings s JOIN records r ON r.id = s.record_id "
                "WHERE s.source = ? AND s.size = ? AND s.mtime_ns = ? "
                "AND r.case_id = ? AND r.model_sha256 = ? AND r.settings = ?",
                (
                    *(storable(seen.source), seen.size, in_64_bits(seen.mtime_ns)),
                    *(storable(case), model_sha256, canonical(settings)),
                ),
            ).fetchone()
        return row is not None

    def sources(self, record_id: int) -> list[str]:
        """Every name under which the field of a record was seen, the first one first."""
        with explaining(self.path):
            rows = self._database.execute(
                "SELECT source FROM sightings WHERE record_id = ? ORDER BY time, source",
                (record_id,),
            ).fetchall()
        return [row[0] for row in rows]

    def select(
        self,
        *,
        case: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
        status: str | None = None,
    ) -> Iterator[Record]:
        """Records in the order in which they were made, one at a time.

        Args:
            case: only this case.
            since: only from this moment on.
            before: only before this moment.
            status: only this status.
        """
        where, values = _where(case, since, before, status)
        yield from self._records(f"{where} ORDER BY id", values)

    def count(
        self,
        *,
        case: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> int:
        """How many records ``select`` would give."""
        where, values = _where(case, since, before, None)
        with explaining(self.path):
            row = self._database.execute(f"SELECT count(*) FROM records {where}", values)
            return int(row.fetchone()[0])

    def purge(
        self,
        *,
        case: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> int:
        """Delete the records that ``select`` would give, overwrite them on disk, shrink the file.

        Returns:
            How many were deleted.
        """
        where, values = _where(case, since, before, None)
        with self._writing():
            deleted = self._database.execute(f"DELETE FROM records {where}", values).rowcount
        with explaining(self.path), suppress(sqlite3.OperationalError):
            # Another reader may keep old pages for a while; the next checkpoint removes them.
            # It frees one page in each step, and execute() takes only one: it has no rows.
            self._database.executescript("PRAGMA incremental_vacuum")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return deleted

    def _records(self, where: str, values: tuple[Any, ...]) -> Iterator[Record]:
        with explaining(self.path):
            cursor = self._database.execute(f"SELECT {_COLUMNS} FROM records {where}", values)
            for row in cursor:
                yield Record(
                    id=row[0],
                    case=row[1],
                    source=row[2],
                    field_sha256=row[3],
                    model_sha256=row[4],
                    settings=json.loads(row[5]),
                    status=row[6],
                    label=row[7],
                    time=row[8],
                    result=json.loads(row[9]),
                )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of the block is committed, or none of it."""
        with explaining(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                # After some errors, a full disk for one, SQLite has rolled back by itself.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the database; may be called twice."""
        self._database.close()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _where(
    case: str | None, since: datetime | None, before: datetime | None, status: str | None
) -> tuple[str, tuple[str, ...]]:
    conditions: list[tuple[str, str]] = []
    if case is not None:
        conditions.append(("case_id = ?", storable(case)))
    if since is not None:
        conditions.append(("time >= ?", stamp(since)))
    if before is not None:
        conditions.append(("time < ?", stamp(before)))
    if status is not None:
        conditions.append(("status = ?", status))
    text = " AND ".join(condition for condition, _ in conditions)
    return (f"WHERE {text}" if text else ""), tuple(value for _, value in conditions)
