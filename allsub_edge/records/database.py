"""The database file: where it is, how it is opened, and how an older one is brought up to date."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from allsub_edge.records.problems import RecordsError, corrupt, explaining

FILE_NAME: Final[str] = "records.sqlite3"
"""Name of the database in the data directory; SQLite keeps ``-wal`` and ``-shm`` beside it."""

APPLICATION_ID: Final[int] = 0x414C5342
"""``ALSB``: tells a records database from any other SQLite file."""

BUSY_SECONDS: Final[float] = 10.0
"""How long to wait for another program that writes; one record takes milliseconds."""

# What a field was called, and where copies of it were seen, came with version 2: a watcher that
# starts again can tell from size and time that it need not even read a file.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE records (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            case_id TEXT NOT NULL,
            source TEXT NOT NULL,
            field_sha256 TEXT NOT NULL,
            model_sha256 TEXT NOT NULL,
            settings TEXT NOT NULL,
            status TEXT NOT NULL,
            label TEXT,
            time TEXT NOT NULL,
            result TEXT NOT NULL,
            UNIQUE (case_id, field_sha256, model_sha256, settings)
        )""",
    ),
    (
        """CREATE TABLE sightings (
            source TEXT NOT NULL,
            record_id INTEGER NOT NULL REFERENCES records (id) ON DELETE CASCADE,
            size INTEGER,
            mtime_ns INTEGER,
            time TEXT NOT NULL,
            PRIMARY KEY (source, record_id)
        ) WITHOUT ROWID""",
        "CREATE INDEX sightings_of_record ON sightings (record_id)",
        "CREATE INDEX records_by_time ON records (time)",
        "INSERT INTO sightings (source, record_id, time) SELECT source, id, time FROM records",
    ),
)
"""Statements that lead from version n to n + 1. A released entry never changes: add one."""

VERSION: Final[int] = len(MIGRATIONS)
"""Schema version that this program reads and writes (``PRAGMA user_version``)."""


def default_folder() -> Path:
    """``$XDG_DATA_HOME/allsub-edge``, or ``~/.local/share/allsub-edge``; not created.

    Raises:
        RecordsError: ``no_home``, as for an account of a service.
    """
    # The XDG base directory specification: a relative path there counts as unset.
    configured = os.environ.get("XDG_DATA_HOME", "")
    if configured.startswith("/"):
        return Path(configured) / "allsub-edge"
    try:
        home = Path.home()
    except RuntimeError:
        raise RecordsError(
            "no_home",
            "this account has no home directory to keep records in: name a folder with --data-dir",
        ) from None
    return home / ".local" / "share" / "allsub-edge"


def connect(folder: Path, *, create: bool) -> sqlite3.Connection:
    """Open the database in ``folder``, check it, and bring it to ``VERSION``.

    Journal mode is WAL, so that reading never waits for writing, with ``synchronous=FULL``: a
    record that was reported is on the disk, because boards are switched off by pulling the plug.
    The whole file is read once for ``PRAGMA quick_check``; damage is met at the start rather than
    in the middle of a day.

    Args:
        folder: the data directory, on a local disk: WAL needs shared memory between programs.
        create: make folder (private to its owner) and database when absent.

    Raises:
        RecordsError: ``no_records`` (absent, and not to be created), ``corrupt``, ``foreign``,
            ``newer``, or one of ``problems.explained``.
        OSError: the folder cannot be made.
    """
    path = (folder / FILE_NAME).absolute()
    if not path.exists():
        if not create:
            raise RecordsError(
                "no_records", f"{folder}: there are no records: name their folder with --data-dir"
            )
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    mode = "rwc" if create else "rw"
    with explaining(path):
        # isolation_level None: transactions begin and end where the code says so.
        database = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_SECONDS
        )
        try:
            _set_up_patiently(database, path)
        except BaseException:
            database.close()
            raise
    return database


def _set_up_patiently(database: sqlite3.Connection, path: Path) -> None:
    """Set up; again while another program does the same, for ``BUSY_SECONDS``.

    SQLite's own timeout is not enough: where waiting could lead to a deadlock, as in the change to
    WAL, which nobody may share, SQLITE_BUSY comes at once.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return _set_up(database, path)
        except sqlite3.OperationalError as error:
            primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
            busy = primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > until:
                raise
        # Of different lengths, so that two that began together do not meet again.
        time.sleep(random.uniform(0.001, 0.02))


def _set_up(database: sqlite3.Connection, path: Path) -> None:
    _check(database, path)
    if database.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # Before the first table, or it has no effect: purging can then give space back.
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL").fetchall()
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    # Names of patients' cases: deleted records are overwritten, not only unlinked.
    database.execute("PRAGMA secure_delete = ON").fetchall()
    migrate(database, MIGRATIONS)


def migrate(database: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    """Bring the schema up to ``len(migrations)``, all of it or nothing.

    Another program may do the same at the same time: the version is read again once the write
    lock is held.

    Raises:
        sqlite3.Error: the database is as it was.
    """
    if _number(database, "user_version") >= len(migrations):
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        for statements in migrations[_number(database, "user_version") :]:
            for statement in statements:
                database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {len(migrations)}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _check(database: sqlite3.Connection, path: Path) -> None:
    """Refuse what is not a sound records database; an empty file is one that was just begun."""
    # One transaction: another program that makes the tables between two of these reads would make
    # an empty file of ours look like somebody else's.
    database.execute("BEGIN")
    try:
        application = _number(database, "application_id")
        version = _number(database, "user_version")
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")
    if application != APPLICATION_ID and (application or version or tables):
        raise RecordsError(
            "foreign",
            f"{path}: is an SQLite database of another program: name another --data-dir",
        )
    if version > VERSION:
        raise RecordsError(
            "newer",
            f"{path}: was written by a newer allsub-edge (records version {version}, this one "
            f"reads up to {VERSION}): upgrade allsub-edge",
        )
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise corrupt(path, " ".join(str(found).split())[:120])


def _number(database: sqlite3.Connection, pragma: str) -> int:
    value: int = database.execute(f"PRAGMA {pragma}").fetchone()[0]
    return value
