"""States of studies: each instance that was acknowledged is read in the end, whatever happened meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.deployment.service.database import NAME, Database, open_database
from pipeline.deployment.service.deliveries import Deliveries
from pipeline.deployment.service.settings import Delivery
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import TOO_LARGE, Claim, State

KEY, OTHER = "a" * 16, "b" * 16
QUIET = 10.0


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    return Store(Database(tmp_path / NAME), clock, monotonic=clock)


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


def test_a_commit_reaches_the_disk_and_readers_do_not_wait(store: Store) -> None:
    assert store.database.rows("PRAGMA synchronous")[0][0] == 2, "FULL"
    assert store.database.rows("PRAGMA journal_mode")[0][0] == "wal"


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
        parked = store.put_back(found, counts=True, reason="READER_CRASHED", limit=3)
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


def test_after_a_crash_what_was_read_is_read_again(tmp_path: Path, store: Store, clock: Clock) -> None:
    store.received(KEY)
    claim(store, clock)
    again = Store(Database(tmp_path / NAME), clock, monotonic=clock)
    assert again.recover({KEY: 1}, {}, limit=3) == {"resumed": 1}
    found = again.claim()
    assert found is not None
    assert found.attempts == 2


def test_a_study_that_was_read_in_three_crashes_is_parked(store: Store, clock: Clock) -> None:
    store.received(KEY)
    claim(store, clock)
    for _ in range(2):
        store.recover({}, {}, limit=3)
        store.claim()
    assert store.recover({}, {}, limit=3) == {"parked": 1}
    assert store.database.rows("SELECT state, reason FROM studies")[0]["reason"] == "SERVICE_CRASHED"


def test_studies_on_the_disk_without_a_row_are_found(store: Store, clock: Clock) -> None:
    store.received(KEY)
    assert store.recover({KEY: 1, OTHER: 4}, {OTHER: 3}, limit=3) == {"found": 1}
    clock.now += 1
    keys = {(found.study_key, found.revision) for found in (claim(store, clock), claim(store, clock))}
    assert keys == {(KEY, 1), (OTHER, 4)}


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


def test_a_clock_that_was_ahead_delays_no_delivery(store: Store, clock: Clock) -> None:
    queue = Deliveries(store.database, Delivery(), clock)
    read_again(store, clock, ["x"])
    clock.now += 86_400
    queue.failed(queue.due("pacs")[0], "NO_ASSOCIATION")
    assert not queue.due("pacs")
    clock.now -= 86_400
    assert queue.due("pacs")


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


def test_results_without_a_row_are_found_and_their_time_will_be_over(store: Store, clock: Clock) -> None:
    """The database was lost, and the instances had expired."""
    assert store.recover({}, {KEY: 2}, limit=3) == {"results": 1}
    assert state(store) == State.DONE
    clock.now += 1
    assert [one.study_key for one in store.ended_before(clock.now)] == [KEY]
    store.received(KEY)
    assert claim(store, clock).revision == 3


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


def test_waits_double_until_the_longest_and_end_in_the_park(store: Store, clock: Clock) -> None:
    """First 15 s, then 30, 60, …, 900; given up after an hour."""
    deliveries = Deliveries(store.database, Delivery(give_up_hours=1), clock)
    store.received(KEY)
    store.finish(claim(store, clock), State.DONE, outputs={"x": "1"}, destinations=["pacs", "archive"])
    assert [deliveries.wait_s(n) for n in (0, 1, 2, 6, 1000)] == [15, 30, 60, 900, 900]
    given_up, waits = False, []
    while not given_up:
        (due,) = deliveries.due("pacs")
        before = clock.now
        given_up = deliveries.failed(due, "NO_ASSOCIATION")
        while not given_up and not deliveries.due("pacs"):
            clock.now += 1
        waits.append(clock.now - before)
    assert waits[:4] == [15, 30, 60, 120]
    assert deliveries.counts() == {("pacs", "parked"): 1, ("archive", "waiting"): 1}
    assert store.retry_parked() == 1
    assert deliveries.due("pacs")[0].attempts == 0


def test_the_same_results_are_not_sent_twice_and_new_ones_replace_those_that_wait(store: Store, clock: Clock) -> None:
    """Revision 2 finds what 1 found, as when another program's report came late; revision 3 finds something else."""
    sent = []
    for outputs in (["x", "y"], ["y", "x"], ["z"]):
        store.received(KEY)
        store.finish(claim(store, clock), State.DONE, outputs=dict.fromkeys(outputs, "1"), destinations=["pacs"])
        rows = store.database.rows("SELECT revision, state FROM deliveries ORDER BY revision")
        sent.append([(row["revision"], row["state"]) for row in rows])
    assert sent == [[(1, "waiting")], [(1, "waiting")], [(1, "superseded"), (3, "waiting")]]
    assert store.is_output("x")
    assert store.is_output("z")


