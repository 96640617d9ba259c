"""What tests of studies' states share: a clock, a study that is read, what its rows say."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import Claim, State

KEY, OTHER = "a" * 16, "b" * 16
QUIET = 10.0


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def claim(store: Store, clock: Clock) -> Claim:
    """The study that is due after a quiet time."""
    store.ripen(QUIET)
    clock.now += QUIET
    store.ripen(QUIET)
    found = store.claim()
    assert found is not None
    return found


def state(store: Store, key: str = KEY) -> str:
    row = store.database.rows("SELECT state FROM studies WHERE study_key = ?", key)
    return row[0]["state"] if row else ""


def read_again(
    store: Store, clock: Clock, outputs: Sequence[str], destinations: Sequence[str] = ("pacs",), content: str = "1"
) -> None:
    store.received(KEY)
    end = State.DONE if outputs else State.REFUSED
    assert store.finish(claim(store, clock), end, outputs=dict.fromkeys(outputs, content), destinations=destinations)


def deliveries(store: Store) -> list[tuple[int, str, str]]:
    rows = store.database.rows("SELECT * FROM deliveries ORDER BY revision, destination")
    return [(row["revision"], row["destination"], row["state"]) for row in rows]
