# ruff: noqa: INP001, T201 - a script
"""What the public names are for a type checker that only has the wheel. mypy (strict) and pyright check this file."""

from __future__ import annotations

from typing import assert_type

import otel_llmstream
from otel_llmstream import Health, Outcome, Recent, Summary


def application() -> None:
    """Uses the public names as an application does."""
    assert_type(otel_llmstream.instrument(), None)
    with otel_llmstream.call("answer", attributes={"tenant": "blue"}, priority=1) as call:
        assert_type(call.latest, Summary | None)
    assert_type(call.summary, Summary | None)
    if call.summary is not None:
        assert_type(call.summary.outcome, Outcome)
        assert_type(call.summary.outcome.is_failure, bool)
        assert_type(call.summary.time_to_first_chunk, float | None)
        assert_type(call.summary.report(), str)
    assert_type(otel_llmstream.health(), Health)
    assert_type(otel_llmstream.recent(), Recent)
    remove = otel_llmstream.on_end(lambda summary: print(summary.outcome))
    assert_type(remove(), None)
    assert_type(otel_llmstream.flush(2.0), bool)
    assert_type(otel_llmstream.shutdown(2.0), bool)
