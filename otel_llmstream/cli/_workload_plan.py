"""The calls of the demo and their sequence. In: a seed. Out: an endless sequence, the same one for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from otel_llmstream.testing.chaos import SCENARIOS, Endpoint


class API(StrEnum):
    """What the demo calls: two APIs of OpenAI, one of them also over a WebSocket, and one of Anthropic."""

    CHAT = "chat"
    RESPONSES = "responses"
    MESSAGES = "anthropic"
    SOCKET = "websocket"


ENDPOINTS: Final[Mapping[API, Endpoint]] = {
    API.CHAT: Endpoint.CHAT,
    API.RESPONSES: Endpoint.RESPONSES,
    API.MESSAGES: Endpoint.MESSAGES,
}
"""The APIs over HTTP. They share their scenarios."""

OVER_SOCKET: Final = ("close-1000",)
"""The scenarios of a WebSocket that HTTP does not have. The close code says that all is well, in the middle."""

HEALTHY: Final = "ok"

# Each wait is long enough to show its effect. It is shorter than the clients' read time-out.
PARAMETERS: Final = {
    "pause": "hold=0.7",
    "drip": "chunks=2&delay=0.001",
    "huge": "chunks=900",
    "500": "retry_after=0.02",
    "buffered-held": "hold=0.7",
    "buffered-early": "hold=0.7",
}

_ASYNC_SHARE: Final = 0.5
_HEALTHY_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call to make.

    Attributes:
        scenario: the chaos scenario that the server runs.
        api: the API to call.
        is_async: whether to use the SDK's async client.
    """

    scenario: str
    api: API
    is_async: bool

    @property
    def model(self) -> str:
        """The model of the request: the scenario, with the demo's parameters for it."""
        parameters = PARAMETERS.get(self.scenario)
        return f"{self.scenario}?{parameters}" if parameters else self.scenario


def scenarios() -> tuple[str, ...]:
    """The scenarios that the demo runs: all scenarios over HTTP that one of its APIs supports, and a WebSocket's."""
    return (*(name for name in SCENARIOS if _apis(name)), *OVER_SOCKET)


def planned_calls(seed: int | None = None) -> Iterator[PlannedCall]:
    """An endless sequence of calls: every scenario once, then rounds of every scenario at every API.

    The rounds have additional healthy streams in between.

    Args:
        seed: seed of the random sequence; None takes a different one each time.
    """
    dice = random.Random(seed)  # noqa: S311 - not used for a secret
    first = [(name, dice.choice(_apis(name))) for name in scenarios()]
    dice.shuffle(first)
    yield from (_order(dice, name, api) for name, api in first)
    rest = [pair for pair in _pairs() if pair not in first]
    while True:
        dice.shuffle(rest)
        for name, api in rest:
            yield _order(dice, name, api)
            if dice.random() < _HEALTHY_SHARE:
                yield _order(dice, HEALTHY, dice.choice(_apis(HEALTHY)))
        rest = _pairs()


def _order(dice: random.Random, scenario: str, api: API) -> PlannedCall:
    return PlannedCall(scenario, api, dice.random() < _ASYNC_SHARE)


def _apis(scenario: str) -> list[API]:
    if scenario in OVER_SOCKET:
        return [API.SOCKET]
    return [api for api, endpoint in ENDPOINTS.items() if endpoint in SCENARIOS[scenario].endpoints]


def _pairs() -> list[tuple[str, API]]:
    return [(name, api) for name in scenarios() for api in _apis(name)]
