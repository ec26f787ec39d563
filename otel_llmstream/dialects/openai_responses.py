"""OpenAI Responses: events with a type, in the payload (some senders leave `event:` out, one puts it last).

Legal end: `response.completed` or `response.incomplete`. Some servers say `response.done` for either.
`response.failed` and `error` are errors in the stream. There is no `[DONE]`, though some gateways add one. A GET can
resume a stored response. Over a WebSocket each event is one message, and an `error` has the HTTP status and the headers
of rate limits.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from .. import semconv
from ..core.events import NOTHING, ONE_CHUNK, ONE_REASONING, TERMINATOR, InBandError
from ..core.rate_limits import read_rate_limits
from ..wire import MESSAGE, Frame
from ._base import Events, TypedJSONDialect, TypedPayload, chunk_if, started, tool_calls
from ._errors import describe_error, is_error
from ._json import entry, text
from ._openai import OpenAIRequests
from ._openai_lanes import ResponsesLanes
from ._usage import UsageFields


class _Payload(TypedPayload, gc=False):
    delta: Any = None
    response: Any = None
    partial_image_b64: Any = None
    item_id: Any = None
    output_index: Any = None
    item: Any = None
    part: Any = None
    status: Any = None


_DELTA: Final = "delta"
_TEXT: Final = "response.output_text.delta"
_CALLS: Final = ("response.function_call_arguments.delta", "response.custom_tool_call_input.delta")
_CALL_ITEMS: Final = ("function_call", "custom_tool_call")
_REASONING: Final = "reasoning"
_FAILED: Final = "response.failed"
_COMPLETED: Final = "completed"
_INCOMPLETE: Final = "incomplete"
_TYPE: Final = re.compile(rb'"type"\s*:\s*"([a-z_.]+)"')


class ResponseEvents(OpenAIRequests, TypedJSONDialect):
    """The events of one response with its items; a single choice. OpenAI has them in two APIs."""

    __slots__ = ("_has_called",)

    payload = _Payload
    output_types = ("response.image_generation_call.partial_image",)
    finish_words = {
        "completed": semconv.STOP,
        "max_output_tokens": semconv.LENGTH,
        "max_tokens": semconv.LENGTH,
        "content_filter": semconv.CONTENT_FILTER,
    }
    failure_words = frozenset({"failed"})  # a status, if a gateway sends it in another event
    texts = ("delta",)

    def __init__(self) -> None:
        super().__init__()
        self._has_called = False  # whether a delta of a tool call came

    def is_output(self, payload: _Payload) -> object:
        """A piece of the answer, whatever its type is."""
        kind = payload.type
        if not payload.delta or payload.error or not isinstance(kind, str):
            return False
        return kind == _TEXT or (kind.endswith(_DELTA) and kind not in _CALLS and _REASONING not in kind)

    def interpret(self, payload: _Payload, frame: Frame) -> Events:
        """Every delta is output, whatever its type is."""
        kind = self.type_of(payload, frame)
        if not payload.delta or not kind.endswith(_DELTA):
            return super().interpret(payload, frame)
        if kind in _CALLS:
            return self._call(payload, payload.delta if kind == _CALLS[0] else None)
        return ONE_REASONING if _REASONING in kind else ONE_CHUNK

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """The error of a response stands inside it, whatever the event's type is."""
        error = entry(payload.response, "error")
        found = describe_error(error) if is_error(error) else super().find_error(payload, frame)
        if found is not None and isinstance(payload.status, int):
            return _with_status(found, payload)
        return InBandError("") if found is None and self.type_of(payload, frame) == _FAILED else found

    def has_output(self, payload: _Payload) -> object:
        """A part of an image."""
        return payload.partial_image_b64

    def oversized(self, frame: Frame) -> Events:
        """The last event repeats the response with all its images, and may pass any cap. Its type is enough."""
        found = _TYPE.search(frame.data) if frame.event == MESSAGE else None
        kind = (found[1] if found else frame.event).decode(errors="replace")
        if kind.endswith(_DELTA) or kind in self.output_types:
            return ONE_REASONING if _REASONING in kind else ONE_CHUNK
        handler = self.handlers.get(kind)
        events = handler(self, _Payload()) if handler is not None else NOTHING
        return (*events, InBandError("")) if kind == _FAILED else events

    def _call(self, payload: _Payload, arguments: Any) -> Events:
        self._has_called = True
        return tool_calls([(text(payload.item_id) or text(payload.output_index), arguments)])

    def _called(self, payload: _Payload) -> Events:
        """The whole arguments are output only if they did not come in pieces."""
        return NOTHING if self._has_called else self._call(payload, None)

    def _item_added(self, payload: _Payload) -> Events:
        """An item starts empty, as a rule. It may be whole already."""
        item = payload.item
        if entry(item, "type") in _CALL_ITEMS:
            return self._call(payload, None) if entry(item, "arguments") or entry(item, "input") else NOTHING
        parts = entry(item, "content")
        return chunk_if(isinstance(parts, list) and any(entry(part, "text") for part in parts))

    def _part_added(self, payload: _Payload) -> Events:
        return chunk_if(entry(payload.part, "text") or entry(payload.part, "refusal"))

    def _created(self, payload: _Payload) -> Events:
        response = payload.response
        tier = text(entry(response, "service_tier"))
        extra = ((semconv.OPENAI_RESPONSE_TIER, tier),) if tier and tier != "auto" else ()
        return (started(entry(response, "id"), entry(response, "model"), extra),)

    def _ended(self, payload: _Payload, status: str, cause: Any) -> Events:
        return (*self.known(payload), *self.finish(status, cause=cause), TERMINATOR)

    def known(self, payload: _Payload) -> Events:
        """What the last event says of the response, whatever its status is."""
        return (*self._created(payload), *self.usage.read(entry(payload.response, "usage")))

    handlers = {
        "response.created": _created,
        "response.function_call_arguments.done": _called,
        "response.custom_tool_call_input.done": _called,
        "response.output_item.added": _item_added,
        "response.content_part.added": _part_added,
    }


