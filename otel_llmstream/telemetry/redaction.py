"""Makes messages and tracebacks of exceptions that quote nothing that was sent or received.

Exceptions of the HTTP libraries quote data. For example, h11 prints a header value that it refuses, which may be a
credential with a line break. It also prints bytes that it cannot read, which may be the model's. And Python adds to an
exception the one that was being handled when it was raised, which may be the application's own.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from typing import Final

from ..core.error_types import exception_message

MAX_MESSAGE: Final = 1024
"""Characters of a message. A provider's message may have any length."""

_QUOTED_BYTES: Final = re.compile(r"""(?:\bbytearray\()?\bb['"]""")
"""The beginning of a literal of bytes. Everything that such libraries quote is bytes."""

_QUERY: Final = re.compile(r"""\?[^\s'"<>()=]*=[^\s'"<>()]*""")
"""The query of a URL, which may have a key. urllib3 quotes the URLs that it asks for in vain."""

_CAUSES: Final = 16
"""Causes that are followed at most. A chain may be a cycle."""


def redact_message(message: str) -> str:
    """A message without the data that it quotes.

    Args:
        message: of an exception or a provider.
    """
    shown = _QUERY.sub("", message[:MAX_MESSAGE])
    quoted = _QUOTED_BYTES.search(shown)
    return shown[: quoted.start()].rstrip(": \t\r\n") if quoted else shown


def kind(error: BaseException) -> str:
    """An exception's class with its module."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def stack(error: BaseException) -> str:
    """The tracebacks of an exception and of its causes, as Python prints them.

    Exceptions that were only being handled when another one was raised are left out.
    """
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
    """The exception, and the ones that it was raised from."""
    each: BaseException | None = error
    for _ in range(_CAUSES):
        if each is None:
            return
        yield each
        each = each.__cause__


_HEAD: Final = "Traceback (most recent call last):\n"
_CAUSED: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
