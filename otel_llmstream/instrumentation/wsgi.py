"""`ServedStreamsWSGI`: a WSGI middleware of the same kind as `asgi.ServedStreams`, for Flask and others.

WSGI knows less. A server asks for a piece after it has sent the one before, so the time between is the write. A client
that leaves shows as `close()` before the end. The server span must be current when the application is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from ..dialects import RequestInfo
from ..engine.serving import SERVING, Serving
from .serving import begin, request_info, respond

Environ = dict[str, Any]
WSGIApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class ServedStreamsWSGI:
    """Observes the LLM streams that a WSGI application serves to its own clients.

    With Flask: `app.wsgi_app = ServedStreamsWSGI(app.wsgi_app)`. The model and `stream` of the request are not known,
    because a WSGI application reads the request's body itself; the stream tells the model.

    Args:
        app: the application.
    """

    def __init__(self, app: WSGIApp) -> None:
        self.app = app

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        serving = begin(environ)
        if serving is None:
            return self.app(environ, start_response)
        exchange = _Exchange(serving, environ, start_response)
        token = SERVING.set(serving)
        try:
            body = self.app(environ, exchange.start_response)
        finally:
            SERVING.reset(token)
        return _Body(body, serving) if exchange.may_stream(body) else body


class _Exchange:
    """One request."""

    def __init__(self, serving: Serving, environ: Environ, start_response: Callable[..., Any]) -> None:
        self.serving = serving
        self._environ = environ
        self._start_response = start_response
        self._context = serving.recorder.context()

    def start_response(self, status: str, headers: list[tuple[str, str]], *args: Any) -> Any:
        """The headers of the application. They are passed on."""
        self.serving.tell(self._respond, status, headers)
        return self._start_response(status, headers, *args)

    def may_stream(self, body: Iterable[bytes]) -> bool:
        """Whether the body must be watched. Headers of a generator come with its first piece."""
        return self.serving.is_watching or not isinstance(body, (list, tuple))

    def _respond(self, status: str, headers: list[tuple[str, str]]) -> None:
        respond(
            self.serving,
            int(status.partition(" ")[0]),
            ((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers),
            protocol=None,
            request=self._request,
            route=partial(_route, self._environ),
            span=partial(self.serving.recorder.server_span, self._context),
        )

    def _request(self) -> RequestInfo:
        environ = self._environ
        return request_info(
            environ["REQUEST_METHOD"], environ.get("PATH_INFO") or "", environ.get("QUERY_STRING") or "",
            environ.get("wsgi.url_scheme") or "http", None, (),
        )  # fmt: skip


def _route(environ: Environ) -> str | None:
    """The template of the path, as Flask tells it."""
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    path = getattr(rule, "rule", None)
    return path if isinstance(path, str) else None


class _Body:
    """The application's body, piece by piece."""

    def __init__(self, body: Iterable[bytes], serving: Serving) -> None:
        self._body = body
        self._pieces = iter(body)
        self._serving = serving

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        serving = self._serving
        serving.tell(serving.sent)
        token = SERVING.set(serving)
        try:
            piece = next(self._pieces)
        except StopIteration:
            serving.tell(serving.sending, b"", last=True)
            raise
        except BaseException as exc:
            serving.tell(serving.raised, exc)
            raise
        finally:
            SERVING.reset(token)
        serving.tell(serving.sending, piece, last=False)
        return piece

    def close(self) -> None:
        """The server is done with the body. If that is before its end, the client has left."""
        self._serving.tell(self._serving.disconnected)
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
