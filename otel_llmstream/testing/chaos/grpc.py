"""A local gRPC server that streams xAI's chat and breaks on demand, as `ChaosServer` does over HTTP.

In: requests of xai-sdk, or of any other gRPC client. Out: messages, a status, and a log of what was sent and when. The
request's ``model`` names the scenario.

    from otel_llmstream.testing.chaos.grpc import GRPCChaosServer

    with GRPCChaosServer() as server:
        client = xai_sdk.Client(api_key="any", api_host=server.target, use_insecure_channel=True)
        for response, chunk in client.chat.create(model="cut?at=3").stream(): ...

Needs grpcio: ``pip install otel-llmstream[testing-grpc]``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Self
from uuid import uuid4

import grpc

from ...dialects.xai_chat import XAIChat
from ...wire import ProtobufError
from ._errors import Rejection
from ._log import Log, Outcome, Record
from ._logged_server import LoggedServer
from ._params import Params, read_params, split_model
from ._protobuf import field
from ._relay import Relay

SERVICE: Final = "xai_api.Chat"
METHOD: Final = "GetCompletionChunk"

_AT_ONCE: Final = 64  # calls that are served at the same time
# Seconds before a reset. The messages that were sent must arrive first, because a reset drops bytes in transit.
_DELIVERY_TIME: Final = 0.02

_DEFAULTS: Final = Params()

_MAX_LEN, _STOP, _TOOL_CALLS = 1, 3, 4  # values of FinishReason
_ASSISTANT: Final = 2  # the value of MessageRole
_MALFORMED: Final = b"\x0a\xff"  # a field that is longer than the message


@dataclass(frozen=True, slots=True)
class Status:
    """End the call with this status."""

    code: grpc.StatusCode
    details: str = ""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for this number of seconds, unless the call ends before."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Kill:
    """Abort the connection (TCP RST), with all its calls."""


Action = bytes | Status | Sleep | Kill
"""What a plan consists of. Bytes are a message with output."""
Plan = Callable[["Writer", Params], Iterator[Action]]


class Writer:
    """Writes the messages of one answer.

    Args:
        ident: The id of the response.
        model: The model that answers.
    """

    def __init__(self, ident: str, model: str) -> None:
        self._name = field(1, ident)
        self._model = field(4, model)
        self._sent = 0

    def chunk(self, size: int = 0) -> bytes:
        """A message with a word, filled up to ``size`` bytes if it is smaller."""
        self._sent += 1
        word = f"word{self._sent} "
        message = self._message(field(1, word))
        missing = size - len(message)
        return message if missing <= 0 else self._message(field(1, word + "." * missing))

    def last(self, reason: int, delta: bytes = b"") -> bytes:
        """The message with the finish reason and the tokens."""
        return self._message(delta, field(3, reason)) + field(6, self._usage())

    def tool_call(self) -> bytes:
        """The delta that calls a tool of the application."""
        function = field(1, "look_up") + field(2, '{"word": "chaos"}')
        return field(3, field(1, "call_1") + field(2, 1) + field(10, function))

    def _message(self, delta: bytes, rest: bytes = b"") -> bytes:
        output = field(1, delta + field(2, _ASSISTANT)) + rest
        return self._name + field(2, output) + field(3, field(1, 1_760_000_000)) + self._model

    def _usage(self) -> bytes:
        return field(1, self._sent) + field(2, 9) + field(3, 9 + self._sent) + field(7, 4)


# --- plans --------------------------------------------------------------------------------------------------------


def _begin(writer: Writer, params: Params, chunks: int) -> Iterator[Action]:
    yield Sleep(params.ttft)
    for number in range(chunks):
        if number:
            yield Sleep(params.delay)
        yield writer.chunk(params.size)


def _healthy(reason: int) -> Plan:
    def plan(writer: Writer, params: Params) -> Iterator[Action]:
        yield from _begin(writer, params, params.chunks)
        yield writer.last(reason, writer.tool_call() if reason == _TOOL_CALLS else b"")

    return plan


def _cut(writer: Writer, params: Params) -> Iterator[Action]:
    yield from _begin(writer, params, params.strike)


def _failing(code: grpc.StatusCode, details: str) -> Plan:
    def plan(writer: Writer, params: Params) -> Iterator[Action]:
        yield from _begin(writer, params, params.strike)
        yield Status(code, details)

    return plan


def _killed(writer: Writer, params: Params) -> Iterator[Action]:
    yield from _begin(writer, params, params.strike)
    yield Sleep(_DELIVERY_TIME)
    yield Kill()


def _silence(writer: Writer, params: Params) -> Iterator[Action]:
    yield from _begin(writer, params, params.strike)
    yield Sleep(params.hold)


def _malformed(writer: Writer, params: Params) -> Iterator[Action]:
    yield from _begin(writer, params, params.strike)
    yield _MALFORMED
    yield from _healthy(_STOP)(writer, params)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One behaviour of the server.

    Attributes:
        name: The value of a request's ``model`` that selects it.
        summary: What happens, in one line.
        plan: What the server does.
        defaults: The values of parameters that the request does not set.
    """

    name: str
    summary: str
    plan: Plan
    defaults: Params = _DEFAULTS


