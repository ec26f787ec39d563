"""What the pipeline says of one call, and the figures that the checks need. In: a `Probe`. Out: a `Result`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Final

from ..._settings import Settings
from ...core.error_types import classify
from ...core.rate_limits import read_rate_limits
from ...core.response import REQUEST_ID_HEADERS, ResponseInfo
from ...core.states import End
from ...core.stream import MIN_BURST
from ...core.summary import Summary
from ...dialects import RESPONSE_HEADERS, RequestInfo
from ...engine.engine import Engine
from ...wire import FRAMERS, SSEFramer
from ..formats import decode
from ..null_recorder import NullRecorder
from ..session import DebugSession
from ..timeline import DebugRead, DebugStream
from .probe import Head, Kind, Plan, Probe

BUFFERED_AFTER: Final = 0.2
"""Seconds of waiting before a burst. The answers here are short, so the wait is shorter than that of `Settings`."""

MANY: Final = 8
"""Chunks of each read, on average, that are many. The fastest models give a few in one read."""

SHORT: Final = 0.1
"""The part of the wait before it that a burst in a few reads may take."""

STALL_AFTER: Final = 1.0
"""Seconds between two chunks that are worth a line: no model writes forty short words with such a pause."""

NEAR: Final = 0.05
"""Seconds between the end of an absence of this program and what it may have caused."""

OUTPUT: Final = ("chunk", "reasoning", "tool call")
"""How the words begin of a frame that carries output."""


class _Clock:
    """Says the times at which things came."""

    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        """The time of the step that is played."""
        return self.at

    def unix_ns(self) -> int:
        """Not needed: the reports have no date of a call."""
        return 0


@dataclass(frozen=True)
class Result:
    """One call, judged.

    Attributes:
        probe: the call.
        summary: the pipeline's verdict; None if nothing shows that an LLM answered.
        stream: the time line; None as above.
    """

    probe: Probe
    summary: Summary | None = None
    stream: DebugStream | None = None

    @property
    def plan(self) -> Plan:
        """What was to be done."""
        return self.probe.plan

    @property
    def head(self) -> Head | None:
        """The head of the response."""
        return self.probe.head

    @property
    def error_type(self) -> str | None:
        """Why it failed, in the words of `error.type`."""
        if self.summary is not None and self.summary.error_type:
            return self.summary.error_type
        head, error = self.head, self.probe.error
        if head is not None and not head.is_success:
            return str(head.status)
        return None if error is None else classify(error)

    @property
    def is_well(self) -> bool:
        """Whether a whole stream came."""
        return self.summary is not None and not self.summary.outcome.is_failure and not self.probe.stopped

    @property
    def reads(self) -> Sequence[DebugRead]:
        """The reads of the body."""
        return () if self.stream is None else self.stream.reads

    @cached_property
    def outputs(self) -> list[tuple[float, int]]:
        """The reads with output: when each came, and how many chunks it had."""
        found = []
        for read in self.reads:
            chunks = sum(number for word, number in read.events if word.startswith(OUTPUT))
            if chunks:
                found.append((read.at, chunks))
        return found

    @property
    def first_chunk(self) -> float | None:
        """Seconds from the start to the first output."""
        return self.outputs[0][0] if self.outputs else None

    @property
    def last_chunk(self) -> float | None:
        """Seconds from the start to the last output."""
        return self.outputs[-1][0] if self.outputs else None

    @property
    def spread(self) -> float:
        """Seconds from the first to the last output."""
        return self.outputs[-1][0] - self.outputs[0][0] if self.outputs else 0.0

    @cached_property
    def gaps(self) -> list[float]:
        """Seconds between two outputs, also between those of one read, which are 0."""
        found: list[float] = []
        for number, (at, chunks) in enumerate(self.outputs):
            if number:
                found.append(at - self.outputs[number - 1][0])
            found += [0.0] * (chunks - 1)
        return found

    @property
    def is_burst(self) -> bool | None:
        """Whether all output came at once after a wait; None if there is too little to tell.

        The pipeline's rule is for chunks that come within moments. A proxy may also write what it held in a few large
        pieces, with the 40 ms between them that TCP may wait for an acknowledgement.
        """
        chunks, wait = sum(number for _, number in self.outputs), self.first_chunk
        if wait is None or self.summary is None or chunks < MIN_BURST:
            return None
        is_in_few_reads = chunks >= MANY * len(self.outputs) and self.spread <= wait * SHORT
        return wait >= BUFFERED_AFTER and (bool(self.summary.buffered) or is_in_few_reads)

    def is_own(self, at: float, length: float) -> bool:
        """Whether this program itself may have made a wait or a burst: it could not run for most of the time before.

        Args:
            at: when the wait was over, in seconds after the start.
            length: how long it was.
        """
        moment = (self.probe.started if self.probe.sent_at is None else self.probe.sent_at) + at
        return any(begin < moment < end + NEAR and end - begin > length / 2 for begin, end in self.probe.away)

    @property
    def pause(self) -> float:
        """The longest time between two reads with output that this program did not make itself."""
        pairs = ((at, at - before) for (before, _), (at, _) in pairwise(self.outputs))
        return max((length for at, length in pairs if not self.is_own(at, length)), default=0.0)

    @property
    def silence(self) -> float:
        """The longest wait for any byte, the headers included."""
        waits = [read.wait for read in self.reads]
        if self.stream is not None and self.stream.headers_at is not None:
            waits.append(self.stream.headers_at)
        elif self.head is None and self.probe.sent_at is not None:
            waits.append(self.probe.ended_at - self.probe.sent_at)
        if self.stream is not None and self.stream.ended_at is not None and self.reads:
            waits.append(self.stream.ended_at - self.reads[-1].at)
        return max(waits, default=0.0)

    @cached_property
    def comments(self) -> int:
        """Comments of the event stream, which keep connections alive."""
        head = self.head
        if head is None or head.by_name.get("content-type", "").partition(";")[0].strip() not in _SSE:
            return 0
        framer = SSEFramer()
        framer.feed(decode(self.probe.body, head.by_name.get("content-encoding", ""))[0])
        return framer.comments

    @property
    def after_end(self) -> float | None:
        """Seconds from the terminator to the end of the body; None if there was none."""
        stream = self.stream
        if stream is None or stream.ended_at is None or not self.is_well:
            return None
        marks = [read.at for read in self.reads if any(word == "terminator" for word, _ in read.events)]
        return stream.ended_at - marks[-1] if marks else None


_SSE: Final = tuple(kind for kind, framer in FRAMERS.items() if framer is SSEFramer)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all values does not exceed; 0 without any."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def judged(probe: Probe) -> Result:
    """What the pipeline says of a call."""
    if not probe.plan.streams:
        return Result(probe)
    clock = _Clock(probe.started if probe.sent_at is None else probe.sent_at)
    engine = Engine(NullRecorder(), Settings(buffered_after=BUFFERED_AFTER, stall_after=STALL_AFTER), clock)
    with DebugSession() as session:
        _play(engine, clock, probe)
    stream = session.streams[0] if session.streams else None
    return Result(probe, None if stream is None else stream.summary, stream)


def _play(engine: Engine, clock: _Clock, probe: Probe) -> None:
    request, head = _request(probe.plan), probe.head
    observer = engine.begin(request, is_known=True)
    if observer is not None and head is not None:
        clock.at = probe.head_at
        observer.responded(_response(probe, head))
    elif head is not None:
        clock.at = probe.head_at
        observer = engine.sniff(request, _response(probe, head), probe.sent_at or probe.started)
    if observer is None:
        return
    for data, asked, came in probe.reads:
        clock.at = came
        observer.feed(data, (asked, came))
    observer.asked_at = probe.reads[-1][2] if probe.reads else clock.at
    clock.at = probe.ended_at
    observer.end(End.FAILURE if probe.error is not None else probe.how, probe.error)


def _request(plan: Plan) -> RequestInfo:
    server, (path, _, query) = plan.server, plan.target.partition("?")
    return RequestInfo(
        method="POST", scheme=server.scheme, host=server.host, port=server.port, path=path, query=query, body=plan.body
    )


def _response(probe: Probe, head: Head) -> ResponseInfo:
    headers = head.by_name
    return ResponseInfo(
        status=head.status,
        content_type=headers.get("content-type", ""),
        content_encoding=headers.get("content-encoding", ""),
        request_id=next((headers[name] for name in REQUEST_ID_HEADERS if name in headers), None),
        protocol=head.version,
        tls=probe.connection.tls_version,
        rate_limits=read_rate_limits(
            {name.encode("latin-1"): value.encode("latin-1") for name, value in headers.items()},
            failed=not head.is_success,
        ),
        marks=tuple(name for name in RESPONSE_HEADERS if name in headers),
    )


@dataclass(frozen=True)
class Study:
    """All calls, and what the user expects.

    Attributes:
        results: the calls, in their order.
        ttft: most seconds to the first answer; None if the user said nothing.
        gap: most seconds between two chunks; None as above.
        sdks: the installed SDKs: name, version, and the newest version that was tested.
    """

    results: Sequence[Result]
    ttft: float | None = None
    gap: float | None = None
    sdks: Sequence[tuple[str, str, str]] = field(default=())

    def of(self, kind: Kind) -> list[Result]:
        """The calls of a kind."""
        return [result for result in self.results if result.plan.kind is kind]

    @cached_property
    def streams(self) -> list[Result]:
        """The calls that ask the URL itself for the uncompressed stream."""
        return self.of(Kind.STREAM)

    @property
    def answered(self) -> list[Result]:
        """Those of them that got an answer at all."""
        return [result for result in self.streams if result.head is not None]

    @property
    def well(self) -> list[Result]:
        """Those of them that got a whole stream."""
        return [result for result in self.streams if result.is_well]

    def typical(self, figure: str) -> float:
        """The middle of a figure over the calls. One that a busy machine delayed says nothing."""
        values: list[float | None] = [getattr(result, figure) for result in self.well or self.answered]
        return median([value for value in values if value is not None] or [0.0])
