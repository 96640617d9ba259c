"""Health and metrics over HTTP: three pages, read only, nothing of a study on them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SILENCE_S = 5.0  # a peer that says nothing is cut off
Checks = Callable[[], Mapping[str, bool]]


class Pages:
    """The server, with a thread of its own.

    Args:
        address: of the network interface.
        port: 0 takes any free one.
        alive: what must hold so that the process need not be restarted.
        ready: what must hold so that studies can come.
        metrics: Prometheus' text.
    """

    def __init__(self, address: str, port: int, *, alive: Checks, ready: Checks, metrics: Callable[[], bytes]) -> None:
        pages: dict[str, Callable[[], tuple[HTTPStatus, str, bytes]]] = {
            "/healthz": lambda: _checked(alive()),
            "/readyz": lambda: _checked(ready()),
            "/metrics": lambda: (HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", metrics()),
        }
        self._server = _Server((address, port), _handler(pages))
        self.thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="http", daemon=True)

    @property
    def port(self) -> int:
        """On which it listens."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Answer no more."""
        if self.thread.ident is not None:
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base's
        """Say nothing: a peer went away, or sent what is no HTTP."""


def _checked(checks: Mapping[str, bool]) -> tuple[HTTPStatus, str, bytes]:
    status = HTTPStatus.OK if all(checks.values()) else HTTPStatus.SERVICE_UNAVAILABLE
    return status, "application/json", json.dumps(dict(checks)).encode() + b"\n"


def _handler(pages: Mapping[str, Callable[[], tuple[HTTPStatus, str, bytes]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = SILENCE_S
        server_version, sys_version = "evenbeat", ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            try:
                status, kind, text = page() if page else (HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")
            except Exception:  # a locked database: not ready, and no traceback for whoever asks
                status, kind, text = HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"unavailable\n"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        do_HEAD = do_GET  # noqa: N815 - the base's name

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a path is whatever the peer wrote."""

    return Handler
