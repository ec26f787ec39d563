"""Cloudflare Workers AI's own endpoint, `/client/v4/accounts/{id}/ai/run/@cf/{vendor}/{model}`.

Older models send `{"response": "Hi", "p": "abc"}`, newer ones send OpenAI's chat frames. Both end with a frame that has
an empty `response` and the tokens, and with `[DONE]`. Legal end: `[DONE]`. The endpoint `/ai/v1/chat/completions` is
OpenAI's dialect.
"""

from __future__ import annotations

import re
from typing import Final

from ._providers import provider_of
from ._request import RequestInfo
from .openai_chat import ChatDialect, ChatPayload

_RUN: Final = re.compile(r"/ai/run/(@[^/]+/[^/]+/[^/]+)\Z")


class CloudflareAI(ChatDialect):
    """Texts or chat frames. The host tells the dialect, because the path ends in a name of three segments."""

    __slots__ = ()

    name = "cloudflare.run"
    only_at = "cloudflare"
    provider = "cloudflare"
    # The padding `p` is what other applications with a member `response` do not have.
    first_payload = (re.compile(rb'\A\s*\{\s*"response"\s*:'), re.compile(rb'"p"\s*:\s*"'))

    @classmethod
    def answers(cls, request: RequestInfo) -> bool:
        """A POST that runs a model and asks for a stream."""
        at_host = request.method == "POST" and provider_of(request.host, "") == cls.only_at
        return at_host and cls.model_in_path(request.path) is not None and cls.streams(request)

    @classmethod
    def model_in_path(cls, path: str) -> str | None:
        """See `RequestMatcher`."""
        found = _RUN.search(path)
        return found[1] if found else None

    def is_output(self, payload: ChatPayload) -> object:
        """A piece of text, in either form. A token that is a number comes without quotes."""
        if payload.choices:
            return super().is_output(payload)
        return payload.response.__class__ is str and payload.response and not (payload.usage or payload.error)
