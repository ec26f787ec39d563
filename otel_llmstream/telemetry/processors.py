"""Which span processors a tracer provider has.

OpenTelemetry has no method for this question, and the names of the attributes that hold the processors are private. So
all attributes are looked at, by what their values can do.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

Place = tuple[dict[str, Any], str, Any, int]
"""An object's attributes, the name of one of them, its value, and how many items of the value were looked at."""

MAX_ITEMS: Final = 100
"""How many parts are looked at, and how many items of a list. Applications have fewer than ten processors. A processor
may hold a list of spans that grows."""

MAX_CLASSES: Final = 256
"""How many classes are remembered. The parts of a provider have about twenty classes."""

_SEVERAL: Final = (tuple, list)


class ProcessorSearch:
    """Looks for span processors of one package on a provider, also inside other processors and providers.

    The last answer is kept as long as nothing has changed in the places that can hold a processor.

    Args:
        package: the package that the processor's class comes from.
    """

    def __init__(self, package: str) -> None:
        self._modules = (package,)
        self._last: tuple[Any, list[Place], bool] = (None, [], False)

    def is_on(self, provider: Any) -> bool:
        """Whether such a processor is on the provider."""
        last, places, answer = self._last
        if last is not provider or not all(map(_is_unchanged, places)):
            parts, places = _parts(provider)
            answer = any(is_of(part.__class__, self._modules) for part in parts)
            self._last = (provider, places, answer)
        return answer


def _parts(provider: Any) -> tuple[list[Any], list[Place]]:
    """The provider and what is in it, and the places to look at again."""
    parts, places = [provider], list[Place]()
    for owner in parts:  # grows while it is read
        attributes = getattr(owner, "__dict__", {})
        for name, value in tuple(attributes.items()):
            items = _items(value)
            found = [item for item in items if _is_part(item.__class__)]
            if found or value is None or value.__class__ in _SEVERAL:
                places.append((attributes, name, value, len(items)))
            new = [item for item in found if not any(item is part for part in parts)]
            parts += new[: MAX_ITEMS - len(parts)]
    return parts, places


def _items(value: Any) -> tuple[Any, ...]:
    return tuple(value[:MAX_ITEMS]) if value.__class__ in _SEVERAL else (value,)


def _is_unchanged(place: Place) -> bool:
    attributes, name, value, count = place
    return attributes.get(name) is value and (value.__class__ not in _SEVERAL or min(len(value), MAX_ITEMS) == count)


@lru_cache(maxsize=MAX_CLASSES)
def _is_part(kind: type) -> bool:
    return hasattr(kind, "on_end") or hasattr(kind, "get_tracer")


@lru_cache(maxsize=MAX_CLASSES)
def is_of(kind: type, modules: tuple[str, ...]) -> bool:
    """Whether a class, or a class that it is derived from, comes from one of these modules or packages."""
    sources = [base.__module__ for base in kind.__mro__]
    return any(source == module or source.startswith(f"{module}.") for source in sources for module in modules)
