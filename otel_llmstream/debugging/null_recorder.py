"""A recorder that keeps nothing, for a pipeline of which only the summary is needed.

The OpenTelemetry SDK costs 50 times as much to build.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..core.summary import Attempt, LLMRequest, Summary


class NullRecorder:
    """A recorder that keeps nothing. It suits a pipeline of which only the summary is needed."""

    def here(self) -> None:
        """There is no context to keep."""

    def begin(
        self,
        request: LLMRequest,  # noqa: ARG002
        name: str | None,  # noqa: ARG002
        attributes: Mapping[str, Any],  # noqa: ARG002
        unix_ns: int,  # noqa: ARG002
        where: Any,  # noqa: ARG002
    ) -> NullRecording:
        """A call begins."""
        return NullRecording()

    def internal_error(self) -> None:
        """The engine has logged and counted the error."""


class NullRecording:
    """The recording of a `NullRecorder`."""

    is_borrowed = False

    def activate(self) -> AbstractContextManager[Any]:
        """There is no span to make current."""
        return nullcontext()

    def attempt_failed(self, attempt: Attempt, unix_ns: int) -> None:
        """An attempt failed."""

    def first_chunk(self, seconds: float, unix_ns: int) -> None:
        """The first chunk came."""

    def stalled(self, seconds: float, unix_ns: int) -> None:
        """The network was silent for too long."""

    def gaps(self, seconds: Sequence[float]) -> None:
        """Times between chunks."""

    def ended(self, summary: Summary, unix_ns: int) -> None:
        """The call is over."""
