"""HAR files (HTTP Archive 1.2), as browsers and proxies export them."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .recording import Recording, items, mapping, number, parse_json, raw, recorded, word

_BEGINS: Final = re.compile(rb'\s*\{\s*"log"\s*:')


def read(data: bytes) -> list[Recording | None] | None:
    """The responses of a HAR file, None for each without a body. None if the bytes are no such file.

    Raises:
        UnusableError: the file is broken.
    """
    if _BEGINS.match(data) is None:
        return None
    log = mapping(mapping(parse_json(data, "The HAR file")).get("log"))
    return list(_entries(log))


def _entries(log: Mapping[str, Any]) -> Iterator[Recording | None]:
    for place, entry in enumerate(items(log.get("entries")), 1):
        request, response = mapping(entry.get("request")), mapping(entry.get("response"))
        content = mapping(response.get("content"))
        yield recorded(
            place,
            word(request.get("url")),
            word(request.get("method")),
            raw(mapping(request.get("postData")).get("text")),
            number(response.get("status"), 0),
            # The text of a HAR is decoded, whatever the response's headers say.
            {"content-type": word(content.get("mimeType"))},
            _body(content),
        )


def _body(content: Mapping[str, Any]) -> bytes | None:
    """The body; None if the browser left it out, as some do for streams."""
    if not isinstance(content.get("text"), str):
        return None
    text = raw(content["text"])
    if content.get("encoding") != "base64":
        return text
    try:
        return b64decode(text)
    except (Error, ValueError):
        return text
