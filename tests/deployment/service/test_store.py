"""States of studies: each instance that was acknowledged is read in the end, whatever happened meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.deployment.service.database import NAME, Database
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import TOO_LARGE, Claim, State, wait_s
from tests.deployment.service.states import KEY, OTHER, QUIET, Clock, claim, deliveries, read_again, state


def test_a_study_waits_until_nothing_has_come_for_the_quiet_time(store: Store, clock: Clock) -> None:
    for _ in range(3):
        store.received(KEY)
        clock.now += QUIET - 1
        store.ripen(QUIET)
        assert state(store) == State.RECEIVING
    clock.now += 1
    store.ripen(QUIET)
    assert state(store) == State.WAITING
    found = store.claim()
    assert found == Claim(KEY, 1, 1, QUIET)
    assert store.is_current(found)


def test_an_instance_of_a_study_that_is_received_costs_no_write(store: Store) -> None:
    store.received(KEY)
    before = store.database._connection.total_changes
    for _ in range(50):
        store.received(KEY)
    assert store.database._connection.total_changes == before


def test_a_late_instance_makes_a_second_revision(store: Store, clock: Clock) -> None:
    store.received(KEY)
    assert store.finish(claim(store, clock), State.DONE)
    assert state(store) == State.DONE
    store.received(KEY)
    assert state(store) == State.RECEIVING
    again = claim(store, clock)
    assert (again.revision, again.attempts) == (2, 1)


@pytest.mark.parametrize("end", ["finish", "put_back"])
def test_a_reading_of_a_study_that_grew_meanwhile_is_thrown_away(end: str, store: Store, clock: Clock) -> None:
    store.received(KEY)
    first = claim(store, clock)
    store.received(KEY)
    assert not store.is_current(first)
    if end == "finish":
        assert not store.finish(first, State.DONE, tallies=[("GE", "m", "b")])
        assert not store.database.rows("SELECT * FROM tallies")
    else:
        assert store.put_back(first, counts=True, reason="READER_CRASHED", limit=1) == State.RECEIVING
    assert state(store) == State.RECEIVING
    assert claim(store, clock) == Claim(KEY, 1, 1, QUIET)


def test_a_study_that_ends_the_reader_three_times_is_parked_with_its_reason(store: Store, clock: Clock) -> None:
    store.received(KEY)
    found: Claim | None = claim(store, clock)
    for attempt in (1, 2, 3):
        assert found is not None
        assert found.attempts == attempt
        parked = store.put_back(found, counts=True, wait_s=60, reason="READER_CRASHED", limit=3)
        assert store.claim() is None, "it has a pause"
        clock.now += 60
        found = store.claim()
    assert parked == State.PARKED
    assert found is None
    assert store.database.rows("SELECT reason FROM studies")[0]["reason"] == "READER_CRASHED"
    store.received(KEY)
    assert claim(store, clock).attempts == 1, "another instance may change everything"


def test_a_study_that_failed_does_not_keep_others_waiting(store: Store, clock: Clock) -> None:
    store.received(KEY)
    first = claim(store, clock)
    clock.now += 1
    store.received(OTHER)
    store.put_back(first, counts=True, limit=3)
    assert claim(store, clock).study_key == OTHER


def test_pauses_double_until_the_longest() -> None:
    assert [wait_s(attempts) for attempts in (1, 2, 3, 7, 1000)] == [60, 120, 240, 3600, 3600]


def test_a_machine_that_fails_over_one_study_reads_others_meanwhile(store: Store, clock: Clock) -> None:
    """A file that lies where the disk is damaged; the study keeps its place and its attempts."""
    store.received(KEY)
    first = claim(store, clock)
    store.received(OTHER)
    store.put_back(first, counts=False, wait_s=60)
    assert claim(store, clock).study_key == OTHER
    clock.now += 60
    found = store.claim()
    assert found is not None
    assert (found.study_key, found.attempts) == (KEY, 1)


def test_another_instance_ends_a_pause(store: Store, clock: Clock) -> None:
    store.received(KEY)
    store.put_back(claim(store, clock), counts=True, wait_s=3600, limit=3)
    store.received(KEY)
    assert claim(store, clock).attempts == 1


def test_a_clock_that_was_ahead_makes_no_pause_longer(store: Store, clock: Clock) -> None:
    store.received(KEY)
    found = claim(store, clock)
    clock.now += 86_400
    store.put_back(found, counts=True, wait_s=60, limit=3)
    assert store.claim() is None
    clock.now -= 86_400
    assert store.claim() is not None


def test_a_stop_does_not_count_as_an_attempt(store: Store, clock: Clock) -> None:
    store.received(KEY)
    for _ in range(9):
        store.put_back(claim(store, clock), counts=False)
    assert state(store) == State.WAITING
    assert claim(store, clock).attempts == 1


def test_an_attempt_is_counted_once_however_often_the_machine_fails_within_it(store: Store, clock: Clock) -> None:
    """A full disk: the study stays ``processing``, and is claimed again by the same service."""
    store.received(KEY)
    claim(store, clock)
    for _ in range(9):
        again = store.claim()
        assert again is not None
        assert again.attempts == 1
    assert store.recover({}, {}, limit=3) == {"resumed": 1}


def test_a_study_is_not_complete_while_an_instance_is_placed(store: Store, clock: Clock) -> None:
    """A disk that is slower than the quiet time."""
    with store.coming(KEY):
        store.received(KEY)
        clock.now += 9 * QUIET
        store.ripen(QUIET)
        assert state(store) == State.RECEIVING
    store.ripen(QUIET)
    assert state(store) == State.WAITING


def test_a_study_that_is_too_large_is_never_read_in_part(store: Store, clock: Clock) -> None:
    store.received(KEY)
    store.park(KEY, TOO_LARGE)
    store.received(KEY)
    assert state(store) == State.PARKED
    assert store.is_too_large(KEY)
    assert store.retry_parked() == 0


def test_a_study_whose_first_instance_is_too_large_is_parked_like_others(store: Store) -> None:
    store.park(KEY, TOO_LARGE)
    store.received(KEY)
    assert state(store) == State.PARKED


def test_what_was_parked_can_be_tried_again(store: Store, clock: Clock) -> None:
    store.received(KEY)
    store.park(KEY, "READER_TIMEOUT")
    assert store.retry_parked() == 1
    found = store.claim()
    assert found is not None
    assert found.attempts == 1


def test_nothing_is_left_of_a_study_that_is_dropped(store: Store, clock: Clock) -> None:
    store.received(KEY)
    found = claim(store, clock)
    store.finish(found, State.DONE, outputs={"x": "1"}, destinations=["pacs"])
    store.drop(KEY)
    for table in ("studies", "deliveries", "outputs"):
        assert not store.database.rows(f"SELECT * FROM {table}")  # noqa: S608
    assert not store.finish(found, State.DONE, outputs={"x": "1"}, destinations=["pacs"])
    assert not store.database.rows("SELECT * FROM deliveries"), "a reading of an erased study is not sent"


@pytest.mark.parametrize(("empty", "left"), [(True, ""), (False, State.RECEIVING)])
def test_an_announced_study_without_an_instance_is_dropped_unless_one_was_placed_this_moment(
    empty: bool, left: str, store: Store, clock: Clock
) -> None:
    """A disk that takes longer than the quiet time: the study is claimed before its first instance has its name."""
    store.received(KEY)
    found = claim(store, clock)
    store.abandon(found, lambda: empty, has_results=False)
    assert state(store) == left


def test_a_study_that_grew_is_not_dropped_as_empty(store: Store, clock: Clock) -> None:
    store.received(KEY)
    found = claim(store, clock)
    store.received(KEY)
    store.abandon(found, lambda: True, has_results=False)
    assert state(store) == State.RECEIVING


@pytest.mark.parametrize("jump", [-3600, 30 * 86_400])
def test_a_clock_that_is_set_keeps_no_study_waiting_and_ends_no_quiet_time(
    jump: float, tmp_path: Path, clock: Clock
) -> None:
    wall = Clock()
    store = Store(Database(tmp_path / NAME), wall, monotonic=clock)
    store.received(KEY)
    wall.now += jump
    store.ripen(QUIET)
    assert state(store) == State.RECEIVING
    clock.now += QUIET
    store.ripen(QUIET)
    assert state(store) == State.WAITING


def test_a_study_that_was_read_before_is_done_again_if_its_late_instance_was_never_placed(
    store: Store, clock: Clock
) -> None:
    """Its instances had expired; its results are still to be sent."""
    read_again(store, clock, ["x"])
    store.received(KEY)
    store.abandon(claim(store, clock), lambda: True, has_results=True)
    assert state(store) == State.DONE
    assert deliveries(store) == [(1, "pacs", "waiting")]
    assert store.is_output("x")
