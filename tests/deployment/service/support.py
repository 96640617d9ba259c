"""What tests of the service share: a service in this process or another, senders, a PACS that can be told to fail."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from benchmarks.tiny_studies import FACTORY, IDENTITY, study_uid
from pipeline.deployment.service.database import Database, open_database
from pipeline.deployment.service.identity import study_key_of
from pipeline.deployment.service.inbox import Inbox
from pipeline.deployment.service.layout import Layout
from pipeline.deployment.service.log import Log
from pipeline.deployment.service.metrics import Metrics
from pipeline.deployment.service.node import ServedStudent, Service
from pipeline.deployment.service.receiver import Receiver
from pipeline.deployment.service.settings import Delivery, Destination, Dicom, Http, Limits, Reading, Settings, Tls
from pipeline.deployment.service.store import Store

QUICK = Reading(quiet_s=0.3, timeout_s=20)
PLENTY = 1 << 50


def settings(state: Path, **changes: Any) -> Settings:
    """Settings of a service on any free ports, quick to read."""
    base = Settings(
        state=state,
        dicom=Dicom(port=0, calling_ae_titles=("SENDER",), timeout_s=10),
        limits=Limits(free_disk_mb=0),
        reading=QUICK,
        delivery=Delivery(first_retry_s=0.1, longest_retry_s=0.4, timeout_s=5),
        http=Http(port=0),
    )
    return replace(base, **changes)


@contextmanager
def running(found: Settings, **arguments: str) -> Iterator[tuple[Service, io.StringIO]]:
    """A service in this process, and what it logs."""
    said = io.StringIO()
    layout = Layout(found.state)
    layout.prepare()
    with layout.held():
        database, _ = open_database(found.state)
        student = ServedStudent(IDENTITY, None, FACTORY, arguments)
        service = Service(found, student, database, Log(said, [one.name for one in found.destination]))
        service.recover()
        try:
            service.start()
            yield service, said
        finally:
            service.stop()


class Node:
    """A receiver with its inbox and store, and nothing that reads."""

    def __init__(self, tmp_path: Path, limits: Limits, dicom: Dicom, tls: Tls, free: int) -> None:
        self.inbox, self.store = Inbox(tmp_path / "inbox"), Store(Database(tmp_path / "db"))
        self.metrics, self.said = Metrics(), io.StringIO()
        self.receiver = Receiver(
            self.inbox, self.store, lambda: free,
            settings=dicom, limits=limits, tls=tls, metrics=self.metrics, log=Log(self.said),
        )  # fmt: skip
        self.receiver.thread.start()
        self.port = self.receiver.port

    def count(self, result: str) -> float:
        """Instances of which that became."""
        return self.metrics.registry.get_sample_value("evenbeat_instances_total", {"result": result}) or 0.0


@contextmanager
def node(
    tmp_path: Path, *, limits: Limits | None = None, tls: Tls | None = None, free: int = PLENTY, **dicom: Any
) -> Iterator[Node]:
    """A receiver that listens on any free port."""
    settings = Dicom(**({"port": 0, "calling_ae_titles": ("SENDER",), "timeout_s": 5} | dicom))
    found = Node(tmp_path, limits or Limits(free_disk_mb=0), settings, tls or Tls(), free)
    try:
        yield found
    finally:
        found.receiver.stop(1)
        found.store.database.close()


def study_key(number: int) -> str:
    """Key of a tiny study."""
    return study_key_of(study_uid(number))


def send(port: int, datasets: Sequence[Dataset], *, title: str = "SENDER", called: str = "EVENBEAT") -> list[int]:
    """Store data sets over one association; -1 for each that got no answer."""
    ae = AE(title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    classes = sorted({(str(d.SOPClassUID), str(d.file_meta.TransferSyntaxUID)) for d in datasets})
    association = ae.associate(
        "127.0.0.1", port, contexts=[build_context(uid, syntax) for uid, syntax in classes], ae_title=called
    )
    if not association.is_established:
        return [-1] * len(datasets)
    statuses = []
    for dataset in datasets:
        try:
            statuses.append(int(association.send_c_store(dataset).get("Status", -1)))
        except (ValueError, RuntimeError):  # no context, or no association any more
            statuses.append(-1)
    association.release()
    return statuses


@dataclass
class Pacs:
    """A destination.

    Attributes:
        status: what it answers.
        received: SOPInstanceUIDs, as often as they came.
        attempts: how often it was asked.
    """

    status: int = 0
    received: list[str] = field(default_factory=list)
    attempts: int = 0
    port: int = 0

    def on_store(self, event: evt.Event) -> int:
        """Answer."""
        self.attempts += 1
        if self.status == 0:
            self.received.append(str(event.request.AffectedSOPInstanceUID))
        return self.status

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[Pacs]:
        """While it is there."""
        from pynetdicom import AllStoragePresentationContexts

        ae = AE("PACS")
        ae.supported_contexts = AllStoragePresentationContexts
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self.on_store)])
        self.port = server.server_address[1]
        try:
            yield self
        finally:
            server.shutdown()

    def destination(self, name: str = "pacs") -> Destination:
        """As the settings have it."""
        return Destination(name=name, host="127.0.0.1", port=self.port, ae_title="PACS")


def wait_for(condition: Callable[[], object], seconds: float = 15) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def events(said: io.StringIO) -> list[dict[str, Any]]:
    """What was logged."""
    return [json.loads(line) for line in said.getvalue().splitlines()]


def results(state: Path) -> dict[str, dict[str, Any]]:
    """``result.json`` by ``<study key>/<revision>``."""
    found = (state / "results").glob("*/*/result.json")
    return {path.parent.relative_to(state / "results").as_posix(): json.loads(path.read_text()) for path in found}
