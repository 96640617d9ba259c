"""The DICOM node: takes every object of a study, and says so only when it is on the disk.

Status 0x0000: kept. 0xA700: not now (disk, database, shutdown); the sender should try again. 0xA900 and 0xC001 to
0xC004: never, in the same form.
"""

from __future__ import annotations

import sqlite3
import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from pynetdicom import AE, evt

from pipeline.deployment.service.identity import (
    MISMATCH,
    NO_IDENTITY,
    UNREADABLE_HEADER,
    UnacceptableError,
    file_meta,
    read_identity,
)
from pipeline.deployment.service.inbox import Inbox, Kept
from pipeline.deployment.service.listener import Listener, MessageSize, server_context, silence
from pipeline.deployment.service.log import Log
from pipeline.deployment.service.metrics import Metrics
from pipeline.deployment.service.settings import MEGABYTE, Dicom, Limits, Tls
from pipeline.deployment.service.storage_classes import offer_private, supported_contexts
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import TOO_LARGE
from pipeline.deployment.service.throttle import Throttle

if TYPE_CHECKING:
    from pynetdicom.dimse_primitives import C_STORE

TAKEN, TRY_AGAIN = 0x0000, 0xA700
STATUSES = {
    MISMATCH: 0xA900,
    UNREADABLE_HEADER: 0xC001,
    NO_IDENTITY: 0xC002,
    "INSTANCE_TOO_LARGE": 0xC003,
    TOO_LARGE: 0xC004,
    "DISK_FULL": TRY_AGAIN,
    "NOT_STORED": TRY_AGAIN,
    "STOPPING": TRY_AGAIN,
}


