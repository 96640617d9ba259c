"""Results reach each destination in the end, or are parked where everybody can see it."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import dcmread

from benchmarks.hospital_crash import free_port
from benchmarks.tiny_studies import count, tiny_study
from pipeline.deployment.service.database import Database
from pipeline.deployment.service.deliveries import Deliveries
from pipeline.deployment.service.layout import Layout
from pipeline.deployment.service.log import Log
from pipeline.deployment.service.metrics import Metrics
from pipeline.deployment.service.sender import Sender
from pipeline.deployment.service.settings import Delivery, Destination
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import State
from pipeline.deployment.service.worker import outputs_of
from tests.deployment.service.support import Pacs, events, wait_for

KEY = "a" * 16
SETTINGS = Delivery(first_retry_s=0.05, longest_retry_s=0.2, timeout_s=2, give_up_hours=1)


class Desk:
    """One finished study, and senders for it."""

    def __init__(self, tmp_path: Path, destinations: Sequence[Destination], settings: Delivery = SETTINGS) -> None:
        self.layout = Layout(tmp_path / "state")
        self.layout.prepare()
        self.store = Store(Database(self.layout.state / "db"))
        self.deliveries = Deliveries(self.store.database, settings)
        self.metrics, self.said = Metrics(), io.StringIO()
        names = [one.name for one in destinations]
        self.senders = [
            Sender(
                one, self.deliveries, self.layout.result,
                ae_title="EVENBEAT", settings=settings, tls=None, metrics=self.metrics, log=Log(self.said, names),
            )
            for one in destinations
        ]  # fmt: skip
        self._finish(tmp_path, names)

    def _finish(self, tmp_path: Path, names: Sequence[str]) -> None:
        study, out = tmp_path / "study", self.layout.new_work() / "out"
        study.mkdir()
        out.mkdir()
        for number, dataset in enumerate(tiny_study(1, 2)):
            dataset.save_as(study / f"{number}.dcm", enforce_file_format=True)
        count(study, out)
        self.store.received(KEY)
        self.store.ripen(0)
        claim = self.store.claim()
        assert claim is not None
        outputs = outputs_of(out)
        self.layout.publish(out, KEY, claim.revision)
        assert self.store.finish(claim, State.DONE, outputs=outputs, destinations=names)


def test_results_arrive_as_they_were_written(tmp_path: Path) -> None:
    with Pacs().listening() as pacs:
        desk = Desk(tmp_path, [pacs.destination()])
        assert desk.senders[0].step() == 1
        (path,) = desk.layout.result(KEY, 1).glob("*.dcm")
        assert pacs.received == [dcmread(path).SOPInstanceUID]
        assert desk.senders[0].step() == 0, "once is enough"
        assert desk.deliveries.counts() == {("pacs", "done"): 1}
        assert events(desk.said)[-1]["event"] == "delivered"


@pytest.mark.parametrize("status", [0xB000, 0x0111])
def test_a_warning_and_a_duplicate_count_as_delivered(status: int, tmp_path: Path) -> None:
    with Pacs(status).listening() as pacs:
        desk = Desk(tmp_path, [pacs.destination()])
        desk.senders[0].step()
        assert desk.deliveries.counts() == {("pacs", "done"): 1}


def test_a_pacs_that_refuses_and_then_takes_gets_everything(tmp_path: Path) -> None:
    with Pacs(0xA700).listening() as pacs:
        desk = Desk(tmp_path, [pacs.destination()])
        desk.senders[0].thread.start()
        wait_for(lambda: pacs.attempts >= 3)
        assert not pacs.received
        pacs.status = 0
        wait_for(lambda: desk.deliveries.counts() == {("pacs", "done"): 1})
        desk.senders[0].stop(1)
        assert len(set(pacs.received)) == 1
    failures = [event for event in events(desk.said) if event["event"] == "delivery_failed"]
    assert {event["code"] for event in failures} == {"REFUSED_BY_DESTINATION"}
    assert failures[0]["status"] == 0xA700


def test_a_pacs_that_is_away_and_comes_back_gets_everything(tmp_path: Path) -> None:
    pacs = Pacs(port=free_port())
    desk = Desk(tmp_path, [pacs.destination()])
    desk.senders[0].thread.start()
    wait_for(lambda: len(events(desk.said)) >= 2)
    with pacs.listening(pacs.port):
        wait_for(lambda: pacs.received)
        desk.senders[0].stop(1)
    assert events(desk.said)[0]["code"] == "NO_ASSOCIATION"


def test_a_destination_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    """One takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as hanging, Pacs().listening() as pacs:
        mute = Destination("mute", "127.0.0.1", "MUTE", hanging.getsockname()[1])
        desk = Desk(tmp_path, [mute, pacs.destination()])
        for sender in desk.senders:
            sender.thread.start()
        wait_for(lambda: pacs.received, 1.5)
        for sender in desk.senders:
            sender.stop(3)
        assert not any(sender.thread.is_alive() for sender in desk.senders)


