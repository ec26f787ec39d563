"""URLs that are known to be no LLM's. An application asks for few URLs, so that one look-up answers nearly always."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from .exchange import LONGEST_KNOWN, may_be_llm

MAX_OTHERS: Final = 512
"""What is known at most. Then it is learned anew. With `LONGEST_KNOWN` it bounds the memory to some 200 KB."""

OTHERS: Final[set[object]] = set()
"""URLs, and pairs of a host and what is asked of it. A hook looks here first, and calls a function if it finds nothing.
"""


def is_other_url(url: Any) -> bool:
    """Whether no dialect answers a request to this URL. What cannot be sent counts as such.

    Args:
        url: what the application gave for the URL.
    """
    if url.__class__ is not str:
        return True
    try:
        parts = urlsplit(url)
        if may_be_llm(parts.path, parts.hostname or ""):
            return False
    except ValueError:
        return True
    learn(url)
    return True


def is_other_target(target: Any, host: str) -> bool:
    """The same for what a request line asks for: a path with a query, or a whole URL, as of some proxies.

    Args:
        target: what is asked for.
        host: the host that is asked.
    """
    if target.__class__ is not str or target[:1] != "/":
        return is_other_url(target)
    if may_be_llm(target.partition("?")[0], host):
        return False
    learn(target, host)
    return True


def learn(url: Any, host: str | None = None) -> None:
    """Remember that no dialect answers there.

    Args:
        url: a URL, or what is asked of a host.
        host: the host.
    """
    if url.__class__ is str and len(url) <= LONGEST_KNOWN:
        if len(OTHERS) >= MAX_OTHERS:
            OTHERS.clear()
        OTHERS.add(url if host is None else (url, host))
