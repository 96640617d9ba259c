"""pynetdicom's server with the limits that a hospital's network asks for: silent peers, floods, oversized messages."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from pipeline.deployment.service.settings import Tls

LARGEST_OTHER_PDU = 1 << 20  # bytes; an association request has some kilobytes
CROWD = 2  # connections per association that may be open, before they are turned away unheard
CHUNK = 1 << 16  # bytes that are read at once
TCP_QUICKACK = getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY)  # Linux; forgotten by the kernel, so set each time
LAST_OF_DATA_SET = 0x02  # message control header, PS3.8 E.2
A_COMMAND = 0x01


def silence() -> None:
    """Keep pynetdicom and pydicom from writing anything: both quote what is in a header."""
    _config.LOG_HANDLER_LEVEL = "none"
    for name in ("pynetdicom", "pydicom"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate, logger.disabled = False, True
        logger.setLevel(logging.CRITICAL + 1)
        for child in list(logging.root.manager.loggerDict):
            if child.startswith(f"{name}."):
                logging.getLogger(child).disabled = True


class Listener(ThreadedAssociationServer):
    """The server; its limits are read from the application entity that it is made with.

    Attributes:
        largest_pdu: anything longer is cut off before it is read [bytes].
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, ae: AE, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - the base's
        super().__init__(ae, *arguments, **(options | {"request_handler": _Connection}))
        self.largest_pdu = max(2 * ae.maximum_pdu_size, LARGEST_OTHER_PDU)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ANN401, ARG002 - the base's
        """Whether a connection is taken: not if very many are open."""
        return len(self.active_associations) < CROWD * self.ae.maximum_associations

    def shutdown(self) -> None:
        """Take no further connection; those that are open go on."""
        TCPServer.shutdown(self)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base's
        """Say nothing: a peer went away, or is none."""


class _Connection(RequestHandler):
    """One connection. Its socket gives up on a silent peer, and on a PDU that is longer than any that we agreed to."""

    server: Listener

    def setup(self) -> None:
        self.request.settimeout(self.server.ae.network_timeout)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _create_association(self) -> Association:
        association: Association = super()._create_association()
        channel: Any = association.dul.socket
        limit = self.server.largest_pdu

        def receive(size: int) -> bytearray:
            if size > limit:
                raise OSError("a PDU longer than agreed")
            return _receive(channel.socket, size)

        channel.recv = receive
        return association


def _receive(connection: socket.socket, size: int) -> bytearray:
    """As many bytes as asked for, fewer at the end of the stream; pynetdicom's own takes 4 KiB at a time.

    What came is acknowledged at once: most senders hold a data set back until its command is, which takes 40 ms else.
    """
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), CHUNK))
        if not part:
            break
        data += part
        connection.setsockopt(socket.IPPROTO_TCP, TCP_QUICKACK, 1)
    return data


class MessageSize:
    """Counts the bytes of each message as they come, and aborts the association over one that is too long.

    Args:
        limit: of one data set [bytes].
        on_excess: called before the association is aborted.
    """

    def __init__(self, limit: int, on_excess: Callable[[], object]) -> None:
        self._limit, self._on_excess = limit, on_excess
        self._counts: dict[Association, int] = {}
        self._lock = threading.Lock()

    def __call__(self, event: evt.Event) -> None:
        """Take a PDU; bound to ``EVT_PDU_RECV``."""
        if not isinstance(event.pdu, P_DATA_TF):
            return
        with self._lock:
            count = self._counts.get(event.assoc, 0)
            if count > self._limit:  # is being aborted
                return
            for item in event.pdu.presentation_data_value_items:
                value = item.presentation_data_value or b""
                control = value[0] if value else 0
                if not control & A_COMMAND:
                    count = 0 if control & LAST_OF_DATA_SET else count + len(value)
            self._counts[event.assoc] = count
        if count > self._limit:
            self._on_excess()
            event.assoc.abort()

    def closed(self, event: evt.Event) -> None:
        """Forget an association; bound to ``EVT_CONN_CLOSE``."""
        with self._lock:
            self._counts.pop(event.assoc, None)


def server_context(tls: Tls) -> ssl.SSLContext | None:
    """How the node speaks TLS; ``None`` without a certificate."""
    if tls.certificate is None or tls.key is None:
        return None
    context = _LateHandshake(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    if tls.authority is not None:
        context.load_verify_locations(tls.authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """How destinations are called over TLS: their certificate must be good, and ours is shown if there is one."""
    context = ssl.create_default_context(cafile=_text(tls.authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate is not None and tls.key is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context


class _LateHandshake(ssl.SSLContext):
    """Shakes hands in the connection's own thread: a silent peer must not keep others from being heard."""

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:  # noqa: ANN401 - the base's
        return super().wrap_socket(*arguments, **{**options, "do_handshake_on_connect": False})


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
