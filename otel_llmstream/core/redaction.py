"""Removes from messages and tracebacks what may be a secret, or what was sent or received.

Exceptions of the HTTP libraries quote data. aiohttp quotes whole URLs, also those that a server redirects to. h11 and
requests quote a header value that they refuse, which may be a credential with a line break. h11 also quotes bytes that
it cannot read, which may be the model's. A provider quotes the key that it refuses. And Python adds to an exception the
one that was being handled when it was raised, which may be the application's own.

This is the one rule for all messages. A message is redacted where it enters `core` (`caps.message`), so that it has no
secret wherever it goes. What is removed:

- the query, the fragment and the user info of a URL, and of what looks like one;
- everything from the first literal of bytes on, and everything that follows the word "header";
- the value that follows a name such as `api_key`, `Authorization` or `token`;
- what looks like a token: a bearer token, a JWT, a key with a known prefix, 40 letters and digits in a row.

A secret that looks like an ordinary word, and stands where none of these rules looks, is not found.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from .encodable import encodable

REDACTED: Final = "REDACTED"

_CAUSES: Final = 16
"""Causes that are followed at most. A chain may be a cycle."""

_CUTS: Final = (
    # Everything that h11, h2, http.client and such libraries quote is bytes.
    re.compile(r"""()(?:\bbytearray\()?\bb['"]"""),
    # "header value: 'x'", "Authorization header: x", "headers={...}"; gRPC calls them metadata.
    re.compile(r"""\b(headers?|metadata)\b[^:='"\n.]{0,32}[:='"]""", re.IGNORECASE),
)
"""Nothing of a message is shown that follows the group."""

_NAMES: Final = (
    r"(?:authorization|auth|key|token|secret|signature|sig|password|passwd|passphrase|pwd|credentials?|cookie|jwt)"
)
_PREFIX: Final = r"(?<![\w.-])[\w.-]{0,64}?"  # of a name: x-api-, accessT, AWS_SECRET_ACCESS_

_QUOTED_VALUE: Final = (
    re.compile(rf"""({_PREFIX}{_NAMES}["']?\s{{0,2}}[:=,]\s{{0,2}})(?:"[^"]*(?:"|\Z)|'[^']*(?:'|\Z))""", re.IGNORECASE),
    rf"\1'{REDACTED}'",
)
"""`"api-key": "x"`, `password='x'`, `('authorization', 'x')`."""

_TOKENS: Final = (
    re.compile(r"\b((?i:bearer|basic|digest|negotiate))\s+(?=[\w.~+/=-]*[0-9A-Z_=])[\w.~+/=-]{4,}"),
    rf"\1 {REDACTED}",
), (
    re.compile(
        r"(?<![A-Za-z0-9])(?:"
        r"(?:sk|pk|rk|gsk|csk|hf|r8|fw|tgp|nvapi|pplx|xai|gh[a-z]|github_pat|glpat|xox[a-z]|lsv2|ya29)[-_.][\w.*-]{8,}"
        r"|AIza[\w-]{16,}|(?:AKIA|ASIA)[A-Z0-9]{12,}|eyJ[\w-]{8,}(?:\.[\w-]*){0,4}"
        r"|(?=[A-Za-z_-]{0,64}\d)(?=[\d_-]{0,64}[A-Za-z])[\w-]{40,})",
    ),
    REDACTED,
)  # fmt: skip

_URLS: Final = (
    # Also as JSON escapes it: http:\/\/. A password may have any character that ends a part of a proper URL.
    (re.compile(r"""\b([a-z][a-z0-9+.-]{1,31}:(?:\\?/){2})[^\s/\\'"<>]{1,512}@""", re.IGNORECASE), r"\1"),
    (re.compile(r"""(?<![^\s'"(=])[^\s/@:'"(=]{1,256}:[^\s/@'"]{1,256}@(?=[\w\[])"""), ""),
    (re.compile(r"""(?<=[^\s?'"])\?(?=[^\s?'"<>])[^\s'"<>]+"""), f"?{REDACTED}"),
    (re.compile(r"""(?<=[^\s#'"])\#(?=[^\s'"<>]*=)[^\s'"<>]+"""), f"#{REDACTED}"),
)
"""User info, with and without a scheme; queries and fragments."""

_MESSAGE_RULES: Final = (
    *_URLS,
    # The whole line of such a header is the value.
    (
        re.compile(r"\b((?:proxy-)?authorization|(?:set-)?cookie)\s{0,2}[:=][^\n'\"]+", re.IGNORECASE),
        rf"\1: {REDACTED}",
    ),
    _QUOTED_VALUE,
    (
        re.compile(
            rf"""({_PREFIX}{_NAMES}(?:\s(?:provided|given|used|is|was)){{0,2}}\s{{0,2}}[:=]\s{{0,2}})[^\s,;&'"<>)}}\]]+""",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
    *_TOKENS,
)

_CODE_RULES: Final = (*_URLS, _QUOTED_VALUE, *_TOKENS)
"""Of a line of source code in a traceback. It may have a secret as a literal, and is hardly ever quoted data."""


def redact(message: str) -> str:
    """A message without what may be a secret.

    Args:
        message: of an exception or a provider. The time that this takes is bounded only if the length is.
    """
    for cut in _CUTS:
        found = cut.search(message)
        if found is not None:
            message = message[: found.end(1)].rstrip(": \t\r\n")
    for pattern, replacement in _MESSAGE_RULES:
        message = pattern.sub(replacement, message)
    return message


def mask(data: bytes) -> bytes:
    """Bytes of the same length, in which what may be a secret is stars.

    The rules are those of messages. What only follows a literal of bytes or the word "header" stays: in a body, such
    words are ordinary ones.

    Args:
        data: a part of a body. The time that this takes is bounded only if the length is.
    """
    text = data.decode("latin-1")  # one character per byte
    for pattern, _ in _MESSAGE_RULES:
        text = pattern.sub(_stars, text)
    return text.encode("latin-1")


def _stars(found: re.Match[str]) -> str:
    """What a rule keeps of a match is its first group, which begins the match."""
    kept = found[1] if found.re.groups else ""
    return kept + "*" * (len(found[0]) - len(kept))


def kind(error: BaseException) -> str:
    """An exception's class with its module."""
    return encodable(f"{type(error).__module__}.{type(error).__qualname__}")


def frames(raised: TracebackType | None) -> str:
    """The frames of a traceback as Python prints them, without literals that may be secrets."""
    text = encodable("".join(traceback.format_tb(raised)))
    for pattern, replacement in _CODE_RULES:
        text = pattern.sub(replacement, text)
    return text


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, and the ones that it was raised from.

    Exceptions that were only being handled when another one was raised are left out.
    """
    each: BaseException | None = error
    for _ in range(_CAUSES):
        if each is None:
            return
        yield each
        each = each.__cause__
