"""OpenAI Realtime: the Responses API's events over a WebSocket, with other usage names and one last event for all ends.

Legal end: `response.done`, with the status completed, cancelled, failed or incomplete. A top-level `error` is about a
message of the application, and fails no response. The model is in the query of the URL.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from .. import semconv
from ..core.events import INTERRUPTED, TERMINATOR, InBandError
from ..wire import Frame
from ._base import Events
from ._errors import describe_error, is_error
from ._json import entry, text
from ._openai_lanes import RealtimeLanes
from ._request import RequestInfo
from ._usage import UsageFields
from .openai_responses import ResponseEvents


class OpenAIRealtime(ResponseEvents):
    """One response of a realtime session; a single choice."""

    __slots__ = ()

    name = "openai.realtime"
    transports = (semconv.WEBSOCKET,)
    paths = ("/realtime",)
    api = "realtime"
    lanes = RealtimeLanes
    usage = UsageFields(
        input=("input_tokens",),
        output=("output_tokens",),
        cache_read=("input_token_details.cached_tokens",),
        reasoning=("output_token_details.reasoning_tokens",),
    )

    @classmethod
    def model_of(cls, request: RequestInfo) -> str | None:
        """The query names it; Azure calls it `deployment`."""
        query = parse_qs(request.query)
        found = query.get("model") or query.get("deployment")
        return found[0] if found else super().model_of(request)

    def find_error(self, payload: Any, frame: Frame) -> InBandError | None:  # noqa: ARG002 - as the base class
        """The error of a response stands in its `status_details`. All other errors are not the response's."""
        response = payload.response
        error = entry(entry(response, "status_details"), "error")
        if entry(response, "status") != "failed":
            return None
        return describe_error(error) if is_error(error) else InBandError("")

    def _done(self, payload: Any) -> Events:
        response = payload.response
        status, reason = text(entry(response, "status")), entry(entry(response, "status_details"), "reason")
        known = self.known(payload)
        if status == "cancelled":
            return (*known, INTERRUPTED)
        if status == "failed":
            return known
        return (*known, *self.finish(status or "completed", cause=reason or "completed"), TERMINATOR)

    handlers = {
        **ResponseEvents.handlers,
        "response.done": _done,
    }
