"""The server: a listening socket, a thread that accepts, a thread per connection. Out: addresses and a log."""

import selectors
import socket
import threading
from types import TracebackType
from typing import Self

from ._attempts import Attempts
from ._connection import Connection
from ._log import Log, LogEntry

_BACKLOG = 1024


class ChaosServer:
    """A local server that streams in its provider's dialect, and breaks, as the request's ``model`` says.

    A context manager; or call `start` and `stop`. It serves in threads of its own, so it works beside any event loop.

    Args:
        host: The address to listen on; anything but loopback lets others in.
        port: The port to listen on; 0 takes a free one.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self._log = Log()
        self._attempts = Attempts()
        self._stopping = threading.Event()
        self._connections: list[tuple[Connection, threading.Thread]] = []
        self._acceptor: threading.Thread | None = None
        self._alarm: socket.socket

    @property
    def base_url(self) -> str:
        """The server's root, as in ``http://127.0.0.1:PORT``; the port is known once the server has started."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def openai_url(self) -> str:
        """What the OpenAI SDK takes as ``base_url``."""
        return f"{self.base_url}/v1"

    @property
    def anthropic_url(self) -> str:
        """What the Anthropic SDK takes as ``base_url``."""
        return self.base_url

    @property
    def bedrock_url(self) -> str:
        """What boto3 takes as ``endpoint_url``; signatures are not looked at."""
        return self.base_url

    @property
    def google_url(self) -> str:
        """What Google's SDK takes as ``http_options.base_url``; parameters of a model come after semicolons there."""
        return self.base_url

    @property
    def mistral_url(self) -> str:
        """What Mistral's SDK takes as ``server_url``: with it, its chat is told from OpenAI's."""
        return f"{self.base_url}/mistral"

    @property
    def cohere_url(self) -> str:
        """What Cohere's SDK takes as ``base_url``."""
        return self.base_url

    @property
    def ollama_url(self) -> str:
        """What Ollama's SDK takes as ``host``."""
        return self.base_url

    @property
    def log(self) -> list[LogEntry]:
        """What happened so far, one entry per request, in order; requests under way are there too."""
        return self._log.entries()

    def entry(self, request_id: str) -> LogEntry | None:
        """The log entry of a request as it stands now, by the id in its response headers."""
        return self._log.entry(request_id)

    def wait_ended(self, request_id: str, timeout: float = 5.0) -> LogEntry:
        """The log entry of a request, once the server is done with it.

        Args:
            request_id: The id in the response headers.
            timeout: How long to wait, in seconds.

        Raises:
            TimeoutError: If it takes longer.
        """
        return self._log.wait_ended(request_id, timeout)

    def start(self) -> Self:
        """Listen and serve; returns when connections are taken.

        Raises:
            RuntimeError: If the server is running.
            OSError: If the address cannot be listened on.
        """
        if self._acceptor is not None:
            raise RuntimeError("the chaos server is running")
        self._stopping.clear()
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.create_server((self.host, self.port), family=family, backlog=_BACKLOG)
        self.port = listener.getsockname()[1]
        alarm, self._alarm = socket.socketpair()
        self._acceptor = threading.Thread(
            target=self._accept, args=(listener, alarm), name=f"chaos:{self.port}:accept", daemon=True
        )
        self._acceptor.start()
        return self

    def stop(self) -> None:
        """Stop listening, end what is under way and wait for all threads; the log stays. Harmless when stopped."""
        if self._acceptor is None:
            return
        self._stopping.set()
        self._alarm.close()
        self._acceptor.join()
        self._acceptor = None
        for connection, thread in self._connections:
            connection.stop()
            thread.join()
        self._connections.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self, listener: socket.socket, alarm: socket.socket) -> None:
        # Closing a listening socket wakes no accept(), so the end is told through a socket of its own.
        with listener, alarm, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(alarm, selectors.EVENT_READ)
            while not self._stopping.is_set():
                selector.select()
                if not self._stopping.is_set():
                    self._welcome(listener)

    def _welcome(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # the client left before it was served
        connection = Connection(sock, self._log, self._attempts, self._stopping)
        thread = threading.Thread(target=connection.run, name=f"chaos:{self.port}:client", daemon=True)
        self._connections = [(other, alive) for other, alive in self._connections if alive.is_alive()]
        self._connections.append((connection, thread))
        thread.start()
