"""What an exception means for a stream, if a signal handler may have raised it."""

from __future__ import annotations

from .._interruption import interruption
from ..core.states import End


def failure_or_cancel(error: BaseException) -> End:
    """What an exception that came instead of bytes means. If a signal handler raised it, the application cancelled."""
    return End.FAILURE if isinstance(error, Exception) and interruption(error) is None else End.CANCELLED
