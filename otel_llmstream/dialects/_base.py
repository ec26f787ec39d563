"""What a dialect is, and what all dialects share.

`Dialect` is what the rest of the package sees. `JSONDialect` reads frames that are JSON: it owns decoding, malformed
payloads, errors in the stream, and the one rule for frames that are only output. `TypedJSONDialect` is for dialects
whose frames are events with a type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from ..core.events import (
    FOREIGN_TERMINATOR,
    MALFORMED,
    NOTHING,
    ONE_CHUNK,
    ONE_REASONING,
    TERMINATOR,
    Chunk,
    Event,
    Finish,
    ForeignTerminator,
    InBandError,
    Malformed,
    NoOtherEnd,
    NoTerminator,
    Started,
    ToolCall,
    UnknownDialect,
)
from ..wire import Frame
from ._chunk_template import ChunkTemplate, Open, open_members
from ._errors import (
    broken_error,
    business_error,
    decode_first,
    describe_error,
    error_of,
    exception_of,
    hidden_error,
    is_error,
    said,
    whole_error,
)
from ._finish_words import normal_reason
from ._json import BROKEN, decode_each, is_json, text
from ._matching import RequestMatcher
from ._output import unlisted_output
from ._request_body import MAX_CHOICES
from ._usage import UsageFields

DONE: Final = b"[DONE]"
"""The terminator of many dialects. SDKs stop at any payload that starts with it."""

ERROR_EVENT: Final = b"error"

GIVEN_UP: Final = frozenset(
    (
        "error",  # OpenRouter (docs, "Errors and debugging"), Mistral (OpenAPI), vLLM (v1/engine), Cohere, watsonx.ai
        "abort",  # vLLM (v1/engine: FINISH_REASON_STRINGS), SGLang (managers/schedule_batch: FINISH_ABORT)
        "network_error",  # z.ai (docs, chat completion: finish_reason)
        "insufficient_system_resource",  # DeepSeek (docs, create chat completion: finish_reason)
    )
)
"""Finish reasons, in lower case, with which a server says that it gave up. No provider means anything else by them.

They count in all dialects: gateways translate one dialect into another, and leave such a word as it is.
"""

Events = tuple[Event, ...]


class Dialect(RequestMatcher):
    """Reads the frames of one stream. There is one object per stream, which may keep what later frames need.

    A dialect never raises, whatever a server sends: what does not parse is `MALFORMED`, what is unknown says nothing.

    Attributes:
        bare_events: name of an event without data -> what it says. Of such events, `read` gets no others.
        texts: names of the members that have the text of a chunk, if it is JSON. Whether a payload is output may depend
            on whether such a text is empty, and on nothing else of it.
    """

    __slots__ = ()

    bare_events: ClassVar[Mapping[bytes, Events]] = {}
    texts: ClassVar[tuple[str, ...]] = ()

    def read(self, frame: Frame) -> Events:
        """What a frame says."""
        raise NotImplementedError

    def understands(self, frame: Frame) -> bool:
        """Whether a first frame means something to this dialect. Names alone do not: a `model` may be anybody's."""
        return any(not isinstance(event, _MEANS_LITTLE) for event in self.read(frame))

    @classmethod
    def reads_like(cls, other: type[Dialect]) -> bool:
        """Whether this dialect reads the payloads of another one: it is the same, or a variant of it."""
        return issubclass(cls, other)

    def is_whole(self, frame: Frame, events: Events) -> bool:  # noqa: ARG002 - for dialects that read any payload
        """Whether the last frame is whole, if only the end of the body completes it.

        Args:
            frame: the frame.
            events: what it says.
        """
        return MALFORMED not in events

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """The short cut for many frames at once: whether `read` would answer `ONE_CHUNK` to each payload.

        If the dialect counts in every frame, the last payload may also say what it counts. All frames have the event
        type of the frame that was read last. The call changes nothing. False is always a right answer that costs time.
        """
        raise NotImplementedError

    def chunk_template(self, read: bytes, payload: bytes) -> ChunkTemplate | None:  # noqa: ARG002 - for JSON
        """What further chunks may have in common with one chunk, if they can be told by that.

        It holds until `read` is called again.

        Args:
            read: the bytes that it came in.
            payload: the chunk's payload; `is_output_only` holds for it.
        """
        return None


