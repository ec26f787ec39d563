"""A local streaming server that breaks on demand, in the dialects of seven providers.

In: requests of provider SDKs or of any other HTTP/1.1 client. Out: responses, and a log of what was sent and when. The
request's ``model`` names the scenario, which decides every byte of the response.

    from otel_llmstream.testing.chaos import ChaosServer

    with ChaosServer() as server:
        client = OpenAI(base_url=server.openai_url, api_key="any")
        client.chat.completions.create(model="reset?at=3", messages=[...], stream=True)

Needs h11: ``pip install otel-llmstream[testing]``.
"""

from ._endpoints import Endpoint
from ._log import LogEntry, Outcome
from ._params import Params
from ._scenarios import SCENARIOS, Scenario
from ._server import ChaosServer
from ._socket_scenarios import SOCKET_SCENARIOS, SocketScenario

__all__ = (
    "SCENARIOS", "SOCKET_SCENARIOS", "ChaosServer", "Endpoint", "LogEntry", "Outcome", "Params", "Scenario",
    "SocketScenario",
)  # fmt: skip