class Receiver:
    """The node.

    Args:
        inbox: keeps instances.
        store: hears of them.
        free_bytes: space on the disk.
        settings: titles, address, limits of associations.
        limits: of what is taken.
        tls: certificates.
        metrics: counts.
        log: says what happened.
    """

    def __init__(
        self,
        inbox: Inbox,
        store: Store,
        free_bytes: Callable[[], int],
        *,
        settings: Dicom,
        limits: Limits,
        tls: Tls,
        metrics: Metrics,
        log: Log,
    ) -> None:
        silence()
        self._inbox, self._store, self._free_bytes = inbox, store, free_bytes
        self._settings, self._limits, self._metrics, self._log = settings, limits, metrics, log
        self._throttle = Throttle(limits.instances_per_second)
        self._stopping = threading.Event()
        self._server = self._listen(server_context(tls))
        self.thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="dicom", daemon=True)

    @property
    def port(self) -> int:
        """On which it listens."""
        return int(self._server.server_address[1])

    def stop(self, grace_s: float) -> None:
        """Take nothing further: associations may finish an instance, then they are aborted.

        Args:
            grace_s: how long they may last [s].
        """
        self._stopping.set()
        if self.thread.ident is not None:
            self._server.shutdown()
        until = time.monotonic() + grace_s
        while self._server.active_associations and time.monotonic() < until:
            time.sleep(0.05)
        for association in self._server.active_associations:
            association.abort(block=False)
        self._server.server_close()

    def _listen(self, context: ssl.SSLContext | None) -> Listener:
        ae = AE(self._settings.ae_title)
        ae.maximum_pdu_size = self._settings.max_pdu
        ae.maximum_associations = self._settings.max_associations
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self._settings.timeout_s
        ae.require_called_aet = True
        ae.require_calling_aet = [] if self._settings.allow_any else list(self._settings.calling_ae_titles)
        ae.supported_contexts = supported_contexts()
        size = MessageSize(2 * self._largest, lambda: self._refused("INSTANCE_TOO_LARGE"))
        server: Listener = ae.make_server(  # type: ignore[assignment]  # it is of `server_class`
            (self._settings.address, self._settings.port),
            ssl_context=context,
            server_class=Listener,
            evt_handlers=[
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_REQUESTED, self._on_requested),
                (evt.EVT_REJECTED, self._on_rejected),
                (evt.EVT_PDU_RECV, size),
                (evt.EVT_CONN_CLOSE, size.closed),
            ],
        )
        return server

    @property
    def _largest(self) -> int:
        return int(self._limits.instance_mb * MEGABYTE)

    def _on_requested(self, event: evt.Event) -> None:
        """Offer to store what pynetdicom does not know, too: private objects belong to a study like others."""
        asked = event.assoc.requestor.primitive
        if asked is not None and self._may_send(asked.calling_ae_title):
            offer_private(event.assoc)

    def _on_rejected(self, event: evt.Event) -> None:
        asked = event.assoc.requestor.primitive
        code = "TOO_MANY_ASSOCIATIONS"
        if asked is not None and asked.called_ae_title != self._settings.ae_title:
            code = "CALLED_AE_TITLE"
        elif asked is not None and not self._may_send(asked.calling_ae_title):
            code = "CALLING_AE_TITLE"
        self._metrics.rejected(code)
        self._log("association_rejected", code=code, peer=str(event.assoc.requestor.address))

    def _may_send(self, title: str | None) -> bool:
        return self._settings.allow_any or title in self._settings.calling_ae_titles

    def _on_store(self, event: evt.Event) -> int:
        """Answer a C-STORE request. Whatever happens here, the sender gets a status, and the node stays."""
        try:
            self._throttle.wait(str(event.assoc.requestor.ae_title))
            return self._store_one(event)
        except UnacceptableError as error:
            return self._refused(error.code)
        except (OSError, MemoryError, sqlite3.Error) as error:
            self._log.failure("not_stored", error)
            return self._refused("NOT_STORED")
        except Exception as error:
            self._log.failure("not_understood", error)
            return self._refused(UNREADABLE_HEADER)

    def _store_one(self, event: evt.Event) -> int:
        request = cast("C_STORE", event.request)
        sop_class, sop_instance = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        data = event.encoded_dataset(include_meta=False)
        self._check_room(len(data))
        meta = file_meta(sop_class, sop_instance, str(event.context.transfer_syntax))
        with self._inbox.part(meta, data) as part:
            identity = read_identity(part, sop_class=sop_class, sop_instance=sop_instance)
            if self._store.is_output(identity.sop_key):  # a PACS that forwards what it gets must not make us read again
                self._metrics.instance("OWN_RESULT")
                return TAKEN
            if self._store.is_too_large(identity.study_key):
                raise UnacceptableError(TOO_LARGE)
            with self._store.coming(identity.study_key):
                kept = self._inbox.place(part, identity, before=lambda size: self._announce(identity.study_key, size))
                if kept is not Kept.REPEATED:
                    self._store.received(identity.study_key)
        self._metrics.instance(kept.value, 0 if kept is Kept.REPEATED else len(data))
        return TAKEN

    def _check_room(self, size: int) -> None:
        if self._stopping.is_set():
            raise UnacceptableError("STOPPING")
        if size > self._largest:
            raise UnacceptableError("INSTANCE_TOO_LARGE")
        if self._free_bytes() - size < self._limits.free_disk_mb * MEGABYTE:
            raise UnacceptableError("DISK_FULL")

    def _announce(self, study_key: str, size: int) -> None:
        """An instance comes that makes a study so large; one that is too large is not read in part: it is parked."""
        if size > self._limits.study_mb * MEGABYTE:
            self._inbox.mark_too_large(study_key)
            self._store.park(study_key, TOO_LARGE)
            self._log("parked", study_key=study_key, code=TOO_LARGE)
            raise UnacceptableError(TOO_LARGE)
        self._store.received(study_key)

    def _refused(self, code: str) -> int:
        self._metrics.instance(code)
        self._log("instance_refused", code=code, status=STATUSES[code])
        return STATUSES[code]
