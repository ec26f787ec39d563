"""How the fuzz program changes bytes. Each input follows from its number alone."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from random import Random
from typing import Final

import brotli
from backports import zstd

MAX_BODY: Final = 16_000
"""Bytes of an input. What is only wrong in long streams is looked for elsewhere, and many inputs are worth more."""

WORDS: Final = (
    b"data: ", b"data:", b"event: error\n", b"id: 7\n", b"retry: 1\n", b": ping\n\n", b"\n\n", b"\r\n\r\n",
    b"\r", b"\n", b"\xef\xbb\xbf", b"data: [DONE]\n\n", b'data: {"error": {"message": "x", "code": "y"}}\n\n',
    b"data: {}\n\n", b"event: ping\n\n", b"error: {}\n\n", b"{", b"}", b"[", b"]", b'"', b",", b"\\", b"\0",
    b"\xff", b"\xed\xa0\x80", b"null", b"NaN", b"-Infinity", b"1e999", b"-1", b"9" * 25, b"0.5", b"true",
    b'""', b"[]", b"{}", b'"\\ud83d"', b'{"a":' * 40, b"[" * 2000, b'"error":"x",', b'"index":-1,',
    b'"finish_reason":"error",', b'"x":"%b"' % (b"z" * 3000),
    b'\n{"candidates":[{"content":{"parts":[{"text":"t"}]}}]}\n',
)  # fmt: skip
"""What is put in: parts of all framings, and what JSON's readers do not agree about."""

VALUES: Final = (
    b"null", b"true", b"0", b"-1", b"1.5", b"NaN", b'""', b'"stop"', b'"error"', b"[]", b"{}", b"[null]", b'["x"]',
    b'{"a":1}', b"12345678901234567890", b'"\\ud83d"', b'"' + b"z" * 600 + b'"',
)  # fmt: skip
_VALUE: Final = re.compile(rb':\s*("(?:[^"\\]|\\.)*"|-?[\d.eE+-]+|true|false|null|\[\]|\{\})')


def mutated(rng: Random, body: bytes, other: bytes) -> bytes:
    """A body with a few changes.

    Args:
        rng: decides.
        body: what is changed.
        other: another stream, parts of which may come in.
    """
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 6))):
        body = rng.choice(_CHANGES)(rng, body, other)
    return body[:MAX_BODY]


def _place(rng: Random, body: bytes) -> int:
    return rng.randint(0, len(body))


def _flip(rng: Random, body: bytes, _other: bytes) -> bytes:
    at = _place(rng, body)
    return body[:at] + rng.randbytes(1) + body[at + 1 :]


def _insert(rng: Random, body: bytes, _other: bytes) -> bytes:
    at = _place(rng, body)
    return body[:at] + rng.choice(WORDS) + body[at:]


def _delete(rng: Random, body: bytes, _other: bytes) -> bytes:
    at = _place(rng, body)
    return body[:at] + body[at + rng.choice((1, 2, 10, 100)) :]


def _cut(rng: Random, body: bytes, _other: bytes) -> bytes:
    return body[: _place(rng, body)]


def _repeat(rng: Random, body: bytes, _other: bytes) -> bytes:
    start, end = sorted((_place(rng, body), _place(rng, body)))
    return body[:end] + body[start:end] * rng.choice((1, 1, 2, 8)) + body[end:]


def _splice(rng: Random, body: bytes, other: bytes) -> bytes:
    start, end = sorted((_place(rng, other), _place(rng, other)))
    at = _place(rng, body)
    return body[:at] + other[start:end] + body[at:]


def _value(rng: Random, body: bytes, _other: bytes) -> bytes:
    """Another value for a member of a JSON object."""
    found = [*_VALUE.finditer(body)]
    if not found:
        return body
    chosen = rng.choice(found)
    return body[: chosen.start(1)] + rng.choice(VALUES) + body[chosen.end(1) :]


def _swap(rng: Random, body: bytes, _other: bytes) -> bytes:
    """Two events change places."""
    events = body.split(b"\n\n")
    one, two = rng.randrange(len(events)), rng.randrange(len(events))
    events[one], events[two] = events[two], events[one]
    return b"\n\n".join(events)


_CHANGES: Final[tuple[Callable[[Random, bytes, bytes], bytes], ...]] = (
    _flip, _insert, _insert, _delete, _cut, _repeat, _splice, _value, _value, _value, _swap,
)  # fmt: skip

CODINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "deflate": lambda data: zlib.compress(data, 1),
    "br": lambda data: brotli.compress(data, quality=1),
    "zstd": lambda data: zstd.compress(data, 1),
    "gzip, br": lambda data: brotli.compress(gzip.compress(data, 1, mtime=0), quality=1),
}
"""Content codings, and how a server makes them."""


def pieces(rng: Random, body: bytes) -> list[bytes]:
    """The body as the network may split it."""
    how = rng.random()
    if how < 0.05 and len(body) < 500:
        return [body[at : at + 1] for at in range(len(body))]
    if how < 0.5:
        events = body.split(b"\n\n")
        return [event + b"\n\n" for event in events[:-1]] + ([events[-1]] if events[-1] else [])
    cuts = sorted(_place(rng, body) for _ in range(rng.randint(1, 12)))
    return [body[low:high] for low, high in zip([0, *cuts], [*cuts, len(body)], strict=True) if low < high]
