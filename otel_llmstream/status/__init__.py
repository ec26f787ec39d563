"""The live page: what is open now, what has ended and why. It needs the extra `status`, and nothing else loads it.

`source` says what it shows, `picture` makes JSON of that, `access` says who may read it, `app` answers requests, and
`server` runs the app in a thread. The files of the page are in `page/`: it has no build step, and loads nothing from
any other place.
"""

from __future__ import annotations

from .source import Source

__all__ = ["Source"]
