"""Changes of a study's rows, each within a transaction of its caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

TOO_LARGE = "STUDY_TOO_LARGE"


class State(StrEnum):
    """Of a study."""

    RECEIVING = "receiving"
    WAITING = "waiting"
    PROCESSING = "processing"
    DONE = "done"
    REFUSED = "refused"
    PARKED = "parked"


@dataclass(frozen=True)
class Claim:
    """A study to read now.

    Attributes:
        study_key: which.
        revision: number of the reading.
        attempts: this one counted.
        waited_s: since its last instance came [s].
    """

    study_key: str
    revision: int
    attempts: int
    waited_s: float


def drop_rows(connection: sqlite3.Connection, study_key: str) -> int:
    """Remove a study's rows; how many there were."""
    return sum(
        connection.execute(f"DELETE FROM {table} WHERE study_key = ?", (study_key,)).rowcount  # noqa: S608 - ours
        for table in ("studies", "deliveries", "outputs")
    )


def insert(connection: sqlite3.Connection, study_key: str, revision: int, now: float) -> None:
    """A study that was not known: it is being received."""
    connection.execute(
        "INSERT INTO studies (study_key, state, revision, first_received, last_received) "
        "VALUES (?, 'receiving', ?, ?, ?)",
        (study_key, revision, now, now),
    )


def receive(connection: sqlite3.Connection, study_key: str, now: float) -> None:
    """An instance comes."""
    row = connection.execute("SELECT * FROM studies WHERE study_key = ?", (study_key,)).fetchone()
    if row is None:
        insert(connection, study_key, 1, now)
    elif row["state"] == State.PROCESSING:
        connection.execute("UPDATE studies SET grown = 1, last_received = ? WHERE study_key = ?", (now, study_key))
    elif row["reason"] != TOO_LARGE:  # which lacks instances, and is never read
        ended = row["state"] in {State.DONE, State.REFUSED}
        connection.execute(
            "UPDATE studies SET state = 'receiving', revision = ?, attempts = 0, reason = '', finished = NULL, "
            "last_received = ? WHERE study_key = ?",
            (row["revision"] + ended, now, study_key),
        )


def receive_again(connection: sqlite3.Connection, study_key: str) -> None:
    """A reading that does not count: the study is received again, if it is still there."""
    connection.execute(
        "UPDATE studies SET state = 'receiving', attempts = 0, grown = 0 WHERE study_key = ? AND state = 'processing'",
        (study_key,),
    )


def park(connection: sqlite3.Connection, study_key: str, reason: str, now: float) -> None:
    """A study is read no more."""
    connection.execute(
        "UPDATE studies SET state = 'parked', reason = ?, finished = ? WHERE study_key = ?", (reason, now, study_key)
    )


def deliver(
    connection: sqlite3.Connection, claim: Claim, outputs: set[str], destinations: Sequence[str], now: float
) -> None:
    """Deliveries of a reading's objects; those of an earlier reading that are not out yet are dropped."""
    key = claim.study_key
    made = connection.execute("SELECT sop_key, revision FROM outputs WHERE study_key = ?", (key,)).fetchall()
    last = max((row["revision"] for row in made), default=0)
    if outputs and outputs == {row["sop_key"] for row in made if row["revision"] == last}:
        return
    connection.execute("UPDATE deliveries SET state = 'superseded' WHERE study_key = ? AND state = 'waiting'", (key,))
    connection.executemany(
        "INSERT OR REPLACE INTO outputs VALUES (?, ?, ?)", [(output, key, claim.revision) for output in outputs]
    )
    if outputs:
        connection.executemany(
            "INSERT OR REPLACE INTO deliveries (study_key, revision, destination, state, created, next_attempt) "
            "VALUES (?, ?, ?, 'waiting', ?, ?)",
            [(key, claim.revision, destination, now, now) for destination in destinations],
        )
