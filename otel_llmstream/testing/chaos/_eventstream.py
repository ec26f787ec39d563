"""AWS event streams. In: an event's name and payload. Out: the bytes of one message, with both its checksums."""

from struct import pack
from zlib import crc32

from ._sse import compact

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7


def event(name: str, payload: bytes) -> bytes:
    """A message that is an event."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return message(headers, payload)


def exception(name: str, text: str) -> bytes:
    """A message that is an exception of the service model."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, compact({"message": text}))


def error(code: str, text: str) -> bytes:
    """A message that is an error outside the service model."""
    return message({":error-code": code, ":error-message": text, ":message-type": "error"}, b"")


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """A message with string headers."""
    coded = b"".join(map(_header, headers, headers.values()))
    lengths = pack(">II", len(coded) + len(payload) + 16, len(coded))
    body = lengths + pack(">I", crc32(lengths)) + coded + payload
    return body + pack(">I", crc32(body))


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return pack(">B", len(name)) + name.encode() + pack(">BH", _STRING, len(text)) + text
