"""Output that no dialect lists: one rule for all JSON dialects.

Providers add members to their deltas faster than anyone can list them. A member that is not listed counts as output if
it has text in it, unless its name says that it is no content: a role, an id, an annotation, a signature, or state that
only the server can read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

from ..core.events import Chunk, Event
from ._json import BROKEN, entry
from ._request_body import MAX_CHOICES

MAX_DEPTH: Final = 4
"""Levels of a member that are searched for text. Content is not deeper in any API that is known here."""

_NOT_CONTENT: Final = re.compile(
    r"(?:^|_)(?:role|ids?|index|type|object|name|model|status|format|channel|recipient|language|citations?|references?"
    r"|annotations?|sources?|context|logprobs?|signatures?|encrypted|opaque|obfuscation|padding|hash|checksum|token"
    r"|tokens|executed|usage|metadata|provider|filters?|results?|reason|stop|stopreason|sequence|created|timestamp|time|expires"
    r"|at|version|fingerprint|tier|mime|p)(?:_|$)"
)
"""Words that a name may not have. `reasoning` is content, and `finish_reason` is not.

What tools of the server came back with (`search_results`, Groq's `executed_tools`) is no output of the model.
"""

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_REASONING: Final = re.compile(r"reasoning|think|thought|compaction|summary", re.IGNORECASE)

_decode: Final = msgspec.json.Decoder().decode


def unlisted_output(data: bytes, path: tuple[str, ...], listed: Collection[str]) -> tuple[Event, ...]:
    """The chunks that are in members of a payload's deltas that are not listed.

    Args:
        data: the payload, which is JSON.
        path: the names of the members that lead to the delta. A list on the way stands for each of its items.
        listed: names of the members that the dialect reads itself.
    """
    delta = b'"%b"' % path[-1].encode()
    if data.count(delta) == data.count(delta + b":{}"):  # as in most last frames: every delta is empty
        return ()
    try:
        value = _decode(data)
    except BROKEN:
        return ()
    kinds: dict[int, bool] = {}
    for index, delta in _deltas(value, path, 0):
        is_answer = kind_of(delta, listed)
        if is_answer is not None:
            kinds[index] = kinds.get(index, False) or is_answer
    return tuple(Chunk(index, is_answer) for index, is_answer in kinds.items())


def kind_of(delta: Any, listed: Collection[str] = ()) -> bool | None:
    """Whether the unlisted output of a delta is the answer (True) or reasoning (False); None if there is none."""
    if not delta or not isinstance(delta, dict):
        return None
    names = [name for name, value in delta.items() if name not in listed and _is_content(name, value, MAX_DEPTH)]
    if not names:
        return None
    reasoning = _REASONING.search(str(delta.get("type"))) or all(map(_REASONING.search, names))
    return not reasoning


def _deltas(value: Any, path: tuple[str, ...], index: int) -> Iterator[tuple[int, Any]]:
    if isinstance(value, list):
        for item in value[:MAX_CHOICES]:
            found = entry(item, "index")
            yield from _deltas(item, path, found if _is_index(found) else index)
    elif not path:
        yield index, value
    elif isinstance(value, dict):
        yield from _deltas(value.get(path[0]), path[1:], index)


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_CHOICES


@lru_cache(maxsize=256)  # names are few; the cap is for a server that makes them up
def _names_content(name: str) -> bool:
    return _NOT_CONTENT.search(_CAMEL.sub("_", name).lower()) is None


def _is_content(name: str, value: Any, depth: int) -> bool:
    """Whether a member holds text. Numbers and flags only describe."""
    if not value or depth == 0 or not _names_content(name):
        return False
    if isinstance(value, str):
        return True
    if isinstance(value, dict):
        return any(_is_content(inner, item, depth - 1) for inner, item in value.items())
    return isinstance(value, list) and any(_is_content("", item, depth - 1) for item in value[:MAX_CHOICES])
