"""What providers say of their rate limits, in their own words, and where it shows."""

import anthropic
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llmstream.core import rate_limits
from otel_llmstream.core.rate_limits import read_rate_limits
from otel_llmstream.testing import Captured, ChaosServer

DATE = {"date": "Fri, 20 Nov 2026 11:00:00 GMT"}

NAMES = {
    "requests": "llmstream.ratelimit.remaining_requests",
    "tokens": "llmstream.ratelimit.remaining_tokens",
    "reset_requests": "llmstream.ratelimit.reset_requests",
    "reset_tokens": "llmstream.ratelimit.reset_tokens",
    "retry": "llmstream.retry_after",
}


def said(headers: dict[str, str], *, failed: bool = True) -> dict[str, float]:
    found = dict(read_rate_limits({name.encode(): value.encode() for name, value in headers.items()}, failed=failed))
    assert found.keys() <= set(NAMES.values())
    return {short: found[name] for short, name in NAMES.items() if name in found}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "149984",
                      "x-ratelimit-reset-requests": "6m0s", "x-ratelimit-reset-tokens": "17ms", "retry-after": "20",
                      "retry-after-ms": "19500"},
                     {"requests": 0, "tokens": 149984, "reset_requests": 360.0, "reset_tokens": 0.017, "retry": 19.5},
                     id="OpenAI"),
        pytest.param({"anthropic-ratelimit-requests-remaining": "3", "anthropic-ratelimit-tokens-remaining": "0",
                      "anthropic-ratelimit-requests-reset": "2026-11-20T11:00:07Z",
                      "anthropic-ratelimit-tokens-reset": "2026-11-20T11:01:00+00:00", "retry-after": "60"} | DATE,
                     {"requests": 3, "tokens": 0, "reset_requests": 7.0, "reset_tokens": 60.0, "retry": 60.0},
                     id="Anthropic"),
        pytest.param({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-tokens": "2m59.56s",
                      "x-ratelimit-reset-requests": "1h0m0.5s"},
                     {"requests": 0, "reset_requests": 3600.5, "reset_tokens": 179.56}, id="Groq"),
        pytest.param({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "59", "retry-after": "59"},
                     {"tokens": 0, "reset_tokens": 59.0, "retry": 59.0}, id="Azure"),
        pytest.param({"x-ratelimit-remaining-requests-day": "12", "x-ratelimit-remaining-tokens-minute": "0",
                      "x-ratelimit-reset-requests-day": "33011.38", "x-ratelimit-reset-tokens-minute": "11.38"},
                     {"requests": 12, "tokens": 0, "reset_requests": 33011.38, "reset_tokens": 11.38}, id="Cerebras"),
        pytest.param({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795172400000"}, {"requests": 0},
                     id="OpenRouter: a moment in milliseconds is no duration"),
        pytest.param({"x-ratelimitbysize-remaining-minute": "0"}, {"tokens": 0}, id="Mistral"),
        pytest.param({"ratelimit-remaining": "0", "ratelimit-reset": "5"}, {"requests": 0, "reset_requests": 5.0},
                     id="the draft standard"),
        pytest.param({"retry-after": "Fri, 20 Nov 2026 11:02:00 GMT"} | DATE, {"retry": 120.0}, id="a date"),
        pytest.param({"retry-after": "Fri, 20 Nov 2026 10:00:00 GMT"} | DATE, {"retry": 0.0}, id="a date gone by"),
        pytest.param({"retry-after": "Fri, 20 Nov 2026 11:02:00 GMT"}, {}, id="a date without the response's own"),
        pytest.param({"retry-after-ms": "soon", "retry-after": "2"}, {"retry": 2.0}, id="one of two is broken"),
        pytest.param({"retry-after": "-1", "x-ratelimit-remaining-requests": "-5"}, {}, id="negative"),
        pytest.param({"x-ratelimit-remaining-tokens": "9" * 20}, {}, id="more than can be"),
        pytest.param({"x-ratelimit-remaining-tokens": "9" * 400}, {}, id="endless"),
        pytest.param({"x-ratelimit-remaining-tokens": "12.0"}, {"tokens": 12}, id="decimals"),
        pytest.param({"x-ratelimit-reset-tokens": "1m", "x-ratelimit-reset-requests": "m1"}, {"reset_tokens": 60.0},
                     id="a duration, and none"),
        pytest.param({}, {}, id="nothing"),
    ],
)  # fmt: skip
def test_what_is_said(headers, expected):
    """Counts as they are, times in seconds; what cannot be read, or believed, is left out."""
    assert said(headers) == pytest.approx(expected)


def test_a_success_tells_only_of_spent_limits():
    """Where nothing failed, what is left says nothing, unless nothing is left."""
    plenty = {"x-ratelimit-remaining-requests": "9", "x-ratelimit-remaining-tokens": "9", "retry-after": "1"}
    assert said(plenty, failed=False) == {}
    assert said(plenty | {"x-ratelimit-remaining-tokens": "0"}, failed=False) == {
        "requests": 9,
        "tokens": 0,
        "retry": 1.0,
    }


TEXT = st.text("0123456789.hmsd-:TZ, GMT", max_size=20).map(str.encode) | st.binary(max_size=20)
KNOWN = st.sampled_from(
    [*rate_limits._REQUESTS_LEFT, *rate_limits._TOKENS_LEFT, *rate_limits._REQUESTS_RESET, *rate_limits._TOKENS_RESET,
     b"retry-after", b"retry-after-ms", b"date"]
)  # fmt: skip


@given(st.dictionaries(KNOWN, TEXT, max_size=4), st.booleans())
def test_anything_may_be_said(headers, failed):
    """Whatever a header holds, it raises nothing, and gives nothing that no exporter could send."""
    for _, value in read_rate_limits(headers, failed=failed):
        assert 0 <= value <= 2**53


def shown(attributes) -> dict[str, float]:
    return {short: attributes[name] for short, name in NAMES.items() if name in attributes}


OPENAIS = {"requests": 9999, "tokens": 1999988, "reset_requests": 0.006, "reset_tokens": 0.0}


def test_on_an_attempt_that_was_retried(chaos_server: ChaosServer, llm_streams: Captured):
    """It is on the attempt's event and log line, and not on the span, whose last attempt was well."""
    with openai.OpenAI(base_url=chaos_server.openai_url, api_key="k", max_retries=1) as client:
        list(client.chat.completions.create(model="429-429-ok?attempts=1&retry_after=0.03", messages=[], stream=True))
    (event,) = [event for event in llm_streams.span.events if event.name == "llmstream.attempt_failed"]
    assert shown(event.attributes) == OPENAIS | {"retry": 0.03}
    (line,) = llm_streams.log("llm_stream.retry")
    assert shown(line) == OPENAIS | {"retry": 0.03}
    assert shown(llm_streams.span.attributes) == {}


def test_on_a_call_that_failed(chaos_server: ChaosServer, llm_streams: Captured):
    """It is on the span and on the log line."""
    with (
        anthropic.Anthropic(base_url=chaos_server.anthropic_url, api_key="k", max_retries=0) as client,
        pytest.raises(anthropic.RateLimitError),
    ):
        client.messages.create(model="500?status=429", messages=[], max_tokens=5, stream=True)
    found = shown(llm_streams.span.attributes)
    assert (found["requests"], found["tokens"]) == (3999, 479000)
    # The server's clock gives whole seconds, and `Date` the second that it was: one apart, and each may be cut down.
    assert 0.0 <= found["reset_requests"] == found["reset_tokens"] <= 2.0
    (line,) = llm_streams.log("llm_stream.failed")
    assert shown(line) == found
