"""Reads attributes off a record, as `semconv.ATTRIBUTES` says: spans, events and log lines are made with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final

from .. import semconv
from ..semconv import On

REQUEST: Final = "request."
"""How the fields of a call's request begin in the table."""


class AttributeTable:
    """Reads some attributes off records. A value that is None or the table's default is left out.

    Args:
        rows: (attribute name, field of the record, default).
    """

    __slots__ = ("_defaults", "_names", "_read")

    def __init__(self, rows: Iterable[tuple[str, str, Any]]) -> None:
        found = tuple(rows)
        self._names = tuple(name for name, _, _ in found)
        self._defaults = tuple(default for _, _, default in found)
        self._read: Callable[[Any], tuple[Any, ...]] = attrgetter(*(field for _, field, _ in found))

    def read(self, record: Any) -> dict[str, Any]:
        """The attributes of a record, in the table's order."""
        return {
            name: value
            for name, default, value in zip(self._names, self._defaults, self._read(record), strict=True)
            if value is not None and (default is None or value != default)
        }


def of_request(on: On) -> AttributeTable:
    """Reads an `LLMRequest`, but for its parameters.

    Args:
        on: where the attributes are to be written.
    """
    rows = (it for it in semconv.ATTRIBUTES if on in it.on and _is_of_request(it))
    return AttributeTable((it.name, it.field.removeprefix(REQUEST), it.default) for it in rows)


def of_summary(on: On, *, newest: bool = False) -> AttributeTable:
    """Reads a `Summary`: what a call's end adds to the request, but for the fields that hold pairs.

    Args:
        on: where the attributes are to be written.
        newest: whether names follow the newest conventions.
    """
    rows = (it for it in semconv.ATTRIBUTES if on in it.on and it.field and not _is_of_request(it))
    return AttributeTable(
        ((newest and it.newest) or it.name, it.field, it.default) for it in rows if it.field not in semconv.PAIRS
    )


def of_attempt() -> AttributeTable:
    """Reads an `Attempt`, but for its rate limits."""
    return AttributeTable((it.name, it.attempt, it.default) for it in semconv.ATTRIBUTES if it.attempt)


def seconds(on: On) -> frozenset[str]:
    """Names of the attributes that are times."""
    return frozenset(it.name for it in semconv.ATTRIBUTES if on in it.on and it.unit == "s")


def _is_of_request(row: semconv.Attribute) -> bool:
    return row.field.startswith(REQUEST) and row.field not in semconv.PAIRS
