"""What the demo asks for, in which order. In: a seed. Out: orders without end, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from otel_llmstream.testing.chaos import SCENARIOS, Endpoint

APIS: Final = {Endpoint.CHAT: "chat", Endpoint.RESPONSES: "responses", Endpoint.MESSAGES: "anthropic"}
"""The APIs that the demo calls, with their short names: two of OpenAI's, one of Anthropic's."""

HEALTHY: Final = "ok"

# Waits long enough to be what they show, and short enough for the client's read timeout and the demo's end.
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
class Order:
    """One call to make.

    Attributes:
        scenario: what the server is to do.
        api: where it is asked.
        is_async: whether the SDK's async client asks.
    """

    scenario: str
    api: Endpoint
    is_async: bool

    @property
    def model(self) -> str:
        """The model to name: the scenario with the demo's parameters."""
        parameters = PARAMETERS.get(self.scenario)
        return f"{self.scenario}?{parameters}" if parameters else self.scenario


def scenarios() -> tuple[str, ...]:
    """The scenarios that the demo runs: all that one of its APIs can be asked for."""
    return tuple(name for name in SCENARIOS if _apis(name))


def orders(seed: int | None = None) -> Iterator[Order]:
    """Every scenario once; then every scenario at every API, with healthy streams between, again and again.

    Args:
        seed: what the order depends on; another one each time unless given.
    """
    dice = random.Random(seed)  # noqa: S311 - no secret depends on it
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


def _order(dice: random.Random, scenario: str, api: Endpoint) -> Order:
    return Order(scenario, api, dice.random() < _ASYNC_SHARE)


def _apis(scenario: str) -> list[Endpoint]:
    return [endpoint for endpoint in SCENARIOS[scenario].endpoints if endpoint in APIS]


def _pairs() -> list[tuple[str, Endpoint]]:
    return [(name, api) for name in scenarios() for api in _apis(name)]
