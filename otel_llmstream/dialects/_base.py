"""What a dialect is, and what all dialects share.

`Dialect` is what the rest of the package sees. `JSONDialect` reads frames that are JSON: it owns decoding, malformed
payloads, errors in the stream, and the one rule for frames that are only output. `TypedJSONDialect` is for dialects
whose frames are events with a type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import (
    MALFORMED,
    NOTHING,
    ONE_CHUNK,
    TERMINATOR,
    Chunk,
    Event,
    Finish,
    InBandError,
    Malformed,
    NoTerminator,
    Started,
    UnknownDialect,
)
from ..wire import Frame
from ._json import BROKEN, decode_each, entry, is_json, text
from ._matching import RequestMatcher
from ._request_body import MAX_CHOICES
from ._usage import UsageFields

DONE: Final = b"[DONE]"
"""The terminator of many dialects. SDKs stop at any payload that starts with it."""

Events = tuple[Event, ...]


class Dialect(RequestMatcher):
    """Reads the frames of one stream. There is one object per stream, which may keep what later frames need.

    A dialect never raises, whatever a server sends: what does not parse is `MALFORMED`, what is unknown says nothing.
    """

    __slots__ = ()

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

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """The short cut for many frames at once: whether `read` would answer `ONE_CHUNK` to each payload.

        If the dialect counts in every frame, the last payload may also say what it counts. All frames have the event
        type of the frame that was read last. The call changes nothing. False is always a right answer that costs time.
        """
        raise NotImplementedError


_MEANS_LITTLE: Final = (Started, Malformed, NoTerminator, UnknownDialect)


class Payload(msgspec.Struct, gc=False):
    """The fields of a payload that matter. A dialect adds its own.

    A field whose type may differ is `Any`: a surprise in one field must not hide the others.
    """

    error: Any = None


class BareError(msgspec.Struct):
    """A payload that is an error as a whole."""

    code: Any = None
    type: Any = None
    message: Any = None


_decode_bare_error: Final = msgspec.json.Decoder(BareError).decode


class JSONDialect(Dialect):
    """Reads frames that are JSON objects.

    A dialect states `payload`, `finish_words` and what `RequestMatcher` asks for. It writes `is_output`, which says
    whether a payload is output and nothing else, and `interpret`, which reads all other payloads.

    Attributes:
        payload: the struct that payloads are decoded into.
        finish_words: the provider's word, in lower case -> the normal finish reason. Other words are `other`.
        failure_words: finish words, in lower case, that mean that the stream failed.
        usage: what the token counts are called.
        terminator: how the payload begins that ends a stream and is no JSON, or None.
        preface: events that come before those of the first frame.
        named: whether `start` has named the response.
        tool_called: whether the output asked for a tool. A dialect sets it if the provider then says `stop`.
    """

    __slots__ = ("_begun", "_short", "named", "tool_called")

    payload: ClassVar[type[Payload]]
    finish_words: ClassVar[Mapping[str, str]] = {}
    failure_words: ClassVar[frozenset[str]] = frozenset()
    usage: ClassVar[UsageFields] = UsageFields()
    terminator: ClassVar[bytes | None] = None
    preface: ClassVar[Events] = NOTHING

    decoder: ClassVar[msgspec.json.Decoder[Any]]

    def __init_subclass__(cls) -> None:
        """Make the decoder."""
        super().__init_subclass__()
        if "payload" in cls.__dict__:
            cls.decoder = msgspec.json.Decoder(cls.payload)

    def __init__(self) -> None:
        self._begun = not self.preface
        self._short = self._begun and not self.counts_in_every_frame  # whether `is_output` is all that is to be known
        self.named = False
        self.tool_called = False

    @classmethod
    def reads_like(cls, other: type[Dialect]) -> bool:
        """See `Dialect`."""
        return cls.payload is getattr(other, "payload", None) or super().reads_like(other)

    # --- what a dialect writes ----------------------------------------------------------------------------------

    def is_output(self, payload: Any) -> object:  # noqa: ARG002 - see the class
        """Whether a payload is output of the first choice and says nothing else, by the truth of what it returns.

        It changes nothing. It is called for every chunk: do not pay for a `bool()`.

        This is the one rule for such payloads: frames that are read one by one and frames that are read at once
        follow it. A false value is always a right answer that costs time.
        """
        return False

    def interpret(self, payload: Any, frame: Frame) -> Events:
        """What a payload says, its errors left out."""
        raise NotImplementedError

    def find_error(self, payload: Any, frame: Frame) -> InBandError | None:
        """The error that a payload reports: its member `error`, or the payload of an event that is called `error`."""
        if payload.error:
            return self.describe_error(payload.error)
        return bare_error(frame) if frame.event == b"error" else None

    def describe_error(self, error: Any) -> InBandError:
        """An error as an event, whatever its shape is: an object, a string, a number.

        A code that is a word says more than the type. The type says more than a number that repeats an HTTP status.
        """
        return in_band_error(error)

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
        if not word:
            return NOTHING
        reason = text(word)
        normal = self.finish_words.get((text(cause) or reason).lower(), semconv.OTHER_REASON)
        if self.tool_called and normal == semconv.STOP:
            normal = semconv.TOOL_CALLS
        return (Finish(index, reason, normal),)

    # --- the reading --------------------------------------------------------------------------------------------

    def read(self, frame: Frame) -> Events:
        """What a frame says."""
        try:
            payload = self.decoder.decode(frame.data)
            if self._short and self.is_output(payload):
                return ONE_CHUNK  # nearly every frame
            events = self._interpret(payload, frame)
        except msgspec.ValidationError:
            events = NOTHING if is_json(frame.data) else self._unreadable(frame)
        except BROKEN:
            events = self._unreadable(frame)
        return events if self._begun else self._begin(events)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is output and says nothing else."""
        found = decode_each(self.decoder.decode_lines, payloads) if self._begun else None
        return found is not None and self.are_output(found)

    def are_output(self, payloads: Sequence[Any]) -> bool:
        """Whether `is_output` holds for each payload."""
        for payload in payloads:  # noqa: SIM110 - half the time of `all` with a generator
            if not self.is_output(payload):
                return False
        return True

    def _begin(self, events: Events) -> Events:
        if MALFORMED in events:
            return events  # it may be read again, repaired
        self._begun = True
        self._short = not self.counts_in_every_frame
        return (*self.preface, *events) if self.preface else events

    def _unreadable(self, frame: Frame) -> Events:
        if self.terminator is not None and frame.data.startswith(self.terminator):
            return (TERMINATOR,)
        return self.oversized(frame) if frame.oversized else (MALFORMED,)

    def _interpret(self, payload: Any, frame: Frame) -> Events:
        events = self.interpret(payload, frame)
        error = self.find_error(payload, frame)
        if error is None and self.failure_words:
            error = self._failure(events)
        if error is None:
            return events
        end = len(events) - (TERMINATOR in events[-1:])  # nothing counts after a terminator
        return (*events[:end], error, *events[end:])

    def _failure(self, events: Events) -> InBandError | None:
        """The error that a finish reason is the word for. An error object, if there is one, says more."""
        words = (event.reason for event in events if isinstance(event, Finish))
        return next((InBandError(word) for word in words if word.lower() in self.failure_words), None)


