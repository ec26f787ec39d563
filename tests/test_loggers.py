"""Which loggers `instrument()` takes, and that no line is lost in them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from scripted_streams import CUT, HEALTHY, measured

import otel_llmstream
from otel_llmstream.telemetry.last_resort import LAST_RESORT
from otel_llmstream.telemetry.loggers import RecordLogger, event_logger


class Kept(logging.Handler):
    """Keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def events(self) -> list[str]:
        return [vars(record)["event.name"] for record in self.records]


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of the application's own, which writes all levels."""
    logger = logging.getLogger("tests.loggers")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    logger.handlers.clear()
    logger.filters.clear()


@pytest.fixture
def kept(logger: logging.Logger) -> Kept:
    kept = Kept()
    logger.addHandler(kept)
    return kept


EVENTS = ["llm_stream.started", "llm_stream.completed", "llm_stream.started", "llm_stream.truncated"]


def play(logger: Any) -> int:
    """A healthy stream and one that is cut; gives how many errors of ours were caught."""
    with measured(logger=logger) as player:
        player.play(*HEALTHY)
        player.play(*CUT)
        return player.engine.internal_errors


def test_record_factory_that_sets_our_names(
    logger: logging.Logger, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attribute that the application's record factory has set costs no line. The record has the call's own ids."""
    plain = logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = plain(*args, **kwargs)
        vars(record).update({"trace_id": "theirs", "span_id": "theirs", "error.type": "theirs"})
        return record

    monkeypatch.setattr(logging, "_logRecordFactory", make)

    assert play(logger) == 0
    assert kept.events == EVENTS
    assert all(len(vars(record)["trace_id"]) == 32 for record in kept.records)
    assert vars(kept.records[-1])["error.type"] == "stream_truncated"


def test_filter_that_sets_our_names(logger: logging.Logger, kept: Kept) -> None:
    """A filter that sets the ids costs no line, and what it sets stays."""

    def stamp(record: logging.LogRecord) -> bool:
        record.trace_id = "theirs"
        return True

    logger.addFilter(stamp)

    assert play(logger) == 0
    assert kept.events == EVENTS
    assert {vars(record)["trace_id"] for record in kept.records} == {"theirs"}


def test_filter_that_drops(logger: logging.Logger, kept: Kept) -> None:
    """A filter may drop lines, and so may the logger's level."""
    logger.addFilter(lambda record: vars(record)["event.name"] != "llm_stream.completed")
    logger.setLevel(logging.INFO)

    assert play(logger) == 0
    assert kept.events == ["llm_stream.truncated"]


class Prefixing(logging.LoggerAdapter[Any]):
    """An adapter that changes the message."""

    def process(self, msg: Any, kwargs: Any) -> Any:
        return f"[shop] {msg}", kwargs


def test_adapters(logger: logging.Logger, kept: Kept) -> None:
    """An adapter, also around another one, gets all lines. What it adds is added, and takes nothing of ours away."""
    inner = logging.LoggerAdapter(logger, {"tenant": "blue", "trace_id": "theirs"})

    assert play(Prefixing(inner, {})) == 0
    assert kept.events == EVENTS
    assert all(record.getMessage().startswith("[shop] llm_stream.") for record in kept.records)
    assert {vars(record)["tenant"] for record in kept.records} == {"blue"}
    assert all(len(vars(record)["trace_id"]) == 32 for record in kept.records)


@pytest.mark.parametrize(
    "logger",
    [
        structlog.get_logger(),
        structlog.wrap_logger(None, wrapper_class=structlog.stdlib.BoundLogger),
        structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.INFO)).bind(a=1),
    ],
    ids=["lazy", "stdlib", "filtering"],
)
def test_structlog_loggers_are_taken(logger: Any) -> None:
    """They are used as they are."""
    assert event_logger(logger) is logger


def test_the_default_logger() -> None:
    """It is the standard library's, and it has one handler of ours."""
    found = event_logger(None)
    assert isinstance(found, RecordLogger)
    handlers = logging.getLogger("otel_llmstream").handlers
    event_logger(None)
    assert handlers.count(LAST_RESORT) == 1


class Async:
    async def debug(self, event: str, /, **keys: Any) -> None:
        """Log."""

    info = warning = error = debug


class Positional:
    def debug(self, message: str, *args: Any) -> None:
        """Log."""

    info = warning = error = debug


@pytest.mark.parametrize(
    ("logger", "why"),
    [
        (Async(), r"Async has an async debug\(\), which nothing would await"),
        (Positional(), r"Positional has a debug\(\) that takes no keywords of any name"),
        (object(), r"object has no debug\(\)"),
        (print, r"builtin_function_or_method has no debug\(\)"),
        ("myapp", r"str has no debug\(\)"),
    ],
)
def test_loggers_that_cannot_take_the_lines(logger: Any, why: str) -> None:
    """`instrument()` refuses them. The error says what to pass, and nothing is switched on."""
    with pytest.raises(TypeError, match=rf"logger cannot be used: .*{why}; pass a structlog logger") as raised:
        otel_llmstream.instrument(logger=logger, http_spans=False)
    assert "logging.LoggerAdapter" in str(raised.value)
    assert not otel_llmstream.health().instrumented


@pytest.mark.parametrize("in_loop", [True, False])
def test_structlogs_async_logger(in_loop: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """It is refused in an event loop and outside of one."""
    logger = structlog.wrap_logger(None, wrapper_class=structlog.stdlib.AsyncBoundLogger)

    async def check() -> None:
        with pytest.raises(TypeError, match=r"has an async debug\(\)"):
            event_logger(logger)

    if in_loop:
        asyncio.run(check())
        return
    with pytest.raises(TypeError, match=r"has a debug\(\) that cannot be got: no running event loop; pass"):
        event_logger(logger)


def test_logger_that_becomes_async() -> None:
    """A lazy logger may be configured after it was given. Its lines are counted as lost, and nothing warns."""

    class Lazy:
        def debug(self, event: str, /, **keys: Any) -> Any:
            return Async().debug(event, **keys)

        info = warning = error = debug

    assert play(Lazy()) == len(EVENTS)
