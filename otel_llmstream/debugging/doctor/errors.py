"""What can go wrong below HTTP, called as HTTP clients call it: so `core.error_types.classify` knows it."""

from __future__ import annotations


class ConnectTimeout(Exception):  # noqa: N818 - the name of httpx
    """No connection within the time-out."""


class ConnectError(Exception):
    """The connection failed."""


class ProxyError(Exception):
    """The proxy opened no tunnel."""


class ReadTimeout(Exception):  # noqa: N818 - the name of httpx
    """Silence for longer than the time-out."""


class RemoteProtocolError(Exception):
    """The server broke the rules of HTTP, or ended the connection before the body was whole."""
