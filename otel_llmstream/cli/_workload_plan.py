"""The calls of the demo and their sequence. In: a seed. Out: an endless sequence, the same one for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from otel_llmstream.testing.chaos import SCENARIOS, Endpoint

APIS: Final = {Endpoint.CHAT: "chat", Endpoint.RESPONSES: "responses", Endpoint.MESSAGES: "anthropic"}
"""The APIs that the demo calls, with their short names: two of OpenAI, one of Anthropic."""

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
    api: Endpoint
    is_async: bool

    @property
    def model(self) -> str:
        """The model of the request: the scenario, with the demo's parameters for it."""
        parameters = PARAMETERS.get(self.scenario)
        return f"{self.scenario}?{parameters}" if parameters else self.scenario


def scenarios() -> tuple[str, ...]:
    """The scenarios that the demo runs: all scenarios that one of its APIs supports."""
    return tuple(name for name in SCENARIOS if _apis(name))


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


def _order(dice: random.Random, scenario: str, api: Endpoint) -> PlannedCall:
    return PlannedCall(scenario, api, dice.random() < _ASYNC_SHARE)


def _apis(scenario: str) -> list[Endpoint]:
    return [endpoint for endpoint in SCENARIOS[scenario].endpoints if endpoint in APIS]


def _pairs() -> list[tuple[str, Endpoint]]:
    return [(name, api) for name in scenarios() for api in _apis(name)]
