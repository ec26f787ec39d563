"""Writes the function that takes the place of a method. It has the method's own parameters.

`*args, **kwargs` would fit every method. But Python packs arguments into them and unpacks them again: with ten
arguments, that alone takes 6,000 instructions. The method's own parameters take 700, as an ordinary call does. A call
with wrong arguments also fails where it failed before, and with the same words.

The function asks a check first. The parameters of the check name those of the method that it looks at.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from inspect import Parameter
from typing import Any, Final

from .._interruption import let_through

Function = Callable[..., Any]

LATER: Final = "later"
"""A check says this if the request is no LLM's, but the response may show that it is. Then the response is checked."""

_FUNCTION: Final = """\
def make(_llmstream_slot, _llmstream_raised, _llmstream_later, _llmstream_missing, _llmstream_given):
    {define} {name}{parameters}:
        try:
            _llmstream_skips = _llmstream_slot.skips({looks_at})
        except RecursionError:  # there is no room to look at the exception
            _llmstream_skips = False
        except Exception as _llmstream_error:
            _llmstream_skips = _llmstream_raised(_llmstream_error)
        {response}if _llmstream_skips:
            return {original}
        return {awaits}_llmstream_slot.call({given})
    return {name}
"""

_RESPONSE: Final = """if _llmstream_skips is _llmstream_later:
            _llmstream_started = _llmstream_slot.now()
            _llmstream_result = {original}
            try:
                _llmstream_skips = _llmstream_slot.response.ignores(_llmstream_result, {looks_at})
            except RecursionError:
                _llmstream_skips = False
            except Exception as _llmstream_error:
                _llmstream_skips = _llmstream_raised(_llmstream_error)
            if not _llmstream_skips:
                _llmstream_slot.response.sees(_llmstream_result, _llmstream_started, {given})
            return _llmstream_result
        """


def plain_function(slot: Any, usual: Sequence[str] = ()) -> Function:
    """A function that is as like `slot.original` as can be, and that does what the slot says.

    Args:
        slot: a `patching.Slot`.
        usual: what is nearly always in the `**kwargs` of the original, if it has them. It is passed on without them.
    """
    original, shape = slot.original, _Shape(slot.original, usual)
    awaits = "await " if inspect.iscoroutinefunction(original) else ""
    parts = {
        "define": "async def" if awaits else "def",
        "awaits": awaits,
        "name": original.__name__ if original.__name__.isidentifier() else "function",
        "parameters": shape.parameters(),
        "original": shape.call(f"{awaits}_llmstream_slot.original"),
        "given": ", ".join(shape.arguments()),
    }
    response = ""
    if slot.response is not None:
        response = _RESPONSE.format(**parts, looks_at=shape.values(_names_of(slot.response.ignores)[1:]))
    source = _FUNCTION.format(**parts, response=response, looks_at=shape.values(_names_of(slot.skips)))
    made = _compiled(source, original.__qualname__)(slot, _raised, LATER, _MISSING, _given)
    made.__defaults__, made.__kwdefaults__ = original.__defaults__, shape.keyword_defaults()
    return wraps(original)(made)


def shows(original: Function, check: Function) -> bool:
    """Whether a method has all that a check looks at."""
    try:
        _Shape(original).values(_names_of(check))
    except LookupError:
        return False
    return True


def _names_of(check: Function) -> list[Parameter]:
    return list(inspect.signature(check).parameters.values())


def _raised(error: Exception) -> bool:
    """A check raised an exception. The full way is behind the guard, so that is the way to take."""
    let_through(error)
    return False


def _compiled(source: str, name: str) -> Function:
    """What the source makes. A traceback shows its lines."""
    file = f"<{__name__}: {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, file, "exec", dont_inherit=True), names)  # noqa: S102 - it is ours, except for names
    made: Function = names["make"]
    return made


MANY: Final = 5
"""Parameters that are only keywords. To pass on more of them costs more than a dictionary of those that are given."""


