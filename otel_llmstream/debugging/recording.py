"""One recorded response, as the pipeline needs it, and what all file formats share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

MAX_INPUT: Final = 64 * 1024 * 1024
"""Bytes of an input that is read. The longest streams have a few MiB. A HAR file of a browser session has tens of MiB,
and it is parsed as a whole."""

ASKED: Final = b'{"model": "recorded", "stream": true, "messages": []}'
"""The body of a request of which nothing is known."""


class UnusableError(ValueError):
    """The input cannot be judged. The message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One response.

    Attributes:
        name: what the report calls it.
        body: the bytes of the body.
        path: path of the request; empty if it is unknown. Then the bytes alone tell the dialect.
        host: host of the request; empty if it is unknown.
        method: method of the request.
        request: body of the request.
        status: HTTP status code.
        content_type: value of `Content-Type`; empty if it is unknown.
        content_encoding: the content coding that `body` is in; empty if there is none.
        http_chunks: sizes of the chunks of HTTP/1.1, in bytes, if the recording has them.
        expected: how many bytes the headers promise, if `body` has fewer; -1 if a chunk of HTTP/1.1 is missing;
            None if nothing shows that bytes are missing.
    """

    name: str
    body: bytes
    path: str = ""
    host: str = ""
    method: str = "POST"
    request: bytes = ASKED
    status: int = 200
    content_type: str = ""
    content_encoding: str = ""
    http_chunks: tuple[int, ...] = ()
    expected: int | None = None


def recorded(
    number: int,
    url: str,
    method: str,
    request: bytes,
    status: int,
    headers: Mapping[str, str],
    body: bytes | None,
) -> Recording | None:
    """A recording of a file that has many; `number` is its place there, from 1. None if the body was not recorded."""
    if body is None:
        return None
    try:
        parts = urlsplit(url)
        host, path = parts.hostname or "", parts.path
    except ValueError:
        host = path = ""
    return Recording(
        f"entry {number}: {method} {host}{path}",
        body,
        path=path,
        host=host,
        method=method.upper(),
        request=request or ASKED,
        status=status,
        content_type=headers.get("content-type", ""),
        content_encoding=headers.get("content-encoding", ""),
    )


def parse_json(data: bytes, what: str) -> Any:
    """The value of a JSON document.

    Raises:
        UnusableError: it is none.
    """
    try:
        return json.loads(data)
    except json.JSONDecodeError as exc:
        raise UnusableError(f"{what} is not valid JSON: see line {exc.lineno}, column {exc.colno}.") from None
    except (UnicodeDecodeError, RecursionError):
        raise UnusableError(f"{what} is not valid JSON.") from None


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping; else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> Iterable[Mapping[str, Any]]:
    """The mappings of a list; none if it is no list."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def word(value: object) -> str:
    """A text; empty if it is none. Of a list of texts, the first one."""
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else ""


def raw(value: object) -> bytes:
    """The bytes of a text or of bytes; empty for any other value."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return value if isinstance(value, bytes) else b""


def number(value: object, otherwise: int) -> int:
    """A whole number."""
    return value if isinstance(value, int) else otherwise
