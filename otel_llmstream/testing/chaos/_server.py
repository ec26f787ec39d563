"""The server: a listening socket, a thread that accepts connections, and a thread per connection."""

import selectors
import socket
import threading
from typing import Self

from ._attempts import Attempts
from ._connection import Connection
from ._logged_server import LoggedServer

_BACKLOG = 1024


class ChaosServer(LoggedServer):
    """A local server that streams in a provider's dialect. The request's ``model`` names the fault.

    Use it as a context manager, or call `start` and `stop`. It serves in its own threads, so it works with any event
    loop.

    Args:
        host: The address to listen on. Other machines can connect if it is not a loopback address.
        port: The port to listen on; 0 takes a free one.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__()
        self.host = host
        self.port = port
        self._attempts = Attempts()
        self._stopping = threading.Event()
        self._connections: list[tuple[Connection, threading.Thread]] = []
        self._acceptor: threading.Thread | None = None
        self._wakeup: socket.socket

    @property
    def base_url(self) -> str:
        """The server's root URL, ``http://127.0.0.1:PORT``. The port is known after the server has started."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def openai_url(self) -> str:
        """The ``base_url`` for the OpenAI SDK."""
        return f"{self.base_url}/v1"

    @property
    def socket_url(self) -> str:
        """The root URL for WebSockets, ``ws://127.0.0.1:PORT``. OpenAI's SDK makes it of `openai_url` itself."""
        return f"ws{self.base_url.removeprefix('http')}"

    @property
    def anthropic_url(self) -> str:
        """The ``base_url`` for the Anthropic SDK."""
        return self.base_url

    @property
    def bedrock_url(self) -> str:
        """The ``endpoint_url`` for boto3. The server does not check signatures."""
        return self.base_url

    @property
    def google_url(self) -> str:
        """The ``http_options.base_url`` for Google's SDK. In its model names, semicolons separate the parameters."""
        return self.base_url

    @property
    def mistral_url(self) -> str:
        """The ``server_url`` for Mistral's SDK. Its path distinguishes Mistral's chat from OpenAI's."""
        return f"{self.base_url}/mistral"

    @property
    def cohere_url(self) -> str:
        """The ``base_url`` for Cohere's SDK."""
        return self.base_url

    @property
    def ollama_url(self) -> str:
        """The ``host`` for Ollama's SDK."""
        return self.base_url

    def start(self) -> Self:
        """Start to listen and serve. After the return, clients can connect.

        Raises:
            RuntimeError: If the server is already running.
            OSError: If the server cannot listen on the address.
        """
        if self._acceptor is not None:
            raise RuntimeError("the chaos server is already running")
        self._stopping.clear()
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.create_server((self.host, self.port), family=family, backlog=_BACKLOG)
        self.port = listener.getsockname()[1]
        wakeup, self._wakeup = socket.socketpair()
        self._acceptor = threading.Thread(
            target=self._accept, args=(listener, wakeup), name=f"chaos:{self.port}:accept", daemon=True
        )
        self._acceptor.start()
        return self

    def stop(self) -> None:
        """Stop listening, end all connections and wait for all threads. The log is kept. May be called repeatedly."""
        if self._acceptor is None:
            return
        self._stopping.set()
        self._wakeup.close()
        self._acceptor.join()
        self._acceptor = None
        for connection, thread in self._connections:
            connection.stop()
            thread.join()
        self._connections.clear()

    def _accept(self, listener: socket.socket, wakeup: socket.socket) -> None:
        # Closing a listening socket does not wake up accept(). So `stop` closes a second socket, which does.
        with listener, wakeup, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wakeup, selectors.EVENT_READ)
            while not self._stopping.is_set():
                selector.select()
                if not self._stopping.is_set():
                    self._accept_one(listener)

    def _accept_one(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # the client left before it was served
        connection = Connection(sock, self._log, self._attempts, self._stopping)
        thread = threading.Thread(target=connection.run, name=f"chaos:{self.port}:client", daemon=True)
        self._connections = [(other, alive) for other, alive in self._connections if alive.is_alive()]
        self._connections.append((connection, thread))
        thread.start()
