"""The live page of this process: switched on by `Settings.status_port`, or mounted into an application."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Final

from ._interruption import let_through
from ._log import log
from ._sdk_setup import announce
from ._settings import Settings
from .core.error_types import exception_message
from .status import Source

INSTALL: Final = "pip install 'otel-llmstream[status]'"

_CANNOT_SERVE: Final = (
    "cannot serve the live page on {host}, port {port}: {problem} (process {pid}). If the port is taken, the likely "
    "cause is another process of the same application: only one can serve a port, and its page shows only its own "
    "streams. Give each worker a port of its own, or 0 for a free one."
)


class StatusPage:
    """The server of the page, while there is one.

    Args:
        source: what the page shows.
        prepare: called before the page is served, so that a fork is noticed.
    """

    def __init__(self, source: Source, prepare: Callable[[], None]) -> None:
        self._source = source
        self._prepare = prepare
        self._server: Any = None
        self._inherited: list[Any] = []  # servers of a parent process: their event loops must not be collected
        self._at_exit = False

    @property
    def url(self) -> str | None:
        """The page's address; None if it is not served."""
        return None if self._server is None else self._server.url

    def serve(self, settings: Settings) -> None:
        """Serve the page from now on, if the settings say so. If that fails, a warning says why."""
        self.stop()
        if settings.status_port is None:
            return
        if not is_installed():
            announce(f"status_port needs more packages: {INSTALL}")
            return
        self._prepare()
        try:
            self._server = self._start(settings, settings.status_port)
        except Exception as exc:  # noqa: BLE001 - a page must not keep a service from starting
            let_through(exc)
            host, port = settings.status_host, settings.status_port
            problem = exception_message(exc)
            announce(_CANNOT_SERVE.format(host=host, port=port, problem=problem, pid=os.getpid()))
            return
        log(logging.INFO, "the live page is at %s", self._server.url)
        if not self._at_exit:
            self._at_exit = True
            atexit.register(self.stop)

    def _start(self, settings: Settings, port: int) -> Any:
        from .status.server import StatusServer

        return StatusServer(self._source, settings.status_host, port, settings.status_token)

    def stop(self) -> None:
        """Serve the page no longer."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def reset_after_fork(self) -> None:
        """In the child after a fork: the page is the parent's."""
        server, self._server = self._server, None
        if server is not None:
            self._inherited.append(server)
            server.forget()

    def mounted(self, token: str | None, hosts: Sequence[str]) -> Any:
        """The page as an ASGI application.

        Raises:
            ImportError: packages are missing.
            ValueError: other hosts are allowed, and there is no token.
        """
        if not is_installed():
            raise ImportError(f"status_app needs more packages: {INSTALL}")
        from .status.app import mounted

        return mounted(self._source, token, hosts)


def is_installed() -> bool:
    """Whether the packages of the extra `status` are there."""
    return all(find_spec(name) is not None for name in ("starlette", "uvicorn", "h11"))
