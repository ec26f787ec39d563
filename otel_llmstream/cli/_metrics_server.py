"""Serves the demo's `/metrics`. In: a registry. Out: its exposition, at once, whatever the machine has to do.

Prometheus gives up a scrape of the demo after a second. The demo's exposition has some 10,000 lines, and on a busy
machine it takes longer than that to write them: then every scrape would fail, and no alert would ever fire. So a thread
writes the exposition again and again, and each request gets the newest one.
"""

from __future__ import annotations

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

HOST: Final = "127.0.0.1"

INTERVAL: Final = 1.0
"""Seconds between two expositions: the demo's Prometheus scrapes so often."""

SHARE: Final = 0.25
"""Largest part of the time that a thread writes expositions. On a slow machine the calls need the rest."""


class MetricsServer:
    """Serves `/metrics` on the loopback interface. It takes another port if the requested one is not free.

    Args:
        registry: the metrics to serve.
        port: TCP port; 0 takes a free one.

    Attributes:
        url: URL of `/metrics`.
        refused: why the requested port could not be used; None if it could.
    """

    def __init__(self, registry: CollectorRegistry, port: int) -> None:
        self.refused: str | None = None
        self._registry = registry
        self._closing = threading.Event()
        try:
            self._server = _Server((HOST, port), _Handler)
        except OSError as error:
            self.refused = error.strerror or str(error)
            self._server = _Server((HOST, 0), _Handler)
        self.url = f"http://{HOST}:{self._server.server_port}/metrics"
        self._server.exposition = generate_latest(registry)
        self._threads = [
            threading.Thread(target=self._write, name="demo:exposition", daemon=True),
            threading.Thread(target=self._server.serve_forever, name="demo:metrics", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        pause = INTERVAL
        while not self._closing.wait(pause):
            began = time.monotonic()
            self._server.exposition = generate_latest(self._registry)
            took = time.monotonic() - began
            pause = max(INTERVAL - took, took * (1 - SHARE) / SHARE)


class _Server(ThreadingHTTPServer):
    """Has what its handlers send."""

    exposition = b""

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves early is no news. Anything else is a fault of ours, and is printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type] # as the base class names them


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Send the newest exposition, at every path."""
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.send_header("Content-Length", str(len(self.server.exposition)))
        self.end_headers()
        self.wfile.write(self.server.exposition)

    def log_message(self, *_args: object) -> None:
        """Requests are not logged: the demo's output is for its reader."""
