"""After a start the rows fit what is on the disk, however the service ended."""

from __future__ import annotations

from pathlib import Path

from pipeline.deployment.service.database import NAME, Database
from pipeline.deployment.service.identity import Identity
from pipeline.deployment.service.inbox import Inbox
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import State
from tests.deployment.service.states import KEY, OTHER, Clock, claim, state


def test_after_a_crash_what_was_read_is_read_again(tmp_path: Path, store: Store, clock: Clock) -> None:
    store.received(KEY)
    claim(store, clock)
    again = Store(Database(tmp_path / NAME), clock, monotonic=clock)
    assert again.recover({KEY: 1}, {}, limit=3) == {"resumed": 1}
    found = again.claim()
    assert found is not None
    assert found.attempts == 2


def test_a_study_that_was_read_in_three_crashes_is_parked(store: Store, clock: Clock) -> None:
    """After the first it goes on at once, after the second it has a pause: memory may be short for a while."""
    store.received(KEY)
    claim(store, clock)
    assert store.recover({}, {}, limit=3) == {"resumed": 1}
    assert store.claim() is not None
    assert store.recover({}, {}, limit=3) == {"resumed": 1}
    assert store.claim() is None
    clock.now += 120
    assert store.claim() is not None
    assert store.recover({}, {}, limit=3) == {"parked": 1}
    assert store.database.rows("SELECT state, reason FROM studies")[0]["reason"] == "SERVICE_CRASHED"


def test_a_pause_outlasts_the_service(tmp_path: Path, store: Store, clock: Clock) -> None:
    store.received(KEY)
    store.put_back(claim(store, clock), counts=True, wait_s=60, limit=3)
    store.database.close()
    again = Store(Database(tmp_path / NAME), clock, monotonic=clock)
    assert again.recover({KEY: 1}, {}, limit=3) == {}
    assert again.claim() is None
    clock.now += 60
    found = again.claim()
    assert found is not None
    assert found.attempts == 2


def test_a_study_that_is_too_large_is_known_by_its_mark_when_the_database_is_lost(tmp_path: Path, clock: Clock) -> None:
    """One with instances, which are a part of it; one whose first instance alone was too large."""
    inbox, store = Inbox(tmp_path / "inbox"), Store(Database(tmp_path / NAME), clock, monotonic=clock)
    with inbox.part(b"x") as part:
        inbox.place(part, Identity(KEY, "1" * 32))
    for key in (KEY, OTHER):
        inbox.mark_too_large(key)
    inbox = Inbox(tmp_path / "inbox")
    assert inbox.studies() == [KEY]
    found = dict.fromkeys(inbox.studies(), 1)
    assert store.recover(found, {}, 3, inbox.too_large()) == {"found": 1, "too_large": 2}
    for key in (KEY, OTHER):
        store.received(key)
        assert store.is_too_large(key)
    store.ripen(0)
    assert store.claim() is None
    assert store.recover(found, {}, 3, inbox.too_large()) == {}, "and once only"


def test_studies_on_the_disk_without_a_row_are_found(store: Store, clock: Clock) -> None:
    store.received(KEY)
    assert store.recover({KEY: 1, OTHER: 4}, {OTHER: 3}, limit=3) == {"found": 1}
    clock.now += 1
    keys = {(found.study_key, found.revision) for found in (claim(store, clock), claim(store, clock))}
    assert keys == {(KEY, 1), (OTHER, 4)}


def test_results_without_a_row_are_found_and_their_time_will_be_over(store: Store, clock: Clock) -> None:
    """The database was lost, and the instances had expired."""
    assert store.recover({}, {KEY: 2}, limit=3) == {"results": 1}
    assert state(store) == State.DONE
    clock.now += 1
    assert [one.study_key for one in store.ended_before(clock.now)] == [KEY]
    store.received(KEY)
    assert claim(store, clock).revision == 3
