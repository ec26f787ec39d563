"""`Endpoint._send` of botocore: one try of one request; and the API call around it, with all its tries.

Only operations that stream their output are looked at, and in a `call()` the others, which may be what the application
fell back to. A tap stands in the place of the urllib3 response that botocore's `EventStream` reads. All other calls to
AWS cost one look at an attribute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import wrapt

from ..core.states import End
from ..engine.call import current
from .call_boundary import Boundary
from .close_reason import watch_garbage_collector
from .httpx import SWITCH, Sending
from .tap import closed

OPERATIONS: Final = ("ConverseStream", "InvokeModelWithResponseStream")
"""What is one call, whatever botocore retries of it."""

_patched: set[int] = set()  # ids of modules; they live as long as the process


def patch() -> None:
    """Patch botocore, now or when it is imported."""
    watch_garbage_collector()
    for name, patcher in (("botocore.endpoint", _patch_endpoint), ("botocore.client", _patch_client)):
        if name in sys.modules:
            patcher(sys.modules[name])
        else:
            wrapt.register_post_import_hook(patcher, name)


def _patch_endpoint(module: ModuleType | None) -> None:
    _wrap(module, "Endpoint", "_send", _send)


def _patch_client(module: ModuleType | None) -> None:
    _wrap(module, "BaseClient", "_make_api_call", _call)


def _wrap(module: ModuleType | None, name: str, method: str, wrapper: Callable[..., Any]) -> None:
    owner = getattr(module, name, None)
    if id(module) not in _patched and hasattr(owner, method):
        _patched.add(id(module))
        wrapt.wrap_function_wrapper(owner, method, wrapper)


def _call(wrapped: Callable[..., Any], _client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if (args[0] if args else kwargs.get("operation_name")) not in OPERATIONS:
        return wrapped(*args, **kwargs)
    with Boundary():
        return wrapped(*args, **kwargs)


def _send(wrapped: Callable[..., Any], _endpoint: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    sending = _begin(args[0] if args else kwargs.get("request"))
    if sending is None:
        return wrapped(*args, **kwargs)
    try:
        with sending.activate():
            response = wrapped(*args, **kwargs)
    except BaseException as exc:
        sending.raised(exc)
        raise
    sending.answered(_Response(response), RawTap)
    return response


# --- requests and responses in httpx's shape ------------------------------------------------------------------------


def _begin(request: Any) -> Sending | None:
    """Look at a request; None where it can be no LLM stream. Never raises."""
    engine = SWITCH.engine
    streams = bool(getattr(request, "stream_output", False))
    if engine is None or not (streams or current() is not None):  # in a call, what does not stream may be a fallback
        return None
    try:
        asked = _asked(request)
    except Exception as exc:
        engine.internal_error(exc)
        return None
    return Sending.begin((asked,), {"stream": streams})


def _asked(request: Any) -> Any:
    url = urlsplit(request.url)
    body = request.body.encode() if isinstance(request.body, str) else request.body
    return SimpleNamespace(
        method=request.method,
        headers=_NO_HEADERS,
        url=SimpleNamespace(
            scheme=url.scheme,
            host=url.hostname or "",
            port=url.port,
            path=url.path,
            query=url.query.encode("ascii", "replace"),
        ),
        _content=bytes(body) if isinstance(body, (bytes, bytearray)) else None,
    )


_NO_HEADERS: Final[Mapping[str, str]] = {}
"""What botocore tries again is in its own call; it counts in no header that is read here."""


class _Response:
    """A response in httpx's shape. Nothing is looked at before it is asked for, since that is where the guard is.

    Args:
        response: botocore's, around urllib3's.
    """

    def __init__(self, response: Any) -> None:
        self._response = response

    @property
    def status_code(self) -> int:
        return int(self._response.status_code)

    @property
    def http_version(self) -> str:
        return _VERSIONS.get(getattr(self._response.raw, "version", 0), "")

    @property
    def extensions(self) -> Mapping[str, Any]:
        return {"network_stream": _Connection(self._response.raw)}

    @property
    def headers(self) -> Any:
        pairs = self._response.headers.items()
        return SimpleNamespace(raw=[(_latin(name), _latin(value)) for name, value in pairs])

    @property
    def is_closed(self) -> bool:
        return self._content is not None

    @property
    def _content(self) -> bytes | None:
        """The body, where botocore has read it: of all that does not stream."""
        body: bytes | None = self._response._content  # noqa: SLF001
        return body

    @property
    def stream(self) -> Any:
        """Where the body is read."""
        return self._response.raw

    @stream.setter
    def stream(self, tap: Any) -> None:
        self._response.raw = tap


def _latin(text: str) -> bytes:
    return text.encode("latin-1", "replace")


_VERSIONS: Final[Mapping[int, str]] = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2"}
"""As urllib3 counts them."""


class _Connection:
    """A connection of urllib3's, asked as one of httpx's."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def get_extra_info(self, _name: str) -> Any:
        """The TLS socket, where there is one."""
        sock = getattr(getattr(self._raw, "connection", None), "sock", None)
        return sock if hasattr(sock, "version") else None


# --- the tap ----------------------------------------------------------------------------------------------------------


class RawTap(wrapt.ObjectProxy):  # type: ignore[type-arg]
    """Stands before a urllib3 response, is taken for one by `isinstance`, and tells of what is read by `stream`."""

    def __init__(self, raw: Any, watcher: Any) -> None:
        super().__init__(raw)
        self._self_watcher = watcher

    def __del__(self) -> None:
        watcher = getattr(self, "_self_watcher", None)
        if watcher is not None:
            watcher.end(End.GARBAGE_COLLECTED, unsafe=True)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """The body in pieces, as urllib3 gives it."""
        watcher = self._self_watcher
        watcher.asked_at = watcher.clock()
        try:
            for data in self.__wrapped__.stream(*args, **kwargs):
                watcher.feed(data)
                yield data
                watcher.asked_at = watcher.clock()
        except GeneratorExit:  # botocore has one such generator for a stream, and keeps it until it cannot read on
            watcher.end(End.GARBAGE_COLLECTED, unsafe=True)
            raise
        except BaseException as exc:
            watcher.raised(exc)
            raise
        watcher.end(End.EOF)

    def close(self) -> None:
        """The application closes the stream."""
        closed(self._self_watcher)
        self.__wrapped__.close()
