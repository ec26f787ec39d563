"""Something before the default action of a signal, beside whatever the application does with that signal."""

from __future__ import annotations

import multiprocessing.process
import multiprocessing.util
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conditions import PATIENCE

from otel_llmstream import _process_end
from otel_llmstream._default_action import DefaultAction
from otel_llmstream._process_end import ProcessEnd

SIGNAL = signal.SIGURG
"""Its default action is to do nothing, so that the test goes on."""


def own(*_args: object) -> None:
    """A handler of the application's."""


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Signals are handled as before when a test ends."""
    monkeypatch.setattr(signal, "signal", signal.signal)
    monkeypatch.setattr(signal, "getsignal", signal.getsignal)
    real, before = signal.signal, signal.getsignal(SIGNAL)
    yield
    real(SIGNAL, before)


@pytest.fixture
def calls() -> list[int]:
    return []


@pytest.fixture
def action(calls: list[int]) -> DefaultAction:
    action = DefaultAction()
    action.precede([SIGNAL], lambda number: not calls.append(number))
    return action


def test_the_default_action_follows(action: DefaultAction, calls: list[int]) -> None:
    """Each time, and the application is told that nothing handles the signal."""
    signal.raise_signal(SIGNAL)
    signal.raise_signal(SIGNAL)
    assert calls == [SIGNAL, SIGNAL]
    assert signal.getsignal(SIGNAL) is signal.SIG_DFL


@pytest.mark.parametrize("is_before", [True, False])
def test_a_handler_of_the_applications_stays(calls: list[int], is_before: bool) -> None:  # noqa: FBT001
    """It is called alone, whenever it was set. The default action that is set after it is preceded again."""
    action, heard = DefaultAction(), []

    def handle(*_args: Any) -> None:
        heard.append("own")

    if is_before:
        signal.signal(SIGNAL, handle)
    action.precede([SIGNAL], lambda number: not calls.append(number))
    if not is_before:
        assert signal.signal(SIGNAL, handle) is signal.SIG_DFL
    assert signal.getsignal(SIGNAL) is handle
    signal.raise_signal(SIGNAL)
    assert (heard, calls) == (["own"], [])
    assert signal.signal(SIGNAL, signal.SIG_DFL) is handle
    signal.raise_signal(SIGNAL)
    assert (heard, calls) == (["own"], [SIGNAL])


def test_an_ignored_signal_stays_ignored(calls: list[int]) -> None:
    """That is the application's decision, too. Other signals are not touched."""
    signal.signal(SIGNAL, signal.SIG_IGN)
    DefaultAction().precede([SIGNAL], lambda number: not calls.append(number))
    signal.raise_signal(SIGNAL)
    assert calls == []
    assert signal.getsignal(SIGNAL) is signal.SIG_IGN
    before = signal.getsignal(signal.SIGWINCH)
    assert signal.signal(signal.SIGWINCH, signal.SIG_DFL) is before
    assert signal.getsignal(signal.SIGWINCH) is signal.SIG_DFL
    with pytest.raises(TypeError):
        signal.signal("SIGURG", signal.SIG_DFL)  # type: ignore[arg-type] # as without us


def test_what_fails_before_it(calls: list[int]) -> None:
    """The default action follows all the same, and the application notices nothing."""

    def fail(number: int) -> bool:
        calls.append(number)
        raise RuntimeError

    DefaultAction().precede([SIGNAL], fail)
    signal.raise_signal(SIGNAL)
    assert calls == [SIGNAL]
    assert signal.getsignal(SIGNAL) is signal.SIG_DFL


def test_back_to_the_bare_default_action(calls: list[int]) -> None:
    """After `leave`, nothing precedes it. A handler of the application's stays."""
    action = DefaultAction()
    action.precede([SIGNAL, signal.SIGWINCH], lambda number: not calls.append(number))
    before = signal.signal(signal.SIGWINCH, own)
    action.leave()
    assert signal.signal(signal.SIGWINCH, before) is own
    signal.raise_signal(SIGNAL)
    signal.signal(SIGNAL, signal.SIG_DFL)
    signal.raise_signal(SIGNAL)
    assert calls == []


