"""The messages of one answer over a WebSocket, for the three APIs that have one. In: a `ReplySpec`. Out: JSON messages.

A plan decides which of them are sent, and when, as for the replies over HTTP.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from base64 import b64encode
from typing import Any, ClassVar, Final

from ._reply import INPUT_TOKENS, ReplySpec
from ._responses import Response
from ._sse import compact

_DATA: Final = b"data: "
_WORDS: Final = ("Water", "finds", "its", "way", "down", "to", "the", "sea.")


class SocketReply(ABC):
    """The messages of one answer. The plan must ask for them in the order of the stream.

    Args:
        spec: What the answer is.
        lane: The lane that the client named, if the API has lanes with names.
    """

    binary: ClassVar[bool] = False
    """Whether messages go in binary frames."""
    malformed: ClassVar[bytes] = b'{"type":"response.output_text.delta","delta":'
    """A message that is not valid JSON."""

    def __init__(self, spec: ReplySpec, lane: str | None = None) -> None:
        self.spec = spec
        self.lane = lane
        self.sent = 0

    def chunks(self, count: int) -> list[bytes]:
        """The messages of the next output chunks."""
        first = self.sent
        self.sent += count
        return [self.chunk(self._text(number)) for number in range(first, self.sent)]

    def _text(self, number: int) -> str:
        return "x" * self.spec.size if self.spec.size else f" {_WORDS[number % len(_WORDS)]}"

    @abstractmethod
    def opening(self) -> list[bytes]:
        """The messages before the first output chunk."""

    @abstractmethod
    def chunk(self, text: str) -> bytes:
        """The message of one output chunk."""

    @abstractmethod
    def closing(self) -> list[bytes]:
        """The messages after the last output chunk."""

    @abstractmethod
    def error(self) -> list[bytes]:
        """The messages of an answer that fails."""

    @abstractmethod
    def interrupted(self, reason: str) -> list[bytes]:
        """The messages of an answer that is cancelled, because the user spoke or because the client asked for it."""

    @abstractmethod
    def limit(self) -> list[bytes]:
        """What the server says before it ends a connection that is too old."""


class ResponsesReply(SocketReply):
    """The Responses API: the events of the stream over HTTP, each with the lane."""

    def __init__(self, spec: ReplySpec, lane: str | None = None) -> None:
        super().__init__(spec, lane)
        self._inner = Response(spec)

    def _message(self, frame: bytes) -> bytes:
        data = frame.partition(_DATA)[2].strip()
        return data if self.lane is None else b'{"stream_id":%s,%s' % (compact(self.lane), data[1:])

    def opening(self) -> list[bytes]:
        return [self._message(frame) for frame in self._inner.opening()]

    def chunks(self, count: int) -> list[bytes]:
        self.sent += count
        return [self._message(frame) for frame in self._inner.chunks(count)]

    def chunk(self, text: str) -> bytes:
        raise NotImplementedError(text)

    def closing(self) -> list[bytes]:
        return [self._message(frame) for frame in self._inner.closing()]

    def steered(self) -> list[bytes]:
        """The last message of an answer that the client has steered into another direction."""
        response = {**self._inner.answer(), "status": "incomplete", "incomplete_details": {"reason": "steered"}}
        return [self._own("response.incomplete", response=response)]

    def error(self) -> list[bytes]:
        headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2s", "retry-after": "2"}
        error = {"type": "requests", "code": "rate_limit_exceeded", "message": "Rate limit reached.", "param": None}
        return [self._own("error", status=429, error={**error, "headers": headers})]

    def interrupted(self, reason: str) -> list[bytes]:
        raise NotImplementedError(reason)

    def limit(self) -> list[bytes]:
        code = "websocket_connection_limit_reached"
        error = {"type": "invalid_request_error", "code": code, "message": "The connection is 60 minutes old."}
        return [self._own("error", status=400, error=error)]

    def _own(self, kind: str, **fields: Any) -> bytes:
        lane = {} if self.lane is None else {"stream_id": self.lane}
        return compact({"type": kind, **fields, **lane, "sequence_number": self._inner.number()})


class RealtimeReply(SocketReply):
    """The Realtime API: the last event is the same for all ends."""

    @property
    def _id(self) -> str:
        return f"resp_{self.spec.ident}"

    def _event(self, kind: str, **fields: Any) -> bytes:
        return compact({"type": kind, "event_id": f"event_{self.spec.ident}", "response_id": self._id, **fields})

    def _named(self, kind: str, status: str, details: Any = None, usage: Any = None) -> bytes:
        response = {"object": "realtime.response", "id": self._id, "status": status, "status_details": details}
        named = {"type": kind, "event_id": f"event_{self.spec.ident}"}
        return compact({**named, "response": {**response, "output": [], "usage": usage, "metadata": None}})

    def opening(self) -> list[bytes]:
        item = {"id": f"item_{self.spec.ident}", "type": "message", "role": "assistant", "content": []}
        return [
            self._named("response.created", "in_progress"),
            self._event("response.output_item.added", output_index=0, item=item),
            self._event(
                "response.content_part.added", output_index=0, content_index=0, part={"type": "text", "text": ""}
            ),
        ]

    def chunk(self, text: str) -> bytes:
        place = {"item_id": f"item_{self.spec.ident}", "output_index": 0, "content_index": 0}
        return self._event("response.output_text.delta", **place, delta=text)

    def closing(self) -> list[bytes]:
        return [self._event("response.output_text.done", text="..."), *self._done("completed", None), self._limits()]

    def error(self) -> list[bytes]:
        error = {"type": "server_error", "code": "server_error", "message": "The server had an error."}
        return self._done("failed", {"type": "failed", "error": error})

    def interrupted(self, reason: str) -> list[bytes]:
        spoke = compact({"type": "input_audio_buffer.speech_started", "event_id": "event_vad", "audio_start_ms": 1000})
        before = [spoke] if reason == "turn_detected" else []
        return [*before, *self._done("cancelled", {"type": "cancelled", "reason": reason})]

    def limit(self) -> list[bytes]:
        error = {"type": "invalid_request_error", "code": "session_expired", "message": "The session is too old."}
        return [compact({"type": "error", "event_id": "event_limit", "error": error})]

    def stray(self) -> list[bytes]:
        """An error about a message of the client. It is no answer's."""
        error = {"type": "invalid_request_error", "code": "invalid_value", "message": "No such item.", "event_id": "x"}
        return [compact({"type": "error", "event_id": "event_stray", "error": error})]

    def _done(self, status: str, details: Any) -> list[bytes]:
        tokens = {"total_tokens": INPUT_TOKENS + self.sent, "input_tokens": INPUT_TOKENS, "output_tokens": self.sent}
        details_of_input = {"cached_tokens": 4, "text_tokens": INPUT_TOKENS, "audio_tokens": 0}
        usage = {**tokens, "input_token_details": details_of_input, "output_token_details": {"text_tokens": self.sent}}
        return [self._named("response.done", status, details, usage)]

    def _limits(self) -> bytes:
        limit = {"name": "requests", "limit": 1000, "remaining": 999, "reset_seconds": 0.06}
        return compact({"type": "rate_limits.updated", "event_id": "event_limits", "rate_limits": [limit]})


