"""Token counts: what each vendor calls them."""

from __future__ import annotations

from typing import Any, Final

from ..core.events import NOTHING, Event, Usage
from ._json import count, entry


class UsageFields:
    """The names of the token counts in a JSON object. A dot leads into an inner object.

    Args:
        input: the counts whose sum is the input.
        output: the counts whose sum is the output.
        cache_read: the part of the input that came out of a cache. The first name that is found counts, as below.
        cache_write: the part of the input that was written to a cache.
        reasoning: the part of the output that was reasoning.
        total: all tokens. If it says that the reasoning comes in addition to the output, it is added to the output.
    """

    def __init__(
        self,
        *,
        input: tuple[str, ...] = (),  # noqa: A002 - as in the conventions
        output: tuple[str, ...] = (),
        cache_read: tuple[str, ...] = (),
        cache_write: tuple[str, ...] = (),
        reasoning: tuple[str, ...] = (),
        total: tuple[str, ...] = (),
    ) -> None:
        self._input = input
        self._output = output
        self._cache_read = cache_read
        self._cache_write = cache_write
        self._reasoning = reasoning
        self._total = total
        names = dict.fromkeys((*input, *output, *cache_read, *cache_write, *reasoning, *total))
        self._paths = tuple((name, *name.partition(".")[::2]) for name in names)

    def read(self, counts: Any, earlier: dict[str, int] | None = None) -> tuple[Event, ...]:
        """The counts as an event. No event if the value is no object.

        Args:
            counts: the JSON object.
            earlier: the counts of earlier frames. They stand in for counts that this object leaves out or repeats as
                0, and learn from it. Only needed if a sum may come in parts.
        """
        if not isinstance(counts, dict):
            return NOTHING
        values = {} if earlier is None else earlier
        for name, outer, inner in self._paths:
            found = counts.get(outer)
            if found is None:  # as nearly all names of other vendors
                continue
            number = count(entry(found, inner) if inner else found)
            if number or (number == 0 and name not in values):
                values[name] = number
        if not values:
            return NOTHING
        given, made, reasoned = (
            _total(values, self._input),
            _total(values, self._output),
            _first(values, self._reasoning),
        )
        if reasoned and made is not None and given is not None:
            total = _first(values, self._total)
            if total is not None and total >= given + made + reasoned:
                made += reasoned
        return (Usage(given, made, _first(values, self._cache_read), _first(values, self._cache_write), reasoned),)


OPENAI_USAGE: Final = UsageFields(
    input=("prompt_tokens",),
    output=("completion_tokens",),
    cache_read=(
        "prompt_tokens_details.cached_tokens",
        "prompt_cache_hit_tokens",  # DeepSeek
        "cached_tokens",  # Moonshot
        "num_cached_tokens",  # Mistral
    ),
    cache_write=("prompt_tokens_details.cache_write_tokens",),  # OpenRouter
    reasoning=("completion_tokens_details.reasoning_tokens", "reasoning_tokens"),  # the latter is Perplexity's
    total=("total_tokens",),  # xAI counts reasoning in addition to the completion
)
"""The counts of OpenAI's chat, which most providers took over, and those that providers added."""


def _total(values: dict[str, int], names: tuple[str, ...]) -> int | None:
    given = [values[name] for name in names if name in values]
    return sum(given) if given else None


def _first(values: dict[str, int], names: tuple[str, ...]) -> int | None:
    for name in names:
        if name in values:
            return values[name]
    return None
