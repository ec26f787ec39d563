"""Calls of grpc and grpc.aio: xai-sdk and bare clients against a local server, with us and without us."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import xai_sdk
from conditions import until
from grpc import _channel, aio
from grpc.aio import _call
from grpc.experimental import ChannelOptions
from loops import about
from opentelemetry.instrumentation.utils import suppress_instrumentation
from xai_sdk.chat import user
from xai_sdk.proto import chat_pb2, chat_pb2_grpc

from otel_llmstream.core.states import End
from otel_llmstream.instrumentation import grpc as hook
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import grpc as chaos
from otel_llmstream.testing.chaos._log import Log
from otel_llmstream.testing.chaos.grpc import METHOD, SERVICE, GRPCChaosServer

QUICK = "delay=0&ttft=0"
OK = f"ok?chunks=4&{QUICK}"
HANGING = f"silence?at=3&hold=3000&{QUICK}"
PATH = f"/{SERVICE}/{METHOD}"


@pytest.fixture(scope="module")
def server() -> Iterator[GRPCChaosServer]:
    with GRPCChaosServer() as server:
        yield server


# --- the drivers ------------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What an application saw: the messages, and what was raised."""

    messages: list[bytes] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def all(self) -> tuple[Any, ...]:
        error: Any = self.error
        code = error.code() if isinstance(error, grpc.RpcError) else None
        return self.messages, type(error), code, str(error) if code is None else error.details()


def xai(target: str, sdk: Any = xai_sdk.Client, **options: Any) -> Any:
    return sdk(api_key="test-key", api_host=target, use_insecure_channel=True, **options)


def asked(client: Any, model: str) -> Any:
    return client.chat.create(model=model, messages=[user("?")])


def read_sync(target: str, model: str, *, stop: int | None = None, **options: Any) -> Seen:
    """Read a stream with the SDK's sync client. With `stop`, close it after so many chunks."""
    seen = Seen()
    with (
        xai(target, **options) as client,
        closing(client.chat.create(model=model, messages=[user("?")]).stream()) as it,
    ):
        try:
            for _response, chunk in it:
                seen.messages.append(chunk.proto.SerializeToString(deterministic=True))
                if len(seen.messages) == stop:
                    break
        except grpc.RpcError as exc:
            seen.error = exc.with_traceback(None)  # which would keep the call alive
    return seen


async def _read_async(target: str, model: str, *, stop: int | None = None, **options: Any) -> Seen:
    seen = Seen()
    async with (
        xai(target, xai_sdk.AsyncClient, **options) as client,
        aclosing(asked(client, model).stream()) as it,
    ):
        try:
            async for _response, chunk in it:
                seen.messages.append(chunk.proto.SerializeToString(deterministic=True))
                if len(seen.messages) == stop:
                    break
        except (grpc.RpcError, AttributeError) as exc:  # the SDK's own error over a message that does not parse
            seen.error = exc.with_traceback(None)  # which would keep the call alive
    return seen


def read_async(target: str, model: str, **options: Any) -> Seen:
    """The same with the SDK's async client."""
    return asyncio.run(_read_async(target, model, **options))


BOTH = pytest.mark.parametrize("read", [read_sync, read_async], ids=["sync", "async"])


def facts(captured: Captured) -> dict[str, Any]:
    """The attributes of the one call. It has ended once, nothing else is open, and nothing of ours went wrong."""
    until(lambda: (gc.collect(), captured.spans)[1])
    attributes = dict(captured.span.attributes or {})
    assert captured.total("llmstream.streams") == 1
    assert captured.engine.live == set()
    assert captured.engine.internal_errors == 0
    return attributes


# --- what is said -----------------------------------------------------------------------------------------------------

CASES: dict[str, tuple[str, str | None, str]] = {
    OK: ("completed", None, "stop"),
    f"length?chunks=2&{QUICK}": ("completed", None, "length"),
    f"tool-calls?chunks=2&{QUICK}": ("completed", None, "tool_calls"),
    f"cut?at=3&{QUICK}": ("truncated", "stream_truncated", "none"),
    f"cut?at=0&{QUICK}": ("truncated", "stream_empty", "none"),
    f"killed?at=3&{QUICK}": ("failed", "unavailable", "none"),
    f"unavailable?at=3&{QUICK}": ("failed", "unavailable", "none"),
    f"resource_exhausted?at=3&{QUICK}": ("failed", "resource_exhausted", "none"),
    f"resource_exhausted?at=0&{QUICK}": ("failed", "resource_exhausted", "none"),
    f"cancelled?at=2&{QUICK}": ("failed", "cancelled", "none"),
    f"malformed?at=3&{QUICK}": ("failed", "malformed_event", "none"),
    "no-such-model": ("failed", "invalid_argument", "none"),
}


