"""Preselects the dialects of a request by the last words of its path. Hardly any request of an application passes.

The table is made of the `paths` that the dialects state. `matches_request` of the dialect decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Final

from ._base import Dialect
from ._providers import provider_of

_PLACEHOLDER: Final = "{"

TAIL: Final = 4
"""Characters at the end of a path that tell most paths apart from those that a dialect serves."""

Dialects = tuple[type[Dialect], ...]


class PathTable:
    """Looks up the last word of a path, and the word before it, because a path may end in a name.

    Args:
        dialects: in the order in which they are asked.
    """

    def __init__(self, dialects: Sequence[type[Dialect]]) -> None:
        last: dict[str, list[type[Dialect]]] = defaultdict(list)
        before: dict[str, list[type[Dialect]]] = defaultdict(list)
        by_host: dict[str, list[type[Dialect]]] = defaultdict(list)
        for dialect in dialects:
            paths = (*dialect.paths, *dialect.resume_paths)
            for path in paths:
                stem, _, end = path.rpartition("/")
                words, word = (before, stem) if end.startswith(_PLACEHOLDER) and ":" not in end else (last, path)
                words[_last_word(word)].append(dialect)
            if not paths and dialect.only_at:
                by_host[dialect.only_at].append(dialect)
        self._last = _frozen(last)
        self._before = _frozen(before)
        self._by_host = _frozen(by_host)
        self._counterparts = {end: it for dialect in dialects for end, it in dialect.non_streaming_paths.items()}
        self._non_streaming = tuple(self._counterparts)
        self._tails = frozenset(f"{mark}{word}"[-TAIL:] for word in (*last, *self._non_streaming) for mark in "/:")
        self._inner = tuple(f"/{word}/" for word in before)
        self._in_order = cache(lambda *found: tuple(it for it in dialects if any(it in some for some in found)))

    def dialects(self, path: str, host: str = "") -> Dialects:
        """The dialects that may answer a request to this path at this host, in order."""
        head, _, word = path.rpartition("/")
        one = self._last.get(word.rpartition(":")[2], ())
        other = self._before.get(head[head.rfind("/") + 1 :], ())
        at_host = self._by_host.get(provider_of(host, ""), ()) if host else ()
        return self._in_order(one, other, at_host) if one or other or at_host else ()

    def serves(self, path: str, host: str = "") -> bool:
        """Whether a dialect may answer a request to this path at this host, as a stream or in one piece."""
        if host and provider_of(host, "") in self._by_host:
            return True
        if path[-TAIL:] not in self._tails and not any(word in path for word in self._inner):
            return False
        return bool(self.dialects(path)) or path.endswith(self._non_streaming)

    def streaming_counterpart(self, path: str) -> str:
        """The path that streams what this path answers in one piece. It is often the same."""
        pairs = self._counterparts.items()
        return next((path.removesuffix(end) + other for end, other in pairs if path.endswith(end)), path)


def _frozen(table: Mapping[str, Iterable[type[Dialect]]]) -> Mapping[str, Dialects]:
    return {word: tuple(found) for word, found in table.items()}


def _last_word(path: str) -> str:
    """What stands after the last slash, and there after the last colon."""
    return path.rpartition("/")[2].rpartition(":")[2]
