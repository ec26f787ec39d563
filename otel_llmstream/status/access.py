"""Who may read the live page.

The page shows names of models, addresses of servers and messages of providers. So a page of another site must not read
it, and neither must another machine, unless its user has the token.

- The `Host` header must be one that is known. A site whose name is made to point at this machine has another one.
- A request that a page of another origin makes is refused. Browsers name the origin, and pages cannot change that.
- Without a token, the client must be on this machine, and no proxy may have passed the request on.
- With a token, each request for data must have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hmac import compare_digest
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers

_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers that a proxy adds. A client elsewhere may be behind it."""

_FOREIGN: Final = ("cross-site", "same-site")


class Refusal(NamedTuple):
    """Why a request is refused.

    Attributes:
        status: HTTP status code.
        reason: one sentence for the reader.
    """

    status: int
    reason: str


class Access:
    """Judges requests.

    Args:
        token: what requests for data must have; None if none is needed.
        hosts: names that the page may be asked for by, beside those of the loopback interface.
        any_address: whether it may be asked for by any IP address. No name can be made to point there.

    Raises:
        ValueError: other names are allowed, and there is no token.
    """

    def __init__(self, token: str | None, hosts: Iterable[str] = (), *, any_address: bool = False) -> None:
        self._token = token.encode() if token else None
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts)
        self._any_address = any_address
        if self._token is None and (any_address or not all(map(is_loopback, self._hosts))):
            raise ValueError("hosts other than this machine's own need a token")

    def refusal(self, headers: Headers, client: str | None, *, is_data: bool) -> Refusal | None:
        """Why a request is refused; None if it is not.

        Args:
            headers: of the request.
            client: the address of the client, as far as the server knows it.
            is_data: whether the answer has data. The files of the page have none.
        """
        if not self._is_known(headers.getlist("host")):
            return Refusal(421, "This page does not answer to this Host header. See the option hosts of status_app().")
        if _is_foreign(headers):
            return Refusal(403, "A page of another origin may not read this one.")
        if self._token is None:
            return _from_elsewhere(headers, client)
        if is_data and not self._has_token(headers.get("authorization", "")):
            return Refusal(401, "This page needs its token.")
        return None

    def _is_known(self, given: Sequence[str]) -> bool:
        name = _host_name(given[0]) if len(given) == 1 else None
        if name is None:
            return False
        return name in self._hosts or is_loopback(name) or (self._any_address and _is_address(name))

    def _has_token(self, value: str) -> bool:
        scheme, _, given = value.partition(" ")
        assert self._token is not None, "asked only if there is one"
        return compare_digest(given.strip().encode(), self._token) and scheme.lower() == "bearer"


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _host_name(host: str) -> str | None:
    """The name in a Host header, without its port."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname if parts.port is None or parts.port else None
    except ValueError:
        return None


def _is_foreign(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers["host"].lower():
        return True
    # A link on another page may lead here: its page cannot read what the browser then shows.
    return headers.get("sec-fetch-site") in _FOREIGN and headers.get("sec-fetch-mode") != "navigate"


def _from_elsewhere(headers: Headers, client: str | None) -> Refusal | None:
    if client is None or not is_loopback(client) or any(name in headers for name in _FORWARDED):
        return Refusal(403, "Without a token, this page is for this machine alone.")
    return None
