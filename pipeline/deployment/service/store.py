"""What is known of each study: its state, how often it was read, what is to be sent. The files are the truth.

receiving -> waiting -> processing -> done | refused | parked. An instance that comes later sends a study back to
receiving. While a study is read, it only marks it as grown: that reading is thrown away, and the study is read again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from pipeline.deployment.service.database import Database
from pipeline.deployment.service.study_rows import (
    TOO_LARGE,
    Claim,
    State,
    deliver,
    drop_rows,
    insert,
    park,
    receive,
    receive_again,
)

Tally = tuple[str, str, str]  # vendor, measure, bin
OPEN = "('receiving', 'waiting', 'processing')"


class Store:
    """States of studies.

    Args:
        database: opened.
        clock: seconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self.database, self.clock = database, clock
        self._last: dict[str, float] = {}  # when an instance came; the row has it only where the state changed
        self._lock = threading.RLock()

    def received(self, study_key: str) -> None:
        """An instance of a study comes, or has come; committed before this returns.

        Called before the instance is placed, so that one that is placed is never overlooked, and again after it, so
        that one that took long is not either. Nothing is written for a study that is being received anyway.
        """
        now = self.clock()
        with self._lock:
            self._last[study_key] = now
            row = self._row(study_key)
            if row is not None and (row["state"] == State.RECEIVING or row["grown"]):
                return
            with self.database.transaction() as connection:
                receive(connection, study_key, now)

    def ripen(self, quiet_s: float) -> None:
        """Studies for which nothing has come for a while wait to be read."""
        with self._lock:
            for row in self.database.rows("SELECT * FROM studies WHERE state = ?", State.RECEIVING):
                last = self._last.setdefault(row["study_key"], self.clock())  # after a start, time begins anew
                if last > self.clock():  # which was set back
                    self._last[row["study_key"]] = last = self.clock()
                if self.clock() - last >= quiet_s:
                    with self.database.transaction() as connection:
                        connection.execute(
                            "UPDATE studies SET state = 'waiting', last_received = ? WHERE study_key = ?",
                            (last, row["study_key"]),
                        )
                    del self._last[row["study_key"]]

    def claim(self) -> Claim | None:
        """Take the study that waits longest; those that ended the reader before come after the others.

        There is one worker: what is ``processing`` when it asks was left so by an error, and waits as well.
        """
        with self.database.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM studies WHERE state IN ('waiting', 'processing') "
                "ORDER BY attempts, last_received LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE studies SET state = 'processing', attempts = attempts + 1, grown = 0 WHERE study_key = ?",
                (row["study_key"],),
            )
        waited = max(self.clock() - row["last_received"], 0.0)
        return Claim(row["study_key"], row["revision"], row["attempts"] + 1, waited)

    def is_current(self, claim: Claim) -> bool:
        """Whether a claimed study is still there and has not grown."""
        row = self._row(claim.study_key)
        return (
            row is not None
            and row["state"] == State.PROCESSING
            and row["revision"] == claim.revision
            and not row["grown"]
        )

    def finish(
        self,
        claim: Claim,
        state: State,
        *,
        reason: str = "",
        outputs: Collection[str] = (),
        destinations: Sequence[str] = (),
        tallies: Sequence[Tally] = (),
    ) -> bool:
        """End a reading: state, deliveries and counts in one transaction.

        Args:
            claim: the reading.
            state: ``DONE`` or ``REFUSED``.
            reason: code of a refusal.
            outputs: keys of the DICOM objects that were made; if the last reading made the same, they are not sent
                again.
            destinations: who gets them.
            tallies: counts to raise by one.

        Returns:
            Whether it counts; not if the study was erased, or has grown: then it is received again.
        """
        with self._lock, self.database.transaction() as connection:
            if not self.is_current(claim):
                receive_again(connection, claim.study_key)
                return False
            connection.execute(
                "UPDATE studies SET state = ?, reason = ?, attempts = 0, finished = ? WHERE study_key = ?",
                (state, reason, self.clock(), claim.study_key),
            )
            deliver(connection, claim, set(outputs), destinations, self.clock())
            day = time.strftime("%Y-%m-%d", time.gmtime(self.clock()))
            connection.executemany(
                "INSERT INTO tallies VALUES (?, ?, ?, ?, 1) "
                "ON CONFLICT (day, vendor, measure, bin) DO UPDATE SET n = n + 1",
                [(day, *tally) for tally in tallies],
            )
        return True

    def put_back(self, claim: Claim, *, counts: bool, reason: str = "", limit: int = 0) -> State | None:
        """End a reading without a result.

        Args:
            claim: the reading.
            counts: whether the attempt counts; not if the service only stops.
            reason: why; of the study, once it is parked.
            limit: of attempts, where they count.

        Returns:
            The study's state now; ``None`` if it was erased.
        """
        with self._lock, self.database.transaction() as connection:
            if not self.is_current(claim):
                receive_again(connection, claim.study_key)
            elif counts and claim.attempts >= limit:
                park(connection, claim.study_key, reason, self.clock())
            else:
                connection.execute(
                    "UPDATE studies SET state = 'waiting', attempts = ? WHERE study_key = ?",
                    (claim.attempts if counts else claim.attempts - 1, claim.study_key),
                )
        row = self._row(claim.study_key)
        return None if row is None else State(row["state"])

    def park(self, study_key: str, reason: str) -> None:
        """Read a study no more, until another instance of it comes."""
        with self._lock, self.database.transaction() as connection:
            park(connection, study_key, reason, self.clock())

    def drop(self, study_key: str) -> int:
        """Forget a study and all that belongs to it; how many rows that were."""
        with self._lock, self.database.transaction() as connection:
            self._last.pop(study_key, None)
            return drop_rows(connection, study_key)

    def abandon(self, claim: Claim, is_empty: Callable[[], bool]) -> None:
        """End a reading of a study that has no instances: it was erased, or its first one was never placed.

        Args:
            claim: the reading.
            is_empty: whether that is still so; one may have been placed this moment.
        """
        with self._lock, self.database.transaction() as connection:
            if self.is_current(claim) and is_empty():
                drop_rows(connection, claim.study_key)
            else:
                receive_again(connection, claim.study_key)

    def recover(self, found: Mapping[str, int], limit: int) -> Counter[str]:
        """Make the rows fit what is on the disk, after a start.

        Args:
            found: revision that is due, by key of each study in the inbox; used where there is no row.
            limit: of attempts.

        Returns:
            How many studies were ``found`` without a row, ``resumed``, or ``parked`` since they ended the service.
        """
        now, done = self.clock(), Counter[str]()
        with self._lock, self.database.transaction() as connection:
            for row in connection.execute("SELECT * FROM studies WHERE state = 'processing'").fetchall():
                if row["attempts"] >= limit and not row["grown"]:
                    park(connection, row["study_key"], "SERVICE_CRASHED", now)
                    done["parked"] += 1
                else:
                    done["resumed"] += 1
            connection.execute("UPDATE studies SET state = 'receiving', attempts = 0, grown = 0 "
                               "WHERE state = 'processing' AND grown")  # fmt: skip
            connection.execute("UPDATE studies SET state = 'waiting' WHERE state = 'processing'")
            known = {row["study_key"] for row in connection.execute("SELECT study_key FROM studies")}
            for key in sorted(set(found) - known):
                insert(connection, key, found[key], now)
                done["found"] += 1
        return done

    def retry_parked(self) -> int:
        """Put parked studies and deliveries back into their queues; how many there were."""
        now = self.clock()
        with self._lock, self.database.transaction() as connection:
            studies = connection.execute(
                "UPDATE studies SET state = 'waiting', attempts = 0, reason = '', finished = NULL "
                "WHERE state = 'parked' AND reason != ?",
                (TOO_LARGE,),
            ).rowcount
            deliveries = connection.execute(
                "UPDATE deliveries SET state = 'waiting', attempts = 0, created = ?, next_attempt = ? "
                "WHERE state = 'parked'",
                (now, now),
            ).rowcount
        return studies + deliveries

    def while_ended(self, study_key: str, action: Callable[[], int]) -> int:
        """Do something to a study that is done, refused or parked, while no instance of it can come.

        Returns:
            What the action returns; 0 if the study is none of these any more.
        """
        with self._lock:
            row = self._row(study_key)
            return action() if row is not None and row["finished"] is not None else 0

    def is_output(self, sop_key: str) -> bool:
        """Whether an instance is a result of ours."""
        return bool(self.database.rows("SELECT 1 FROM outputs WHERE sop_key = ?", sop_key))

    def counts(self) -> dict[str, int]:
        """Studies by state, every state."""
        rows = self.database.rows("SELECT state, count(*) AS n FROM studies GROUP BY state")
        return dict.fromkeys(State, 0) | {row["state"]: row["n"] for row in rows}

    def oldest_waiting_s(self) -> float:
        """Age of the study that waits longest [s]; 0 if none does."""
        row = self.database.rows(f"SELECT min(last_received) AS t FROM studies WHERE state IN {OPEN}")[0]  # noqa: S608 - a constant
        return 0.0 if row["t"] is None else max(self.clock() - row["t"], 0.0)

    def ended_before(self, time_s: float) -> list[tuple[str, float]]:
        """Studies that have been done, refused or parked since before a time, with that time, the oldest first."""
        rows = self.database.rows(
            f"SELECT study_key, finished FROM studies WHERE state NOT IN {OPEN} AND finished < ? ORDER BY finished",  # noqa: S608
            time_s,
        )
        return [(row["study_key"], row["finished"]) for row in rows]

    def _row(self, study_key: str) -> sqlite3.Row | None:
        rows = self.database.rows("SELECT * FROM studies WHERE study_key = ?", study_key)
        return rows[0] if rows else None
