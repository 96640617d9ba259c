"""The service's SQLite file: opened so that a commit survives a failure of the machine, set aside if it is damaged."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "service.sqlite3"
VERSION = 1
BUSY_S = 30.0
CLOSING_MS = 200
# Columns of `studies` that came later. They are added to an older file under the same version, and have defaults: the
# release that wrote it can still be gone back to.
ADDED = {"next_attempt": "REAL NOT NULL DEFAULT 0"}
SCHEMA = """
CREATE TABLE studies (
    study_key TEXT PRIMARY KEY,
    state TEXT NOT NULL,             -- receiving, waiting, processing, done, refused, parked
    revision INTEGER NOT NULL,       -- of the reading that is due, or was made; counted from 1
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', -- code of a refusal, or why it is parked
    grown INTEGER NOT NULL DEFAULT 0,-- whether an instance came while it was read
    first_received REAL NOT NULL,    -- [s] since 1970
    last_received REAL NOT NULL,
    finished REAL,
    next_attempt REAL NOT NULL DEFAULT 0 -- not read before; only where it waits
) STRICT;
CREATE INDEX studies_by_state ON studies (state);
CREATE TABLE deliveries (
    study_key TEXT NOT NULL,
    revision INTEGER NOT NULL,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,             -- waiting, done, parked, superseded
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL,
    next_attempt REAL NOT NULL,
    PRIMARY KEY (study_key, revision, destination)
) STRICT;
CREATE TABLE outputs (               -- results of ours, by digest of their UID: a PACS may send them back
    sop_key TEXT PRIMARY KEY,
    study_key TEXT NOT NULL,
    revision INTEGER NOT NULL,       -- the last reading that made it
    digest TEXT NOT NULL             -- of the file
) STRICT;
CREATE INDEX outputs_by_study ON outputs (study_key);
CREATE TABLE tallies (               -- counts without a study: they outlive retention
    day TEXT NOT NULL,
    package TEXT NOT NULL,           -- digest of the one that read
    vendor TEXT NOT NULL,
    measure TEXT NOT NULL,
    bin TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (day, package, vendor, measure, bin)
) STRICT;
"""


class Database:
    """One connection for all threads, one transaction at a time.

    Args:
        path: the file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=BUSY_S)
        self._connection.row_factory = sqlite3.Row
        try:
            self._prepare(path)
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the database for several statements that are kept together, or not at all."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Rows of a query."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Write everything into the one file, unless another process holds it, and close it."""
        with self._lock:
            self._connection.execute(f"PRAGMA busy_timeout = {CLOSING_MS}")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()

    def _prepare(self, path: Path) -> None:
        connection = self._connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError("damaged")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise ValueError(
                f"the database must be of version {VERSION}, {path} is of version {version}; start the release that "
                "wrote it, or give another folder"
            )
        with self.transaction():
            known = {row["name"] for row in connection.execute("PRAGMA table_info(studies)")}
            for name in ADDED.keys() - known:
                connection.execute(f"ALTER TABLE studies ADD COLUMN {name} {ADDED[name]}")


def open_database(state: Path) -> tuple[Database, bool]:
    """Open the database of a state folder.

    Args:
        state: the folder.

    Returns:
        The database, and whether it is new because the old one was damaged. That one is kept beside it.

    Raises:
        ValueError: if another release wrote it.
    """
    path = state / NAME
    try:
        return Database(path), False
    except sqlite3.OperationalError:  # locked, or the disk: not damaged
        raise
    except sqlite3.DatabaseError:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(NAME + suffix)
            if part.exists():
                part.replace(path.with_name(f"damaged-{stamp}-{NAME}{suffix}"))
        return Database(path), True
