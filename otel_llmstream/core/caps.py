"""The caps on everything that a server or a request can choose. This is the one rule for all dialects and clients.

A text that enters `core` goes through one of these functions: with an event, with the request, with the response's
headers, or with the end of the stream. A text within its cap comes back as it is, if every exporter can encode it (see
`encodable`). So the ordinary case costs a look. A message in words is also redacted.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from .. import semconv
from .encodable import encodable
from .redaction import redact

MAX_MESSAGE: Final = 1024
"""Characters of a message in words. It is for one log line, and a gateway may send a whole page."""

MAX_ITEMS: Final = 128
"""Texts of one list, such as stop sequences. With `MAX_NAME`, a list has at most 32 KB. No stream has more choices, and
a list of 128 stop sequences has told what it is."""


def name(text: str) -> str:
    """A model, an id, a finish reason, or any other word, cut to `semconv.MAX_NAME` characters."""
    return text if len(text) <= semconv.MAX_NAME and text.isprintable() else encodable(text[: semconv.MAX_NAME])


def maybe_name(text: str | None) -> str | None:
    """The same for a word that may be absent. An empty word is absent."""
    return name(text) if text else None


def shared_name(text: str | None) -> str | None:
    """The same for a word that many streams have in common, such as a version or a model: they share one object."""
    return _same(name(text)) if text else None


@lru_cache(maxsize=128)  # not `sys.intern`: CPython 3.12 keeps interned words for ever
def _same(text: str) -> str:
    return text


def message(text: str) -> str:
    """A message in words, without what may be a secret, cut to `MAX_MESSAGE` characters."""
    if not text:  # as nearly all streams end: the rules of redaction are many
        return ""
    return redact(encodable(text[: 2 * MAX_MESSAGE]))[:MAX_MESSAGE]  # a secret that a cut shortens may not be found


def value(given: Any) -> Any:
    """An attribute's value: a word, a list of words, or a number."""
    if isinstance(given, str):
        return name(given)
    return tuple([name(item) for item in given[:MAX_ITEMS]]) if isinstance(given, tuple) else given


def pairs(given: Iterable[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    """Attributes as (name, value). The names are ours, the values are not."""
    return tuple([(key, value(item)) for key, item in given])


def count(number: int | None) -> int | None:
    """A count. A sum of many counts may be larger than an exporter can send."""
    return number if number is None or number <= semconv.MAX_COUNT else semconv.MAX_COUNT
