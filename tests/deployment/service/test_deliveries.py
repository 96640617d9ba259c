"""What is sent where: each result once, the newest only, again and again until it has arrived or is given up."""

from __future__ import annotations

from pipeline.deployment.service.deliveries import Deliveries
from pipeline.deployment.service.settings import Delivery
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import State
from tests.deployment.service.states import KEY, Clock, claim, deliveries, read_again


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


def test_a_clock_that_was_ahead_delays_no_delivery(store: Store, clock: Clock) -> None:
    queue = Deliveries(store.database, Delivery(), clock)
    read_again(store, clock, ["x"])
    clock.now += 86_400
    queue.failed(queue.due("pacs")[0], "NO_ASSOCIATION")
    assert not queue.due("pacs")
    clock.now -= 86_400
    assert queue.due("pacs")


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
