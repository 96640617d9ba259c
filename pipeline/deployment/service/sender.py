"""Sends results to one destination, again and again until it has them; other destinations and the reading go on."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.status import code_to_category

from pipeline.deployment.service.deliveries import Deliveries, Due
from pipeline.deployment.service.log import Log
from pipeline.deployment.service.metrics import Metrics
from pipeline.deployment.service.settings import Delivery, Destination

POLL_S = 0.5
HAS_IT_ALREADY = 0x0111  # duplicate SOP instance
Results = Callable[[str, int], Path]  # study key, revision -> folder


class DeliveryError(Exception):
    """Results did not arrive.

    Args:
        code: why.
        status: DIMSE status, where there is one.
    """

    def __init__(self, code: str, status: int | None = None) -> None:
        self.code, self.status = code, status
        super().__init__(code)


class Sender:
    """One thread for one destination.

    Args:
        destination: where to.
        deliveries: the queue.
        results: finds the folder of a reading.
        ae_title: ours.
        settings: time limits.
        tls: how to speak, where the destination wants TLS.
        metrics: counts.
        log: says what happened.
    """

    def __init__(
        self,
        destination: Destination,
        deliveries: Deliveries,
        results: Results,
        *,
        ae_title: str,
        settings: Delivery,
        tls: ssl.SSLContext | None,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._destination, self._deliveries, self._results = destination, deliveries, results
        self._ae_title, self._settings, self._tls = ae_title, settings, tls
        self._metrics, self._log = metrics, log
        self._stopping = threading.Event()
        self._association: Association | None = None
        self.thread = threading.Thread(target=self._run, name=f"sender-{destination.name}", daemon=True)

    def stop(self, grace_s: float) -> None:
        """Send nothing further; what is under way is cut off after a while, and sent again another time."""
        self._stopping.set()
        if self.thread.ident is None:
            return
        self.thread.join(grace_s)
        association = self._association
        if self.thread.is_alive() and association is not None:
            association.abort(block=False)

    def step(self) -> int:
        """Try everything that is due.

        Returns:
            How much there was.
        """
        due = self._deliveries.due(self._destination.name)
        for one in due:
            if not self._stopping.is_set() and self._deliveries.is_waiting(one):
                self._deliver(one)
        return len(due)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                found = self.step()
            except Exception as error:
                self._log.failure("sender_failed", error, destination=self._destination.name)
                found = 0
            if not found:
                self._stopping.wait(POLL_S)

    def _deliver(self, due: Due) -> None:
        name, key = self._destination.name, due.study_key
        try:
            files = sorted(self._results(key, due.revision).glob("*.dcm"))
            if not files:
                raise DeliveryError("NO_RESULTS")
            self._send(files)
        except DeliveryError as error:
            self._failed(due, error)
        except Exception as error:  # pynetdicom and pydicom raise many kinds
            self._log.failure("sender_error", error, study_key=key, destination=name)
            self._failed(due, DeliveryError("SENDER_ERROR"))
        else:
            self._deliveries.succeeded(due)
            self._metrics.sent(name, "sent")
            self._log("delivered", study_key=key, destination=name, revision=due.revision, count=len(files))

    def _failed(self, due: Due, error: DeliveryError) -> None:
        given_up = self._deliveries.failed(due, error.code)
        self._metrics.sent(self._destination.name, "given_up" if given_up else "failed")
        self._log(
            "delivery_parked" if given_up else "delivery_failed",
            study_key=due.study_key, destination=self._destination.name, code=error.code, status=error.status,
            count=due.attempts + 1,
        )  # fmt: skip

    def _send(self, files: Sequence[Path]) -> None:
        datasets = [dcmread(path) for path in files]
        ae = AE(ae_title=self._ae_title)
        timeout = self._settings.timeout_s
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = timeout
        association = ae.associate(
            self._destination.host,
            self._destination.port,
            contexts=_contexts({str(dataset.SOPClassUID) for dataset in datasets}),
            ae_title=self._destination.ae_title,
            tls_args=(self._tls, self._destination.host) if self._tls else None,
        )
        if not association.is_established:
            raise DeliveryError("REJECTED" if association.is_rejected else "NO_ASSOCIATION")
        self._association = association
        try:
            accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
            failures = [error for dataset in datasets if (error := _store(association, accepted, dataset))]
            if failures:  # only now: what can be taken, has been
                raise failures[0]
        finally:
            self._association = None
            association.release()


def _contexts(classes: set[str]) -> list[PresentationContext]:
    return [build_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]) for uid in sorted(classes)]


def _store(association: Association, accepted: set[str], dataset: Dataset) -> DeliveryError | None:
    """Send an object; why the destination has it not, or ``None`` if it has."""
    if str(dataset.SOPClassUID) not in accepted:
        return DeliveryError("NO_CONTEXT")
    if not association.is_established:
        return DeliveryError("NO_ASSOCIATION")
    status = association.send_c_store(dataset).get("Status")
    if status is None:
        return DeliveryError("NO_ASSOCIATION")
    if status != HAS_IT_ALREADY and code_to_category(status) not in {"Success", "Warning"}:
        return DeliveryError("REFUSED_BY_DESTINATION", status)
    return None
