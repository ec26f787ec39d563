"""Token counts: what each vendor calls them."""

from __future__ import annotations

from itertools import chain
from typing import Any, Final, NamedTuple

from ..core.events import NOTHING, Event, Usage
from ._json import count, entry


class UsageFields(NamedTuple):
    """The names of the token counts in a JSON object. A dot leads into an inner object.

    Attributes:
        input: the counts whose sum is the input.
        output: the counts whose sum is the output.
        cache_read: the part of the input that came out of a cache.
        cache_write: the part of the input that was written to a cache.
        reasoning: the part of the output that was reasoning.
    """

    input: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    cache_read: tuple[str, ...] = ()
    cache_write: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()

    def read(self, counts: Any, earlier: dict[str, int] | None = None) -> tuple[Event, ...]:
        """The counts as an event. No event if the value is no object.

        Args:
            counts: the JSON object.
            earlier: the counts of earlier frames. They stand in for counts that this object leaves out, and learn from
                it. Only needed if a sum may come in parts.
        """
        if not isinstance(counts, dict):
            return NOTHING
        values = {name: found for name in chain.from_iterable(self) if (found := _value(counts, name)) is not None}
        if earlier is not None:
            earlier |= values
            values = earlier
        return (
            Usage(
                _total(values, self.input),
                _total(values, self.output),
                _first(values, self.cache_read),
                _first(values, self.cache_write),
                _first(values, self.reasoning),
            ),
        )


OPENAI_USAGE: Final = UsageFields(
    input=("prompt_tokens",),
    output=("completion_tokens",),
    cache_read=("prompt_tokens_details.cached_tokens",),
    reasoning=("completion_tokens_details.reasoning_tokens",),
)
"""The counts of OpenAI's chat, which most providers took over."""


def _total(values: dict[str, int], names: tuple[str, ...]) -> int | None:
    given = [values[name] for name in names if name in values]
    return sum(given) if given else None


def _first(values: dict[str, int], names: tuple[str, ...]) -> int | None:
    return next((values[name] for name in names if name in values), None)


def _value(counts: dict[str, Any], name: str) -> int | None:
    found: Any = counts
    for key in name.split("."):
        found = entry(found, key)
    return count(found)