class TypedPayload(Payload, gc=False):
    """The payload of an event with a type."""

    type: Any = None


Handler = Callable[[Any, Any], Events]


class TypedJSONDialect(JSONDialect):
    """Reads events that have a type, in the payload or as the event's name.

    Attributes:
        output_types: types whose payload is output, if `has_output` says so.
        error_types: types whose payload is an error.
        handlers: type -> the method that reads the payload. Types that are in neither say nothing.
    """

    __slots__ = ()

    output_types: ClassVar[tuple[str, ...]] = ()
    error_types: ClassVar[tuple[str, ...]] = ("error",)
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

    def find_error(self, payload: Any, frame: Frame) -> InBandError | None:
        """See `JSONDialect`."""
        if payload.error:
            return self.describe_error(payload.error)
        return bare_error(frame, self.error_types) if self.type_of(payload, frame) in self.error_types else None

    def type_of(self, payload: Any, frame: Frame) -> str:
        """The type of an event. Some senders leave it out of the payload, others out of the event's name."""
        return payload.type if isinstance(payload.type, str) else frame.event.decode(errors="replace")

    def end(self, _payload: Any) -> Events:
        """A handler for the event that ends the stream and says nothing else."""
        return (TERMINATOR,)


def in_band_error(error: Any) -> InBandError:
    """See `JSONDialect.describe_error`."""
    code, kind = text(entry(error, "code")), text(entry(error, "type"))
    word = code if code and not code.isdigit() else kind or code
    return InBandError(word, text(entry(error, "message")) or text(error))


def bare_error(frame: Frame, ignored_types: tuple[str, ...] = ()) -> InBandError:
    """The error that a payload is as a whole. Some types only say that it is one."""
    try:
        found = _decode_bare_error(frame.data)
    except BROKEN:
        found = BareError()
    kind = None if found.type in ignored_types else found.type
    return in_band_error({"code": found.code, "type": kind, "message": found.message})


def started(response_id: Any, model: Any, extra: tuple[tuple[str, str], ...] = ()) -> Started:
    """The name of a response, from members of any type."""
    return Started(text(response_id) or None, text(model) or None, extra)


def choice_index(value: Any) -> int:
    """The index of a choice. An index that no stream can have counts as the first one: no state grows with it."""
    return value if isinstance(value, int) and 0 <= value < MAX_CHOICES else 0


def chunk(index: int) -> Events:
    """A chunk of one choice."""
    return (Chunk(index),) if index else ONE_CHUNK


def chunk_if(output: object) -> Events:
    """A chunk of the first choice if there is output."""
    return ONE_CHUNK if output else NOTHING
