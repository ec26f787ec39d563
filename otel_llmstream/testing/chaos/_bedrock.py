"""Amazon Bedrock: ConverseStream, and InvokeModelWithResponseStream with an Anthropic model."""

from base64 import b64encode
from typing import Any

from . import _eventstream as aws
from ._endpoints import Endpoint
from ._messages import Message
from ._reply import INPUT_TOKENS, Finish, Reply, ReplySpec
from ._sse import compact

_STOP_REASONS = {
    Finish.STOP: "end_turn",
    Finish.LENGTH: "max_tokens",
    Finish.FILTER: "guardrail_intervened",
    Finish.TOOLS: "tool_use",
}
_PADDING = "abcdefghijklm"


def _event(name: str, **fields: Any) -> bytes:
    return aws.event(name, compact({**fields, "p": _PADDING}))


class _EventStreamReply(Reply):
    """A reply in messages of an AWS event stream.

    The template is a payload instead of a frame, because a message ends with a checksum of all its bytes.
    """

    content_type = aws.CONTENT_TYPE

    def chunks(self, count: int) -> list[bytes]:
        return [self.message(payload) for payload in super().chunks(count)]

    def message(self, payload: bytes) -> bytes:
        """The message of an output chunk's payload."""
        raise NotImplementedError

    def error(self) -> bytes:
        return aws.exception("throttlingException", "Too many tokens, please wait before trying again.")

    def flat_error(self) -> bytes:
        return aws.error("InternalError", "The server had an error.")


def _corrupted(message: bytes) -> bytes:
    """The message with one changed byte in its payload. So its checksum is wrong and its length is right."""
    return message[:-5] + bytes([message[-5] ^ 1]) + message[-4:]


class Converse(_EventStreamReply):
    """Text in ``contentBlockDelta`` events."""

    endpoint = Endpoint.CONVERSE
    malformed = _corrupted(_event("contentBlockDelta", contentBlockIndex=0, delta={"text": "?"}))

    def opening(self) -> list[bytes]:
        return [_event("messageStart", role="assistant")]

    def template(self) -> bytes:
        return compact({"contentBlockIndex": 0, "delta": {"text": "%(text)b"}, "p": _PADDING})

    def message(self, payload: bytes) -> bytes:
        return aws.event("contentBlockDelta", payload)

    def closing(self) -> list[bytes]:
        stop = _event("messageStop", stopReason=_STOP_REASONS[self.spec.finish])
        return [_event("contentBlockStop", contentBlockIndex=0), stop]

    @property
    def terminator(self) -> bytes:  # type: ignore[override]
        """The event with the token counts, which is the last one."""
        return _event("metadata", usage=self._usage(), metrics={"latencyMs": 7})

    def answer(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": [{"text": self.text}]}
        stop = _STOP_REASONS[self.spec.finish]
        return {"output": {"message": message}, "stopReason": stop, "usage": self._usage()}

    def _usage(self) -> dict[str, int]:
        made = self.output_tokens
        return {"inputTokens": INPUT_TOKENS, "outputTokens": made, "totalTokens": INPUT_TOKENS + made}


class Invoke(_EventStreamReply):
    """The events of Anthropic Messages, each inside a ``chunk`` event."""

    endpoint = Endpoint.INVOKE
    malformed = _corrupted(_event("chunk", bytes=b64encode(b'{"type":"ping"}').decode()))

    def __init__(self, spec: ReplySpec) -> None:
        super().__init__(spec)
        self._inner = Message(spec)
        self._inner._words_sent = self._words_sent  # noqa: SLF001 - both objects share the words sent so far

    def opening(self) -> list[bytes]:
        return [self.message(_payload(frame)) for frame in self._inner.opening()]

    def template(self) -> bytes:
        return _payload(self._inner.template())

    def message(self, payload: bytes) -> bytes:
        return _event("chunk", bytes=b64encode(payload).decode())

    def closing(self) -> list[bytes]:
        return [self.message(_payload(frame)) for frame in self._inner.closing()]

    @property
    def terminator(self) -> bytes:  # type: ignore[override]
        """The last event, which includes Bedrock's metrics."""
        counts = {"inputTokenCount": INPUT_TOKENS, "outputTokenCount": self.output_tokens}
        metrics = {**counts, "invocationLatency": 9, "firstByteLatency": 7}
        return self.message(compact({"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics}))

    def answer(self) -> dict[str, Any]:
        return self._inner.answer()


def _payload(frame: bytes) -> bytes:
    """The JSON of a server-sent event."""
    return frame.partition(b"data: ")[2].removesuffix(b"\n\n")