class OpenAIResponses(ResponseEvents):
    """One response of the Responses API."""

    __slots__ = ()

    name = "openai.responses"
    transports = (semconv.HTTP, semconv.WEBSOCKET)
    paths = ("/responses",)
    resume_paths: ClassVar[tuple[str, ...]] = ("/responses/{}",)
    own_path = False
    api = "responses"
    lanes = ResponsesLanes
    first_events: ClassVar[tuple[bytes, ...]] = (b"response.",)
    first_payload: ClassVar[tuple[re.Pattern[bytes], ...]] = (re.compile(rb'"type"\s*:\s*"response\.'),)
    usage = UsageFields(
        input=("input_tokens",),
        output=("output_tokens",),
        cache_read=("input_tokens_details.cached_tokens",),
        reasoning=("output_tokens_details.reasoning_tokens",),
    )

    def _completed(self, payload: _Payload) -> Events:
        """The status counts. Gateways that translate chat frames also call a response so that is cut at a limit."""
        status = text(entry(payload.response, "status")) or _COMPLETED
        if status == _INCOMPLETE:
            return self._incomplete(payload)
        return self._ended(payload, status, status)

    def _incomplete(self, payload: _Payload) -> Events:
        reason = entry(entry(payload.response, "incomplete_details"), "reason")
        return self._ended(payload, _INCOMPLETE, reason)

    def _cancelled(self, payload: _Payload) -> Events:
        return self._ended(payload, "cancelled", "cancelled")

    handlers = {
        **ResponseEvents.handlers,
        "response.completed": _completed,
        "response.done": _completed,  # Codex's backend, and gateways in front of it
        "response.incomplete": _incomplete,
        _FAILED: ResponseEvents.known,
        "response.cancelled": _cancelled,
    }


def _with_status(error: InBandError, payload: _Payload) -> InBandError:
    """An error with what HTTP would have said in the status and in the headers."""
    given = entry(payload.error, "headers")
    pairs = given.items() if isinstance(given, dict) else ()
    headers = {name.lower().encode(errors="replace"): text(value).encode(errors="replace") for name, value in pairs}
    return replace(error, status=payload.status, limits=read_rate_limits(headers, failed=True))
