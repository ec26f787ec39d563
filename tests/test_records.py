"""The three records of a call: frozen, compared by value, copied with changes, pickled."""

import copy
import pickle
import re
from typing import Any

import pytest

from otel_llmstream import Attempt, LLMRequest, Outcome, Summary, semconv

REQUEST = LLMRequest("openai.chat", "chat", "openai", "m", "h", 443, parameters=(("gen_ai.request.seed", 1),))
ATTEMPT = Attempt(
    number=1, request=REQUEST, outcome=Outcome.FAILED, error_type="429", status=429, duration=0.5, backoff=0.0
)
SUMMARY = Summary(
    request=REQUEST, outcome=Outcome.COMPLETED, duration=1.0, chunk_offsets=(26, 46), finish_reason="stop"
)
SAYS = {
    LLMRequest: ("dialect", "model", "server_port", "parameters"),
    Attempt: ("number", "request", "outcome", "error_type", "status", "duration", "backoff"),
    Summary: ("request", "outcome", "duration", "chunk_offsets", "finish_reason"),
}
RECORDS = [pytest.param(record, id=type(record).__name__) for record in (REQUEST, ATTEMPT, SUMMARY)]


@pytest.mark.parametrize("record", RECORDS)
def test_records_are_frozen(record: Any) -> None:
    """No field can be set or deleted, and none can be added."""
    name = type(record).__struct_fields__[0]
    for change in (lambda: setattr(record, name, 1), lambda: delattr(record, name), lambda: setattr(record, "new", 1)):
        with pytest.raises(AttributeError):
            change()


@pytest.mark.parametrize("record", RECORDS)
def test_records_are_compared_by_value(record: Any) -> None:
    """Two with the same values are equal and have the same hash; they have no order and are no tuples."""
    other = copy.deepcopy(record)
    assert (other == record, hash(other) == hash(record)) == (True, True)
    assert record not in (tuple(getattr(record, name) for name in type(record).__struct_fields__), None)
    assert not isinstance(record, tuple)
    with pytest.raises(TypeError):
        assert record < other


@pytest.mark.parametrize("record", RECORDS)
def test_records_can_be_copied_and_pickled(record: Any) -> None:
    """A copy is equal, and its text names every field that says something."""
    for made in (copy.copy(record), copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
        assert made == record
        assert type(made) is type(record)
    shown = set(re.findall(r"\b(\w+)=", re.sub(r"LLMRequest\(.*?\)\)", "", repr(record).partition("(")[2])))
    for name in SAYS[type(record)]:
        assert name in shown
    assert not shown & {"stalls", "extra", "fallback", "error"}


def test_replace() -> None:
    """A copy with changes; the original stays as it is, and a field that does not exist is an error."""
    changed = SUMMARY.replace(attempts=3, outcome=Outcome.FAILED)
    assert (changed.attempts, changed.outcome, changed.duration) == (3, Outcome.FAILED, 1.0)
    assert SUMMARY.attempts == 1
    assert REQUEST.replace(model="n").model == "n"
    assert ATTEMPT.replace(number=2).number == 2
    with pytest.raises(TypeError, match="unheard_of"):
        SUMMARY.replace(unheard_of=1)


@pytest.mark.parametrize("record", RECORDS)
def test_as_dict(record: Any) -> None:
    """All fields in their order, each with its own value; `_asdict` is another name. The dict is a new one."""
    fields = record.as_dict()
    assert list(fields) == list(type(record).__struct_fields__)
    assert all(fields[name] is getattr(record, name) for name in fields)
    assert record._asdict() == fields
    fields.clear()
    assert record.as_dict()


def test_summary_and_attempt_take_names_only() -> None:
    """Their fields have no order that may be relied on."""
    for kind in (Summary, Attempt):
        with pytest.raises(TypeError):
            kind(REQUEST)  # type: ignore[misc]


def test_a_summary_with_an_exception() -> None:
    """The exception is compared by identity, as exceptions are, and is pickled as far as it can be."""
    error = ValueError("gone")
    failed = SUMMARY.replace(error=error)
    assert failed == SUMMARY.replace(error=error) != SUMMARY.replace(error=ValueError("gone"))
    assert str(pickle.loads(pickle.dumps(failed)).error) == "gone"


@pytest.mark.parametrize("offsets", [(), (0,), (26, 46, 66, 87), tuple(range(0, 12800, 100))], ids=len)
def test_the_timeline(offsets: tuple[int, ...]) -> None:
    """The offsets in one string, separated by spaces."""
    assert SUMMARY.replace(chunk_offsets=offsets).timeline == " ".join(map(str, offsets))


def test_the_report_of_a_failure() -> None:
    """It says how the call ended, why, what helps, how much came, and when."""
    cut = SUMMARY.replace(
        outcome=Outcome.TRUNCATED, error_type="stream_truncated", attempts=2, chunks=1, bytes=1500, stalls=1,
        time_to_first_chunk=0.25, input_tokens=9,
    )  # fmt: skip
    lines = cut.report().splitlines()
    known = semconv.ERROR_TYPES_BY_NAME["stream_truncated"]

    assert lines[0] == "truncated: stream_truncated (chat m, openai, h)"
    assert lines[1:3] == [f"  cause: {known.cause}", f"  remedy: {known.remedy}"]
    assert lines[3] == "  2 attempts, 1 chunk, 1,500 bytes, finish reason stop, 1 stall"
    assert lines[4] == "  first chunk after 0.250 s, ended after 1.000 s"
    assert lines[5] == "  tokens: 9 in, unknown out"


def test_the_report_of_a_code_that_only_the_provider_knows() -> None:
    """Then it has the provider's words. A call that names no model is told by its operation."""
    failed = SUMMARY.replace(
        request=REQUEST.replace(model=None), outcome=Outcome.FAILED, error_type="overloaded", message="try later"
    )
    assert failed.report().splitlines()[:2] == ["failed: overloaded (chat, openai, h)", "  said: try later"]
