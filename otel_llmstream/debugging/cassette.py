"""Cassettes of VCR.py, in YAML or JSON."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from binascii import Error
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .recording import Recording, UnusableError, items, mapping, number, parse_json, raw, recorded, word

_YAML: Final = re.compile(rb"^interactions:", re.MULTILINE)
_JSON: Final = re.compile(rb'\s*\{\s*(?:"version"\s*:\s*\d+\s*,\s*)?"interactions"\s*:')


def read(data: bytes) -> list[Recording | None] | None:
    """The responses of a cassette, None for each without a body. None if the bytes are no cassette.

    Raises:
        UnusableError: the cassette is broken, or PyYAML is missing.
    """
    if _JSON.match(data) is not None:
        return list(_interactions(parse_json(data, "The cassette")))
    if _YAML.search(data) is not None:
        return list(_interactions(_parse_yaml(data)))
    return None


def _parse_yaml(data: bytes) -> Any:
    try:
        from ._yaml import YAMLError, load  # PyYAML is an extra
    except ModuleNotFoundError:
        raise UnusableError("Cassettes need PyYAML: pip install 'otel-llmstream[monitoring]'.") from None
    try:
        return load(data)
    except YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f": see line {mark.line + 1}" if mark is not None else ""
        raise UnusableError(f"The cassette is not valid YAML{where}.") from None
    except (ValueError, RecursionError):
        raise UnusableError("The cassette is not valid YAML.") from None


def _interactions(cassette: object) -> Iterator[Recording | None]:
    for place, each in enumerate(items(mapping(cassette).get("interactions")), 1):
        request, response = mapping(each.get("request")), mapping(each.get("response"))
        headers = {str(name).lower(): word(value) for name, value in mapping(response.get("headers")).items()}
        yield recorded(
            place,
            word(request.get("uri")),
            word(request.get("method")),
            _request_body(request),
            number(mapping(response.get("status")).get("code", response.get("status_code")), 0),
            headers,
            _response_body(response),
        )


def _request_body(request: Mapping[str, Any]) -> bytes:
    parsed = request.get("parsed_body")  # of a serializer that some projects use
    return json.dumps(parsed, default=str).encode() if parsed else raw(request.get("body"))


def _response_body(response: Mapping[str, Any]) -> bytes | None:
    body = response.get("body", response.get("content"))
    if isinstance(body, Mapping) and "base64_string" in body:
        try:
            return b64decode(raw(body["base64_string"]))
        except (Error, ValueError):
            raise UnusableError("The cassette has a body that is no valid base64.") from None
    text = body.get("string") if isinstance(body, Mapping) else body
    return raw(text) if isinstance(text, (str, bytes)) else None