class LiveReply(SocketReply):
    """Gemini Live: binary messages. The turn ends after the generation, and the usage comes with it."""

    binary = True
    malformed = b'{"serverContent": {"modelTurn":'

    def opening(self) -> list[bytes]:
        return []

    def chunk(self, text: str) -> bytes:
        audio = {"mimeType": "audio/pcm;rate=24000", "data": b64encode(text.encode()).decode()}
        return compact({"serverContent": {"modelTurn": {"role": "model", "parts": [{"inlineData": audio}]}}})

    def closing(self) -> list[bytes]:
        return [self.generated(), self.turn_complete()]

    def generated(self) -> bytes:
        """The generation is over."""
        return compact({"serverContent": {"generationComplete": True}})

    def turn_complete(self) -> bytes:
        """The turn is over, with its usage."""
        usage = {"promptTokenCount": INPUT_TOKENS, "responseTokenCount": self.sent, "thoughtsTokenCount": 2}
        return compact({"serverContent": {"turnComplete": True}, "usageMetadata": usage})

    def calls_tool(self) -> list[bytes]:
        """A tool call, for which the model waits."""
        call = {"id": f"call_{self.spec.ident}", "name": "look_up", "args": {"query": "sea"}}
        return [compact({"toolCall": {"functionCalls": [call]}})]

    def error(self) -> list[bytes]:
        content = {"turnComplete": True, "turnCompleteReason": "MALFORMED_FUNCTION_CALL"}
        return [compact({"serverContent": content})]

    def interrupted(self, reason: str) -> list[bytes]:
        assert reason == "turn_detected", "no message of the client cancels a turn"
        return [compact({"serverContent": {"interrupted": True}}), self.turn_complete()]

    def limit(self) -> list[bytes]:
        return [compact({"goAway": {"timeLeft": "0.05s"}})]
