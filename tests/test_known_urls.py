"""What is known to be no LLM's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from loops import about

from otel_llmstream.instrumentation import known_urls
from otel_llmstream.instrumentation.exchange import LONGEST_KNOWN
from otel_llmstream.instrumentation.known_urls import MAX_OTHERS, OTHERS, is_other_target, is_other_url

CHAT = "/v1/chat/completions"
LLM = (f"http://a.test{CHAT}", f"http://a.test:81{CHAT}/?q=1", f"https://u:p@a.test{CHAT}#f", f"http://[::1]:8{CHAT}")
OTHER = (
    "http://a.test/api/orders",
    "http://a.test",
    f"http://a.test/?to={CHAT}",
    "http://[::1",
    "",
    None,
    7,
    [],
    b"/a",
)


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    OTHERS.clear()
    yield
    OTHERS.clear()


def test_urls() -> None:
    """The same answer at each time, and only what is no LLM's is kept."""
    for _ in range(2):
        for url in LLM:
            with about(url):
                assert not is_other_url(url)
                assert not is_other_target(url, "proxy.test")
        for other in OTHER:
            with about(other):
                assert is_other_url(other)
                assert is_other_target(other, "proxy.test")
    assert all(isinstance(url, str) and url in OTHER for url in OTHERS if url.__class__ is str)


def test_targets() -> None:
    """A path is known together with its host: some dialects are told by the host."""
    assert not is_other_target(f"{CHAT}?q=1", "a.test")
    assert is_other_target("/api/orders?q=1", "a.test")
    assert {("/api/orders?q=1", "a.test")} == OTHERS


def test_the_cap() -> None:
    """However many URLs there are, and however long they are, what is kept is bounded."""
    for number in range(3 * MAX_OTHERS):
        assert is_other_url(f"http://a.test/{number}")
        assert len(OTHERS) <= MAX_OTHERS
    OTHERS.clear()
    assert is_other_url("http://a.test/" + "x" * LONGEST_KNOWN)
    assert is_other_target("/" + "x" * LONGEST_KNOWN, "a.test")
    assert not OTHERS


def test_one_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known is not worked out again by a hook."""
    import urllib3

    from otel_llmstream.instrumentation import urllib3 as hook
    from otel_llmstream.testing import capture

    with capture():
        pool = urllib3.HTTPConnectionPool("a.test")
        assert hook._is_other(pool, "/api/orders", preload_content=False) == "later"
        asked: list[Any] = []
        monkeypatch.setattr(known_urls, "may_be_llm", lambda *args: asked.append(args))
        assert hook._is_other(pool, "/api/orders") is True
        assert asked == []
        assert hook._is_other(pool, "/api/other") is True
        assert asked == [("/api/other", "a.test")]
