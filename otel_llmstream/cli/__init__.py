"""The command `otel-llmstream`. Each subcommand is one module, which defines its options and its `run` function."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from .._version import __version__
from . import _alerts, _chaos, _dashboards, _demo, _doctor, _hops, _inspect, _watch
from ._parser import NEXT, Parser

_BROKEN_PIPE: Final = 141
"""The exit status that a shell reports for a program that SIGPIPE ended: 128 + 13."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the arguments after the command's name; None takes those of the process.

    Returns:
        The exit status.
    """
    parser: argparse.ArgumentParser = Parser(
        prog="otel-llmstream",
        description="Find broken LLM streams, write alert rules and dashboards, and test against a server that fails.",
    )
    parser.add_argument("--version", action="version", version=f"otel-llmstream {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command")
    _demo.add_parser(subparsers)
    _chaos.add_parser(subparsers)
    _alerts.add_parser(subparsers)
    _dashboards.add_parser(subparsers)
    _hops.add_parser(subparsers)
    _inspect.add_parser(subparsers)
    _doctor.add_parser(subparsers)
    _watch.add_parser(subparsers)
    chosen, unknown = parser.parse_known_args(arguments)
    if chosen.command is None:
        if unknown:
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        sys.stdout.write(NEXT)
        return 0
    if unknown:  # the command's own parser knows the nearest option
        subparsers.choices[chosen.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        status = int(chosen.run(chosen))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the pipe has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit must not fail again
        return _BROKEN_PIPE
    return status
