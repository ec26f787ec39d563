"""Work that finalisers leave behind: it is done soon, by a thread, even if nothing else happens in the process."""

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conditions import PATIENCE, until

from otel_llmstream.engine import deferred as module
from otel_llmstream.engine.deferred import Deferred
from otel_llmstream.testing.chaos import ChaosServer


def test_it_is_done_without_being_asked_for():
    """Without a call of `run`, another thread does the work."""
    done = threading.Event()
    threads: list[int] = []
    Deferred().put(lambda: (threads.append(threading.get_ident()), done.set()))
    assert done.wait(PATIENCE)
    assert threads != [threading.get_ident()]


def test_everything_is_done_in_order():
    """What was put first is done first, each action once."""
    deferred, done = Deferred(), []
    for number in range(100):
        deferred.put(lambda number=number: done.append(number))
    until(lambda: len(done) == 100)
    assert done == list(range(100))


def test_run_returns_after_the_work():
    """Everything that was put before is done when `run` returns, by whichever thread."""
    deferred, done = Deferred(), []
    for round_ in range(1, 51):
        deferred.put(lambda: done.append(None))
        deferred.run()
        assert len(done) == round_


def test_run_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch):
    """The thread may wait for a lock that the caller of `run` holds. Then the caller goes on."""
    monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.01)
    deferred, began, go_on = Deferred(), threading.Event(), threading.Event()
    deferred.put(lambda: (began.set(), go_on.wait()))
    assert began.wait(PATIENCE)
    deferred.run()
    assert not go_on.is_set()
    go_on.set()


def test_an_action_that_fails_stops_nothing():
    """The thread stays alive, and so does the caller of `run`."""
    deferred, done = Deferred(), threading.Event()

    def fails() -> None:
        raise ValueError

    deferred.put(fails)
    deferred.run()
    deferred.put(fails)
    deferred.put(done.set)
    assert done.wait(PATIENCE)


def test_put_inside_the_garbage_collector_and_inside_an_action():
    """A finaliser puts, wherever the collector runs: here inside an action that is being done."""
    deferred, done = Deferred(), threading.Event()

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            deferred.put(done.set)

    def action() -> None:
        Cycle()
        gc.collect()

    deferred.put(action)
    assert done.wait(PATIENCE)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), RuntimeError("interpreter shutdown")])
def test_without_a_thread_run_does_the_work(monkeypatch: pytest.MonkeyPatch, error: RuntimeError):
    """No thread can be started at the end of the interpreter. Nothing is raised, and nothing is lost."""

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "start_new_thread", refuse)
    deferred, done = Deferred(), []
    deferred.put(lambda: done.append(1))
    assert done == []
    deferred.run()
    assert done == [1]


# --- in processes of their own ------------------------------------------------------------------------------------

FORK = """
import os, threading
from otel_llmstream.engine.deferred import Deferred

deferred, began, go_on, parents = Deferred(), threading.Event(), threading.Event(), []
deferred.put(lambda: (began.set(), go_on.wait()))  # the thread holds the lock while the process forks
deferred.put(lambda: parents.append(os.getpid()))
began.wait()
child = os.fork()
if not child:
    deferred.reset_after_fork()
    done = threading.Event()
    deferred.put(done.set)
    done.wait()
    deferred.run()
    os._exit(1 if parents else 0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child did its parent's work"
go_on.set()
deferred.run()
assert parents == [os.getpid()]
"""


def test_after_a_fork():
    """The child has a thread of its own and does its own work. The parent's work is left to the parent."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK], capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


IDLE = """
import gc, logging, os, sys
import openai
from opentelemetry.sdk.trace import TracerProvider
import otel_llmstream

logging.basicConfig(filename=sys.argv[2], format="%(process)d %(message)s")
otel_llmstream.instrument(tracer_provider=TracerProvider(), http_spans=False)

def drop():
    client = openai.OpenAI(api_key="any", base_url=sys.argv[1], max_retries=0)
    stream = client.chat.completions.create(model="silence", messages=[], stream=True)
    next(iter(stream))
    del stream, client
    gc.collect()

drop()
if os.fork() == 0:
    drop()
sys.stdin.read()
"""


@contextmanager
def idle(server: ChaosServer, log: Path) -> Iterator[None]:
    """A process that drops a stream, as its forked child does, and then waits for its standard input."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", IDLE, server.openai_url, str(log)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_dropped_stream_is_reported_while_nothing_else_happens(chaos_server: ChaosServer, tmp_path: Path):
    """Neither another stream nor an export nor a call of ours comes after it, in the process and in a forked child."""
    log = tmp_path / "log"

    def reported() -> bool:
        lines = [line for line in log.read_text().splitlines() if " llm_stream.abandoned " in line]
        assert len({line.partition(" ")[0] for line in lines}) == len(lines)
        return len(lines) == 2

    with idle(chaos_server, log):
        until(lambda: log.exists() and reported(), log.read_text)
