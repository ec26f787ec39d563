"""Errors in a stream: one rule for all JSON dialects.

An error is a truthy member `error` of a payload, or the payload itself if its type or the event's name says so. The
code is the first of `code`, `type` and `status` that is a real word or number. Gateways write `null`, `"None"` or an
empty string into members that they do not know: such a placeholder says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from ..core.events import InBandError
from ..wire import ERROR, EXCEPTION, Frame
from ._json import entry, text

PLACEHOLDERS: Final = frozenset(("", "null", "none", "nil", "undefined", "nan", "n/a"))
"""What languages write for a value that is absent, in lower case."""

_CODES: Final = ("code", "type", "status")
_BESIDE: Final = ("code", "error_code", "error_type", "status", "status_code")
"""Where the code may be if `error` is only a text. The payload's `type` is the event's type, and no code."""
_MESSAGES: Final = ("message", "detail", "msg", "reason")

_BUSINESS: Final = (
    ("base_resp", "status_code", "status_msg"),  # MiniMax
    ("ErrorMsg", "Code", "Msg"),  # Tencent Hunyuan
    ("", "error_code", "error_msg"),  # Baidu Qianfan; "" is the payload itself
    ("", "error_code", "error_message"),  # Coze's workflows
    ("", "error_code", "text"),  # FastChat (serve/openai_api_server.py)
)
"""Errors that providers report without a member `error`, with a status of success: member, its code, its message."""

_BUSINESS_MARKS: Final = (b'"base_resp"', b'"ErrorMsg"', b'"error_code"')

_CODED: Final = ("code", "error_code", "errorCode", "status_code", "statusCode")
_SUCCESS: Final = frozenset(("0", "200", "ok", "success"))
"""Codes, in lower case, with which services say that all is well."""

_MARK: Final = b'"error'
_MEMBER: Final = re.compile(rb'"errors?"\s*:\s*[^\sn]')
"""A member `error` that is not null."""

_BY_HAND: Final = re.compile(rb'\s*\{\s*"error"\s*:\s*"?(?=\S)([^\0]*)')

_SPACE: Final = 8
"""Bytes before a value in which its colon must stand."""


def said(value: Any) -> str:
    """A word or a number as text; empty if it is a placeholder or neither of them."""
    word = text(value).strip()
    return "" if word.lower() in PLACEHOLDERS else word


def is_error(value: Any) -> bool:
    """Whether the value of a member `error` reports an error."""
    return bool(value) and not (isinstance(value, str) and not said(value))


def describe_error(error: Any, payload: Any = None) -> InBandError:
    """An error as an event, whatever its shape is: an object, a list of them, a string, a number.

    Args:
        error: the error.
        payload: the object that it is a member of. It may have the code.
    """
    if isinstance(error, list):
        error = error[0] if error else None
    code = _first(error, _CODES) or _first(payload, _BESIDE)
    message = _first(error, _MESSAGES) or _first(payload, ("message",)) or text(error)
    return InBandError(code, message)


def error_of(payload: Any) -> InBandError | None:
    """The error that a decoded payload has as a member, or None. A list of payloads may hold it, as at Google."""
    if isinstance(payload, list):
        payload = payload[0] if payload else None
    for name in ("error", "errors"):
        error = entry(payload, name)
        if is_error(error):
            return describe_error(error, payload)
    return None


def whole_error(payload: Any, ignored_types: Iterable[str] = ()) -> InBandError:
    """The error that a decoded payload is as a whole.

    Args:
        payload: the payload.
        ignored_types: types that only say that it is an error.
    """
    if isinstance(payload, dict) and text(payload.get("type")) in ignored_types:
        payload = {**payload, "type": None}
    return describe_error(payload)


def exception_of(frame: Frame) -> InBandError | None:
    """The exception that a message of an AWS event stream reports, or None. Its type is in the message's headers.

    The message of an exception is a member of its payload. The payload of an error is its message.
    """
    event = frame.event
    if event.startswith(ERROR):
        return InBandError(event.removeprefix(ERROR).decode(errors="replace"), frame.data.decode(errors="replace"))
    if not event.startswith(EXCEPTION):
        return None
    payload = decode_first(frame.data)
    said_there = text(entry(payload, "message")) or text(entry(payload, "Message"))
    return InBandError(event.removeprefix(EXCEPTION).decode(errors="replace"), said_there)


def broken_error(data: bytes) -> InBandError | None:
    """The error in a payload that is no JSON, because the server wrote it by hand.

    The text has a quote or a line end in it. Older versions of Google's ADK send such errors.
    """
    found = _BY_HAND.match(data)
    return None if found is None else InBandError("", found[1].decode(errors="replace"))


def hidden_error(data: bytes) -> InBandError | None:
    """The error in a payload that says nothing else, or None.

    The type of the payload may not be known. A gateway may have written a member twice, the second time as null.
    """
    if not _mentions_error(data):
        return business_error(data)
    payload = decode_first(data)
    found = error_of(payload)
    if found is None and "error" in (entry(payload, "type"), entry(payload, "object")):
        return whole_error(payload, ("error",))
    return found or business_error(data)


def business_error(data: bytes) -> InBandError | None:
    """The error that a payload reports by a code of its provider's own, or None. The code 0 means success."""
    for mark in _BUSINESS_MARKS:
        if mark in data:
            break
    else:
        return None
    payload = decode_first(data)
    for member, code, message in _BUSINESS:
        found = entry(payload, member) if member else payload
        number = said(entry(found, code))
        if number not in ("", "0") and isinstance(entry(found, message), str):
            return InBandError(number, entry(found, message))
    return None


def coded_error(data: bytes) -> InBandError | None:
    """The error in a payload that is nothing but a code and a message, or None.

    Only where an answer would stand: an application may have such members in events of its own.
    """
    payload = decode_first(data)
    code, message = _first(payload, _CODED), _first(payload, _MESSAGES)
    return InBandError(code, message) if code and message and code.lower() not in _SUCCESS else None


def _mentions_error(data: bytes) -> bool:
    """Whether there is a value `error`, or a member of this name that is not null.

    Payloads that say nothing may be long. A search for the word is much faster than one for all of it.
    """
    position = data.find(_MARK)
    while position >= 0:
        before = data[max(0, position - _SPACE) : position].rstrip()
        if before.endswith(b":") or _MEMBER.match(data, position) is not None:
            return True
        position = data.find(_MARK, position + len(_MARK))
    return False


def decode_first(data: bytes) -> Any:
    """Decode a payload. Of a member that is there twice, the first value that is no placeholder counts.

    Returns:
        The value. The payload as text if it is no JSON: an error's text may be plain.
    """
    words = data.decode(errors="replace")
    try:
        return json.loads(words, object_pairs_hook=_first_said)
    except (ValueError, RecursionError):
        return words


def _first_said(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        earlier = members.get(name)
        if name not in members or earlier is None or (isinstance(earlier, str) and not said(earlier)):
            members[name] = value
    return members


def _first(value: Any, names: Iterable[str]) -> str:
    return next((word for name in names if (word := said(entry(value, name)))), "")