def test_another_thread(calls: list[int]) -> None:
    """Only the main thread may set handlers. Elsewhere, nothing happens."""
    thread = threading.Thread(target=DefaultAction().precede, args=([SIGNAL], lambda number: not calls.append(number)))
    thread.start()
    thread.join()
    signal.raise_signal(SIGNAL)
    assert calls == []


# --- what precedes it ---------------------------------------------------------------------------------------------


class Ends:
    """What the end of the process does to the providers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        self.during: Any = lambda: None
        monkeypatch.setattr(_process_end, "SIGNALS", (SIGNAL,))
        monkeypatch.setattr(_process_end, "shutdown_providers", self.shutdown)
        monkeypatch.setattr(_process_end, "flush_providers", lambda *_how: self.seen.append("flush"))
        monkeypatch.setattr(_process_end.atexit, "register", lambda _end: None)
        monkeypatch.setattr(_process_end.os, "register_at_fork", lambda **_how: None)

    def report(self) -> None:
        self.seen.append("report")

    def shutdown(self, *_how: Any) -> bool:
        self.seen.append("shutdown")
        self.during()
        return False


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    return Ends(monkeypatch)


def prepared(ends: Ends) -> ProcessEnd:
    end = ProcessEnd(ends.report, PATIENCE)
    end.prepare(on_signals=True)
    return end


def test_it_ends_once(ends: Ends) -> None:
    """By the signal, and not again at the interpreter's exit."""
    end = prepared(ends)
    signal.raise_signal(SIGNAL)
    end.end()
    assert ends.seen == ["report", "shutdown"]


def test_a_signal_while_it_ends(ends: Ends) -> None:
    """Telemetry is sent first, and then that signal's default action follows."""
    end = prepared(ends)
    ends.during = lambda: signal.raise_signal(SIGNAL)
    end.end()
    signal.raise_signal(SIGNAL)
    assert ends.seen == ["report", "shutdown"]


def test_process_1_lives_on(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system ignores the default actions of a container's first process. So its telemetry goes on."""
    end = prepared(ends)
    monkeypatch.setattr(_process_end.os, "getpid", lambda: 1)
    signal.raise_signal(SIGNAL)
    assert ends.seen == ["flush"]
    end.end()
    assert ends.seen == ["flush", "report", "shutdown"]


def test_a_forked_child_has_not_ended(ends: Ends) -> None:
    """What its parent did is not its own doing."""
    end = prepared(ends)
    end.end()
    end._after_fork()
    end.end()
    assert ends.seen == ["report", "shutdown"] * 2


def test_a_child_of_multiprocessing(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs no exit handlers, but finalizers. One that was forked forgets those of its parent, and gets its own."""
    finalizers: list[Any] = []
    after_fork: list[Any] = []
    monkeypatch.setattr(multiprocessing.util, "Finalize", lambda _of, end, **_how: finalizers.append(end))
    monkeypatch.setattr(multiprocessing.util, "register_after_fork", lambda of, hook: after_fork.append((of, hook)))
    end = prepared(ends)
    assert finalizers == []
    for _ in range(2):  # a grandchild has what its parent has
        end._after_fork()
    ((of, hook),) = after_fork
    hook(of)
    monkeypatch.setattr(multiprocessing.process, "parent_process", object)
    other = prepared(ends)
    assert finalizers == [end.end, other.end]


def test_signals_can_be_left_alone(ends: Ends) -> None:
    """Then only the interpreter's exit is prepared."""
    ProcessEnd(ends.report, PATIENCE).prepare(on_signals=False)
    signal.raise_signal(SIGNAL)
    assert ends.seen == []


def test_no_thread_is_left(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread left, the work is done all the same."""

    def refuse(*_args: Any, **_how: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_process_end.Thread, "start", refuse)
    monkeypatch.setattr("otel_llmstream._flush.start_new_thread", refuse)
    prepared(ends).end()
    assert ends.seen == ["report", "shutdown"]
