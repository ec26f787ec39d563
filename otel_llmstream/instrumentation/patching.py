"""How a method of another library is replaced: as a plain function, once, now or when its module is imported.

A plain function behaves as the method did: it can be called unbound, pickled by its name, copied, and used for a spec.
If the module or this package is imported again, the function that is there already gets the new behaviour. So nothing
is ever observed twice.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple

import wrapt

from .plain_function import plain_function, shows
from .switch import SWITCH

Method = Callable[..., Any]

SLOT: Final = "__otel_llmstream__"
"""Attribute of a replaced method. It has the same name in every copy of this package, so that they find each other."""

MAX_WRAPPERS: Final = 32
"""Wrappers of other packages that are looked through for our own."""

Check = Callable[..., object]
"""Tells by some of the arguments whether the original method is called all the same. Its parameters are named as those
of the method that it looks at. An exception in it means no."""


def _never() -> bool:
    return False


class Response(NamedTuple):
    """How the response is looked at if the request is no LLM's as far as is known.

    Attributes:
        ignores: whether the response is no LLM's either: a check that gets the response before all else.
        sees: called with the response, the time at which the request was sent, and all arguments. Never raises.
    """

    ignores: Check
    sees: Callable[..., None]


class Slot:
    """What a replaced method does.

    Attributes:
        original: the method as it was.
        call: what is called instead, with the same arguments. What has a default is a keyword.
        skips: whether the original is called all the same. `LATER` if the response is looked at then.
        response: how; None if it never is.
        now: tells when a request is sent.
    """

    __slots__ = ("call", "now", "original", "response", "skips")

    def __init__(self, original: Method) -> None:
        self.original = original
        self.call: Method = original
        self.skips: Check = _never
        self.response: Response | None = None
        self.now = SWITCH.now


def replace_method(
    owner: Any,
    name: str,
    make: Callable[[Method], Method],
    skips: Check = _never,
    response: Response | None = None,
    usual: Sequence[str] = (),
) -> None:
    """Replace a method of a class.

    Args:
        owner: the class.
        name: the method's name.
        make: makes the new method out of the original one.
        skips: the check. A method has the same at each time.
        response: looks at the response, if the check says `LATER`.
        usual: keywords that are nearly always in the method's `**kwargs`.
    """
    current = inspect.getattr_static(owner, name)
    slot, is_new = _slot_of(current), False
    if slot is None:
        slot, is_new = Slot(current if type(current) is FunctionType else _bound_when_called(current)), True
    slot.call, slot.skips = make(slot.original), skips if shows(slot.original, skips) else _never
    slot.response, slot.now = response, SWITCH.now
    if is_new:
        setattr(owner, name, _function(slot, usual))


def _function(slot: Slot, usual: Sequence[str]) -> Method:
    function = plain_function(slot, usual)
    setattr(function, SLOT, slot)
    return function


def _bound_when_called(method: Any) -> Method:
    """A wrapper of another package must be called as a method: wrapt finds its instance when the method is bound."""
    if inspect.iscoroutinefunction(method):

        @wraps(method)
        async def coroutine(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await method.__get__(self, type(self))(*args, **kwargs)

        return coroutine

    @wraps(method)
    def function(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method.__get__(self, type(self))(*args, **kwargs)

    return function


def _slot_of(method: Any) -> Any:
    """The slot of a method that was replaced before, also by another copy of this package."""
    for _ in range(MAX_WRAPPERS):
        if method is None:
            return None
        slot = getattr(method, SLOT, None)
        if slot is not None:
            return slot
        method = getattr(method, "__wrapped__", None)
    return None


def when_imported(name: str, patch: Callable[[ModuleType], None]) -> None:
    """Patch a module now if it was imported, or as soon as it is. Nothing is imported that the application does not.

    Args:
        name: the module's name.
        patch: called with the module. It may be called more than once.
    """
    module = sys.modules.get(name)
    if module is not None:
        patch(module)
    elif name not in sys.modules:  # a None there means: do without this module
        wrapt.register_post_import_hook(patch, name)
