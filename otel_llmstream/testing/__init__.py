"""Tools for tests of applications that stream from LLMs. The tests of this package use them too.

- `ChaosServer`: a local server that speaks the dialects of seven providers and breaks streams on demand. It needs the
  extra `testing`.
- `capture`: collects spans, metrics and logs in memory.
- `replay`: sends a recorded body through the whole pipeline, without a network.
- `FakeClock`: a clock that the test advances.

`otel_llmstream.testing.pytest_plugin` has fixtures for pytest.
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
    """Import the chaos server at its first use, because it needs h11."""
    if name in ("ChaosServer", "SCENARIOS"):
        from . import chaos

        return getattr(chaos, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
