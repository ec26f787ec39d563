"""The command ``otel-llmstream demo``. In: options. Out: a live table while it runs, and a report at the end."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from ._interrupt import Interrupt
from ._urls import tcp_port, web_url

_NEEDED: Final = (
    "openai", "anthropic", "rich", "h11", "websockets", "yaml", "opentelemetry.exporter.prometheus", "starlette",
    "uvicorn",
)  # fmt: skip
_OTLP: Final = "opentelemetry.exporter.otlp.proto.http"

_MAX_RATE: Final = 200.0
_MAX_DURATION: Final = 7 * 86_400.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line's parser."""
    parser = subparsers.add_parser(
        "demo",
        help="watch real SDKs read healthy and broken streams",
        description="Run the openai and anthropic SDKs against a local server that breaks streams. Watch the calls "
        "live, and compare what the SDKs told the application with what really happened. Needs no account and no key.",
    )
    parser.add_argument(
        "--duration",
        type=_number(0, _MAX_DURATION),
        default=20.0,
        metavar="SECONDS",
        help="how long to make calls (default: %(default)g)",
    )
    parser.add_argument(
        "--rate",
        type=_number(0, _MAX_RATE),
        default=6.0,
        metavar="CALLS",
        help="calls to start per second (default: %(default)g)",
    )
    parser.add_argument(
        "--otlp-endpoint",
        type=_url,
        metavar="URL",
        help="also send traces, metrics and logs by OTLP/HTTP, for example to http://127.0.0.1:4318",
    )
    parser.add_argument(
        "--prometheus-port",
        type=tcp_port,
        default=9464,
        metavar="PORT",
        help="port of /metrics on 127.0.0.1; 0 takes a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--status-port",
        type=tcp_port,
        default=9465,
        metavar="PORT",
        help="port of the live page on 127.0.0.1; 0 takes a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--no-prometheus",
        action="store_true",
        help="do not start Prometheus with the alert rules (by default it is started if it is on the PATH)",
    )
    parser.add_argument(
        "--plain", action="store_true", help="no live table (the default if the output is not a terminal)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="make the same calls in the same order each time")
    parser.set_defaults(run=run)


def _number(above: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and above < value <= most):
            raise argparse.ArgumentTypeError(f"must be above {above:g} and at most {most:g}, got {text}")
        return value

    return number


def _url(text: str) -> str:
    parts = web_url(text)
    try:
        good = parts is not None and parts.port != 0
    except ValueError:  # the port is not a number, or out of range
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"must be a URL such as http://127.0.0.1:4318, got {text}")
    return text


def run(args: argparse.Namespace) -> int:
    """Run the demo. Returns exit status 2 if packages are missing."""
    missing = [name for name in (*_NEEDED, *([_OTLP] if args.otlp_endpoint else [])) if not _is_installed(name)]
    if missing:
        names = ", ".join(missing)
        print(f'otel-llmstream demo: missing {names}: pip install "otel-llmstream[demo]"', file=sys.stderr)
        return 2
    with Interrupt() as interrupt:
        print("otel-llmstream demo: loading the SDKs ...", flush=True)
        # This import takes a second or two. Ctrl-C must already be handled during it.
        from . import _session

        _session.run(args, interrupt)
    return 0


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
