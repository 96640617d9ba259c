"""The service: what it is made of, how it starts, how it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.deployment.outcome import PackageIdentity
from pipeline.deployment.service.database import Database
from pipeline.deployment.service.deliveries import Deliveries
from pipeline.deployment.service.drift import stabilities
from pipeline.deployment.service.http import Pages
from pipeline.deployment.service.inbox import Inbox
from pipeline.deployment.service.layout import Layout
from pipeline.deployment.service.listener import client_context
from pipeline.deployment.service.log import Log
from pipeline.deployment.service.metrics import Gauges, Metrics
from pipeline.deployment.service.reading_process import ReadingProcess
from pipeline.deployment.service.receiver import Receiver
from pipeline.deployment.service.retention import expire
from pipeline.deployment.service.sender import Sender
from pipeline.deployment.service.settings import MEGABYTE, Settings
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.worker import Worker

ROUND_S = 60.0  # between two rounds of erasing
PEERS_S, STUDY_S, DESTINATIONS_S = 2.0, 3.0, 1.0  # what each may take at the end: below 10 s in all


@dataclass(frozen=True)
class ServedStudent:
    """Who reads.

    Attributes:
        identity: of the package.
        reference: what it said of the audited studies; ``None`` if that is not known.
        factory: ``module:function`` that makes the reader.
        arguments: of the function.
        expected: whether the package's digest was expected, told by someone else than the package.
    """

    identity: PackageIdentity
    reference: Mapping[str, Any] | None
    factory: str
    arguments: Mapping[str, str]
    expected: bool = True


class Service:
    """All threads and what they share. Folders and database are opened, and ports are bound, when it is made.

    Args:
        settings: of the service.
        student: who reads.
        database: opened.
        log: says what happens.
    """

    def __init__(self, settings: Settings, student: ServedStudent, database: Database, log: Log) -> None:
        self._settings, self._student, self._log = settings, student, log
        self._database, self._layout, self._metrics = database, Layout(settings.state), Metrics()
        self._inbox = Inbox(self._layout.inbox)
        self._store = Store(database, package=student.identity.digest)
        self._deliveries = Deliveries(database, settings.delivery)
        self._reader = ReadingProcess(student.factory, student.arguments, timeout_s=settings.reading.timeout_s)
        self._worker = Worker(
            self._store, self._inbox, self._layout, self._reader, settings.reading,
            destinations=[one.name for one in settings.destination], metrics=self._metrics, log=log,
        )  # fmt: skip
        self._senders = self._make_senders()
        self._receiver = Receiver(
            self._inbox, self._store, self._layout.free_bytes,
            settings=settings.dicom, limits=settings.limits, tls=settings.tls, metrics=self._metrics, log=log,
        )  # fmt: skip
        self._pages = Pages(
            settings.http.address, settings.http.port, alive=self._alive, ready=self._ready, metrics=self._metrics.text
        )
        self._metrics.registry.register(self._gauges())
        self._next_round, self._day, self._accepting = 0.0, "", False

    @property
    def ports(self) -> tuple[int, int]:
        """DICOM's and HTTP's."""
        return self._receiver.port, self._pages.port

    def recover(self, *, retry_parked: bool = False) -> None:
        """Find everything again that was acknowledged before the last end, however that came.

        Args:
            retry_parked: whether what was given up gets another chance.
        """
        self._layout.sweep()
        self._inbox.sweep()
        read = self._layout.read()
        found = {key: read.get(key, 0) + 1 for key in self._inbox.studies()}
        done = self._store.recover(found, read, self._settings.reading.attempts, self._inbox.too_large())
        for event, count in sorted(done.items()):
            self._log(f"recovered_{event}", count=count)
        if retry_parked:
            self._log("retried", count=self._store.retry_parked())
        lost = self._deliveries.park_others([one.name for one in self._settings.destination])
        if lost:
            self._log("deliveries_without_destination", count=lost)

    def start(self) -> None:
        """Start the threads; studies are taken from the last of them on.

        Raises:
            ReadingError: if the reader cannot be made.
        """
        self._pages.thread.start()
        self._reader.start()
        for thread in self._threads()[:-1]:
            thread.start()
        self._receiver.thread.start()
        self._accepting = True
        identity, (dicom, http) = self._student.identity, self.ports
        self._log("started", version=identity.version, digest=identity.digest, port=dicom)
        if not self._student.expected:
            self._log("no_digest_expected", digest=identity.digest)
        self._log("dicom_plain" if self._settings.tls.certificate is None else "dicom_tls", port=dicom)
        self._log("http", port=http)

    def look_after(self, stopping: Callable[[], bool] = lambda: False) -> bool:
        """Do what has to be done now and then.

        Args:
            stopping: whether to leave the rest for another time.

        Returns:
            Whether all threads live.
        """
        if time.monotonic() >= self._next_round:
            self._next_round = time.monotonic() + ROUND_S
            try:
                expire(self._store, self._inbox, self._layout, self._settings.retention, self._log, stopping)
                self._report_drift()
            except Exception as error:  # a full disk, a locked database: the next round may do better
                self._log.failure("round_failed", error)
        return all(self._alive().values())

    def stop(self) -> None:
        """Take nothing further, finish or put back what is being read, and close everything."""
        began = time.monotonic()
        self._accepting = False
        steps: list[Callable[[], None]] = [
            lambda: self._receiver.stop(PEERS_S),
            lambda: self._worker.stop(STUDY_S),
            *(partial(sender.stop, DESTINATIONS_S / len(self._senders)) for sender in self._senders),
            self._pages.stop,
            self._database.close,
        ]
        for step in steps:
            try:
                step()
            except Exception as error:  # the others shall stop nevertheless
                self._log.failure("stop_failed", error)
        self._log("stopped", seconds=time.monotonic() - began)

    def _make_senders(self) -> list[Sender]:
        settings = self._settings
        return [
            Sender(
                one, self._deliveries, self._layout.result,
                ae_title=settings.dicom.ae_title, settings=settings.delivery,
                tls=client_context(settings.tls) if one.tls else None, metrics=self._metrics, log=self._log,
            )
            for one in settings.destination
        ]  # fmt: skip

    def _threads(self) -> list[threading.Thread]:
        return [self._worker.thread, *(sender.thread for sender in self._senders), self._receiver.thread]

    def _alive(self) -> dict[str, bool]:
        if not self._accepting:
            return {}
        return {thread.name: thread.is_alive() for thread in self._threads()} | {"worker": self._worker.is_well}

    def _ready(self) -> dict[str, bool]:
        self._database.rows("SELECT 1")
        floor = self._settings.limits.free_disk_mb * MEGABYTE
        return {
            "accepting": self._accepting,
            "database": True,
            "disk": self._layout.free_bytes() >= floor,
            "reader": self._reader.is_ready,
            **self._alive(),
        }

    def _gauges(self) -> Gauges:
        identity = self._student.identity
        return Gauges(
            studies=self._store.counts,
            deliveries=self._deliveries.counts,
            figures={
                "evenbeat_oldest_waiting_seconds": ("Age of the oldest study to be read", self._store.oldest_waiting_s),
                "evenbeat_oldest_delivery_seconds": (
                    "Age of the oldest delivery that waits",
                    self._deliveries.oldest_waiting_s,
                ),
                "evenbeat_disk_free_bytes": ("Space left for studies", self._layout.free_bytes),
                "evenbeat_ready": ("Whether studies can come", lambda: float(all(self._ready().values()))),
            },
            drift=self._drift,
            package=(identity.name, identity.version, identity.digest),
        )

    def _drift(self) -> list[Any]:
        return stabilities(self._database, self._student.identity.digest, self._student.reference, self._settings.drift)

    def _report_drift(self) -> None:
        """One line a day for each comparison."""
        today = time.strftime("%Y-%m-%d", time.gmtime())
        if today == self._day:
            return
        self._day = today
        for one in self._drift():
            if one.index is not None:
                event = f"drift_{one.measure}"
                self._log(event, vendor=one.vendor, reference=one.reference, count=one.n, value=one.index)