@BOTH
@pytest.mark.parametrize("model", CASES)
def test_what_is_said_and_what_is_seen(server: GRPCChaosServer, read: Callable[..., Seen], model: str) -> None:
    """Each way to end has its outcome. The application gets the same messages and errors with us and without us."""
    without = read(server.target, model)
    with capture() as captured:
        seen = read(server.target, model)
        attributes = facts(captured)
    outcome, error_type, reason = CASES[model]
    assert (attributes["llmstream.outcome"], attributes.get("error.type")) == (outcome, error_type)
    assert attributes["llmstream.finish_reason"] == reason
    if "killed" in model:  # how many messages come before a reset is chance, and so is the system's word for it
        assert [type(seen.error), seen.all[2]] == [type(without.error), grpc.StatusCode.UNAVAILABLE]
    else:
        assert _nameless(seen.all) == _nameless(without.all)
    assert attributes["llmstream.transport"] == "grpc"
    if read is read_sync or hasattr(aio._channel.cygrpc.AioChannel, "target"):  # older ones do not tell
        assert attributes["server.address"] == "127.0.0.1"
    assert attributes["gen_ai.request.model"] == model


def _nameless(seen: tuple[Any, ...]) -> list[Any]:
    """What was seen, without the id of the response, which the server makes up."""
    messages, *rest = seen
    parsed = [chat_pb2.GetChatCompletionChunk.FromString(message) for message in messages]
    for message in parsed:
        message.id = ""
    return [parsed, *rest]


@BOTH
def test_a_healthy_call(server: GRPCChaosServer, captured: Captured, read: Callable[..., Seen]) -> None:
    """The times, the counts, the tokens and the names of a healthy call."""
    read(server.target, "ok?chunks=6&delay=0.01&ttft=0.02")
    found = facts(captured)
    assert captured.span.name == "chat ok?chunks=6&delay=0.01&ttft=0.02"
    assert (found["gen_ai.provider.name"], found["llmstream.dialect"]) == ("x_ai", "xai.chat")
    assert (found["llmstream.chunks"], found["gen_ai.response.finish_reasons"]) == (6, ("REASON_STOP",))
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (9, 6)
    assert found["gen_ai.usage.cache_read.input_tokens"] == 4
    assert found["gen_ai.response.model"] == "chaos-ok"
    first, last = found["gen_ai.response.time_to_first_chunk"], found["llmstream.time_to_last_chunk"]
    assert 0 < first < last
    assert found["llmstream.chunk.offsets"].count(" ") == 5


# --- bare clients -----------------------------------------------------------------------------------------------------


def asking(model: str) -> chat_pb2.GetCompletionsRequest:
    return chat_pb2.GetCompletionsRequest(model=model)


SINGLE = (ChannelOptions.SingleThreadedUnaryStream, 1)
CHANNELS = pytest.mark.parametrize("options", [[], [SINGLE]], ids=["channel's thread", "own thread"])


@contextmanager
def calling(server: GRPCChaosServer, model: str, options: Any = (), **how: Any) -> Iterator[Any]:
    """A bare sync call."""
    with grpc.insecure_channel(server.target, options=options) as channel:
        yield chat_pb2_grpc.ChatStub(channel).GetCompletionChunk(asking(model), **how)


