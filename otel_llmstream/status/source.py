"""`Source`: where the page gets its numbers. They are asked for while a page is open, and never otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..core.open_stream import LiveStream
from ..telemetry.health import Health
from ..telemetry.recent import News


class Source(NamedTuple):
    """What can be asked of the process. Each answer is a snapshot.

    Attributes:
        health: see `otel_llmstream.health`.
        streams: the streams that are open.
        news: the calls that have ended since a cursor.
        served: the served streams that are open: the route and the model of each.
    """

    health: Callable[[], Health]
    streams: Callable[[], list[LiveStream]]
    news: Callable[[str], News]
    served: Callable[[], Iterable[tuple[str | None, str | None]]]
