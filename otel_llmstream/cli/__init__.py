"""The command `otel-llmstream`. One module for each subcommand; each brings its own options and its `run`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from .._version import __version__
from . import _alerts, _chaos, _dashboards, _demo

_BROKEN_PIPE: Final = 141
"""What a shell says of a program that SIGPIPE ended."""


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
    try:
        status = int(chosen.run(chosen))
        sys.stdout.flush()
    except BrokenPipeError:  # who read it has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
        return _BROKEN_PIPE
    return status
