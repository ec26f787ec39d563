"""The command ``otel-llmstream hops``. In: log files of the hops. Out: which hop ended each stream, and why."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from otel_llmstream.monitoring._hop_lines import MalformedLineError, read_line
from otel_llmstream.monitoring._hops import Traces, Verdict, signs

MAX_LINE: Final = 65_536
"""Bytes of a line. Our longest lines have a traceback and stay below; a longer one is no line of a hop."""

_NAMED: Final = 1
_REFUSED: Final = 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line's parser."""
    parser = subparsers.add_parser(
        "hops",
        help="name the hop that broke a stream, from log files",
        description="Read the log lines of a stream's hops: those of otel_llmstream (llm_stream.*, llm_served.*) as "
        "JSON, nginx's, HAProxy's and Envoy's as dashboards/proxies configures them, and nginx's error log. Put the "
        "hops of each trace in order, and say which one ended the stream first, why, and what to change there.",
        epilog="Exit status: 0 if no hop's line tells a failure, 1 if a hop is named, 2 if the input cannot be used.",
    )
    parser.add_argument("logs", nargs="+", metavar="LOGFILE", help="a log file, in any order; - is standard input")
    parser.add_argument(
        "--trace", type=_trace, metavar="ID", help="look at this trace only (default: every failed trace in the files)"
    )
    parser.set_defaults(run=run)


def _trace(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{32}", text):
        raise argparse.ArgumentTypeError(f"must be a trace id of 32 hexadecimal digits, got {text!r}")
    return text.lower()


def run(args: argparse.Namespace) -> int:
    """Print the verdicts. Returns exit status 1 if a hop is named, 2 if the input cannot be used."""
    traces = Traces(args.trace)
    for name in args.logs:
        problems = Problems()
        try:
            _read(name, traces, problems)
        except OSError as error:
            return _fail(f"cannot read {name}: {error.strerror or error}")
        if problems.number:
            _warn(f"{name}: {_counted(problems.number)} could not be read (the first is line {problems.first})")
    if traces.without_trace:
        _warn(f"no trace id in {_counted(traces.without_trace)}, because the request had no traceparent")
    if traces.dropped:
        _warn(f"{_counted(traces.dropped)} left out, because the files have too many; use --trace, or smaller files")
    if traces.is_empty:
        return _fail(f"no line of {f'trace {args.trace}' if args.trace else 'a hop'} in the files")
    return _print(traces, shows_all=args.trace is not None)


@dataclass(slots=True)
class Problems:
    """The lines of one file that could not be read.

    Attributes:
        number: how many.
        first: the first one's number, and why.
    """

    number: int = 0
    first: str = ""

    def add(self, line: int, why: str) -> None:
        """Count one."""
        self.number += 1
        self.first = self.first or f"{line}: {why}"


def _read(name: str, traces: Traces, problems: Problems) -> None:
    if name == "-":
        _collect(sys.stdin.buffer, traces, problems)
    else:
        with Path(name).open("rb") as file:
            _collect(file, traces, problems)


def _collect(file: IO[bytes], traces: Traces, problems: Problems) -> None:
    for number, line in enumerate(_lines(file), 1):
        try:
            if line is None:
                raise MalformedLineError(f"it is longer than {MAX_LINE} bytes")  # noqa: TRY301 - to be counted like all
            if text := line.decode(errors="replace").strip():
                found = read_line(text)
                if found is not None:
                    traces.add(found)
        except MalformedLineError as error:
            problems.add(number, str(error))


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """Each line; None for one that is too long. No more than `MAX_LINE` bytes are in memory."""
    while line := file.readline(MAX_LINE):
        if len(line) < MAX_LINE or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)
        yield None


# --- output -------------------------------------------------------------------------------------------------------


def _print(traces: Traces, *, shows_all: bool) -> int:
    named = 0
    for verdict in traces.verdicts():
        named += bool(verdict.hop)
        if verdict.hop or shows_all:
            print(_report(verdict))
    if not named and not shows_all:
        print("no hop's line tells a failure")
    return _NAMED if named else 0


def _report(verdict: Verdict) -> str:
    said = f"{verdict.hop} ended the stream" if verdict.hop else "no hop's line tells a failure"
    lines = [f"trace {verdict.trace_id}: {said}"]
    for place, hop in enumerate(verdict.hops, 1):
        seconds = "" if hop.line.duration is None else f"  {hop.line.duration:.3f} s"
        to = f" -> {hop.line.upstream}" if hop.line.upstream else ""
        lines.append(f"  {place}. {hop.name}{to}: {signs(hop)}{seconds}")
    if verdict.hop:
        lines += [f"  why: {verdict.why}", f"  change: {verdict.change}"]
    lines += [f"    {line}" for line in verdict.snippet.splitlines()]
    return "\n".join([*lines, ""])


def _counted(number: int) -> str:
    return "1 line" if number == 1 else f"{number} lines"


def _warn(message: str) -> None:
    print(f"otel-llmstream hops: {message}", file=sys.stderr)


def _fail(message: str) -> int:
    _warn(message)
    return _REFUSED
