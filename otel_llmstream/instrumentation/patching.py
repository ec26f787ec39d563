"""How a method of another library is replaced: as a plain function, once, now or when its module is imported.

A plain function behaves as the method did: it can be called unbound, pickled by its name, copied, and used for a spec.
If the module or this package is imported again, the function that is there already gets the new behaviour. So nothing
is ever observed twice.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from types import FunctionType, ModuleType
from typing import Any, Final

import wrapt

Method = Callable[..., Any]

SLOT: Final = "__otel_llmstream__"
"""Attribute of a replaced method. It has the same name in every copy of this package, so that they find each other."""

MAX_WRAPPERS: Final = 32
"""Wrappers of other packages that are looked through for our own."""


class Slot:
    """What a replaced method does.

    Attributes:
        original: the method as it was.
        call: what is called instead, with the same arguments.
        skips: tells by the arguments whether the original is called all the same. Never raises.
    """

    __slots__ = ("call", "original", "skips")

    def __init__(self, original: Method) -> None:
        self.original = original
        self.call = original
        self.skips: Skips = _skips_nothing


Skips = Callable[[tuple[Any, ...], dict[str, Any]], bool]


def _skips_nothing(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> bool:
    return False


def replace_method(owner: Any, name: str, make: Callable[[Method], Method], skips: Skips = _skips_nothing) -> None:
    """Replace a method of a class.

    Args:
        owner: the class.
        name: the method's name.
        make: makes the new method out of the original one.
        skips: tells by the arguments whether the original method is called all the same. It must not raise.
    """
    current = inspect.getattr_static(owner, name)
    slot = _slot_of(current)
    if slot is None:
        slot = Slot(current if type(current) is FunctionType else _bound_when_called(current))
        setattr(owner, name, _function(slot))
    slot.call, slot.skips = make(slot.original), skips


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


def _function(slot: Slot) -> Method:
    """A function that is as like the original as can be, and that does what the slot says."""
    if inspect.iscoroutinefunction(slot.original):

        @wraps(slot.original)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            if not args and "self" in kwargs:  # as a keyword, of a method taken out of its class
                args = (kwargs.pop("self"),)
            return await (slot.original if slot.skips(args, kwargs) else slot.call)(*args, **kwargs)

        setattr(coroutine, SLOT, slot)
        return coroutine

    @wraps(slot.original)
    def function(*args: Any, **kwargs: Any) -> Any:
        if not args and "self" in kwargs:
            args = (kwargs.pop("self"),)
        return (slot.original if slot.skips(args, kwargs) else slot.call)(*args, **kwargs)

    setattr(function, SLOT, slot)
    return function


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
