"""Events of the live page: a picture four times a second, and the calls that have ended in between.

Pages that are open share one picture. If a picture takes long to make, because very many streams are open, pictures
become rarer: they never take more than `SHARE` of a processor.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

from .picture import calls, picture
from .source import Source

INTERVAL: Final = 0.25
"""Seconds between two pictures. A person takes them for a movement, and a failure shows at once."""

SHARE: Final = 0.05
"""The largest part of the time that making pictures may take. The rest is the application's."""

MOST: Final = 2.0
"""Seconds between two pictures at most: then a picture takes 100 ms, which are some 10,000 open streams."""


class Feed:
    """Makes the events.

    Args:
        source: what they tell.
        clock: monotonic seconds.

    Attributes:
        pause: seconds until the next event is due.
    """

    def __init__(self, source: Source, clock: Callable[[], float] = monotonic) -> None:
        self._source = source
        self._clock = clock
        self._made_at = -MOST
        self._latest = b""
        self.pause = INTERVAL

    def event(self, cursor: str) -> tuple[bytes, str]:
        """The next events for a page, and its next cursor. Call it in a thread: it may take some milliseconds."""
        news = self._source.news(cursor)
        found = _event("picture", self._picture())
        if news.ended or news.is_reset:
            found = _event("calls", msgspec.json.encode(calls(news))) + found
        return found, news.cursor

    def document(self) -> bytes:
        """All of it at once, as one JSON document."""
        return msgspec.json.encode(picture(self._source) | calls(self._source.news("")))

    def _picture(self) -> bytes:
        started = self._clock()
        if started - self._made_at < self.pause / 2:  # another page has just asked
            return self._latest
        self._latest = msgspec.json.encode(picture(self._source))
        self._made_at = self._clock()
        self.pause = min(MOST, max(INTERVAL, (self._made_at - started) / SHARE))
        return self._latest


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
