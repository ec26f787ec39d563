"""Makes plain values of what the process knows now. They have numbers, names and verdicts, and never content."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from .._version import __version__
from ..core.open_stream import LiveStream
from ..core.summary import LLMRequest, Summary
from ..telemetry.recent import Ended, News
from .source import Source

MAX_STREAMS: Final = 2000
"""Open streams that are listed. A table of more says no more to a person, and a browser has to read all of it four
times a second. The stalled ones and the oldest ones are listed first."""

MAX_CALLS: Final = 500
"""Ended calls that are told at once. A page that looks away for long gets the newest ones."""

MAX_SERVED: Final = 100
"""Pairs of route and model of open served streams that are listed. A client may choose the model's name."""

CALL_FIELDS: Final = (
    "outcome", "error_type", "stage", "message", "status", "attempts", "fallback", "duration", "time_to_headers",
    "time_to_first_chunk", "attempt_time_to_first_chunk", "time_to_first_answer", "time_to_last_chunk", "chunks",
    "frames", "bytes", "malformed_events", "terminator", "unproven", "gap_mean", "gap_p95", "gap_max", "wait", "hold",
    "stalls", "buffered", "finish_reasons", "finish_reason", "usage", "output_tokens_per_second",
    "incomplete_tool_calls", "input_tokens", "output_tokens", "response_model", "request_id", "response_id",
    "protocol", "tls", "close_code", "chunk_offsets",
)  # fmt: skip
"""Fields of `Summary` that the page shows."""


def picture(source: Source) -> dict[str, Any]:
    """Everything but the ended calls."""
    streams = source.streams()
    return {
        "pid": os.getpid(),
        "version": __version__,
        "health": asdict(source.health()),
        "open": len(streams),
        "streams": [_stream(it) for it in _most_urgent(streams)],
        "served": _served(source),
    }


def calls(news: News) -> dict[str, Any]:
    """What has ended, the oldest one first."""
    return {"cursor": news.cursor, "reset": news.is_reset, "calls": [_call(it) for it in news.ended[-MAX_CALLS:]]}


def _most_urgent(streams: Iterable[LiveStream]) -> list[LiveStream]:
    return sorted(streams, key=lambda it: (not it.is_stalled, -it.age))[:MAX_STREAMS]


def _stream(stream: LiveStream) -> dict[str, Any]:
    return {
        "key": stream.key,
        **_request(stream.request),
        "phase": stream.phase,
        "stalled": stream.is_stalled,
        "attempt": stream.attempt,
        "age": _short(stream.age),
        "chunks": stream.chunks,
        "unread": stream.unread,
        "bytes": stream.bytes,
        "wait": _short(stream.wait),
        "hold": _short(stream.hold),
        "silence": _short(stream.silence),
        "gaps": [round(gap * 1000) for gap in stream.gaps],
    }


def _call(entry: Ended) -> dict[str, Any]:
    number, unix_ns, summary = entry
    fields = {name: _short(getattr(summary, name)) for name in CALL_FIELDS}
    return {"number": number, "at": round(unix_ns / 1e9, 3), **_request(summary.request), **fields, **_failed(summary)}


def _request(request: LLMRequest) -> dict[str, Any]:
    return {
        "model": request.model,
        "provider": request.provider,
        "operation": request.operation,
        "dialect": request.dialect,
        "server": request.server_address,
        "port": request.server_port,
        "transport": request.transport,
    }


def _failed(summary: Summary) -> dict[str, bool]:
    return {"failed": summary.outcome.is_failure}


def _short(value: Any) -> Any:
    """A number of seconds to 0.1 ms: a picture of many streams is read four times a second."""
    return round(value, 4) if isinstance(value, float) else value


def _served(source: Source) -> list[dict[str, Any]]:
    found = Counter(source.served()).most_common(MAX_SERVED)
    return [{"route": route, "model": model, "open": number} for (route, model), number in found]
