"""SQLite's errors, said in words that name the file and the next step."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from allsub_edge.errors import AllsubError


class RecordsError(AllsubError):
    """The records cannot be opened, read or written.

    Codes: ``no_records``, ``no_home``, ``corrupt``, ``foreign``, ``newer``, ``disk_full``,
    ``io_error``, ``busy``, ``not_writable``, ``no_such_record``, ``unreadable_record``,
    ``write_failed``, ``records_failed``.
    """


def corrupt(path: Path, detail: str) -> RecordsError:
    """The refusal of a damaged database; nothing is mended silently."""
    return RecordsError(
        "corrupt",
        f"{path}: is damaged or is not a records database ({detail}): put a backup in its place, "
        "or move it away to begin anew",
    )


def explained(error: sqlite3.Error, path: Path) -> RecordsError:
    """The RecordsError for an error of SQLite on the database at ``path``."""
    # Extended codes carry the primary code in their lowest byte; errors of the Python layer
    # itself have none.
    primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return RecordsError(
            "disk_full",
            f"{path}: the disk is full; what was recorded before is whole: free some space and "
            "start again",
        )
    if primary == sqlite3.SQLITE_IOERR:
        return RecordsError(
            "io_error",
            f"{path}: the disk refused ({error}); what was recorded before is whole: free some "
            "space or check the disk, and start again",
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return corrupt(path, str(error))
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RecordsError(
            "busy", f"{path}: another program holds the records: close it and try again"
        )
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return RecordsError(
            "not_writable",
            f"{path}: may not be opened for writing ({error}), which reading needs too: "
            "use the account that owns it, or another --data-dir",
        )
    return RecordsError("records_failed", f"{path}: {error}")


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Turn errors of SQLite inside the block, and numbers too large for it, into RecordsError."""
    try:
        yield
    except sqlite3.Error as error:
        raise explained(error, path) from error
    except OverflowError as error:
        raise RecordsError("records_failed", f"{path}: {error}") from error
