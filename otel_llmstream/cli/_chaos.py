"""The command ``otel-llmstream chaos``. In: an address. Out: a chaos server until Ctrl-C, and its URLs."""

import argparse
import sys
import threading
from typing import TYPE_CHECKING

from ._urls import tcp_port

if TYPE_CHECKING:
    from otel_llmstream.testing.chaos import ChaosServer


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line's parser."""
    parser = subparsers.add_parser(
        "chaos",
        help="serve a local API that fails on demand, in the dialects of eight providers",
        description="Serve a local streaming API in the dialects of OpenAI, Anthropic, Google, Mistral, Cohere, "
        "Ollama, DashScope and Amazon Bedrock. The request's model selects a scenario, with optional parameters: "
        "'ok?chunks=50&delay=0.01'.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=tcp_port, default=8765, help="port to listen on, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="print the scenarios and exit")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the scenarios, or serve until Ctrl-C. Returns exit status 2 if the server cannot run."""
    try:
        from otel_llmstream.testing.chaos import ChaosServer
    except ModuleNotFoundError as error:
        return _fail(f"the chaos server needs {error.name}: pip install 'otel-llmstream[testing]'")
    if args.list:
        print(_table())
        return 0
    try:
        server = ChaosServer(host=args.host, port=args.port).start()
    except OSError as error:
        return _fail(f"cannot listen on {args.host}:{args.port}: {error.strerror or error}")
    return _serve(server)


def _serve(server: "ChaosServer") -> int:
    try:
        print(_welcome(server), flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nstopped")
    finally:
        server.stop()
    return 0


def _fail(message: str) -> int:
    print(f"otel-llmstream chaos: {message}", file=sys.stderr)
    return 2


def _welcome(server: "ChaosServer") -> str:
    from otel_llmstream.testing.chaos import SCENARIOS, SOCKET_SCENARIOS

    return f"""chaos server on {server.base_url} (Ctrl-C stops it)

  OpenAI(base_url="{server.openai_url}", api_key="any")
  Anthropic(base_url="{server.anthropic_url}", api_key="any")
  genai.Client(api_key="any", http_options={{"base_url": "{server.google_url}"}})   # model="ok;chunks=50;delay=0.01"
  Mistral(server_url="{server.mistral_url}", api_key="any")
  cohere.ClientV2(base_url="{server.cohere_url}", api_key="any")
  ollama.Client(host="{server.ollama_url}")
  WebSockets: {server.socket_url}/v1/responses, /v1/realtime?model=ok, and Gemini Live, with the scenarios
    {", ".join(SOCKET_SCENARIOS)}
  what the server has sent, and when: GET {server.base_url}/log

model="<scenario>", or with parameters model="ok?chunks=50&delay=0.01". The scenarios (--list explains them):
  {", ".join(SCENARIOS)}"""


def _table() -> str:
    from otel_llmstream.testing.chaos import SCENARIOS

    width = max(map(len, SCENARIOS))
    return "\n".join(f"{name:<{width}}  {scenario.summary}" for name, scenario in SCENARIOS.items())
