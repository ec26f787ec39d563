"""Agents, flows and knowledge bases of Amazon Bedrock: event streams of AWS, whose headers name the events.

Agents (`InvokeAgent`, `InvokeInlineAgent`) mark no end: the body ends. `returnControl` hands a tool call back to the
client, and is a soft sign of the end. Only traces tell models and tokens, and the request must ask for them.

Flows (`InvokeFlow`) end with `flowCompletionEvent`. Knowledge bases mark no end, or end with `result`.

An exception is a message of a type of its own, as in all event streams of AWS.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .. import semconv
from ..core.events import NO_TERMINATOR, NOTHING, ONE_CHUNK, SOFT_END, TERMINATOR
from ..wire import Frame
from ._base import Events, Payload
from ._bedrock import PROVIDER, NamedEvents
from ._errors import said
from ._json import BROKEN, count, entry
from ._matching import StreamFlag
from ._request import RequestInfo
from ._request_body import BodyLayout
from ._usage import UsageFields
from .bedrock_invoke import BedrockInvoke

_CHUNK: Final = b"chunk"
_TRACE: Final = (b'"sessionId"', b'"trace"')
"""Members of every trace of an agent."""


class _AgentPayload(Payload, gc=False, rename={"inner": "bytes"}):
    inner: bytes = b""
    trace: Any = None


class BedrockAgent(NamedEvents):
    """One answer of an agent. The request names no model; a trace may name one."""

    __slots__ = ("_input", "_output")

    name = "bedrock.agent"
    paths = ("/agents/{}/agentAliases/{}/sessions/{}/text", "/agents/{}")
    own_path = False
    stream_flag = StreamFlag.IGNORED
    operation = "invoke_agent"
    provider = PROVIDER
    body = BodyLayout(content=("foundationModel", "instruction"))
    first_events = (b"returnControl",)
    payload = _AgentPayload
    preface = (NO_TERMINATOR,)
    output_types = ("chunk",)
    finish_words = {"returncontrol": semconv.PAUSE}
    usage = UsageFields(input=("inputTokens",), output=("outputTokens",))

    def __init__(self) -> None:
        super().__init__()
        self._input = self._output = 0

    @classmethod
    def streams(cls, request: RequestInfo) -> bool:
        """An agent that the request describes has a path where other things may be."""
        return request.path.endswith("/text") or cls.has_members(request, "foundationModel", "instruction")

    @classmethod
    def is_confirmed(cls, request: RequestInfo) -> bool:
        """The path of an agent that has a name shows that an agent answers."""
        return request.path.endswith("/text") or super().is_confirmed(request)

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A chunk of plain text, a trace, or control that is returned. A chunk of JSON may be another model's."""
        if frame.event == _CHUNK:
            try:
                inner = cls.decoder.decode(frame.data).inner.lstrip()
            except BROKEN:
                return False
            return bool(inner) and not inner.startswith(b"{") and not BedrockInvoke.matches_frame(frame)
        is_trace = frame.event == b"trace" and all(mark in frame.data for mark in _TRACE)
        return is_trace or super().matches_frame(frame)

    def has_output(self, payload: _AgentPayload) -> object:
        """A piece of the answer, or all of it."""
        return payload.inner

    def _files(self, _payload: _AgentPayload) -> Events:
        return ONE_CHUNK

    def _return_control(self, _payload: _AgentPayload) -> Events:
        return (*self.finish("returnControl"), SOFT_END)

    def _trace(self, payload: _AgentPayload) -> Events:
        """A step of the agent may have asked a model. The tokens of all steps are added."""
        steps = payload.trace.values() if isinstance(payload.trace, dict) else ()
        step = next((it for it in steps if isinstance(it, dict)), None)
        named = self.start(None, entry(entry(step, "modelInvocationInput"), "foundationModel"))
        counts = entry(entry(entry(step, "modelInvocationOutput"), "metadata"), "usage")
        if not isinstance(counts, dict):
            return named
        self._input += count(counts.get("inputTokens")) or 0
        self._output += count(counts.get("outputTokens")) or 0
        return (*named, *self.usage.read({"inputTokens": self._input, "outputTokens": self._output}))

    def oversized(self, frame: Frame) -> Events:
        """A trace may be long."""
        return NOTHING if frame.event == b"trace" else ONE_CHUNK

    handlers = {"files": _files, "returnControl": _return_control, "trace": _trace}


class _FlowPayload(Payload, gc=False):
    content: Any = None
    completionReason: Any = None  # noqa: N815 - the wire's word


class BedrockFlow(NamedEvents):
    """One run of a flow. The protocol names no model and no tokens."""

    __slots__ = ()

    name = "bedrock.flow"
    paths = ("/flows/{}/aliases/{}",)
    own_path = False
    stream_flag = StreamFlag.IGNORED
    operation = "invoke_agent"
    provider = PROVIDER
    first_events = (b"flowOutputEvent", b"flowTraceEvent", b"flowMultiTurnInputRequestEvent", b"flowCompletionEvent")
    payload = _FlowPayload
    output_types = ("flowOutputEvent", "flowMultiTurnInputRequestEvent")
    finish_words = {"success": semconv.STOP, "input_required": semconv.PAUSE}

    def has_output(self, payload: _FlowPayload) -> object:
        """What a node writes, or what it asks the client."""
        return entry(payload.content, "document")

    def _completed(self, payload: _FlowPayload) -> Events:
        return (*self.finish(payload.completionReason), TERMINATOR)

    def oversized(self, frame: Frame) -> Events:
        """A trace may be long."""
        return NOTHING if frame.event == b"flowTraceEvent" else ONE_CHUNK

    handlers = {"flowCompletionEvent": _completed}


class _AnswerPayload(Payload, gc=False):
    text: Any = None
    action: Any = None


class BedrockKnowledgeBase(NamedEvents):
    """One answer out of a knowledge base. The protocol names no model and no tokens."""

    __slots__ = ()

    name = "bedrock.knowledge_base"
    paths = ("/retrieveAndGenerateStream", "/agenticRetrieveStream")
    stream_flag = StreamFlag.IGNORED
    provider = PROVIDER
    payload = _AnswerPayload
    preface = (NO_TERMINATOR,)
    output_types = ("output", "responseEvent")
    finish_words = {"intervened": semconv.CONTENT_FILTER}

    first_payload = (re.compile(rb'\A\{\s*"text"\s*:\s*"'),)

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A text. Replicate's first event has the same name, and its text is no JSON."""
        return frame.event in (b"output", b"responseEvent") and super().matches_frame(frame)

    def has_output(self, payload: _AnswerPayload) -> object:
        """A piece of the answer."""
        return payload.text

    def _guardrail(self, payload: _AnswerPayload) -> Events:
        word = said(payload.action)
        return (*self.finish(word), SOFT_END) if word == "INTERVENED" else NOTHING

    def oversized(self, frame: Frame) -> Events:
        """What was retrieved may be long."""
        return ONE_CHUNK if frame.event.decode(errors="replace") in self.output_types else NOTHING

    handlers = {"guardrail": _guardrail, "result": NamedEvents.end}
