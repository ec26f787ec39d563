"""The command `otel-llmstream`. Each subcommand is one module, which defines its options and its `run` function."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from .._version import __version__
from . import _alerts, _chaos, _dashboards, _demo, _hops, _inspect, _watch

_BROKEN_PIPE: Final = 141
"""The exit status that a shell reports for a program that SIGPIPE ended: 128 + 13."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the arguments after the command's name; None takes those of the process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="otel-llmstream", description="OpenTelemetry for streaming LLM calls: demo, test tools, alert rules, hops."
    )
    parser.add_argument("--version", action="version", version=f"otel-llmstream {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _demo.add_parser(subparsers)
    _chaos.add_parser(subparsers)
    _alerts.add_parser(subparsers)
    _dashboards.add_parser(subparsers)
    _hops.add_parser(subparsers)
    _inspect.add_parser(subparsers)
    _watch.add_parser(subparsers)
    chosen = parser.parse_args(arguments)
    try:
        status = int(chosen.run(chosen))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the pipe has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit must not fail again
        return _BROKEN_PIPE
    return status
