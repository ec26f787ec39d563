"""What all tests share: the fixtures that users have too, and the promise to stay on this machine."""

import fcntl
import gc
import os
import signal
import socket
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import authorities
import hypothesis
import programs
import pytest
from conditions import PATIENCE

from otel_llmstream.testing import Captured
from otel_llmstream.testing.chaos import ChaosServer

pytest_plugins = ["otel_llmstream.testing.pytest_plugin"]

gc.disable()  # what is imported and collected stays: the collector would look at it again and again

# Hundreds of processes import the package and the SDKs. Without bytecode, each of them would compile all of it.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ChaosServer.wait_ended.__defaults__ = (PATIENCE,)  # users get an answer after 5 s, but a busy machine may need longer

authorities.reduce()
# Neither limit says anything about this package: a busy machine may be slow with any example.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ["ANTHROPIC_OPEN_TELEMETRY"] = "false"  # its own spans are a matter of the tests that ask for them

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A job in the background of a shell ignores Ctrl-C, and so would the programs that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def captured(llm_streams: Captured) -> Captured:
    """The fixture that users have, by the name that it has here. A module may have one with settings of its own."""
    return llm_streams


@pytest.fixture(scope="module")
def clients(chaos_server: ChaosServer) -> Iterator[Any]:
    """The SDKs' clients for the chaos server."""
    from _drivers import Clients

    with closing(Clients(chaos_server)) as clients:
        yield clients


LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")


class BlockedAddressError(AssertionError):
    """A test tried to leave the machine."""


def _check(address: Any) -> None:
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(host, (str, bytes)) and not isinstance(address, tuple):
        return  # a Unix socket's path
    if not str(host).startswith(LOOPBACK):
        raise BlockedAddressError(f"tests talk to this machine only, not to {address!r}")


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """No test opens a connection to anything but this machine."""
    real_connect, real_connect_ex = socket.socket.connect, socket.socket.connect_ex

    def connect(self: socket.socket, address: Any) -> None:
        _check(address)
        real_connect(self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        _check(address)
        return real_connect_ex(self, address)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", connect)
    patch.setattr(socket.socket, "connect_ex", connect_ex)
    yield
    patch.undo()


@pytest.hookimpl(optionalhook=True)  # the environments of the SDKs have no pytest-xdist
def pytest_xdist_auto_num_workers() -> int | None:
    """Two workers more than there are cores, because many tests wait for servers, pauses and time-outs.

    The variable of pytest-xdist for this number is respected.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return len(os.sched_getaffinity(0)) + 2 if hasattr(os, "sched_getaffinity") else None


def pytest_collection_finish() -> None:
    """What is loaded by now stays."""
    freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """What a module has left behind stays too: SDKs that were imported late, reports, the chaos server's records."""
    done = yield
    if nextitem is not None and nextitem.path != item.path:
        freeze()
    return done


def freeze() -> None:
    """Exempt all that is alive from the garbage collector, which many tests run.

    Without this, a run of the collector takes 0.2 s of CPU time late in the suite, instead of some milliseconds.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Programs of others are for tests that say so."""
    programs.external = item.get_closest_marker("external") is not None


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of recorded streams; a test that needs it is skipped if there is none, but not in CI."""
    name = os.environ.get("OTEL_LLMSTREAM_CORPUS")
    if not name:
        programs.missing("OTEL_LLMSTREAM_CORPUS names no folder of recorded streams")
    return Path(name)


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of the tests that ask for it, one runs at a time: they load the machine, or suffer from its load.

    Waiting counts as the test's own time: give it a timeout that has room for the others.
    """
    with (tmp_path_factory.getbasetemp().parent / "alone.lock").open("w") as lock:  # the workers' common folder
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"
