"""Fixtures for pytest. To enable them: ``pytest_plugins = ["otel_llmstream.testing.pytest_plugin"]`` in conftest.py."""

from collections.abc import Iterator

import pytest

from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer


@pytest.fixture(scope="session")
def chaos_server() -> Iterator[ChaosServer]:
    """A chaos server on a free loopback port, for the whole session."""
    with ChaosServer() as server:
        yield server


@pytest.fixture
def llm_streams() -> Iterator[Captured]:
    """Observe streams during the test. Their spans, metrics and logs are kept in memory."""
    with capture() as captured:
        yield captured
