"""Texts that every exporter can encode. This is the one rule for all texts that enter `core`, or that we emit.

A lone surrogate cannot be encoded as UTF-8, so an exporter would lose the whole batch. Some stores refuse NUL, and a
terminal obeys control characters. Each of them is replaced.
"""

from __future__ import annotations

import re
from typing import Any, Final

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

_REFUSED: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but for tab and the ends of lines, and surrogates."""


def encodable(text: str) -> str:
    """A text in which nothing is left that an exporter may refuse. An ordinary text comes back as it is."""
    return text if text.isprintable() else _REFUSED.sub(REPLACEMENT, text)


def encodable_value(value: Any) -> Any:
    """The same for the value of an attribute. What is neither a text nor several texts stays as it is."""
    if isinstance(value, str):
        return encodable(value)
    return [encodable_value(item) for item in value] if isinstance(value, (list, tuple)) else value
