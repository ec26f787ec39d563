"""Tools for tests of applications that stream from LLMs, and for our own.

- `ChaosServer`: a local server that speaks the dialects of six providers and breaks streams in every way there is
  (needs the extra `testing`).
- `capture`: spans, metrics and logs in memory.
- `replay`: a recorded body through the whole pipeline, without a network.
- `FakeClock`: time that passes when it is told to.

`otel_llmstream.testing.pytest_plugin` has the fixtures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._capture import Captured, Point, capture
from ._clock import FakeClock
from ._replay import replay

if TYPE_CHECKING:
    from .chaos import SCENARIOS, ChaosServer

__all__ = ["SCENARIOS", "Captured", "ChaosServer", "FakeClock", "Point", "capture", "replay"]


def __getattr__(name: str) -> Any:
    """The chaos server is loaded when it is asked for: it needs h11."""
    if name in ("ChaosServer", "SCENARIOS"):
        from . import chaos

        return getattr(chaos, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
