"""xAI's chat over gRPC, which its own SDK speaks: `xai_api.Chat/GetCompletionChunk`.

Frames: `GetChatCompletionChunk` messages. There is no terminator. Legal end: a finish reason for every output, then the
status OK. A status of OK alone completes nothing, and the SDK does not look at the reason.

If the server runs tools itself, one answer has several outputs, one after the other. Some of them are what a tool came
back with, and only the last one has to have a reason. If several answers were asked for, each has one output.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

from .. import semconv
from ..core.events import NOTHING, ONE_CHUNK, Event
from ..wire import Frame
from ._base import Events, choice_index, chunk_of, tool_calls
from ._protobuf import Message, ProtobufDialect, content, decimal, integer, text
from ._request_body import MAX_CHOICES
from ._template import Template, span
from ._usage import UsageFields

_FUNCTION: Final = Message({1: ("name", text), 2: ("arguments", text)})
_TOOL_CALL: Final = Message({1: ("id", text), 2: ("type", integer), 10: ("function", _FUNCTION)})
_DELTA: Final = Message(
    {
        1: ("content", content),
        2: ("role", integer),
        3: ("tool_calls", _TOOL_CALL),
        4: ("reasoning_content", content),
        5: ("encrypted_content", content),  # state that only the server can read
        6: ("citations", content),
    },
    lists=("tool_calls",),
    unlisted="unlisted",
)
_OUTPUT: Final = Message({1: ("delta", _DELTA), 3: ("finish_reason", integer), 4: ("index", integer)})
_USAGE: Final = Message(
    {
        1: ("completion_tokens", integer),
        2: ("prompt_tokens", integer),
        3: ("total_tokens", integer),
        6: ("reasoning_tokens", integer),
        7: ("cached_prompt_text_tokens", integer),
    }
)
_RESPONSE_FORMAT: Final = Message({1: ("type", integer)})

_REASONS: Final = {
    1: "REASON_MAX_LEN",
    2: "REASON_MAX_CONTEXT",
    3: "REASON_STOP",
    4: "REASON_TOOL_CALLS",
    5: "REASON_TIME_LIMIT",
}
_EFFORTS: Final = {1: "low", 2: "medium", 3: "high", 4: "none", 5: "xhigh"}
_FORMATS: Final = {1: "text", 2: "json_object", 3: "json_schema"}

_OUTPUTS: Final = 2
_DELTA_KEY: Final = 0x0A
_CONTENT_KEY: Final = b"\x0a"
_OF_ASSISTANT: Final = (b"", b"\x10\x02")
"""What may follow the content in a delta that only has text: nothing, or the role."""

_CALLS: Final = 4
_ROLE_TOOL: Final = 5
_OF_THE_APPLICATION: Final = (None, 0, 1)
"""Types of a tool call that the application has to answer. The server runs the tools of the others itself."""


class XAIChat(ProtobufDialect):
    """One answer or several. The numbers of the fields are those of xai-sdk's `xai_api` messages, versions 5 and 6."""

    __slots__ = ("_calling", "_choices", "_finished", "_runs_tools", "_template")

    name = "xai.chat"
    paths = ("/xai_api.Chat/GetCompletionChunk",)
    provider = "x_ai"
    several_choices = True
    asked = Message(
        {
            2: ("model", text),
            3: ("frequency_penalty", decimal),
            7: ("max_tokens", integer),
            8: ("n", integer),
            9: ("presence_penalty", decimal),
            10: ("response_format", _RESPONSE_FORMAT),
            11: ("seed", integer),
            12: ("stop", text),
            14: ("temperature", decimal),
            15: ("top_p", decimal),
            19: ("reasoning_effort", integer),
            22: ("previous_response_id", text),
        },
        lists=("stop",),
    )
    answered = Message(
        {1: ("id", text), 2: ("outputs", _OUTPUT), 4: ("model", text), 5: ("fingerprint", text), 6: ("usage", _USAGE)},
        lists=("outputs",),
    )
    finish_words: ClassVar = {
        "reason_stop": semconv.STOP,
        "reason_max_len": semconv.LENGTH,
        "reason_max_context": semconv.LENGTH,
        "reason_tool_calls": semconv.TOOL_CALLS,
    }
    usage = UsageFields(
        input=("prompt_tokens",),
        output=("completion_tokens",),
        cache_read=("cached_prompt_text_tokens",),
        reasoning=("reasoning_tokens",),
        total=("total_tokens",),
    )

    def __init__(self) -> None:
        super().__init__()
        self._choices: dict[int, int] = {}  # index of an output -> its choice
        self._calling: set[int] = set()  # choices that called a tool of the application
        self._finished: set[int] = set()  # choices that have a reason
        self._runs_tools = False  # whether the server runs tools: then outputs follow one another
        self._template = Template(_OUTPUTS)

    @classmethod
    def parameters(cls, request: Any) -> Any:
        """Two of them are numbers that stand for words."""
        found = super().parameters(request)
        found.reasoning_effort = _EFFORTS.get(found.reasoning_effort or 0)
        found.response_format = {"type": _FORMATS.get((found.response_format or {}).get("type", 0))}
        return found

    def read(self, frame: Frame) -> Events:
        """What a frame says. A message that differs from another one in a piece of text is a chunk."""
        if self._is_text(frame.data):
            return ONE_CHUNK  # nearly every frame
        events = super().read(frame)
        if events == ONE_CHUNK and not (self._runs_tools or frame.oversized):
            self._template.learn(frame.data)
        return events

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each message differs from another one in a piece of text."""
        return all(map(self._is_text, payloads))

    def _is_text(self, message: bytes) -> bool:
        """Whether a message is text of the first output, and all else was read in a message before it."""
        output = self._template.value(message)
        if not output or output[0] != _DELTA_KEY:
            return False
        start, end = span(output, 1)
        if end != len(output) or output[start : start + 1] != _CONTENT_KEY:
            return False
        text_from, text_to = span(output, start + 1)
        return text_from < text_to <= end and output[text_to:] in _OF_ASSISTANT

    def interpret(self, payload: dict[str, Any], frame: Frame) -> Events:  # noqa: ARG002
        """Every message names the response. Nearly every one has one output with a piece of text."""
        events: list[Event] = []
        if not self.named:
            events += self.start(payload.get("id"), payload.get("model"))
        for output in payload.get("outputs", ())[:MAX_CHOICES]:
            events += self._output(output or {})
        if payload.get("usage"):
            events += self.usage.read(payload["usage"])
        return tuple(events)

    def _output(self, output: dict[str, Any]) -> Events:
        index, delta = choice_index(output.get("index", 0)), output.get("delta") or {}
        if delta.get("role") == _ROLE_TOOL:
            self._runs_tools = True
            return NOTHING  # what a tool came back with is no output of the model
        calls = [call or {} for call in delta.get("tool_calls", ())]
        own = [call for call in calls if call.get("type") in _OF_THE_APPLICATION]
        if len(own) < len(calls):
            self._runs_tools = True
        choice = self._choice_of(index)
        thought = delta.get("reasoning_content")
        answer = delta.get("content") or len(own) < len(calls) or (delta.get("unlisted") and not (thought or own))
        events = chunk_of(answer, thought, choice)
        if own:
            self._calling.add(choice)
            events += tool_calls(_arguments(own, index), choice, counted=bool(events))
        reason = output.get("finish_reason")
        return events + self._finish(reason, index, choice) if reason else events

    def _choice_of(self, index: int) -> int:
        """The choice of an output. If the server runs tools, an output goes on where one without a reason stopped."""
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = self._next_choice() if self._runs_tools else index
        return choice

    def _next_choice(self) -> int:
        last = max(self._choices.values(), default=0)
        return last + (last in self._finished)

    def _finish(self, reason: int, index: int, choice: int) -> Events:
        """The end of a choice, unless a later output goes on with it, or will when the server has run its tools."""
        if any(other > index and its == choice for other, its in self._choices.items()):
            return NOTHING
        if reason == _CALLS and self._runs_tools and choice not in self._calling:
            return NOTHING
        self._finished.add(choice)
        return self.finish(_REASONS.get(reason, f"REASON_{reason}"), choice)


def _arguments(calls: Iterable[dict[str, Any]], index: int) -> list[tuple[str, Any]]:
    """The calls of the application's tools. A call comes whole, so that its id tells it."""
    return [
        (f"{index}.{call.get('id') or place}", (call.get("function") or {}).get("arguments", ""))
        for place, call in enumerate(calls)
    ]
