"""The switch: which engine the hooks feed, if any. It is one for the process, as the patched classes are."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Final

from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from .._log import log
from ..dialects import RequestInfo, match_request
from ..engine.engine import Engine

SUPPRESSED: Final = (
    "an LLM stream was not observed, because instrumentation is suppressed where it is sent. Another instrumentation "
    "may do that; logfire does it unless told logfire.instrument_openai(suppress_other_instrumentation=False)"
)


class Switch:
    """Which engine the hooks feed.

    Attributes:
        engine: the engine; None while nothing is observed.
    """

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self._excluded: re.Pattern[str] | None = None
        self._mentioned = False

    def on(self, engine: Engine) -> None:
        """Observe from now on."""
        patterns = engine.settings.excluded_urls
        self._excluded = re.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None
        self.engine = engine

    def now(self) -> float:
        """Monotonic seconds, by the engine's clock."""
        engine = self.engine
        return engine.clock.now() if engine is not None else 0.0

    def off(self) -> None:
        """Observe no new stream. The open ones are observed to their end."""
        self.engine = None

    def admits(self, request: RequestInfo) -> bool:
        """Whether this request may be observed."""
        if not is_instrumentation_enabled():
            self._mention(request)
            return False
        return self._excluded is None or not any(map(self._excluded.search, _urls(request)))

    def _mention(self, request: RequestInfo) -> None:
        """Log once that a stream is not observed: the package that suppresses may not have meant us."""
        if not self._mentioned and match_request(request) is not None:
            self._mentioned = True
            log(logging.WARNING, SUPPRESSED)


def _urls(request: RequestInfo) -> Iterator[str]:
    """The URL of a request, without a port and with it. An expression may have been written for either."""
    host = f"[{request.host}]" if ":" in request.host else request.host
    yield f"{request.scheme}://{host}{request.path}"
    if request.port:
        yield f"{request.scheme}://{host}:{request.port}{request.path}"


SWITCH: Final = Switch()
