"""The command `otel-llmstream`. One module for each subcommand; each brings its own options and its `run`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .._version import __version__
from . import _alerts, _chaos, _dashboards, _demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: as on the command line; the process's own unless given.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="otel-llmstream", description="OpenTelemetry for streaming LLM calls: demo, test tools and alert rules."
    )
    parser.add_argument("--version", action="version", version=f"otel-llmstream {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _demo.add_parser(subparsers)
    _chaos.add_parser(subparsers)
    _alerts.add_parser(subparsers)
    _dashboards.add_parser(subparsers)
    chosen = parser.parse_args(arguments)
    return int(chosen.run(chosen))
