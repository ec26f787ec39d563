"""What the server did and when. In: the milestones of each request. Out: frozen `LogEntry` records."""

import threading
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from ._endpoints import Endpoint

Outcome = Literal["complete", "cut", "reset", "client_gone", "stopped"]
"""How an answer ended: correctly, closed too early, by a TCP reset, by the client, or because the server stopped."""

TimeName = Literal["received", "headers_sent", "first_chunk", "last_chunk", "ended"]
"""The names of the times in a `LogEntry`."""

# The cap keeps the memory of a long-running server (the demo) bounded. A test needs only the last few requests.
_MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One request and its answer.

    Times are `time.perf_counter()` seconds, so that a client in the same process can compare them with its own times.
    A time is None if its event has not happened. The clock is read just before the bytes are passed to the socket, and
    the time is recorded after the socket has accepted them.

    Attributes:
        request_id: The id in the answer's ``x-request-id`` or ``request-id`` header.
        path: The request's target.
        endpoint: The endpoint of the request; None for an unknown path.
        scenario: The scenario's name; empty if the model names none.
        model: The request's ``model`` with its parameters; empty if there is none.
        stream: Whether the request asked for a stream.
        traceparent: The request's ``traceparent`` header.
        retry_count: The request's ``x-stainless-retry-count`` header.
        status: The HTTP status of the answer.
        received: When the server had read the complete request.
        headers_sent: When the answer's headers were sent.
        first_chunk: When the first output chunk was sent.
        last_chunk: When the latest output chunk was sent.
        ended: When the server ended the answer.
        chunks: Number of output chunks sent.
        outcome: How the answer ended.
        unix_offset: The difference between Unix time and these times, in seconds.
    """

    request_id: str
    path: str
    endpoint: Endpoint | None
    scenario: str
    model: str
    stream: bool
    traceparent: str | None
    retry_count: int | None
    status: int | None
    received: float
    headers_sent: float | None
    first_chunk: float | None
    last_chunk: float | None
    ended: float | None
    chunks: int
    outcome: Outcome | None
    unix_offset: float

    def unix(self, name: TimeName) -> float | None:
        """The time with this name, in Unix seconds."""
        seconds: float | None = getattr(self, name)
        return None if seconds is None else seconds + self.unix_offset

    def as_dict(self) -> dict[str, Any]:
        """The entry as a dict for JSON. Each time is also there in Unix seconds, with ``_unix`` after its name."""
        return asdict(self) | {f"{name}_unix": self.unix(name) for name in get_args(TimeName)}


@dataclass(slots=True)
class Record:
    """A request while it is served. It has the fields of `LogEntry`. Only the serving thread writes them."""

    request_id: str
    path: str = ""
    endpoint: Endpoint | None = None
    scenario: str = ""
    model: str = ""
    stream: bool = False
    traceparent: str | None = None
    retry_count: int | None = None
    status: int | None = None
    received: float = field(default_factory=time.perf_counter)
    headers_sent: float | None = None
    first_chunk: float | None = None
    last_chunk: float | None = None
    ended: float | None = None
    chunks: int = 0
    outcome: Outcome | None = None
    unix_offset: float = field(default_factory=lambda: time.time() - time.perf_counter())

    def output(self, chunks: int, now: float) -> None:
        """Record that output chunks were sent."""
        if self.first_chunk is None:
            self.first_chunk = now
        self.last_chunk = now
        self.chunks += chunks

    def entry(self) -> LogEntry:
        """A frozen copy of the record."""
        return LogEntry(*(getattr(self, name) for name in _FIELDS))


# Both classes have the same fields. `asdict` would copy each value, and it takes ten times as long.
_FIELDS = tuple(it.name for it in fields(LogEntry))


class Log:
    """The records of a server. It may be read from any thread. It keeps the latest 10,000 records."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._changed = threading.Condition()

    def add(self, record: Record) -> None:
        """Add a new request."""
        with self._changed:
            self._records[record.request_id] = record
            while len(self._records) > _MAX_ENTRIES:
                self._records.popitem(last=False)

    def end(self, record: Record, outcome: Outcome) -> None:
        """Record the end of a request, and wake up the threads that wait for it."""
        with self._changed:
            record.outcome = outcome
            record.ended = time.perf_counter()
            self._changed.notify_all()

    def entries(self) -> list[LogEntry]:
        """The current entries, in the order of their requests."""
        with self._changed:
            return [record.entry() for record in self._records.values()]

    def entry(self, request_id: str) -> LogEntry | None:
        """The current entry of a request; None if the id is unknown."""
        with self._changed:
            record = self._records.get(request_id)
            return None if record is None else record.entry()

    def wait_ended(self, request_id: str, timeout: float) -> LogEntry:
        """Wait for the end of a request. Returns its entry.

        Raises:
            TimeoutError: If it has not ended within ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_ended(request_id), timeout):
                raise TimeoutError(f"request {request_id} has not ended within {timeout} s")
            return self._records[request_id].entry()

    def _has_ended(self, request_id: str) -> bool:
        record = self._records.get(request_id)
        return record is not None and record.ended is not None