def _collected(found: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The parameters. If many are only keywords, one that collects them takes their place."""
    own = {name: one for name, one in found.items() if one.kind is not Parameter.KEYWORD_ONLY}
    if len(found) - len(own) <= MANY:
        return dict(found)
    if not any(one.kind is Parameter.VAR_KEYWORD for one in own.values()):
        own["_llmstream_more"] = Parameter("_llmstream_more", Parameter.VAR_KEYWORD)
    return own


_PLACED: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


_MISSING: Final = object()
"""The default of a usual keyword."""


def _given(more: Mapping[str, Any], **usual: Any) -> dict[str, Any]:
    return {**{name: value for name, value in usual.items() if value is not _MISSING}, **more}


class _Shape:
    """The parameters of a function, as source.

    Args:
        function: the function.
        usual: see `plain_function`.
    """

    def __init__(self, function: Function, usual: Sequence[str] = ()) -> None:
        self._own = _collected(inspect.signature(function, follow_wrapped=False).parameters)
        self._inner = inspect.signature(function).parameters  # if it is a wrapper, those of what it wraps
        kinds = {one.kind: name for name, one in self._own.items()}
        self._rest = kinds.get(Parameter.VAR_POSITIONAL)
        self._more = kinds.get(Parameter.VAR_KEYWORD)
        self._usual = tuple(name for name in usual if name not in self._own) if self._more is not None else ()

    def parameters(self) -> str:
        """What stands after `def`. The values of the defaults are set later."""
        empty = Parameter.empty
        plain = [
            one.replace(annotation=empty, default=empty if one.default is empty else None) for one in self._own.values()
        ]
        usual = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in self._usual]
        at = len(plain) - 1 if usual else len(plain)  # before `**kwargs`
        return str(inspect.Signature([*plain[:at], *usual, *plain[at:]]))

    def keyword_defaults(self) -> dict[str, Any] | None:
        """The defaults of parameters that are only keywords."""
        found = {name: one.default for name, one in self._own.items() if one.kind is Parameter.KEYWORD_ONLY}
        plain = {name: value for name, value in found.items() if value is not Parameter.empty}
        return {**plain, **dict.fromkeys(self._usual, _MISSING)} or None

    def arguments(self, *, by_position: bool = False) -> Iterator[str]:
        """What was given, to pass it on: what has a default as a keyword, if not by position."""
        for name, one in self._own.items():
            has_place = by_position or one.default is Parameter.empty or self._rest is not None
            if one.kind is Parameter.VAR_POSITIONAL:
                yield f"*{name}"
            elif one.kind is Parameter.VAR_KEYWORD:
                yield f"**_llmstream_given({name}, {', '.join(self._named())})" if self._usual else f"**{name}"
            elif one.kind is Parameter.POSITIONAL_ONLY or (one.kind is Parameter.POSITIONAL_OR_KEYWORD and has_place):
                yield name
            else:
                yield f"{name}={name}"

    def _named(self) -> list[str]:
        return [f"{name}={name}" for name in self._usual]

    def call(self, function: str) -> str:
        """A call that passes on what was given. By position and without a dictionary is the cheapest way."""
        given = list(self.arguments(by_position=True))
        if self._more is None:
            return f"{function}({', '.join(given)})"
        no_more = " or ".join([self._more, *(f"{name} is _llmstream_missing" for name in self._usual)])
        plain = [*given[:-1], *self._named()]
        return f"({function}({', '.join(given)}) if {no_more} else {function}({', '.join(plain)}))"

    def values(self, wanted: Iterable[Parameter]) -> str:
        """The arguments of a check.

        Raises:
            LookupError: the function has no such parameter.
        """
        return ", ".join(map(self._value, wanted))

    def _value(self, wanted: Parameter) -> str:
        name = wanted.name
        if name == "self":
            return self._first()
        own = self._own.get(name)
        if name in self._usual:
            raise LookupError(name)  # it may be missing
        if own is not None and own.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            return name
        found = self._by_keyword(wanted)
        if self._rest is None or name not in self._inner:
            return found
        place = list(self._inner).index(name) - list(self._own).index(self._rest)
        return f"({self._rest}[{place}] if len({self._rest}) > {place} else {found})"

    def _first(self) -> str:
        """What the method is called on. A wrapper of another package may have another name for it, or none."""
        first = next(iter(self._own.values()), None)
        if first is None or first.kind not in (*_PLACED, Parameter.VAR_POSITIONAL):
            raise LookupError
        return f"{first.name}[0]" if first.kind is Parameter.VAR_POSITIONAL else first.name

    def _by_keyword(self, wanted: Parameter) -> str:
        has_default = wanted.default is not Parameter.empty
        if self._more is None or not (has_default or wanted.name in self._inner):
            if has_default:
                return repr(wanted.default)
            raise LookupError(wanted.name)
        return f"{self._more}.get({wanted.name!r}, {repr(wanted.default) if has_default else None})"