@CHANNELS
def test_a_call_is_cancelled(server: GRPCChaosServer, captured: Captured, options: Any) -> None:
    """The application cancels a call: `cancelled`. The call raises grpc's own error, and its class is grpc's own."""
    with calling(server, HANGING, options) as call:
        next(call)
        call.cancel()
        with pytest.raises(grpc.RpcError) as error:
            next(call)
    assert error.value is call
    assert type(call) in (_channel._MultiThreadedRendezvous, _channel._SingleThreadedRendezvous)
    assert (call.code(), call.details()) == (grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
    assert facts(captured)["llmstream.outcome"] == "cancelled"


def test_a_channel_is_closed(server: GRPCChaosServer, captured: Captured) -> None:
    """The application closes the channel: `cancelled`. It does not have to read on."""
    with calling(server, HANGING) as call:
        next(call)
    assert facts(captured)["llmstream.outcome"] == "cancelled"
    assert call.code() is grpc.StatusCode.CANCELLED


@CHANNELS
def test_a_call_is_dropped(server: GRPCChaosServer, captured: Captured, options: Any) -> None:
    """A call that the application drops is cancelled at once, as without us, and is `abandoned`."""
    gc.disable()  # nothing of ours may need the garbage collector for that
    try:
        with calling(server, HANGING, options) as call:
            next(call)
            before = len(server.log)
            del call
            assert server.wait_ended(server.log[before - 1].request_id).outcome == "client_gone"
            until(lambda: captured.spans)
    finally:
        gc.enable()
    assert facts(captured)["llmstream.outcome"] == "abandoned"


@CHANNELS
def test_a_deadline(server: GRPCChaosServer, captured: Captured, options: Any) -> None:
    """The deadline that the application set is over: `deadline_exceeded`."""
    with calling(server, HANGING, options, timeout=0.3) as call, pytest.raises(grpc.RpcError):
        list(call)
    found = facts(captured)
    assert (found["llmstream.outcome"], found["error.type"]) == ("failed", "deadline_exceeded")


def test_nothing_listens(captured: Captured) -> None:
    """A server that cannot be reached: `unavailable`, before there were headers."""
    channel = grpc.insecure_channel("127.0.0.1:9")
    with channel, pytest.raises(grpc.RpcError):
        list(chat_pb2_grpc.ChatStub(channel).GetCompletionChunk(asking(OK)))
    found = facts(captured)
    assert (found["error.type"], found["llmstream.failure.stage"]) == ("unavailable", "headers")
    assert "http.response.status_code" not in found


@CHANNELS
def test_a_slow_reader(server: GRPCChaosServer, options: Any) -> None:
    """A message waits until it is asked for: that time is the application's. No message is lost at the end."""
    with capture() as captured, calling(server, f"ok?chunks=5&{QUICK}", options) as call:
        for _message in call:
            server.wait_ended(server.log[-1].request_id)  # all was sent by now
            _pause(0.02)
    found = facts(captured)
    assert (found["llmstream.outcome"], found["llmstream.chunks"]) == ("completed", 5)
    assert found["llmstream.hold"] >= 0.1


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_reading_stops_at_the_finish_reason(server: GRPCChaosServer, captured: Captured) -> None:
    """An application that reads no further than the finish reason has a completed call."""
    with calling(server, OK) as call:
        for message in call:
            if message.outputs[0].finish_reason:
                break
        del call
        assert facts(captured)["llmstream.outcome"] == "completed"


def test_messages_stay_bytes(server: GRPCChaosServer, captured: Captured) -> None:
    """A client without serialisers sends and gets bytes."""
    with grpc.insecure_channel(server.target) as channel:
        messages = list(channel.unary_stream(PATH)(asking(OK).SerializeToString()))
    assert [type(message) for message in messages] == [bytes] * 5
    assert facts(captured)["llmstream.chunks"] == 4


def test_a_request_that_cannot_be_serialised(server: GRPCChaosServer, captured: Captured) -> None:
    """The application's own serialiser raises: grpc tells it as it does without us."""
    seen = []
    for wanted in (True, False):
        with observing(wanted=wanted), grpc.insecure_channel(server.target) as channel:
            call = channel.unary_stream(PATH, request_serializer=lambda _request: 1 / 0)
            with pytest.raises(grpc.RpcError) as error:
                call(object())
            seen.append((type(error.value), error.value.code(), error.value.details()))
    assert seen[0] == seen[1]
    assert facts(captured)["llmstream.outcome"] == "failed"


@contextmanager
def observing(*, wanted: bool) -> Iterator[None]:
    """Observe, or do not."""
    with nullcontext() if wanted else suppress_instrumentation():
        yield


def test_other_methods_are_left_alone(server: GRPCChaosServer, captured: Captured) -> None:
    """A method that is not an LLM's keeps its own deserialiser, and nothing is recorded."""
    with grpc.insecure_channel(server.target) as channel:
        call = channel.unary_stream("/shop.Orders/Watch")(b"")
        assert call._response_deserializer is None
        with pytest.raises(grpc.RpcError) as error:
            list(call)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert captured.spans == ()
    assert captured.engine.live == set()


# --- bare async clients -----------------------------------------------------------------------------------------------


async def _asking(server: GRPCChaosServer, model: str, use: Callable[[Any], Any], **how: Any) -> Any:
    async with aio.insecure_channel(server.target) as channel:
        return await use(chat_pb2_grpc.ChatStub(channel).GetCompletionChunk(asking(model), **how))


async def _listed(call: Any) -> list[Any]:
    return [message async for message in call]


async def _cancels(call: Any) -> None:
    await call.read()
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.read()


async def _is_cancelled(call: Any) -> None:
    task = asyncio.ensure_future(_listed(call))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _closes_the_channel(call: Any) -> None:
    await call.read()


async def _waits_too_long(call: Any) -> None:
    with pytest.raises(grpc.RpcError):
        await _listed(call)


async def _reads(call: Any) -> None:
    messages = []
    while (message := await call.read()) is not aio.EOF:
        messages.append(message)
    assert len(messages) == 5


async def _stops_at_the_finish_reason(call: Any) -> None:
    async for message in call:
        if message.outputs[0].finish_reason:
            return


def test_async_endings(server: GRPCChaosServer) -> None:
    """The application cancels its call or its task, sets a deadline, reads with `read`, or stops at the reason."""
    for use, model, how, expected in (
        (_cancels, HANGING, {}, ("cancelled", None)),
        (_is_cancelled, HANGING, {}, ("cancelled", None)),
        (_closes_the_channel, HANGING, {}, ("cancelled", None)),
        (_waits_too_long, HANGING, {"timeout": 0.3}, ("failed", "deadline_exceeded")),
        (_reads, OK, {}, ("completed", None)),
        (_listed, OK, {}, ("completed", None)),
        (_stops_at_the_finish_reason, OK, {}, ("completed", None)),
    ):
        with about(use.__name__), capture() as captured:
            asyncio.run(_asking(server, model, use, **how))
            found = facts(captured)
            assert (found["llmstream.outcome"], found.get("error.type")) == expected


def test_an_async_slow_reader(server: GRPCChaosServer, captured: Captured) -> None:
    """As in a sync client: the time between two messages is the application's if it does not ask."""

    async def slowly(call: Any) -> None:
        async for _message in call:
            await asyncio.sleep(0.02)

    asyncio.run(_asking(server, f"ok?chunks=5&{QUICK}", slowly))
    found = facts(captured)
    assert (found["llmstream.outcome"], found["llmstream.chunks"]) == ("completed", 5)
    assert found["llmstream.hold"] >= 0.1


def test_nothing_of_ours_refers_to_an_async_call(server: GRPCChaosServer) -> None:
    """A call has as many references with us as without us, so that it lives no longer after it was dropped."""

    async def counts(call: Any) -> int:
        await call.read()
        return sys.getrefcount(call)

    without = asyncio.run(_asking(server, HANGING, counts))
    with capture() as captured:
        assert asyncio.run(_asking(server, HANGING, counts)) == without
    facts(captured)


# --- what seldom happens ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_closed_channel(server: GRPCChaosServer, captured: Captured, kind: str) -> None:
    """A call on a channel that is closed raises what it raises without us, and is a failed stream."""

    async def asks_late() -> None:
        channel = aio.insecure_channel(server.target)
        stub = chat_pb2_grpc.ChatStub(channel)  # grpc itself crashes if a stub is made later
        await channel.close()
        stub.GetCompletionChunk(asking(OK))

    def asks() -> None:
        channel = grpc.insecure_channel(server.target)
        stub = chat_pb2_grpc.ChatStub(channel)
        channel.close()
        stub.GetCompletionChunk(asking(OK))

    seen = []
    for wanted in (True, False):
        with observing(wanted=wanted), pytest.raises(Exception, match="closed") as error:
            asks() if kind == "sync" else asyncio.run(asks_late())
        seen.append((type(error.value), str(error.value)))
    assert seen[0] == seen[1]
    assert facts(captured)["llmstream.outcome"] == "failed"


def test_the_process_is_interrupted(server: GRPCChaosServer, captured: Captured) -> None:
    """An interrupt while the application waits for a message: `cancelled`, and the interrupt goes through."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    def soon() -> None:
        until(lambda: [it.waiting for it in captured.engine.live] == [True])
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with calling(server, HANGING) as call:
            assert [next(call) for _ in range(3)]
            thread = threading.Thread(target=soon)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                next(call)
            thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert facts(captured)["llmstream.outcome"] == "cancelled"


def test_a_call_that_has_ended_before_it_was_looked_at(
    server: GRPCChaosServer, captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that takes no callback any more has its status by then."""

    def refuses(call: Any, _callback: Any) -> bool:
        call.cancel()
        return False

    monkeypatch.setattr(_channel._MultiThreadedRendezvous, "add_callback", refuses)
    with calling(server, HANGING):
        until(lambda: captured.spans)
    assert facts(captured)["llmstream.outcome"] == "cancelled"


def test_a_reading_is_dropped(server: GRPCChaosServer, captured: Captured) -> None:
    """A coroutine that waits for a message is dropped: that is no end of the call."""

    async def drops(call: Any) -> None:
        for _ in range(3):
            await call.read()
        reading = call.read()
        reading.send(None)
        reading.close()
        assert len(captured.engine.live) == 1
        call.cancel()

    asyncio.run(_asking(server, HANGING, drops))
    assert facts(captured)["llmstream.outcome"] == "cancelled"
    assert hook._async_ending(None) == (End.GARBAGE_COLLECTED, None)


def test_an_error_of_ours(server: GRPCChaosServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """If our code fails, the application reads on as without us, and the failure is counted."""
    for broken in ("_tap", "_tap_async", "_state_ending", "_async_ending", "_begin"):
        with about(broken), monkeypatch.context() as patch, capture() as captured:
            patch.setattr(hook, broken, lambda *_args: 1 / 0)
            for read in (read_sync, read_async):
                seen = read(server.target, OK)
                assert (len(seen.messages), seen.error) == (5, None)
            assert captured.engine.internal_errors >= 1


def test_the_chaos_server(server: GRPCChaosServer) -> None:
    """It starts once and stops as often as one likes. It refuses bytes that are no request, and survives any client."""
    with pytest.raises(RuntimeError, match="already running"):
        server.start()
    other = GRPCChaosServer()
    other.stop()
    with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError) as error:
        list(channel.unary_stream(PATH)(b"\xff"))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with calling(server, "ok?chunks=100000&delay=0.001") as call:
        next(call)
    assert server.wait_ended(server.log[-1].request_id).outcome == "client_gone"
    with socket.create_connection(("127.0.0.1", server.port)) as rude:
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert read_sync(server.target, OK).error is None


def test_the_chaos_server_stops(server: GRPCChaosServer) -> None:
    """A call that is open when the server stops is ended and logged. One that ended before it was served is, too."""
    with GRPCChaosServer() as other, calling(other, HANGING) as call:
        next(call)
        other.stop()
        with pytest.raises(grpc.RpcError):
            list(call)
    assert other.wait_ended(other.log[0].request_id).outcome == "stopped"
    gone = chaos._Call(SimpleNamespace(add_callback=lambda _callback: False), Log(), threading.Event())
    assert not gone.is_open
    assert gone.record.outcome == "client_gone"


# --- the shape of grpc ------------------------------------------------------------------------------------------------


def test_another_shape_switches_the_hook_off(caplog: pytest.LogCaptureFixture) -> None:
    """If a name or a parameter is not there, nothing is patched, and one line says so."""
    for patch, module, names in (
        (hook._patch_sync, _channel, ["_UnaryStreamMultiCallable", "_RPCState", "_MultiThreadedRendezvous"]),
        (hook._patch_async, _call, ["UnaryStreamCall"]),
    ):
        for name in names:
            for other in (None, type(name, (), {})):
                with about(name, other), caplog.at_level(logging.WARNING, "otel_llmstream"):
                    caplog.clear()
                    before = dict(vars(module))
                    patch(SimpleNamespace(**{**before, name: other}))
                    assert [record.levelname for record in caplog.records] == ["WARNING"]
                    assert module.__name__ in caplog.text


def test_grpc_is_not_imported() -> None:
    """An application that does not use grpc does not get it from us. One that imports it later is observed."""
    code = """
        import sys, otel_llmstream
        otel_llmstream.instrument(http_spans=False)
        assert not {name for name in sys.modules if name.partition(".")[0] in ("grpc", "google", "xai_sdk")}
        import grpc, grpc._channel
        assert hasattr(grpc._channel._MultiThreadedRendezvous._next, "__otel_llmstream__")
        assert hasattr(grpc.aio._call.UnaryStreamCall._read, "__otel_llmstream__")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=240)


TARGETS = {
    "api.x.ai": ("api.x.ai", 443),
    "api.x.ai:8443": ("api.x.ai", 8443),
    "dns:///api.x.ai:443": ("api.x.ai", 443),
    "dns://8.8.8.8/api.x.ai": ("api.x.ai", 443),
    "ipv4:127.0.0.1:5005": ("127.0.0.1", 5005),
    "ipv6:[::1]:5005": ("::1", 5005),
    "[::1]:5005": ("::1", 5005),
    "unix:/run/llm.sock": ("unix:/run/llm.sock", 0),
    "": ("", 0),
}


@pytest.mark.parametrize("target", TARGETS)
def test_the_server_of_a_target(target: str) -> None:
    """A channel's target names the server in several ways."""
    assert hook._server(target) == TARGETS[target]