def read_again(
    store: Store, clock: Clock, outputs: Sequence[str], destinations: Sequence[str] = ("pacs",), content: str = "1"
) -> None:
    store.received(KEY)
    end = State.DONE if outputs else State.REFUSED
    assert store.finish(claim(store, clock), end, outputs=dict.fromkeys(outputs, content), destinations=destinations)


def deliveries(store: Store) -> list[tuple[int, str, str]]:
    rows = store.database.rows("SELECT * FROM deliveries ORDER BY revision, destination")
    return [(row["revision"], row["destination"], row["state"]) for row in rows]


def set_deliveries(store: Store, state: str) -> None:
    with store.database.transaction() as connection:
        connection.execute("UPDATE deliveries SET state = ?", (state,))


def test_what_is_found_again_after_a_refusal_is_sent(store: Store, clock: Clock) -> None:
    """The refusal took the place of the first reading, which was not out yet."""
    for outputs in (["x"], [], ["x"]):
        read_again(store, clock, outputs)
    assert deliveries(store) == [(1, "pacs", "superseded"), (3, "pacs", "waiting")]
    read_again(store, clock, ["x"])
    assert deliveries(store)[2:] == [], "and once only"


def test_a_corrected_result_under_the_same_uid_is_sent(store: Store, clock: Clock) -> None:
    """Another patient's name, say, in instances of the same UIDs."""
    for content in ("wrong", "right", "right"):
        read_again(store, clock, ["x"], content=content)
    assert deliveries(store) == [(1, "pacs", "superseded"), (2, "pacs", "waiting")]


def test_what_has_arrived_is_not_sent_again_after_a_refusal(store: Store, clock: Clock) -> None:
    read_again(store, clock, ["x"])
    set_deliveries(store, "done")
    read_again(store, clock, [])
    read_again(store, clock, ["x"])
    assert deliveries(store) == [(1, "pacs", "done")]


def test_a_new_destination_and_one_that_was_given_up_get_what_is_found_again(store: Store, clock: Clock) -> None:
    read_again(store, clock, ["x"])
    set_deliveries(store, "parked")
    read_again(store, clock, ["x"], ["archive", "pacs"])
    assert deliveries(store) == [(1, "pacs", "superseded"), (2, "archive", "waiting"), (2, "pacs", "waiting")]


def test_a_given_up_reading_is_not_sent_after_a_newer_one(store: Store, clock: Clock) -> None:
    read_again(store, clock, ["x"])
    set_deliveries(store, "parked")
    read_again(store, clock, ["y"])
    assert store.retry_parked() == 0
    assert deliveries(store) == [(1, "pacs", "superseded"), (2, "pacs", "waiting")]


def test_what_waits_for_a_destination_that_is_gone_is_parked_and_has_an_age(store: Store, clock: Clock) -> None:
    read_again(store, clock, ["x"], ["archive", "pacs"])
    queue = Deliveries(store.database, Delivery(), clock)
    clock.now += 60
    assert queue.oldest_waiting_s() == 60
    assert queue.park_others(["pacs"]) == 1
    assert deliveries(store) == [(1, "archive", "parked"), (1, "pacs", "waiting")]
    assert queue.park_others([]) == 1
    assert queue.oldest_waiting_s() == 0
