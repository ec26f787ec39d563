"""What `curl -i` prints: the head of an HTTP response, and its body."""

from __future__ import annotations

import re
from typing import Final

from .recording import Recording

_HEAD: Final = re.compile(rb"HTTP/[\d.]{1,3} (\d{3})[^\n]*\n((?:[^\r\n][^\n]*\n)*)\r?\n")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")

_REDIRECTS: Final = range(300, 400)
_INFORMATIONAL: Final = range(100, 200)


def read(data: bytes) -> list[Recording] | None:
    """The last response of the output of `curl -i`; None if the bytes are no such output.

    Interim responses, redirects and the answer of a proxy to CONNECT come before it.
    """
    found = _HEAD.match(data)
    if found is None:
        return None
    while (after := _HEAD.match(data, found.end())) is not None and _is_followed(found):
        found = after
    body = data[found.end() :]
    chunks: tuple[int, ...] = ()
    expected: int | None = None
    headers = _headers(found[2])
    if "chunked" in headers.get("transfer-encoding", "").lower() and _CHUNK.match(body) is not None:
        body, chunks, expected = _without_chunks(body)
    elif _length(headers) > len(body):
        expected = _length(headers)
    return [
        Recording(
            "the response",
            body,
            status=int(found[1]),
            content_type=headers.get("content-type", ""),
            content_encoding=headers.get("content-encoding", ""),
            http_chunks=chunks,
            expected=expected,
        )
    ]


def _is_followed(head: re.Match[bytes]) -> bool:
    """Whether another response may follow at once: this one has no body."""
    status = int(head[1])
    return status in _INFORMATIONAL or status in _REDIRECTS or not _headers(head[2]).get("content-type")


def _headers(lines: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines.decode("latin-1").splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _length(headers: dict[str, str]) -> int:
    """`Content-Length`, as far as it can be compared with what curl printed: curl undoes a content coding."""
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 and "content-encoding" not in headers else 0  # noqa: PLR2004 - digits of 64 bits


def _without_chunks(data: bytes) -> tuple[bytes, tuple[int, ...], int | None]:
    """The body without the framing of `curl --raw`, the sizes of its chunks, and -1 if the last chunk is missing."""
    pieces: list[bytes] = []
    at = 0
    while (found := _CHUNK.match(data, at)) is not None:
        size = int(found[1], 16)
        if not size:
            return b"".join(pieces), tuple(map(len, pieces)), None
        pieces.append(data[found.end() : found.end() + size])
        at = found.end() + size + 2
    return b"".join(pieces), tuple(map(len, pieces)), -1
