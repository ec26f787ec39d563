"""Which dialects a request may be of, by the last words of its path: of all that an application sends, hardly any.

Made of the `paths` that the dialects declare. It only preselects: `matches_request`
of the dialect decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from ._base import Dialect

ANYWHERE: Final = "*"
"""Among a dialect's `paths`: it is told by something else, and asked about each request."""

_OPEN: Final = "{}"


class PathTable:
    """Looks up the last word of a path, and the one before it where a path may end in a name of the application's.

    Args:
        dialects: in the order in which they are to be asked.
    """

    def __init__(self, dialects: Sequence[type[Dialect]]) -> None:
        last: dict[str, list[type[Dialect]]] = defaultdict(list)
        before: dict[str, list[type[Dialect]]] = defaultdict(list)
        for dialect in dialects:
            for path in dialect.paths:
                stem = path.removesuffix("/" + _OPEN)
                (last if stem == path else before)[_last(stem)].append(dialect)
        anywhere = last.pop(ANYWHERE, [])
        self._anywhere = tuple(anywhere)
        self._last: Mapping[str, tuple[type[Dialect], ...]] = {word: tuple(found) for word, found in last.items()}
        self._before: Mapping[str, tuple[type[Dialect], ...]] = {word: tuple(found) for word, found in before.items()}
        self._in_order = cache(lambda one, other: tuple(it for it in dialects if it in (*one, *other, *anywhere)))

    def dialects(self, path: str) -> tuple[type[Dialect], ...]:
        """Those that may claim a request to this path, in order."""
        head, _, word = path.rpartition("/")
        one = self._last.get(word.rpartition(":")[2], ())
        other = self._before.get(head[head.rfind("/") + 1 :], ())
        return self._in_order(one, other) if one or other else self._anywhere


def _last(path: str) -> str:
    """What stands after the last slash, and there after the last colon."""
    return path.rpartition("/")[2].rpartition(":")[2]
