"""What the headers of a response say, in neutral terms. A hook builds it; the engine reads it."""

from __future__ import annotations

from typing import NamedTuple

from . import caps
from .rate_limits import RateLimits


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
    """

    status: int
    content_type: str = ""
    content_encoding: str = ""
    request_id: str | None = None
    protocol: str | None = None
    tls: str | None = None
    rate_limits: RateLimits = ()
    marks: tuple[str, ...] = ()

    @property
    def is_success(self) -> bool:
        """Whether the status is one of success (RFC 9110, section 15.3)."""
        return 200 <= self.status < 300  # noqa: PLR2004 - the range that the RFC names

    @property
    def media_type(self) -> str:
        """The media type without parameters, in lower case. A header that a proxy wrote twice counts once."""
        return media_type_of(self.content_type)

    def capped(self) -> ResponseInfo:
        """The same with every text cut; see `caps`. The stream keeps this until its end."""
        return ResponseInfo(
            self.status,
            caps.name(self.content_type),
            caps.name(self.content_encoding),
            caps.maybe_name(self.request_id),
            caps.maybe_name(self.protocol),
            caps.maybe_name(self.tls),
            self.rate_limits,
            self.marks,
        )


def media_type_of(content_type: str) -> str:
    """The media type that a header `Content-Type` names; see `ResponseInfo.media_type`."""
    return content_type.partition(";")[0].partition(",")[0].strip().lower()
