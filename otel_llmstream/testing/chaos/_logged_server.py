"""What every chaos server has: a log that tests read, and a block in which it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from ._log import Log, LogEntry


class LoggedServer(ABC):
    """A server that writes down what it did with each request."""

    def __init__(self) -> None:
        self._log = Log()

    @property
    def log(self) -> list[LogEntry]:
        """One entry per request, in the order of the requests. It includes requests that have not ended."""
        return self._log.entries()

    def entry(self, request_id: str) -> LogEntry | None:
        """The current log entry of a request; None if the id is unknown. The id is in the response headers."""
        return self._log.entry(request_id)

    def wait_ended(self, request_id: str, timeout: float = 5.0) -> LogEntry:
        """Wait until the server has ended the answer of a request. Returns the request's log entry.

        Args:
            request_id: The id in the response headers, or the `request_id` of a log entry.
            timeout: How long to wait, in seconds.

        Raises:
            TimeoutError: If the answer has not ended in that time.
        """
        return self._log.wait_ended(request_id, timeout)

    @abstractmethod
    def start(self) -> Self:
        """Start to listen and serve."""

    @abstractmethod
    def stop(self) -> None:
        """Stop listening, end all answers and wait for all threads."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
