"""What is known of each study: its state, how often it was read, what is to be sent. The files are the truth.

receiving -> waiting -> processing -> done | refused | parked. An instance that comes later sends a study back to
receiving. While a study is read, it only marks it as grown: that reading is thrown away, and the study is read again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TypeVar

from pipeline.deployment.service.database import Database
from pipeline.deployment.service.study_rows import (
    TOO_LARGE,
    Claim,
    Ended,
    State,
    claim,
    close,
    deliver,
    drop_rows,
    insert,
    park,
    receive,
    receive_again,
    resume,
    retry,
    wait,
)

Tally = tuple[str, str, str]  # vendor, measure, bin
NOTHING: Mapping[str, str] = MappingProxyType({})
T = TypeVar("T")


class Store:
    """States of studies.

    Args:
        database: opened.
        clock: seconds since 1970.
        package: digest of the one that reads.
        monotonic: a clock that nobody sets, for the quiet time.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.time,
        package: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database, self.clock, self._package, self._monotonic = database, clock, package, monotonic
        self._last: dict[str, float] = {}  # when an instance came; the row has it only where the state changed
        self._coming = Counter[str]()  # instances that are being placed
        self._lock = threading.RLock()

    @contextmanager
    def coming(self, study_key: str) -> Iterator[None]:
        """While an instance is placed, however long the disk takes: its study is not complete before that ends."""
        with self._lock:
            self._coming[study_key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._coming -= Counter([study_key])  # what is none any more goes

    def received(self, study_key: str) -> None:
        """An instance of a study comes, or has come; committed before this returns.

        Called before the instance is placed, so that one that is placed is never overlooked, and again after it, so
        that the quiet time begins then. Nothing is written for a study that is being received anyway.
        """
        with self._lock:
            self._last[study_key] = self._monotonic()
            row = self._row(study_key)
            if row is not None and (row["state"] == State.RECEIVING or row["grown"]):
                return
            with self.database.transaction() as connection:
                receive(connection, study_key, self.clock())

    def ripen(self, quiet_s: float) -> None:
        """Studies for which nothing has come for a while wait to be read."""
        with self._lock:
            now = self._monotonic()
            for row in self.database.rows("SELECT * FROM studies WHERE state = ?", State.RECEIVING):
                last = self._last.setdefault(row["study_key"], now)  # after a start, time begins anew
                if now - last >= quiet_s and row["study_key"] not in self._coming:
                    with self.database.transaction() as connection:
                        connection.execute(
                            "UPDATE studies SET state = 'waiting', last_received = ? WHERE study_key = ?",
                            (self.clock() - (now - last), row["study_key"]),
                        )
                    del self._last[row["study_key"]]

    def claim(self) -> Claim | None:
        """Take the study that waits longest (:func:`pipeline.deployment.service.study_rows.claim`)."""
        with self.database.transaction() as connection:
            return claim(connection, self.clock())

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
        outputs: Mapping[str, str] = NOTHING,
        destinations: Sequence[str] = (),
        tallies: Sequence[Tally] = (),
    ) -> bool:
        """End a reading: state, deliveries and counts in one transaction.

        Args:
            claim: the reading.
            state: ``DONE`` or ``REFUSED``.
            reason: code of a refusal.
            outputs: digests of the DICOM objects that were made, by their keys; if the last reading made the same,
                they are not sent again.
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
            deliver(connection, claim, outputs, destinations, self.clock())
            day = time.strftime("%Y-%m-%d", time.gmtime(self.clock()))
            connection.executemany(
                "INSERT INTO tallies VALUES (?, ?, ?, ?, ?, 1) "
                "ON CONFLICT (day, package, vendor, measure, bin) DO UPDATE SET n = n + 1",
                [(day, self._package, *tally) for tally in tallies],
            )
        return True

    def put_back(
        self, claim: Claim, *, counts: bool, wait_s: float = 0, reason: str = "", limit: int = 0
    ) -> State | None:
        """End a reading without a result.

        Args:
            claim: the reading.
            counts: whether the attempt counts; not if the service only stops, or the machine failed.
            wait_s: until the next one [s]; others are read meanwhile.
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
                until = self.clock() + wait_s if wait_s else 0.0  # no pause, and no clock that is set makes one
                wait(connection, claim.study_key, claim.attempts - (not counts), until)
        row = self._row(claim.study_key)
        return None if row is None else State(row["state"])

    def park(self, study_key: str, reason: str) -> None:
        """Read a study no more, until another instance of it comes; never, if it is too large."""
        with self._lock, self.database.transaction() as connection:
            park(connection, study_key, reason, self.clock())

    def drop(self, study_key: str) -> int:
        """Forget a study and all that belongs to it; how many rows that were."""
        with self._lock, self.database.transaction() as connection:
            self._last.pop(study_key, None)
            return drop_rows(connection, study_key)

    def abandon(self, claim: Claim, is_empty: Callable[[], bool], *, has_results: bool) -> None:
        """End a reading of a study that has no instances: they were erased, or its first one was never placed.

        Args:
            claim: the reading.
            is_empty: whether that is still so; one may have been placed this moment.
            has_results: whether it was read before: it is done then, as it was, and what is to be sent is sent.
        """
        with self._lock, self.database.transaction() as connection:
            if self.is_current(claim) and is_empty():
                if has_results:
                    close(connection, claim.study_key, self.clock())
                else:
                    drop_rows(connection, claim.study_key)
            else:
                receive_again(connection, claim.study_key)

    def recover(
        self, found: Mapping[str, int], read: Mapping[str, int], limit: int, too_large: Collection[str] = ()
    ) -> Counter[str]:
        """Make the rows fit what is on the disk, after a start.

        Args:
            found: revision that is due, by key of each study in the inbox; used where there is no row.
            read: last revision, by key of each study that has results; such a study is done, and its time will be over.
            limit: of attempts.
            too_large: keys of studies that are marked so.

        Returns:
            How many studies were ``found`` without a row, or their ``results`` alone; were ``resumed``, or ``parked``
            since they ended the service; were marked ``too_large``, and nobody knew.
        """
        now = self.clock()
        with self._lock, self.database.transaction() as connection:
            done = resume(connection, limit, now)
            known = {row["study_key"] for row in connection.execute("SELECT study_key FROM studies")}
            for key in sorted(set(found) - known):
                insert(connection, key, found[key], now)
                done["found"] += 1
            for key in sorted(set(read) - set(found) - known):
                insert(connection, key, read[key], now)
                close(connection, key, now)
                done["results"] += 1
            for key in sorted(too_large):
                if not self.is_too_large(key):
                    park(connection, key, TOO_LARGE, now)
                    done["too_large"] += 1
        return done

    def retry_parked(self) -> int:
        """Put parked studies and deliveries back into their queues; how many there were."""
        with self._lock, self.database.transaction() as connection:
            return retry(connection, self.clock())

    def while_ended(self, study_key: str, action: Callable[[], T]) -> T | None:
        """Do something short to a study that is done, refused or parked, while no instance of it can come.

        Returns:
            What the action returns; ``None`` if the study is none of these any more.
        """
        with self._lock:
            row = self._row(study_key)
            return action() if row is not None and row["finished"] is not None else None

    def is_output(self, sop_key: str) -> bool:
        """Whether an instance is a result of ours."""
        return bool(self.database.rows("SELECT 1 FROM outputs WHERE sop_key = ?", sop_key))

    def is_too_large(self, study_key: str) -> bool:
        """Whether instances of a study were refused because it is too large: it takes no further one until erased."""
        row = self._row(study_key)
        return row is not None and row["reason"] == TOO_LARGE

    def counts(self) -> dict[str, int]:
        """Studies by state, every state."""
        rows = self.database.rows("SELECT state, count(*) AS n FROM studies GROUP BY state")
        return dict.fromkeys(State, 0) | {row["state"]: row["n"] for row in rows}

    def oldest_waiting_s(self) -> float:
        """Age of the study that waits longest [s]; 0 if none does."""
        row = self.database.rows("SELECT min(last_received) AS t FROM studies WHERE finished IS NULL")[0]
        return 0.0 if row["t"] is None else max(self.clock() - row["t"], 0.0)

    def ended_before(self, time_s: float) -> list[Ended]:
        """Studies that have been done, refused or parked since before a time, the oldest first."""
        rows = self.database.rows(
            "SELECT study_key, finished, state != 'parked' OR reason = ? AS is_over, "
            "study_key NOT IN (SELECT study_key FROM deliveries WHERE state = 'waiting') AS is_sent "
            "FROM studies WHERE finished < ? ORDER BY finished",
            TOO_LARGE,
            time_s,
        )
        return [Ended(row["study_key"], row["finished"], bool(row["is_over"]), bool(row["is_sent"])) for row in rows]

    def _row(self, study_key: str) -> sqlite3.Row | None:
        rows = self.database.rows("SELECT * FROM studies WHERE study_key = ?", study_key)
        return rows[0] if rows else None
