"""The scenarios over a WebSocket, as one table. In: a `SocketReply` and `Params`. Out: actions for the connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from ._actions import Reset, Sleep
from ._params import Params
from ._socket_replies import LiveReply, RealtimeReply, ResponsesReply, SocketReply

_DELIVERY_TIME: Final = 0.01
"""Seconds before a reset, which drops bytes in transit."""


@dataclass(frozen=True, slots=True)
class Message:
    """Send one message.

    Attributes:
        data: Its bytes.
        outputs: Number of output chunks in it.
    """

    data: bytes
    outputs: int = 0


@dataclass(frozen=True, slots=True)
class Close:
    """Close the WebSocket, and so end all answers of the connection. None stands for a close frame without a code."""

    code: int | None
    reason: str = ""


SocketAction = Message | Sleep | Close | Reset
SocketPlan = Callable[[SocketReply, Params], Iterator[SocketAction]]


def _begin(reply: SocketReply, params: Params, chunks: int) -> Iterator[SocketAction]:
    yield from map(Message, reply.opening())
    yield Sleep(params.ttft)
    yield from _output(reply, params, chunks)


def _output(reply: SocketReply, params: Params, chunks: int) -> Iterator[SocketAction]:
    for number, data in enumerate(reply.chunks(chunks)):
        if number:
            yield Sleep(params.delay)
        yield Message(data, 1)


def _rest(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    yield Sleep(params.delay)
    yield from _output(reply, params, params.chunks - params.strike)
    yield Sleep(params.delay)
    yield from map(Message, reply.closing())


def _healthy(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    yield from _begin(reply, params, params.chunks)
    yield Sleep(params.delay)
    yield from map(Message, reply.closing())


def _closed(code: int | None, reason: str) -> SocketPlan:
    return partial(_close, code=code, reason=reason)


def _close(reply: SocketReply, params: Params, *, code: int | None, reason: str) -> Iterator[SocketAction]:
    yield from _begin(reply, params, params.strike)
    yield Close(code, reason)


def _reset(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    yield from _begin(reply, params, params.strike)
    yield Sleep(max(params.delay, _DELIVERY_TIME))
    yield Reset()


def _silence(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    yield from _begin(reply, params, params.strike)
    yield Sleep(params.hold)
    yield Close(1001)


def _pause(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    yield from _begin(reply, params, params.strike)
    yield Sleep(params.hold)
    yield from _rest(reply, params)


def _malformed(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    yield from _begin(reply, params, params.strike)
    yield Message(reply.malformed)
    yield Sleep(params.hold)
    yield from _rest(reply, params)


def _error(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    yield from _begin(reply, params, params.strike)
    yield from map(Message, reply.error())


def _stray(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    assert isinstance(reply, RealtimeReply)
    yield from _begin(reply, params, params.strike)
    yield from map(Message, reply.stray())
    yield from _rest(reply, params)


def _limit(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    yield from _begin(reply, params, params.strike)
    yield from map(Message, reply.limit())
    yield Sleep(params.delay)
    yield Close(1001)


def _barge_in(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    yield from _begin(reply, params, params.strike)
    yield from map(Message, reply.interrupted("turn_detected"))


def _steered(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    assert isinstance(reply, ResponsesReply)
    yield from _begin(reply, params, params.strike)
    yield from map(Message, reply.steered())
    yield from _healthy(ResponsesReply(reply.spec.successor(), reply.lane), params)


def _playback(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    assert isinstance(reply, LiveReply)
    yield from _begin(reply, params, params.chunks)
    yield Message(reply.generated())
    yield Sleep(params.hold)
    yield Message(reply.turn_complete())


def _tool_call(reply: SocketReply, params: Params) -> Iterator[SocketAction]:
    assert isinstance(reply, LiveReply)
    yield from _begin(reply, params, params.strike)
    yield from map(Message, reply.calls_tool())


_DEFAULTS: Final = Params()
_ALL_REPLIES: Final = (ResponsesReply, RealtimeReply, LiveReply)
REFUSED: Final = "refused"
"""The scenario of a handshake. The query's `model`, or the header `x-chaos-model`, names it."""


@dataclass(frozen=True, slots=True)
class SocketScenario:
    """One behaviour of the server over a WebSocket.

    Attributes:
        name: The value of the request's ``model`` that selects it.
        summary: What happens, in one line.
        plan: What the server does.
        replies: The APIs that support it.
        defaults: The values of parameters that the request does not set.
    """

    name: str
    summary: str
    plan: SocketPlan
    replies: tuple[type[SocketReply], ...] = _ALL_REPLIES
    defaults: Params = _DEFAULTS


_LONG: Final = Params(hold=30)

_ALL: Final = (
    SocketScenario("ok", "a healthy answer with usage", _healthy),
    SocketScenario("close-1000", "closed with 1000 after `at` chunks", _closed(1000, "")),
    SocketScenario("close-1001", "closed with 1001 (going away) after `at` chunks", _closed(1001, "going away")),
    SocketScenario("close-none", "closed without a code after `at` chunks", _closed(None, "")),
    SocketScenario("close-1008", "closed with 1008 (policy) after `at` chunks", _closed(1008, "policy violation")),
    SocketScenario("close-1011", "closed with 1011 (server error) after `at` chunks", _closed(1011, "internal error")),
    SocketScenario("reset", "TCP reset after `at` chunks", _reset),
    SocketScenario("silence", "nothing more after `at` chunks, open for `hold` seconds", _silence, defaults=_LONG),
    SocketScenario("pause", "a pause of `hold` seconds after `at` chunks, healthy", _pause),
    SocketScenario(
        "malformed", "broken JSON after `at` chunks, then after `hold` seconds on to a healthy end", _malformed
    ),
    SocketScenario("error", "the API's own error after `at` chunks", _error),
    SocketScenario(
        "stray-error", "an error about another message after `at` chunks, healthy", _stray, (RealtimeReply,)
    ),
    SocketScenario(REFUSED, "the handshake is refused with `status`", _healthy),
    SocketScenario("limit", "the server says that the connection is too old, and closes it", _limit),
    SocketScenario("barge-in", "the user speaks after `at` chunks", _barge_in, (RealtimeReply, LiveReply)),
    SocketScenario("steered", "steered after `at` chunks; a healthy successor follows", _steered, (ResponsesReply,)),
    SocketScenario("playback", "the turn ends `hold` seconds after the generation", _playback, (LiveReply,)),
    SocketScenario("tool-call", "calls a tool after `at` chunks", _tool_call, (LiveReply,)),
)

SOCKET_SCENARIOS: Final[Mapping[str, SocketScenario]] = MappingProxyType({it.name: it for it in _ALL})
"""Name -> scenario, over a WebSocket."""