_CODE = grpc.StatusCode
_ALL = (
    Scenario("ok", "a healthy stream with usage", _healthy(_STOP)),
    Scenario("length", "stops at the token limit", _healthy(_MAX_LEN)),
    Scenario("tool-calls", "calls a tool", _healthy(_TOOL_CALLS)),
    Scenario("cut", "status OK after `at` chunks, without a finish reason", _cut),
    Scenario("unavailable", "status UNAVAILABLE after `at` chunks", _failing(_CODE.UNAVAILABLE, "try again")),
    Scenario(
        "resource-exhausted",
        "status RESOURCE_EXHAUSTED after `at` chunks",
        _failing(_CODE.RESOURCE_EXHAUSTED, "too many tokens"),
    ),
    Scenario("cancelled", "status CANCELLED after `at` chunks", _failing(_CODE.CANCELLED, "the server gave up")),
    Scenario("killed", "TCP reset after `at` chunks", _killed),
    Scenario("silence", "nothing more after `at` chunks for `hold` seconds", _silence, Params(hold=30)),
    Scenario("malformed", "one message that is no protobuf after `at` chunks", _malformed),
)

SCENARIOS: Mapping[str, Scenario] = MappingProxyType({scenario.name: scenario for scenario in _ALL})
"""Name -> scenario. Underscores in a request's name stand for dashes."""


# --- the server -----------------------------------------------------------------------------------------------------


class GRPCChaosServer(LoggedServer):
    """A local server for xAI's chat. The request's ``model`` names the fault.

    Use it as a context manager, or call `start` and `stop`. It serves in its own threads.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__()
        self.host = host
        self.port = port
        self._stopping = threading.Event()
        self._server: Any = None
        self._relay: Relay | None = None

    @property
    def target(self) -> str:
        """The target of an insecure channel, ``127.0.0.1:PORT``: xai-sdk's ``api_host``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def start(self) -> Self:
        """Start to listen and serve.

        Raises:
            RuntimeError: If the server is already running.
            OSError: If the server cannot listen on the address.
        """
        if self._server is not None:
            raise RuntimeError("the chaos server is already running")
        self._stopping.clear()
        self._server = grpc.server(ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="chaos:grpc"))
        handler = grpc.unary_stream_rpc_method_handler(self._serve)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        inner = self._server.add_insecure_port("127.0.0.1:0")
        self._relay = Relay(self.host, self.port, inner)
        self.port = self._relay.port
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop listening, end all calls and wait for all threads. The log is kept. May be called repeatedly."""
        if self._server is None or self._relay is None:
            return
        self._stopping.set()
        self._relay.stop()
        self._server.stop(grace=None).wait()
        self._server = self._relay = None

    def _serve(self, request: bytes, context: Any) -> Iterator[bytes]:
        call = _Call(context, self._log, self._stopping)
        try:
            scenario, params = call.scenario(request)
        except Rejection as rejection:
            call.end("complete")
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, rejection.message)
        writer = Writer(call.record.request_id, f"chaos-{scenario.name}")
        for action in scenario.plan(writer, params):
            if not call.is_open:
                return
            if isinstance(action, bytes):
                call.record.output(1, time.perf_counter())
                yield action
            elif isinstance(action, Sleep):
                call.sleep(action.seconds)
            else:
                self._break(call, action)
                return
        call.end("cut" if scenario.plan is _cut else "complete")

    def _break(self, call: _Call, action: Status | Kill) -> None:
        if isinstance(action, Status):
            call.end("complete")
            call.context.abort(action.code, action.details)
        assert self._relay is not None, "it runs while calls are served"
        call.end("reset")
        self._relay.reset(int(call.context.peer().rpartition(":")[2]))


class _Call:
    """One call that is served."""

    def __init__(self, context: Any, log: Log, stopping: threading.Event) -> None:
        self.context = context
        self.record = Record(f"req_{uuid4().hex[:24]}", path=f"/{SERVICE}/{METHOD}", stream=True)
        self._log = log
        self._stopping = stopping
        self._over = threading.Event()
        self._lock = threading.Lock()  # the client and the server may end a call at the same time
        log.add(self.record)
        if not context.add_callback(self._ended):
            self._ended()

    @property
    def is_open(self) -> bool:
        """Whether the client still waits."""
        return not self._over.is_set()

    def scenario(self, request: bytes) -> tuple[Scenario, Params]:
        """What the request asks for.

        Raises:
            Rejection: There is no such scenario, or it has no such parameter.
        """
        try:
            self.record.model = XAIChat.asked.read(request).get("model") or ""
        except ProtobufError as error:
            raise Rejection(400, f"the request is no protobuf: {error}") from error
        name, query = split_model(self.record.model)
        scenario = SCENARIOS.get(name.replace("_", "-"))
        if scenario is None:
            raise Rejection(404, f"no scenario {name!r}; known scenarios are: {', '.join(SCENARIOS)}", param="model")
        self.record.scenario = scenario.name
        return scenario, read_params(query, scenario.defaults)

    def sleep(self, seconds: float) -> None:
        """Wait, as long as the call is open."""
        if seconds:
            self._over.wait(seconds)

    def end(self, outcome: Outcome) -> None:
        """The server ends the call. Only the first end counts."""
        with self._lock:
            if self.record.ended is None:
                self._log.end(self.record, outcome)

    def _ended(self) -> None:
        self.end("stopped" if self._stopping.is_set() else "client_gone")
        self._over.set()  # not before: the serving thread would end it