_MEANS_LITTLE: Final = (Started, Malformed, NoTerminator, NoOtherEnd, UnknownDialect, ForeignTerminator)


class Payload(msgspec.Struct, gc=False):
    """The fields of a payload that matter. A dialect adds its own.

    A field whose type may differ is `Any`: a surprise in one field must not hide the others.
    """

    error: Any = None


class JSONDialect(Dialect):
    """Reads frames that are JSON objects.

    A dialect states `payload`, `finish_words` and what `RequestMatcher` asks for. It writes `is_output`, which says
    whether a payload is output and nothing else, and `interpret`, which reads all other payloads.

    Attributes:
        payload: the struct that payloads are decoded into.
        finish_words: the provider's word, in lower case -> the normal finish reason. See `normal_reason` for others.
        failure_words: finish words, in lower case, that mean that the stream failed, beside those of `GIVEN_UP`.
        usage: what the token counts are called.
        error_types: types of a payload that only say that it is an error.
        terminator: how the payload begins that ends a stream and is no JSON, or None.
        preface: events that come before those of the first frame.
        delta: the names of the members that lead to what is output; see `unlisted_output`. Empty if all is listed.
        listed: names of the delta's members that the dialect reads itself.
        named: whether `start` has named the response.
    """

    __slots__ = ("_begun", "_short", "named")

    payload: ClassVar[type[Payload]]
    finish_words: ClassVar[Mapping[str, str]] = {}
    failure_words: ClassVar[frozenset[str]] = frozenset()
    usage: ClassVar[UsageFields] = UsageFields()
    error_types: ClassVar[tuple[str, ...]] = ("error",)
    terminator: ClassVar[bytes | None] = None
    preface: ClassVar[Events] = NOTHING
    delta: ClassVar[tuple[str, ...]] = ()
    listed: ClassVar[frozenset[str]] = frozenset()

    decoder: ClassVar[msgspec.json.Decoder[Any]]
    _varying: ClassVar[tuple[Open, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Make the decoder."""
        super().__init_subclass__()
        if "payload" in cls.__dict__:
            cls.decoder = msgspec.json.Decoder(cls.payload)
        if "texts" in cls.__dict__:
            cls._varying = open_members(cls.texts)

    def __init__(self) -> None:
        self._begun = not self.preface
        self._short = self._begun and not self.counts_in_every_frame  # whether `is_output` is all that is to be known
        self.named = False

    @classmethod
    def reads_like(cls, other: type[Dialect]) -> bool:
        """See `Dialect`."""
        return cls.payload is getattr(other, "payload", None) or super().reads_like(other)

    # --- what a dialect writes ----------------------------------------------------------------------------------

    def is_output(self, payload: Any) -> object:  # noqa: ARG002 - see the class
        """Whether a payload is a piece of the first choice's answer and says nothing else, by the truth of the result.

        Reasoning and tool calls are output too, but `interpret` reads them. This method changes nothing. It is called
        for every chunk: do not pay for a `bool()`.

        This is the one rule for such payloads: frames that are read one by one and frames that are read at once
        follow it. A false value is always a right answer that costs time.
        """
        return False

    def interpret(self, payload: Any, frame: Frame) -> Events:
        """What a payload says, its errors left out."""
        raise NotImplementedError

    def find_error(self, payload: Any, frame: Frame) -> InBandError | None:
        """The error that a payload reports: its member `error`, or the payload of an event that is called `error`."""
        if payload.error and is_error(payload.error):
            return error_of(decode_first(frame.data)) or describe_error(payload.error)
        return self.whole_error(frame) if self.is_error_event(payload, frame) else None

    def is_error_event(self, payload: Any, frame: Frame) -> bool:  # noqa: ARG002 - for events with a type
        """Whether a payload is an error as a whole."""
        return frame.event == ERROR_EVENT

    def whole_error(self, frame: Frame) -> InBandError:
        """The error that a payload is as a whole, unless it has one as a member."""
        payload = decode_first(frame.data)
        return error_of(payload) or whole_error(payload, self.error_types)

    def oversized(self, frame: Frame) -> Events:  # noqa: ARG002 - for dialects whose last event repeats the output
        """What a frame says that was too large to keep. Only output is that large."""
        return ONE_CHUNK

    # --- what it calls ------------------------------------------------------------------------------------------

    def start(self, response_id: Any, model: Any, extra: tuple[tuple[str, str], ...] = ()) -> Events:
        """The response's name, if it is the first one."""
        if self.named or not (response_id or model):
            return NOTHING
        self.named = True
        return (started(response_id, model, extra),)

    def finish(self, word: Any, index: int = 0, *, cause: Any = None) -> Events:
        """The end of a choice, if there is a word for it.

        Args:
            word: the provider's finish reason.
            index: the choice.
            cause: what the normal reason follows from, if that is not the word itself.
        """
        reason = said(word)
        if not reason:
            return NOTHING
        return (Finish(index, reason, normal_reason(said(cause) or reason, self.finish_words)),)

    # --- the reading --------------------------------------------------------------------------------------------

    def read(self, frame: Frame) -> Events:
        """What a frame says."""
        if frame.data == DONE:  # it is no JSON: an exception costs more
            events = self._unreadable(frame)
            return events if self._begun else self._begin(events)
        try:
            payload = self.decoder.decode(frame.data)
            if self._short and self.is_output(payload):
                return ONE_CHUNK  # nearly every frame
            events = self._interpret(payload, frame)
        except BROKEN:
            events = self._unreadable(frame)
        return events if self._begun else self._begin(events)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is output and says nothing else."""
        found = decode_each(self.decoder.decode, payloads) if self._begun else None
        return found is not None and self.are_output(found)

    def are_output(self, payloads: Sequence[Any]) -> bool:
        """Whether `is_output` holds for each payload."""
        for payload in payloads:  # noqa: SIM110 - half the time of `all` with a generator
            if not self.is_output(payload):
                return False
        return True

    def chunk_template(self, read: bytes, payload: bytes) -> ChunkTemplate | None:
        """See `Dialect`."""
        if self.counts_in_every_frame:
            return None
        found = ChunkTemplate(read, payload, self._varying)
        return found if found.is_useful else None

    def _begin(self, events: Events) -> Events:
        if MALFORMED in events:
            return events  # it may be read again, repaired
        self._begun = True
        self._short = not self.counts_in_every_frame
        return (*self.preface, *events) if self.preface else events

    def _unreadable(self, frame: Frame) -> Events:
        """What a payload says that is not decoded: no JSON, or JSON of another shape."""
        if not frame.data and frame.event in self.bare_events:
            return self.bare_events[frame.event]
        if is_done(frame.data):
            return (FOREIGN_TERMINATOR,) if self.terminator is None else (TERMINATOR,)
        if frame.oversized:
            return self.oversized(frame)
        error = self.whole_error(frame) if frame.event == ERROR_EVENT else exception_of(frame)
        if error is None and not is_json(frame.data):
            broken = broken_error(frame.data)
            return (MALFORMED,) if broken is None else (MALFORMED, broken)
        error = error or hidden_error(frame.data)
        return (error,) if error is not None else NOTHING

    def _interpret(self, payload: Any, frame: Frame) -> Events:
        events = self.interpret(payload, frame)
        error = exception_of(frame) or self.find_error(payload, frame)
        if error is None and len(events) == 1 and isinstance(events[0], Chunk):
            return events  # most frames that are not plain
        error = self._error(error, frame, events)
        if error is None:
            return self._with_unlisted(events, payload, frame) if self.delta else events
        end = len(events) - (TERMINATOR in events[-1:])  # nothing counts after a terminator
        return (*events[:end], error, *events[end:])

    def _error(self, error: InBandError | None, frame: Frame, events: Events) -> InBandError | None:
        """The error that a payload reports, or that a finish reason is the word for. An error object says more."""
        if error is None:
            error = business_error(frame.data) if events else hidden_error(frame.data)
        for event in events:
            if isinstance(event, Finish) and self._has_failed(event) and (error is None or not error.code):
                return InBandError(event.reason, "" if error is None else error.message)
        return error

    def _has_failed(self, event: Finish) -> bool:
        word = event.reason.lower().rpartition(": ")[2]  # a gateway may write before it where the word comes from
        return word in GIVEN_UP or word in self.failure_words

    def _with_unlisted(self, events: Events, payload: Any, frame: Frame) -> Events:
        """The events, with output in members that are not listed if there is no other."""
        if not self.may_have_output(payload, frame) or any(isinstance(event, Chunk) for event in events):
            return events
        found = unlisted_output(frame.data, self.delta, self.listed)
        return (*found, *events) if found else events

    def may_have_output(self, payload: Any, frame: Frame) -> bool:  # noqa: ARG002 - for events with a type
        """Whether a payload is of a kind that carries output."""
        return True


class TypedPayload(Payload, gc=False):
    """The payload of an event with a type."""

    type: Any = None


Handler = Callable[[Any, Any], Events]


class TypedJSONDialect(JSONDialect):
    """Reads events that have a type, in the payload or as the event's name.

    Attributes:
        output_types: types whose payload is output, if `has_output` says so.
        handlers: type -> the method that reads the payload. Types that are in neither say nothing.
    """

    __slots__ = ()

    output_types: ClassVar[tuple[str, ...]] = ()
    handlers: ClassVar[Mapping[str, Handler]] = {}

    def has_output(self, payload: Any) -> object:
        """Whether the payload of an event of `output_types` has output in it, by the truth of what it returns."""
        raise NotImplementedError

    def is_output(self, payload: Any) -> object:
        """See `JSONDialect`."""
        return payload.type in self.output_types and not payload.error and self.has_output(payload)

    def interpret(self, payload: Any, frame: Frame) -> Events:
        """See `JSONDialect`."""
        kind = self.type_of(payload, frame)
        handler = self.handlers.get(kind)
        if handler is not None:
            return handler(self, payload)
        return chunk_if(kind in self.output_types and self.has_output(payload))

    def is_error_event(self, payload: Any, frame: Frame) -> bool:
        """See `JSONDialect`."""
        return super().is_error_event(payload, frame) or self.type_of(payload, frame) in self.error_types

    def may_have_output(self, payload: Any, frame: Frame) -> bool:
        """See `JSONDialect`."""
        return self.type_of(payload, frame) in self.output_types

    def type_of(self, payload: Any, frame: Frame) -> str:
        """The type of an event. Some senders leave it out of the payload, others out of the event's name."""
        return payload.type if isinstance(payload.type, str) else frame.event.decode(errors="replace")

    def end(self, _payload: Any) -> Events:
        """A handler for the event that ends the stream and says nothing else."""
        return (TERMINATOR,)


def started(response_id: Any, model: Any, extra: tuple[tuple[str, str], ...] = ()) -> Started:
    """The name of a response, from members of any type."""
    return Started(text(response_id) or None, text(model) or None, extra)


def choice_index(value: Any) -> int:
    """The index of a choice. An index that no stream can have counts as the first one: no state grows with it."""
    return value if isinstance(value, int) and 0 <= value < MAX_CHOICES else 0


def chunk(index: int, *, is_answer: bool = True) -> Events:
    """A chunk of one choice."""
    if index:
        return (Chunk(index, is_answer),)
    return ONE_CHUNK if is_answer else ONE_REASONING


def chunk_if(output: object) -> Events:
    """A chunk of the first choice if there is output."""
    return ONE_CHUNK if output else NOTHING


def chunk_of(answer: object, reasoning: object, index: int = 0) -> Events:
    """A chunk of one choice, if there is output. Output of both kinds in one frame is a piece of the answer."""
    return chunk(index, is_answer=bool(answer)) if answer or reasoning else NOTHING


def tool_calls(calls: Iterable[tuple[str, Any]], index: int = 0, *, counted: bool = False) -> Events:
    """Tool calls of one choice, or pieces of them, as events. They are one chunk.

    Args:
        calls: the key of each call, and the next piece of its arguments. Arguments that are no text are complete.
        index: the choice.
        counted: whether another event of the frame is the chunk already.
    """
    events: list[Event] = []
    for key, arguments in calls:
        piece = arguments if isinstance(arguments, str) else ""
        events.append(ToolCall(index, key=key, arguments=piece, counted=counted or bool(events)))
    return tuple(events)


def is_done(data: bytes) -> bool:
    """Whether a payload is `[DONE]`, or begins with it. Some servers write it as a JSON string."""
    return data.lstrip(b' "').startswith(DONE)
