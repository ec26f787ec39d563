"""`instrument_app`: puts the middleware that fits around one application."""

from __future__ import annotations

from typing import Any

from .asgi import ServedStreams
from .wsgi import ServedStreamsWSGI


def instrument_app(app: Any) -> Any:
    """Observe the LLM streams that an application serves to its own clients.

    Call it once for each application, before it serves its first request. `otel_llmstream.instrument()` switches the
    observation on; `instrument(app=app)` does both.

    Args:
        app: a FastAPI, Starlette or Flask application; it is changed. Or any other ASGI application.

    Returns:
        The application to serve: the same object, or, for another ASGI application, what is to be served in its place.

    Raises:
        TypeError: it is neither.
    """
    if callable(getattr(app, "add_middleware", None)):
        app.add_middleware(ServedStreams)
    elif hasattr(app, "wsgi_app"):
        app.wsgi_app = ServedStreamsWSGI(app.wsgi_app)
    elif callable(app):
        return ServedStreams(app)
    else:
        raise TypeError(f"cannot instrument {type(app).__name__}: pass a FastAPI, Starlette, Flask or ASGI application")
    return app
