"""One response that the process sends to a client of its own, from the request to the last byte.

Comes in, from a middleware: the response's headers, the pieces of the body before they are sent, how long each write
took, and how it ended. The reader that reads providers' streams reads this one too. LLM calls that begin while the
response is made join it through a context variable, in tasks and threads that inherit the context too.

Nothing here raises into the application: a middleware calls each method through `Serving.tell`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

from .. import semconv
from ..core.events import CHUNK, UNKNOWN_DIALECT, Opened
from ..core.response import ResponseInfo
from ..core.served import OUTCOMES, ServedOutcome, ServedSummary
from ..core.states import End
from ..core.stream import Stream
from ..core.summary import Summary
from ..dialects import Dialect, Generic, RequestInfo, framer_of, match_request, match_response
from .interrupted import failure_or_cancel
from .observer import BACKLOG, LARGE, PATIENCE
from .reader import Read, Reader
from .sniffer import Sniffer

if TYPE_CHECKING:
    from .call import Call
    from .engine import Engine

MAX_UPSTREAMS: Final = 64
"""LLM calls of one response that are joined to it. An agent makes a few; a loop must not fill the memory."""

ORPHANED_AFTER: Final = 1.0
"""Seconds after the client left. An upstream stream that is still read then costs tokens that no client gets."""

NEVER_ENDED: Final = "the application never ended the body"


class ServedRecorder(Protocol):
    """Where served streams are recorded. Implemented by `ServedRecorder` in `telemetry/served.py`."""

    def context(self) -> Any:
        """What is current now, for `server_span`. It costs next to nothing."""
        ...

    def server_span(self, context: Any = None) -> Any:
        """The server span that is current, or that was, if there is one."""
        ...

    def ended(self, summary: ServedSummary, span: Any) -> None:
        """A served stream is over."""
        ...

    def orphaned(self, summary: ServedSummary, span: Any) -> None:
        """The client left, and an upstream stream is still read."""
        ...


class Serving:
    """One response to a client of the process.

    Args:
        engine: what observes.
        recorder: where the response is recorded.
        request: the server's own object for the request. A middleware that is there twice knows it by that.
        started: when the request came, in seconds.

    Attributes:
        engine, recorder, request: see above.
        stream: what is known of the body; None before a frame is understood.
        is_watching: whether the response is a stream that has not ended.
    """

    __slots__ = ("_asked", "_calls", "_first_byte", "_info", "_is_own", "_is_unframed", "_left", "_limit",
                 "_longest_write", "_orphans", "_reader", "_reads", "_response", "_route", "_span", "_started",
                 "_summary", "_writing", "engine", "is_watching", "recorder", "request", "stream")  # fmt: skip

    def __init__(self, engine: Engine, recorder: ServedRecorder, request: object, started: float) -> None:
        self.engine = engine
        self.recorder = recorder
        self.request = request
        self._started = self._asked = started
        self._calls: list[Call] = []
        self._orphans: set[Call] = set()
        self._info: RequestInfo | None = None
        self._response = ResponseInfo(0)
        self._reader: Reader | None = None
        self._reads: list[Read] = []
        self._limit = 1
        self._span: Any = None
        self._route: str | None = None
        self._first_byte: float | None = None
        self._writing: float | None = None
        self._longest_write = 0.0
        self._left: float | None = None
        self._summary: ServedSummary | None = None
        self._is_own = self._is_unframed = False
        self.is_watching = False
        self.stream: Stream | None = None

    @property
    def labels(self) -> tuple[str | None, str | None]:
        """The route and the model, as far as they are known."""
        stream = self.stream
        return self._route, None if stream is None else stream.request.model or stream.model

    def tell(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do something of ours through the engine's guard. If it fails, the response is not observed any further."""
        return self.engine.guard_or(self.lost, action, *args, **kwargs)

    # --- what a middleware tells --------------------------------------------------------------------------------

    def responded(self, request: RequestInfo, response: ResponseInfo, route: str | None, span: Any) -> None:
        """The response begins, and it may be a stream.

        Args:
            request: what the client asked for.
            response: the headers.
            route: the template of the path.
            span: the server span that was current when the request came, if there was one.
        """
        if not self._watch(request, response, route, span):
            return
        engine = self.engine
        found, told = match_request(request), match_response(request, response)
        confirmed = found is not None and found.confirmed
        candidate = found.dialect if found is not None else None
        if told is not None and (response.marks or not confirmed):
            candidate, confirmed = told, True
        framer = framer_of(candidate or Generic, response.media_type)
        # A service may have a format of its own. It is read as `generic`, so that its times and its end are known.
        sniffer = Sniffer(response, framer, candidate, confirmed=confirmed, asked=True)
        self._reader = Reader(sniffer, engine.settings.stall_after, self)
        if confirmed and candidate is not None:
            self.recognized(candidate)
        engine.serving.add(self)

    def sends_pieces(self, request: RequestInfo, response: ResponseInfo, route: str | None, span: Any) -> None:
        """The response begins, and its body has no framing, as plain text has none.

        It is an LLM's if an LLM call is made for it. Then each piece is a chunk, and any clean end is legal. The
        arguments are those of `responded`.
        """
        self._is_unframed = self._watch(request, response, route, span)

    def _watch(self, request: RequestInfo, response: ResponseInfo, route: str | None, span: Any) -> bool:
        """Watch the response from now on, unless it is our own."""
        if self._is_own:
            return False
        self._info, self._response, self._route = request, response, route
        self._span = self.recorder.server_span() or span
        self.is_watching = True
        return True

    def leave_alone(self) -> None:
        """The response is that of our own live page: it is no stream of the application's."""
        self._is_own = True

    def sending(self, data: bytes, last: bool) -> None:  # noqa: FBT001 - once a chunk: keywords cost
        """A piece of the body is about to be sent. It is read now or later, by the rule of `Observer.feed`.

        Args:
            data: the piece.
            last: whether it is the last one.
        """
        now = self.engine.clock.now()
        if self.is_watching:
            if data:
                self._first_byte = self._first_byte or now
                asked, reads = self._asked, self._reads
                if self._is_unframed:
                    self._take_piece(len(data), asked, now)
                else:
                    reads.append((bytes(data), asked, now))
                    if len(reads) >= self._limit or now - asked > PATIENCE or len(data) > LARGE:
                        self._read_backlog()
            if last:
                self.end(End.EOF)
        self._writing = now

    def sent(self) -> None:
        """The piece was taken by the server."""
        now = self.engine.clock.now()
        if self._writing is not None:
            self._longest_write = max(self._longest_write, now - self._writing)
            self._writing = None
        self._asked = now

    def disconnected(self) -> bool:
        """The client is gone.

        Returns:
            Whether it left before the end, and an upstream call is open: then ask `find_orphans` a little later.
        """
        if self._left is None and self.is_watching:
            self._left = self.engine.clock.now()
            self.end(End.CLOSED)
        return self._left is not None and any(not call.finished for call in self._calls)

    def raised(self, error: BaseException) -> None:
        """An exception left the application before the body was over.

        Only its class is told, because its message may quote the model.
        """
        self.end(failure_or_cancel(error), error, f"the application raised {type(error).__qualname__}")

    def returned(self) -> None:
        """The application returned. A body that it has not ended is cut by the server."""
        self.end(End.FAILURE, message=NEVER_ENDED)

    def end(self, how: End, error: BaseException | None = None, message: str = "") -> None:
        """The body is over. The first end counts; all others do nothing."""
        if not self.is_watching:
            return
        self.is_watching = False
        engine, now = self.engine, self.engine.clock.now()
        engine.serving.discard(self)
        self._read_end(how, now)
        if self.stream is None:  # no frame was understood: not a stream after all
            return
        summary = self.stream.end(how, now, error_type=self._error_type(how, error), message=message)
        self._summary = self._summarize(summary, self.stream)
        self.recorder.ended(self._summary, self._span)
        self._info = self._reader = None

    def lost(self) -> None:
        """After an internal error: the response goes on unobserved."""
        self.is_watching = False
        self._reader = None
        self.engine.serving.discard(self)

    # --- the calls that are made meanwhile ----------------------------------------------------------------------

    def joined(self, call: Call) -> None:
        """An LLM call begins."""
        if len(self._calls) < MAX_UPSTREAMS:
            self._calls.append(call)

    def find_orphans(self) -> None:
        """Report each upstream call that is still read although the client left a while ago."""
        for call in self._calls:
            if not call.finished and any(each.call is call and each.waiting for each in self.engine.live.copy()):
                self._report_orphan(call)

    def upstream_ended(self, call: Call, now: float) -> None:
        """An LLM call is over. If the client had left long before that, it was an orphan."""
        summary = call.summary
        dropped = summary is not None and OUTCOMES[summary.outcome] is ServedOutcome.DISCONNECTED
        if self._left is not None and now - self._left > ORPHANED_AFTER and not dropped:
            self._report_orphan(call)

    def _report_orphan(self, call: Call) -> None:
        if self._summary is not None and call not in self._orphans:
            self._orphans.add(call)
            self.recorder.orphaned(self._summary, self._span)

    # --- what the reader tells ----------------------------------------------------------------------------------

    def recognized(self, dialect: type[Dialect]) -> Stream:
        """The body is in this dialect."""
        info, settings = self._info, self.engine.settings
        assert info is not None, "a body is read before its end"
        if self.stream is None:
            self.stream = Stream(
                dialect.parse_request(info),
                self._started,
                stall_after=settings.stall_after,
                normalize=self.engine.error_codes.normalize,
            )
            self.stream.responded(Opened(), self._response, self.engine.clock.now())
        elif self.stream.request.dialect != dialect.name:
            self.stream.request = self.stream.request.replace(dialect=dialect.name)
        return self.stream

    def not_ours(self) -> None:
        """The body is no stream."""
        self.lost()

    def first_chunk(self, now: float) -> None:  # noqa: ARG002 - the reader tells both ends
        """The first chunk is about to be sent. From now on, pieces may wait to be read together."""
        self._limit = BACKLOG

    def stalled(self, silence: float, now: float) -> None:
        """The application was silent for too long between two chunks."""

    def gaps(self, seconds: Sequence[float]) -> None:
        """Times between chunks."""

    # --- behind the seams ---------------------------------------------------------------------------------------

    def _take_piece(self, size: int, asked: float, now: float) -> None:
        stream = self.stream
        if stream is None:
            if not self._calls:
                return
            stream = self.recognized(Generic)
            stream.receive(UNKNOWN_DIALECT, now)
            self.engine.serving.add(self)
        stream.arrived(size, now - asked)
        stream.frames += 1
        stream.receive(CHUNK, now)
        stream.drain()

    def _read_backlog(self, *, last: bool = False) -> None:
        reads, self._reads = self._reads, []
        if reads and self._reader is not None:
            self._reader.read(reads, last=last)

    def _read_end(self, how: End, now: float) -> None:
        self._read_backlog(last=True)
        reader = self._reader
        if reader is None:
            return
        if how is End.EOF:
            reader.close(now)
        else:
            reader.stop(told=True)
        reader.drain()

    def _error_type(self, how: End, error: BaseException | None) -> str | None:
        """Why a response failed: as its upstream did, or by the exception's class (OpenTelemetry, `error.type`)."""
        if how is not End.FAILURE:
            return None
        upstream = self._last_ended()
        if upstream is not None and upstream.error_type is not None:
            return upstream.error_type
        return semconv.INCOMPLETE_BODY if error is None else type(error).__qualname__

    def _last_ended(self) -> Summary | None:
        """The result of the last upstream call, if it is over."""
        return self._calls[-1].summary if self._calls else None

    def _overhead(self, first: float | None) -> float | None:
        """The part of the time to the own first chunk that is not the upstream's, from the upstream's headers on.

        This is the time from its first chunk to the own one, and the time that the application let it wait before that.
        An agent makes several calls before it answers. The last one whose output was there counts.
        """
        if first is None:
            return None
        own = self._started + first
        found = [call.first_chunk for call in self._calls if call.first_chunk is not None]
        upstream = max((it for it in found if it[0] <= own), default=None)
        return None if upstream is None else own - upstream[0] + max(0.0, upstream[1])

    def _summarize(self, summary: Summary, stream: Stream) -> ServedSummary:
        upstream = self._last_ended()
        waiting = 0.0 if self._writing is None else self.engine.clock.now() - self._writing
        return ServedSummary(
            outcome=OUTCOMES[summary.outcome],
            error_type=summary.error_type,
            route=self._route,
            model=summary.request.model or summary.response_model,
            dialect=summary.request.dialect,
            operation=summary.request.operation,
            duration=summary.duration,
            time_to_first_byte=None if self._first_byte is None else self._first_byte - self._started,
            time_to_first_chunk=summary.time_to_first_chunk,
            gap_max=summary.gap_max,
            chunks=stream.chunks,
            bytes=stream.bytes,
            write_stall=max(self._longest_write, waiting),
            finish_reason=summary.finish_reason,
            gateway_overhead=self._overhead(summary.time_to_first_chunk),
            upstreams=len(self._calls),
            upstream_outcome=None if upstream is None else upstream.outcome.value,
            upstream_error_type=None if upstream is None else upstream.error_type,
            message=summary.message,
            output_tokens=summary.output_tokens,
        )


SERVING: ContextVar[Serving | None] = ContextVar("otel_llmstream_serving", default=None)
"""The response that the running code makes, if a middleware watches it. Tasks and threads that copy the context have
it too."""
