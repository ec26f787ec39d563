"""What the dialects over gRPC share: a table says what the fields of a message are called.

With its table, a protobuf message becomes an object with names, as a JSON payload is. So a dialect whose provider also
speaks JSON can read both by one rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from struct import unpack
from typing import Any, ClassVar, Final

from .. import semconv
from ..core.events import MALFORMED, InBandError
from ..wire import Frame, ProtobufError, ProtobufReader
from ._base import Events, JSONDialect
from ._request import RequestInfo
from ._request_body import RequestBody

Kind = Callable[[ProtobufReader, int | bytes], Any]
"""Reads the value of a field. None if the value has another wire type, so that nothing can be said."""

_FLOAT: Final = 4
_SIGN: Final = 1 << 63


def integer(_reader: ProtobufReader, value: int | bytes) -> int | None:
    """An integer, a flag, or the number of an enumeration's word. Negative ones are ten bytes long."""
    if not isinstance(value, int):
        return None
    return value - (1 << 64) if value >= _SIGN else value


def text(_reader: ProtobufReader, value: int | bytes) -> str | None:
    """A string."""
    return value.decode(errors="replace") if isinstance(value, bytes) else None


def content(_reader: ProtobufReader, value: int | bytes) -> bool:
    """Whether there is something. What it is, telemetry must not know."""
    return bool(value)


def decimal(_reader: ProtobufReader, value: int | bytes) -> float | None:
    """A float of 32 bits, without the digits that such a float cannot have."""
    if not isinstance(value, bytes) or len(value) != _FLOAT:
        return None
    return float(f"{unpack('<f', value)[0]:.7g}")


class Message:
    """The fields of one kind of message.

    Args:
        fields: number -> name and kind. Other fields are not read.
        lists: names of the fields that may be there several times. Of another field the last value counts.
        unlisted: a name for content in fields that are not in the table; empty if it is not looked for. Numbers and
            flags are no content.
    """

    def __init__(
        self, fields: Mapping[int, tuple[str, Kind]], *, lists: Sequence[str] = (), unlisted: str = ""
    ) -> None:
        self._fields = {number: (name, kind, name in lists) for number, (name, kind) in fields.items()}
        self._unlisted = unlisted

    def read(self, data: bytes) -> dict[str, Any]:
        """The named fields of a message.

        Raises:
            ProtobufError: the bytes are no message.
        """
        return self._read(ProtobufReader(), data)

    def __call__(self, reader: ProtobufReader, value: int | bytes) -> dict[str, Any] | None:
        """A message in a message, as a kind of field."""
        return self._read(reader, value) if isinstance(value, bytes) else None

    def _read(self, reader: ProtobufReader, data: bytes) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for number, value in reader.fields(data):
            known = self._fields.get(number)
            if known is None:
                if self._unlisted and value and isinstance(value, bytes):
                    found[self._unlisted] = True
                continue
            name, kind, is_list = known
            if is_list:
                found.setdefault(name, []).append(kind(reader, value))
            else:
                found[name] = kind(reader, value)
        return found


class ProtobufDialect(JSONDialect):
    """Reads frames that are protobuf messages. The path is the method's, and it alone shows that an LLM answers.

    Attributes:
        asked: the request's message. Its names are those of `RequestBody`.
        answered: the response's message.
    """

    __slots__ = ()

    transports = (semconv.GRPC,)
    asked: ClassVar[Message]
    answered: ClassVar[Message]

    # --- the request --------------------------------------------------------------------------------------------

    @classmethod
    def request_fields(cls, request: RequestInfo) -> dict[str, Any]:
        """The fields of the request that are in the table; none if it cannot be read."""
        try:
            return cls.asked.read(request.content or b"")
        except ProtobufError:
            return {}

    @classmethod
    def parameters(cls, request: RequestInfo) -> Any:
        """See `RequestMatcher`."""
        return RequestBody(**cls.request_fields(request))

    @classmethod
    def model_of(cls, request: RequestInfo) -> str | None:
        """See `RequestMatcher`."""
        return cls.request_fields(request).get("model") or None

    # --- the answer ---------------------------------------------------------------------------------------------

    def decode(self, data: bytes) -> Any:
        """The payload of a frame, as `interpret` takes it.

        Raises:
            ProtobufError: the bytes are no message.
        """
        return self.answered.read(data)

    def read(self, frame: Frame) -> Events:
        """What a frame says."""
        if frame.oversized:
            return self.oversized(frame)
        try:
            payload = self.decode(frame.data)
        except ProtobufError:
            return (MALFORMED,)
        return self._interpret(payload, frame)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:  # noqa: ARG002
        """False: a message is read one by one."""
        return False

    def find_error(self, payload: Any, frame: Frame) -> InBandError | None:  # noqa: ARG002
        """None: over gRPC an error is the status of the call, and no message has one."""
        return None
