"""The database: a commit survives, a damaged file is set aside, an older one is opened."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.deployment.service.database import NAME, open_database
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import State
from tests.deployment.service.states import KEY, OTHER, Clock, claim, state

STUDIES_0_5_0 = """
CREATE TABLE studies (
    study_key TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    revision INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    grown INTEGER NOT NULL DEFAULT 0,
    first_received REAL NOT NULL,
    last_received REAL NOT NULL,
    finished REAL
) STRICT;
"""


def test_a_commit_reaches_the_disk_and_readers_do_not_wait(store: Store) -> None:
    assert store.database.rows("PRAGMA synchronous")[0][0] == 2, "FULL"
    assert store.database.rows("PRAGMA journal_mode")[0][0] == "wal"


def test_a_damaged_database_is_set_aside(tmp_path: Path) -> None:
    database, damaged = open_database(tmp_path)
    database.close()
    assert not damaged
    (tmp_path / NAME).write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    database, damaged = open_database(tmp_path)
    assert damaged
    assert database.rows("SELECT count(*) FROM studies")[0][0] == 0
    assert len(list(tmp_path.glob("damaged-*"))) == 1


def test_a_database_of_another_release_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / NAME)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(ValueError, match=r"must be of version 1, .* is of version 9"):
        open_database(tmp_path)


def test_a_database_of_release_0_5_0_is_opened_and_that_release_can_be_gone_back_to(
    tmp_path: Path, store: Store, clock: Clock
) -> None:
    """It had no pauses between attempts; its own insertion, word for word, must still be taken."""
    with store.database.transaction() as connection:
        connection.execute("DROP TABLE studies")
        connection.execute(STUDIES_0_5_0)
    insertion = "INSERT INTO studies (study_key, state, revision, first_received, last_received) VALUES (?, ?, ?, ?, ?)"
    with store.database.transaction() as connection:
        connection.execute(insertion, (KEY, "waiting", 4, 1.0, 1.0))
    store.database.close()
    for _ in range(2):
        database, damaged = open_database(tmp_path)
        assert not damaged
        opened = Store(database, clock, monotonic=clock)
        found = opened.claim()
        assert found is not None
        assert (found.study_key, found.revision) == (KEY, 4)
        opened.put_back(found, counts=False)
        database.close()
    with closing(sqlite3.connect(tmp_path / NAME)) as former:
        assert former.execute("PRAGMA user_version").fetchone() == (1,)
        former.execute(insertion, (OTHER, "waiting", 1, 0.0, 0.0))
        former.commit()
    database, _ = open_database(tmp_path)
    assert claim(Store(database, clock, monotonic=clock), clock).study_key == OTHER


def test_an_error_within_a_transaction_leaves_nothing_of_it(store: Store) -> None:

    def fail() -> None:
        with store.database.transaction() as connection:
            connection.execute("INSERT INTO outputs VALUES ('x', 'y', 1, 'z')")
            connection.execute("INSERT INTO nothing VALUES (1)")

    with pytest.raises(sqlite3.OperationalError):
        fail()
    assert not store.is_output("x")
    store.received(KEY)
    assert state(store) == State.RECEIVING
