"""What may be said of an exception in words: where it struck and why, but nothing of what was sent or received.

Exceptions of the HTTP libraries quote: h11 prints the header value that it refuses, a credential with a line break at
its end for one, and the bytes that it cannot read, the model's own for another. And Python chains to an exception
whatever was being handled when it was raised, the application's own errors with what they quote.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from typing import Final

from ..core.error_types import exception_message

MAX_MESSAGE: Final = 1024
"""Characters of a message. A provider's own may be of any length; this is four screens' lines."""

_QUOTED_BYTES: Final = re.compile(r"""(?:\bbytearray\()?\bb['"]""")
"""Where a literal of bytes begins: all that such libraries quote is bytes."""

_CAUSES: Final = 16
"""Causes followed at most; a chain may be a cycle."""


def redact_message(message: str) -> str:
    """A message without what it quotes.

    Args:
        message: an exception's or a provider's.
    """
    shown = message[:MAX_MESSAGE]
    quoted = _QUOTED_BYTES.search(shown)
    return shown[: quoted.start()].rstrip(": \t\r\n") if quoted else shown


def kind(error: BaseException) -> str:
    """An exception's class with its module."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def stack(error: BaseException) -> str:
    """An exception's stack and those of its causes, as Python prints them but for what was only being handled."""
    return _CAUSED.join(
        "".join(
            (
                _HEAD,
                *traceback.format_tb(each.__traceback__),
                f"{kind(each)}: {redact_message(exception_message(each))}\n",
            )
        )
        for each in reversed(list(_causes(error)))
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, and what it says it was raised from."""
    each: BaseException | None = error
    for _ in range(_CAUSES):
        if each is None:
            return
        yield each
        each = each.__cause__


_HEAD: Final = "Traceback (most recent call last):\n"
_CAUSED: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
