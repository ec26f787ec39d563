"""Fixtures for pytest. Enable: ``pytest_plugins = ["otel_llmstream.testing.pytest_plugin"]`` in a conftest.py."""

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
    """Streams are observed during the test, and what is recorded of them is kept in memory."""
    with capture() as captured:
        yield captured
