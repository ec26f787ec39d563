"""The one way in which the suite waits: for a condition, never for a time."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 240.0
"""Seconds. It only bounds how long a broken test hangs: no test that passes comes near it, on any machine."""

STEP = 0.005
"""Seconds between two looks."""


class TimeUpError(AssertionError):
    """A condition did not come true."""


def until(look: Callable[[], Any], hint: Any = "", *, patience: float = PATIENCE, step: float = STEP) -> Any:
    """Wait until a look is true, and give what it saw.

    Args:
        look: what to ask again and again; a failed assertion in it counts as false.
        hint: what the error message says; called if it is a function.
        patience: seconds.
        step: seconds between two looks.
    """
    end = time.monotonic() + patience
    while not (seen := _look(look)):
        if time.monotonic() > end:
            raise TimeUpError(_message(hint, patience))
        time.sleep(step)
    return seen


async def until_async(look: Callable[[], Any], hint: Any = "", *, patience: float = PATIENCE) -> Any:
    """The same in an event loop, which goes on meanwhile."""
    end = time.monotonic() + patience
    while not (seen := _look(look)):
        if time.monotonic() > end:
            raise TimeUpError(_message(hint, patience))
        await asyncio.sleep(STEP)
    return seen


def until_still(look: Callable[[], Any], *, pause: float = 0.2) -> None:
    """Wait until two looks, a pause apart, see the same. None is not yet anything to see."""
    seen = [look()]

    def is_still() -> bool:
        time.sleep(pause)
        seen.append(look())
        return seen[-1] == seen[-2] is not None

    until(is_still)


def _look(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except AssertionError:
        return False


def _message(hint: Any, patience: float) -> str:
    return f"not true within {patience:g} s: {hint() if callable(hint) else hint}"