def test_after_the_longest_time_a_delivery_is_parked_and_seen(tmp_path: Path) -> None:
    settings = Delivery(first_retry_s=0.05, longest_retry_s=0.1, timeout_s=2, give_up_hours=0.0001)  # 0.36 s
    with Pacs(0xA700).listening() as pacs:
        desk = Desk(tmp_path, [pacs.destination()], settings)
        desk.senders[0].thread.start()
        wait_for(lambda: desk.deliveries.counts() == {("pacs", "parked"): 1})
        desk.senders[0].stop(1)
    assert events(desk.said)[-1]["event"] == "delivery_parked"
    labels = {"destination": "pacs", "result": "given_up"}
    assert desk.metrics.registry.get_sample_value("evenbeat_delivery_attempts_total", labels) == 1


def test_a_pacs_without_the_objects_class_is_a_failure_with_its_code(tmp_path: Path) -> None:
    from pynetdicom import AE

    ae = AE("PACS")
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        desk = Desk(tmp_path, [Destination("pacs", "127.0.0.1", "PACS", server.server_address[1])])
        desk.senders[0].step()
    finally:
        server.shutdown()
    assert events(desk.said)[0]["code"] in {"NO_CONTEXT", "NO_ASSOCIATION"}
    assert desk.deliveries.counts() == {("pacs", "waiting"): 1}


def test_what_a_pacs_takes_it_gets_though_it_refuses_the_rest(tmp_path: Path) -> None:
    """Two objects of two classes; the first in order is refused for good."""
    with Pacs().listening() as pacs:
        desk = Desk(tmp_path, [pacs.destination()])
        folder = desk.layout.result(KEY, 1)
        (report,) = folder.glob("*.dcm")
        other = dcmread(report)
        other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.3.4.5"
        other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5.6"
        other.save_as(folder / "0.dcm", enforce_file_format=True)
        desk.senders[0].step()
        assert pacs.received == [dcmread(report).SOPInstanceUID]
    assert events(desk.said)[0]["code"] == "NO_CONTEXT"


def test_results_that_are_gone_are_no_endless_loop(tmp_path: Path) -> None:
    with Pacs().listening() as pacs:
        desk = Desk(tmp_path, [pacs.destination()])
        desk.layout.discard(desk.layout.result(KEY, 1))
        desk.senders[0].step()
        assert events(desk.said)[0]["code"] == "NO_RESULTS"
        assert not desk.deliveries.due("pacs"), "it waits like any other failure"


def test_what_is_erased_or_replaced_while_others_are_sent_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue was asked before that."""
    with Pacs().listening() as pacs:
        desk = Desk(tmp_path, [pacs.destination()])
        due = desk.deliveries.due("pacs")
        monkeypatch.setattr(desk.deliveries, "due", lambda _: due)
        desk.store.drop(KEY)
        desk.senders[0].step()
        assert not pacs.received
        assert not desk.said.getvalue()


def test_names_of_threads_tell_destinations_apart(tmp_path: Path) -> None:
    """The health page lists them."""
    desk = Desk(tmp_path, [Destination("a", "h", "A"), Destination("b", "h", "B")])
    threads: list[threading.Thread] = [sender.thread for sender in desk.senders]
    assert [thread.name for thread in threads] == ["sender-a", "sender-b"]
