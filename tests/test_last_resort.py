"""What is seen of failures if logging is not configured: one line for each kind, on stderr."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from scripted_streams import CUT, HEALTHY, Player, measured

from otel_llmstream.core.states import End
from otel_llmstream.telemetry import loggers
from otel_llmstream.telemetry.last_resort import MAX_KINDS, LastResort

OURS = logging.getLogger("otel_llmstream")


@contextmanager
def unconfigured() -> Iterator[tuple[Player, io.StringIO]]:
    """A player and what is printed, in a process in which logging is not configured, and nothing has been printed.

    It is entered by the test itself: pytest adds its own handlers when the test begins.
    """
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "lastResort", logging.StreamHandler(printed))
        patch.setattr(logging.getLogger(), "handlers", [])
        patch.setattr(OURS, "handlers", [])
        patch.setattr(loggers, "LAST_RESORT", LastResort())
        with measured() as player:
            yield player, printed


def fail(player: Player, status: int) -> None:
    observer = player.open()
    player.answer(observer, status)
    player.end(observer, End.EOF)


def kinds(stderr: io.StringIO) -> list[str]:
    lines = stderr.getvalue().splitlines()
    assert all(line.startswith("otel_llmstream: llm_stream.") for line in lines), lines
    return [line.partition("error.type=")[2].split()[0] for line in lines]


def test_the_first_of_each_kind() -> None:
    """A truncated and a failed stream are one line each. Later ones of the same kind are silent, and so are others."""
    with unconfigured() as (player, stderr):
        for _ in range(3):
            player.play(*HEALTHY)
            player.play(*CUT)
            fail(player, 500)
            fail(player, 429)
    assert kinds(stderr) == ["stream_truncated", "500", "429"]
    assert "logging.basicConfig(level=logging.INFO)" in stderr.getvalue()


def test_as_many_kinds_as_there_are() -> None:
    """A server chooses the kind. Their number has a cap."""
    with unconfigured() as (player, stderr):
        for status in range(400, 400 + MAX_KINDS + 5):
            fail(player, status)
    assert len(kinds(stderr)) == MAX_KINDS


CONFIGURATIONS: dict[str, Callable[[], object]] = {
    "a handler of the root logger": lambda: logging.getLogger().addHandler(logging.NullHandler()),
    "a handler of ours": lambda: OURS.addHandler(logging.NullHandler()),
    "a level": lambda: OURS.setLevel(logging.CRITICAL),
    "no last resort": lambda: setattr(logging, "lastResort", None),
}


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_any_configuration_replaces_it(configuration: str) -> None:
    """The application decides."""
    before = OURS.level
    try:
        with unconfigured() as (player, stderr):
            CONFIGURATIONS[configuration]()
            player.play(*CUT)
    finally:
        OURS.setLevel(before)
    assert stderr.getvalue() == ""
