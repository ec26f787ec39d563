"""Encodes server-sent events. In: a JSON value and an event name. Out: the bytes of one frame."""

import json
from typing import Any

COMMENT = b": ping\n\n"
DONE = b"data: [DONE]\n\n"


def compact(value: Any) -> bytes:
    """JSON in the style of the providers: without spaces, and with unescaped UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def frame(data: Any, event: str = "") -> bytes:
    """One event with a JSON value as its data."""
    return frame_of(compact(data), event)


def frame_of(data: bytes, event: str = "") -> bytes:
    """One event with arbitrary bytes as its data."""
    name = f"event: {event}\n".encode() if event else b""
    return b"%bdata: %b\n\n" % (name, data)
