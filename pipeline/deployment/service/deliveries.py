"""What is to be sent where, how often it was tried, and when it is tried again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.deployment.service.database import Database
from pipeline.deployment.service.settings import Delivery


@dataclass(frozen=True)
class Due:
    """A delivery whose time has come.

    Attributes:
        study_key: of the study.
        revision: of the reading.
        destination: its name.
        attempts: so far.
        created: when it was first wanted [s since 1970].
    """

    study_key: str
    revision: int
    destination: str
    attempts: int
    created: float


class Deliveries:
    """The queue of each destination.

    Args:
        database: opened.
        settings: how long to wait, and when to give up.
        clock: seconds since 1970.
    """

    def __init__(self, database: Database, settings: Delivery, clock: Callable[[], float] = time.time) -> None:
        self._database, self._settings, self._clock = database, settings, clock

    def due(self, destination: str, limit: int = 16) -> list[Due]:
        """Deliveries of a destination that are to be tried now, the oldest first."""
        rows = self._database.rows(
            "SELECT * FROM deliveries WHERE destination = ? AND state = 'waiting' AND next_attempt NOT BETWEEN ? AND ? "
            "ORDER BY created LIMIT ?",
            destination,
            math.nextafter(self._clock(), math.inf),
            self._clock() + self._settings.longest_retry_s,  # what lies beyond was set by a clock that was ahead
            limit,
        )
        names = Due.__dataclass_fields__
        return [Due(**{name: row[name] for name in names}) for row in rows]

    def is_waiting(self, due: Due) -> bool:
        """Whether it is still wanted: not if a newer reading has taken its place, or the study was erased."""
        return bool(
            self._database.rows(
                "SELECT 1 FROM deliveries "
                "WHERE study_key = ? AND revision = ? AND destination = ? AND state = 'waiting'",
                due.study_key,
                due.revision,
                due.destination,
            )
        )

    def succeeded(self, due: Due) -> None:
        """The destination has everything."""
        self._set(due, "done", "", self._clock())

    def failed(self, due: Due, reason: str) -> bool:
        """The destination has not everything: try again later, or give up.

        Returns:
            Whether it was given up.
        """
        now = self._clock()
        given_up = now - due.created >= self._settings.give_up_hours * 3600
        self._set(due, "parked" if given_up else "waiting", reason, now + self.wait_s(due.attempts))
        return given_up

    def wait_s(self, attempts: int) -> float:
        """Wait after a failure [s]: doubled with each, up to the longest.

        Args:
            attempts: before the one that failed.
        """
        return min(self._settings.first_retry_s * 2.0 ** min(attempts, 60), self._settings.longest_retry_s)

    def counts(self) -> dict[tuple[str, str], int]:
        """Deliveries by destination and state."""
        rows = self._database.rows("SELECT destination, state, count(*) AS n FROM deliveries GROUP BY 1, 2")
        return {(row["destination"], row["state"]): row["n"] for row in rows}

    def oldest_waiting_s(self) -> float:
        """Age of the delivery that waits longest [s]; 0 if none does."""
        row = self._database.rows("SELECT min(created) AS t FROM deliveries WHERE state = 'waiting'")[0]
        return 0.0 if row["t"] is None else max(self._clock() - row["t"], 0.0)

    def park_others(self, destinations: Sequence[str]) -> int:
        """Park what waits for a destination that there is not any more; how much that was.

        Args:
            destinations: names of those that there are.
        """
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT DISTINCT destination FROM deliveries WHERE state = 'waiting'").fetchall()
            gone = {row["destination"] for row in rows} - set(destinations)
            return sum(
                connection.execute(
                    "UPDATE deliveries SET state = 'parked', reason = 'NO_DESTINATION' "
                    "WHERE destination = ? AND state = 'waiting'",
                    (name,),
                ).rowcount
                for name in gone
            )

    def _set(self, due: Due, state: str, reason: str, next_attempt: float) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE deliveries SET state = ?, reason = ?, attempts = attempts + 1, next_attempt = ? "
                "WHERE study_key = ? AND revision = ? AND destination = ? AND state = 'waiting'",
                (state, reason, next_attempt, due.study_key, due.revision, due.destination),
            )
