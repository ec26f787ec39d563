"""What the headers of a response and the end of its transport say, in neutral terms. Hooks build it for the engine."""

from __future__ import annotations

from typing import Final, NamedTuple

from . import caps
from .rate_limits import RateLimits

OK: Final = 200
SWITCHING_PROTOCOLS: Final = 101
"""HTTP status of a handshake that opens a WebSocket (RFC 6455, section 4.2.2)."""

REQUEST_ID_HEADERS: Final = (
    "x-request-id",  # OpenAI, Groq, Azure, most gateways
    "request-id",  # Anthropic
    "apim-request-id",  # Azure API Management
    "x-amzn-requestid",
    "x-generation-id",  # OpenRouter
    "x-ds-trace-id",  # DeepSeek
    "mistral-correlation-id",
    "x-kong-request-id",
    "x-debug-trace-id",  # Cohere
    "cf-ray",
)
"""Headers in which providers put their id of a request. The first one that is there counts."""


class ResponseInfo(NamedTuple):
    """The headers of one response.

    Attributes:
        status: HTTP status code.
        content_type: value of `Content-Type`; empty if there is none.
        content_encoding: value of `Content-Encoding`; empty if there is none, or if the client decodes the body before
            we see it.
        request_id: the provider's id of the request, from a response header.
        protocol: HTTP version, such as `1.1` or `2`.
        tls: TLS version, such as `1.3`; None without TLS.
        marks: names of the headers, in lower case, that name the dialect of the body.
        rate_limits: what the headers say of rate limits, as (attribute name, value); see `rate_limits`.
        in_messages: whether the answer comes in whole messages (WebSocket, gRPC). Each read is one message then. The
            request names the dialect, so no bytes are sniffed.
    """

    status: int
    content_type: str = ""
    content_encoding: str = ""
    request_id: str | None = None
    protocol: str | None = None
    tls: str | None = None
    rate_limits: RateLimits = ()
    in_messages: bool = False
    marks: tuple[str, ...] = ()

    @property
    def is_success(self) -> bool:
        """Whether the status is one of success (RFC 9110, section 15.3), or the one that opens a WebSocket."""
        return 200 <= self.status < 300 or self.status == SWITCHING_PROTOCOLS  # noqa: PLR2004 - the RFC's range

    @property
    def media_type(self) -> str:
        """The media type without parameters, in lower case. A header that a proxy wrote twice counts once."""
        return media_type_of(self.content_type)

    def capped(self) -> ResponseInfo:
        """The same with every text cut; see `caps`. The stream keeps this until its end."""
        texts = (self.content_type, self.content_encoding, self.request_id, self.protocol, self.tls)
        whole = "".join([text for text in texts if text])
        if caps.name(whole) is whole and "" not in texts[2:]:  # as nearly always, and then one look is enough
            return self
        return self._replace(
            content_type=caps.name(self.content_type),
            content_encoding=caps.name(self.content_encoding),
            request_id=caps.maybe_name(self.request_id),
            protocol=caps.maybe_name(self.protocol),
            tls=caps.maybe_name(self.tls),
        )


def media_type_of(content_type: str) -> str:
    """The media type that a header `Content-Type` names; see `ResponseInfo.media_type`."""
    return content_type.partition(";")[0].partition(",")[0].strip().lower()


class Closing(NamedTuple):
    """What a transport says of the end of a stream in its own words: a WebSocket's close frame, a gRPC status.

    Attributes:
        error_type: the `error.type` if the end is a failure; see `semconv.ERROR_TYPES`.
        message: what happened, in words, for the log.
        close_code: status code of the WebSocket close frame that the server sent (RFC 6455, section 7.4); 1005 if the
            frame had none, 1006 if no close frame came. None for other transports.
    """

    error_type: str | None = None
    message: str = ""
    close_code: int | None = None
