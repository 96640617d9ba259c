"""Changes of a study's rows, each within a transaction of its caller."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

TOO_LARGE = "STUDY_TOO_LARGE"
FIRST_WAIT_S, LONGEST_WAIT_S = 60.0, 3600.0  # between attempts: what ended one, want of memory say, may last a while


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


@dataclass(frozen=True)
class Ended:
    """A study that is not read for the time being.

    Attributes:
        study_key: which.
        finished: since when [s since 1970].
        is_over: whether it was read as far as it ever will be; not if it is parked for an error: it can be tried again.
        is_sent: whether no result of it waits to be sent.
    """

    study_key: str
    finished: float
    is_over: bool
    is_sent: bool


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


def wait_s(attempts: int) -> float:
    """Wait after an attempt that counts [s]: doubled with each, up to the longest.

    Args:
        attempts: that one counted.
    """
    return min(FIRST_WAIT_S * 2.0 ** min(attempts - 1, 60), LONGEST_WAIT_S)


def claim(connection: sqlite3.Connection, now: float) -> Claim | None:
    """Take the study that waits longest; those that ended the reader before come after the others, and have a pause.

    There is one worker: what is ``processing`` when it asks was left so by an error of the machine. It waits as well,
    and its attempt is counted already.
    """
    row = connection.execute(
        "SELECT * FROM studies WHERE state IN ('waiting', 'processing') AND next_attempt NOT BETWEEN ? AND ? "
        "ORDER BY attempts, last_received LIMIT 1",
        (math.nextafter(now, math.inf), now + LONGEST_WAIT_S),  # what lies beyond was set by a clock that was ahead
    ).fetchone()
    if row is None:
        return None
    attempts = row["attempts"] + (row["state"] == State.WAITING)
    connection.execute(
        "UPDATE studies SET state = 'processing', attempts = ?, grown = 0, next_attempt = 0 WHERE study_key = ?",
        (attempts, row["study_key"]),
    )
    return Claim(row["study_key"], row["revision"], attempts, max(now - row["last_received"], 0.0))


def wait(connection: sqlite3.Connection, study_key: str, attempts: int, next_attempt: float) -> None:
    """A study that was being read is to be read again."""
    connection.execute(
        "UPDATE studies SET state = 'waiting', attempts = ?, next_attempt = ? WHERE study_key = ?",
        (attempts, next_attempt, study_key),
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
            "next_attempt = 0, last_received = ? WHERE study_key = ?",
            (row["revision"] + ended, now, study_key),
        )


def receive_again(connection: sqlite3.Connection, study_key: str) -> None:
    """A reading that does not count: the study is received again, if it is still there."""
    connection.execute(
        "UPDATE studies SET state = 'receiving', attempts = 0, grown = 0 WHERE study_key = ? AND state = 'processing'",
        (study_key,),
    )


def park(connection: sqlite3.Connection, study_key: str, reason: str, now: float) -> None:
    """A study is read no more, if it ever was known."""
    if connection.execute("SELECT 1 FROM studies WHERE study_key = ?", (study_key,)).fetchone() is None:
        insert(connection, study_key, 1, now)
    connection.execute(
        "UPDATE studies SET state = 'parked', reason = ?, finished = ? WHERE study_key = ?", (reason, now, study_key)
    )


def retry(connection: sqlite3.Connection, now: float) -> int:
    """Put parked studies and deliveries back into their queues; how many there were."""
    studies = connection.execute(
        "UPDATE studies SET state = 'waiting', attempts = 0, reason = '', finished = NULL "
        "WHERE state = 'parked' AND reason != ?",
        (TOO_LARGE,),
    ).rowcount
    deliveries = connection.execute(
        "UPDATE deliveries SET state = 'waiting', attempts = 0, created = ?, next_attempt = ? WHERE state = 'parked'",
        (now, now),
    ).rowcount
    return studies + deliveries


def close(connection: sqlite3.Connection, study_key: str, now: float) -> None:
    """A study was read; nothing of it is to be read."""
    connection.execute(
        "UPDATE studies SET state = 'done', attempts = 0, grown = 0, finished = ? WHERE study_key = ?", (now, study_key)
    )


def resume(connection: sqlite3.Connection, limit: int, now: float) -> Counter[str]:
    """Put back what was being read when the service ended; how many were ``resumed``, and how many ``parked``.

    The first time it goes on at once: most often the service was ended from outside. From the second on it has a pause.
    """
    done = Counter[str]()
    for row in connection.execute("SELECT * FROM studies WHERE state = 'processing'").fetchall():
        key, attempts = row["study_key"], row["attempts"]
        if not row["grown"] and attempts >= limit:
            park(connection, key, "SERVICE_CRASHED", now)
            done["parked"] += 1
            continue
        if row["grown"]:
            receive_again(connection, key)
        else:
            wait(connection, key, attempts, now + wait_s(attempts) if attempts > 1 else 0)
        done["resumed"] += 1
    return done


def deliver(
    connection: sqlite3.Connection, claim: Claim, outputs: Mapping[str, str], destinations: Sequence[str], now: float
) -> None:
    """Deliveries of a reading's objects; those of an earlier reading that are not out are dropped.

    Whoever has got the same objects from the last reading that made any, or waits for them, gets them once.
    """
    key = claim.study_key
    made = connection.execute("SELECT * FROM outputs WHERE study_key = ?", (key,)).fetchall()
    last = max((row["revision"] for row in made), default=0)
    same = outputs and outputs == {row["sop_key"]: row["digest"] for row in made if row["revision"] == last}
    since = last if same else claim.revision  # deliveries of these revisions hold these objects
    connection.execute(
        "UPDATE deliveries SET state = 'superseded' "
        "WHERE study_key = ? AND (state = 'parked' OR state = 'waiting' AND revision < ?)",
        (key, since),
    )
    if not same:
        connection.executemany(
            "INSERT OR REPLACE INTO outputs VALUES (?, ?, ?, ?)",
            [(output, key, claim.revision, digest) for output, digest in outputs.items()],
        )
    served = connection.execute(
        "SELECT destination FROM deliveries WHERE study_key = ? AND revision >= ? AND state IN ('waiting', 'done')",
        (key, since),
    ).fetchall()
    missing = set(destinations) - {row["destination"] for row in served} if outputs else set()
    connection.executemany(
        "INSERT OR REPLACE INTO deliveries (study_key, revision, destination, state, created, next_attempt) "
        "VALUES (?, ?, ?, 'waiting', ?, ?)",
        [(key, claim.revision, destination, now, now) for destination in sorted(missing)],
    )
