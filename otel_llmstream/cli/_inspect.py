"""The command ``otel-llmstream inspect``. In: a recorded response. Out: a report, and a verdict as exit status."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import BinaryIO, Final

from otel_llmstream.debugging import MAX_INPUT, Inspection, UnusableError, as_dict, as_text, inspect, recordings
from otel_llmstream.debugging.debug_report import report
from otel_llmstream.debugging.session_file import as_values, load
from otel_llmstream.debugging.timeline import DebugStream

COMPLETED: Final = 0
BROKEN: Final = 1
UNUSABLE: Final = 2

_MAX_JUDGED: Final = 100
"""Responses of one file that are judged. Cassettes have a few; a browser's HAR file may have thousands."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line's parser."""
    parser = subparsers.add_parser(
        "inspect",
        help="judge a recorded stream",
        description="Judge a recorded stream, and show where it broke. The input is a body (also with gzip), a HAR "
        "file, a VCR cassette, the output of curl -i, or a saved debug session. The exit status is 0 if every stream "
        "in it completed, 1 if one did not, and 2 if the input cannot be used. The first and last KiB of the body are "
        "shown.",
    )
    parser.add_argument("file", metavar="FILE", help="the recorded response; - reads the standard input")
    parser.add_argument("--path", default="", help="path of the request, if the input does not say it (/v1/responses)")
    parser.add_argument("--show-text", action="store_true", help="show the payloads in the table of frames")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Judge the input. Returns the exit status."""
    try:
        data = _read(arguments.file)
        session = load(data)
        if session is not None:
            return _run_session(session, as_json=arguments.json)
        found, skipped = _inspect(data, arguments.path)
    except UnusableError as exc:
        print(f"otel-llmstream inspect: {exc}", file=sys.stderr)
        return UNUSABLE
    if arguments.json:
        streams = [as_dict(each, show_text=arguments.show_text) for each in found]
        print(json.dumps({"streams": streams, "skipped": skipped}, indent=2))
    else:
        print("\n".join(as_text(each, show_text=arguments.show_text) for each in found), end="")
        if skipped:
            print(f"\nresponses that were not judged: {skipped}")
    return BROKEN if any(each.summary.outcome.is_failure for each in found) else COMPLETED


def _run_session(streams: tuple[DebugStream, ...], *, as_json: bool) -> int:
    """Print a debug session. Its verdicts were made when the streams ended, with all of their bytes."""
    print(as_values(streams) if as_json else report(streams), end="")
    return BROKEN if any(each.summary is None or each.summary.outcome.is_failure for each in streams) else COMPLETED


def _inspect(data: bytes, path: str) -> tuple[list[Inspection], int]:
    """What is found in each response, and how many responses were not judged."""
    every = recordings(data, path)
    found = [each for recording in every[:_MAX_JUDGED] if (each := inspect(recording)) is not None]
    if not found:
        raise UnusableError(
            "This is no LLM stream: no dialect knows its first frames. (A body that is cut inside its first event has "
            "none.) If it is one, name the path of its request, as --path /v1/chat/completions does."
        )
    return found, len(every) - len(found)


def _read(name: str) -> bytes:
    """The input, if it is not too large.

    Raises:
        UnusableError: it cannot be read.
    """
    try:
        if name == "-":
            return _limited(sys.stdin.buffer)
        with Path(name).open("rb") as file:
            return _limited(file)
    except (OSError, ValueError) as exc:
        if isinstance(exc, UnusableError):
            raise
        reason = getattr(exc, "strerror", None) or "the name is not valid"
        raise UnusableError(f"{name!r} cannot be read: {reason}.") from None


def _limited(file: BinaryIO) -> bytes:
    data = file.read(MAX_INPUT + 1)
    if len(data) > MAX_INPUT:
        raise UnusableError(f"The input is larger than the limit of {MAX_INPUT >> 20} MiB. Cut it, with head -c.")
    return data
