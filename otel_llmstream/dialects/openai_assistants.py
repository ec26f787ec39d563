"""OpenAI Assistants: the events of a run, `thread.run.*`, `thread.run.step.*`, `thread.message.*`.

A frame is known by its payload's `object` and `status`; the `event:` line repeats them. Legal end: a status that ends
the run, then `event: done`, `[DONE]`. A run that failed or expired is an in-band error, as is `event: error`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Event, Finish, InBandError, Started, Usage
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import in_band_error
from ._json import BROKEN, count, decode, decode_each, entry, text
from ._openai import describe_openai
from ._request import RequestInfo
from .openai_chat import DONE


class _Payload(msgspec.Struct, gc=False):
    object: Any = None
    delta: Any = None
    status: Any = None


class _Run(_Payload, gc=False):
    id: Any = None
    model: Any = None
    usage: Any = None
    incomplete_details: Any = None
    last_error: Any = None
    error: Any = None
    code: Any = None  # of a bare error, as the next two
    type: Any = None
    message: Any = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines
_decode_run: Final = msgspec.json.Decoder(_Run).decode

RUNS: Final = re.compile(r"/threads(?:/[^/]+)?/runs(?:/[^/]+/submit_tool_outputs)?\Z")
"""A run is created with its thread or on one, and goes on when a tool's output is handed in."""

_DELTAS: Final = ("thread.message.delta", "thread.run.step.delta")
_EXPIRED: Final = "expired"
_WORDS: Final = {
    "max_completion_tokens": semconv.LENGTH,
    "max_prompt_tokens": semconv.LENGTH,
    "content_filter": semconv.CONTENT_FILTER,
}


class OpenAIAssistants:
    """One run with its steps and messages; a single choice."""

    __slots__ = ()

    name: ClassVar[str] = "openai.assistants"
    paths: ClassVar[tuple[str, ...]] = ("/threads/runs", "/threads/{}/runs", "/threads/{}/runs/{}/submit_tool_outputs")

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST that starts or continues a run, with `"stream": true`."""
        ours = target.method == "POST" and RUNS.search(target.path) and target.body.stream is True
        return cls.parse_request(target) if ours else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """An event of a thread."""
        return frame.event.startswith((b"thread.run.", b"thread.message.")) or frame.event == b"thread.created"

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request: an agent of the server's is invoked (GenAI conventions, `invoke_agent`)."""
        return describe_openai(cls.name, "invoke_agent", "assistants", target)

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        if frame.data.startswith(DONE):
            return (TERMINATOR,)
        if frame.oversized:
            return ONE_CHUNK
        try:
            return _interpret(frame)
        except BROKEN:
            return (MALFORMED,)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a delta of output."""
        found = decode_each(_decode_lines, payloads)
        return found is not None and all(payload.object in _DELTAS and _has_output(payload.delta) for payload in found)


def _interpret(frame: Frame) -> tuple[Event, ...]:
    payload = decode(_decode, frame.data)
    if payload is None:
        return NOTHING
    if payload.object in _DELTAS:
        return ONE_CHUNK if _has_output(payload.delta) else NOTHING
    if payload.object == "thread.run" or frame.event == b"error":
        return _run(frame, decode(_decode_run, frame.data) or _Run())
    return NOTHING


def _has_output(delta: Any) -> bool:
    return bool(entry(delta, "content") or entry(entry(delta, "step_details"), "tool_calls"))


def _run(frame: Frame, run: _Run) -> tuple[Event, ...]:
    if frame.event == b"error":
        return (in_band_error(run.error or {"code": run.code, "type": run.type, "message": run.message}),)
    status = text(run.status)
    handler = _STATUSES.get(status)
    named = Started(text(run.id) or None, text(run.model) or None)
    return (named, *_usage(run.usage), *(handler(run, status) if handler is not None else ()))


def _completed(_run: _Run, status: str) -> tuple[Event, ...]:
    return (Finish(0, status, semconv.STOP),)


def _waiting(_run: _Run, status: str) -> tuple[Event, ...]:
    """The run goes on, in another stream, when the application has handed in what its tools gave."""
    return (Finish(0, status, semconv.TOOL_CALLS),)


def _incomplete(run: _Run, status: str) -> tuple[Event, ...]:
    reason = text(entry(run.incomplete_details, "reason"))
    return (Finish(0, status, _WORDS.get(reason, semconv.OTHER_REASON)),)


def _cancelled(_run: _Run, status: str) -> tuple[Event, ...]:
    return (Finish(0, status, semconv.OTHER_REASON),)


def _failed(run: _Run, _status: str) -> tuple[Event, ...]:
    return (in_band_error(run.last_error or {}),)


def _expired(_run: _Run, _status: str) -> tuple[Event, ...]:
    return (InBandError(_EXPIRED, "the run expired"),)


_STATUSES: Final[Mapping[str, Callable[[_Run, str], tuple[Event, ...]]]] = {
    "completed": _completed,
    "requires_action": _waiting,
    "incomplete": _incomplete,
    "cancelled": _cancelled,
    "failed": _failed,
    _EXPIRED: _expired,
}


def _usage(usage: Any) -> tuple[Event, ...]:
    if not isinstance(usage, dict):
        return NOTHING
    prompt = usage.get("prompt_token_details") or usage.get("prompt_tokens_details")  # sent, and documented
    return (
        Usage(
            count(usage.get("prompt_tokens")),
            count(usage.get("completion_tokens")),
            cache_read_tokens=count(entry(prompt, "cached_tokens")),
            reasoning_tokens=count(entry(usage.get("completion_tokens_details"), "reasoning_tokens")),
        ),
    )
