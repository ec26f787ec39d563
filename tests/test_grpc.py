"""Calls of grpc and grpc.aio: xai-sdk and bare clients against a local server, with us and without us."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing, contextmanager, suppress
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import grpc
import pytest
import xai_sdk
from conditions import until, until_async
from grpc import _channel, aio
from grpc.aio import _call
from grpc.experimental import ChannelOptions
from loops import about
from xai_sdk.chat import user
from xai_sdk.proto import chat_pb2, chat_pb2_grpc

from otel_llmstream.instrumentation import grpc as hook
from otel_llmstream.testing import Captured, capture
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


def read_sync(target: str, model: str, *, stop: int | None = None, **options: Any) -> Seen:
    """Read a stream with the SDK's sync client. With `stop`, close it after so many chunks."""
    seen = Seen()
    with xai(target, **options) as client, closing(client.chat.create(model=model, messages=[user("?")]).stream()) as it:
        try:
            for _response, chunk in it:
                seen.messages.append(chunk.proto.SerializeToString(deterministic=True))
                if len(seen.messages) == stop:
                    break
        except grpc.RpcError as exc:
            seen.error = exc
    return seen


async def _read_async(target: str, model: str, *, stop: int | None = None, **options: Any) -> Seen:
    seen = Seen()
    async with (
        xai(target, xai_sdk.AsyncClient, **options) as client,
        aclosing(client.chat.create(model=model, messages=[user("?")]).stream()) as it,
    ):
        try:
            async for _response, chunk in it:
                seen.messages.append(chunk.proto.SerializeToString(deterministic=True))
                if len(seen.messages) == stop:
                    break
        except (grpc.RpcError, AttributeError) as exc:  # the SDK's own error over a message that does not parse
            seen.error = exc
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
    assert 0 < found["llmstream.time_to_first_chunk"] <= found["llmstream.time_to_last_chunk"]
    assert found["llmstream.time_to_last_chunk"] - found["llmstream.time_to_first_chunk"] >= 0.05
