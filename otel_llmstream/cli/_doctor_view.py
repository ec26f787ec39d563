"""How `otel-llmstream doctor` shows what it found: for a person, on a terminal of 80 columns or more, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from otel_llmstream.debugging.debug_report import said
from otel_llmstream.debugging.doctor import headers
from otel_llmstream.debugging.doctor.findings import Finding, Level
from otel_llmstream.debugging.doctor.probe import Connection, Kind
from otel_llmstream.debugging.doctor.study import Result, Study, percentile
from otel_llmstream.debugging.doctor.words import seconds
from otel_llmstream.debugging.report import printable
from otel_llmstream.debugging.timeline import DebugRead

WIDTH: Final = 80
"""Columns if the output is no terminal."""

_BEGIN: Final = 10  # reads of the beginning that are shown
_END: Final = 6
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_BAR: Final = 12
_NUMBER: Final = 6
_SPARKS: Final = 60

_STYLES: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def show(study: Study, findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print the report."""
    console = console or _console()
    console.print(*_title(study), sep="\n")
    shown = example(study)
    if shown is not None:
        _section(console, "path", _path(study, shown))
        _section(console, _name(study, shown), *_timeline(shown))
    for result in compared(study, findings):
        _section(console, f"time line {_COMPARED[result.plan.kind]}", *_timeline(result))
    _section(console, "checks", _checks(findings))
    console.print()
    console.print(_verdict(study, findings))


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=max(WIDTH, console.width))


def _section(console: Console, title: str, *parts: Any) -> None:
    console.print()
    console.print(Rule(title, align="left", style="dim"))
    for part in parts:
        console.print(part)


def example(study: Study) -> Result | None:
    """The call to show: the first one that is not well, or else one whose first chunk was quick."""
    bad = next((result for result in study.streams if not result.is_well), None)
    return bad or min(study.streams, key=lambda result: result.first_chunk or 0.0, default=None)


_COMPARED: Final = {
    Kind.GZIP: "with compression",
    Kind.HTTP2: "over HTTP/2",
    Kind.VIA: "through --via",
}
"""The comparisons: the call, and its check."""


def compared(study: Study, findings: Sequence[Finding]) -> Iterator[Result]:
    """The calls of the comparisons that failed: one of each."""
    failed = {finding.check for finding in findings if finding.level is Level.FAIL}
    for kind, check in _COMPARED.items():
        if check in failed:
            yield study.of(kind)[0]


def _title(study: Study) -> Iterator[Text]:
    plan = study.results[0].plan
    server = plan.server
    yield Text(f"{server.scheme}://{server.authority}{plan.target.partition('?')[0]}", "bold")
    calls = len(study.results)
    yield Text(f"API {plan.api.name}, model {printable(plan.model)}, {calls} call{'s' * (calls > 1)}", "dim")


def _name(study: Study, shown: Result) -> str:
    return f"time line of stream {study.streams.index(shown) + 1}"


# --- the path ---


def _path(study: Study, shown: Result) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in path_rows(study, shown):
        table.add_row(name, value)
    return table


def path_rows(study: Study, shown: Result) -> Iterator[tuple[str, str]]:
    """The facts of the path."""
    opened = next((r.probe.connection for r in study.streams if not r.probe.connection.is_reused), Connection())
    yield from _connection_rows(opened)
    reused = sum(result.probe.connection.is_reused for result in study.results)
    yield "connections", f"{len(study.results) - reused} new, {reused} reused"
    head = shown.head
    if head is None:
        return
    by_name = head.by_name
    yield "protocol", f"HTTP/{printable(head.version)}"
    yield "hops", printable("; ".join(headers.hops(by_name))) or "no header names one"
    yield "compression", printable(by_name.get("content-encoding", "none"))
    yield "framing", "close-delimited: cuts are invisible" if head.framing == "close" else head.framing
    yield from _server_rows(shown)


def _connection_rows(facts: Connection) -> Iterator[tuple[str, str]]:
    if facts.dns is not None:
        yield "DNS", f"{seconds(facts.dns)}, {facts.addresses} address{'es' * (facts.addresses != 1)}"
    if facts.tcp is not None:
        yield "TCP", f"{seconds(facts.tcp)} to {facts.address}"
    if facts.tls is not None:
        alpn = f", ALPN {facts.alpn}" if facts.alpn else ""
        yield "TLS", f"{seconds(facts.tls)}, {facts.tls_version}, {facts.cipher}{alpn}"
    yield "proxy", facts.proxy or "none"


def _server_rows(shown: Result) -> Iterator[tuple[str, str]]:
    head, stream = shown.head, shown.stream
    if head is None:
        return
    told = headers.provider_time(head.by_name)
    at = "" if stream is None or stream.headers_at is None else seconds(stream.headers_at)
    yield "headers after", at + (f", of which the server says {seconds(told[1])} ({told[0]})" if told else "")
    found = headers.request_id(head.by_name)
    if found:
        yield "request id", printable(found)
    for name, value in headers.limits(head.by_name):
        yield "limit", printable(f"{name}: {value}")


# --- the time line ---


def _timeline(shown: Result) -> Iterator[Any]:
    reads = shown.reads
    if not reads:
        yield Text("no byte of a body came", "dim")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    for name in ("ms", "wait", "bytes"):
        table.add_column(name, justify="right", no_wrap=True, min_width=_NUMBER)
    table.add_column("", min_width=_BAR, no_wrap=True, style="cyan")
    table.add_column("what", overflow="ellipsis", no_wrap=True, ratio=1)
    at = None if shown.stream is None else shown.stream.headers_at
    longest = max(at or 0.0, *(read.wait for read in reads))
    if at is not None:
        table.add_row(f"{at * 1e3:,.0f}", f"{at * 1e3:,.0f}", "", _bar(at, longest), "the headers came")
    for row in _rows(reads):
        table.add_row(*_cells(row, longest))
    if shown.stream is not None and shown.stream.ended_at is not None:
        table.add_row(f"{shown.stream.ended_at * 1e3:,.0f}", "", "", "", shown.stream.ended_by)
    yield table
    yield from map(Text, figures(shown))
    yield _sparkline(shown.gaps)


def _rows(reads: Sequence[DebugRead]) -> list[DebugRead | int]:
    if len(reads) <= _BEGIN + _END:
        return list(reads)
    return [*reads[:_BEGIN], len(reads) - _BEGIN - _END, *reads[-_END:]]


def _cells(row: DebugRead | int, longest: float) -> tuple[str, ...]:
    if isinstance(row, int):
        return "", "", "", "", f"... {row:,} reads"
    bar = _bar(row.wait, longest)
    return f"{row.at * 1e3:,.0f}", f"{row.wait * 1e3:,.0f}", f"{row.size:,}", bar, said(row)


def _bar(wait: float, longest: float) -> str:
    return "▇" * round(_BAR * wait / longest) if longest else ""


def figures(shown: Result) -> Iterator[str]:
    """The figures of one stream."""
    first, last, summary, gaps = shown.first_chunk, shown.last_chunk, shown.summary, shown.gaps
    byte = shown.reads[0].at if shown.reads else 0.0
    if first is not None and last is not None and summary is not None:
        answer = summary.time_to_first_answer
        yield (
            f"first byte {seconds(byte)}, first chunk {seconds(first)}, first answer "
            f"{'none' if answer is None else seconds(answer)}, last chunk {seconds(last)}"
        )
        rate = summary.output_tokens_per_second
        tokens = f", {rate:,.0f} tokens per second" if rate else ""
        yield (
            f"gaps: p50 {seconds(percentile(gaps, 0.5))}, p95 {seconds(percentile(gaps, 0.95))}, max "
            f"{seconds(max(gaps, default=0.0))}{tokens}"
        )


def _sparkline(gaps: Sequence[float]) -> Text:
    if not gaps:
        return Text("no gaps: fewer than two chunks", "dim")
    return Text(f"{spark(gaps)}", "cyan")


def spark(values: Sequence[float], width: int = _SPARKS) -> str:
    """Values as a line of blocks. If there are too many, each block is the largest of some."""
    size = -(-len(values) // width)
    tops = [max(values[at : at + size]) for at in range(0, len(values), size)]
    most = max(tops)
    return "".join(_BLOCKS[round((len(_BLOCKS) - 1) * top / most)] if most else _BLOCKS[0] for top in tops)


# --- the checks ---


def _checks(findings: Sequence[Finding]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for found in findings:
        table.add_row(Text(found.level, _STYLES[found.level]), found.check, Text(printable(found.seen)))
        if found.cause:
            table.add_row("", "", Text(f"likely cause: {found.cause}", "dim"))
            table.add_row("", "", Text(f"remedy: {found.remedy}"))
    return table


def _verdict(study: Study, findings: Sequence[Finding]) -> Padding:
    return Padding(Text(verdict(study, findings), _STYLES[worst(findings)]), (0, 0))


def worst(findings: Sequence[Finding]) -> Level:
    """The worst level."""
    levels = {finding.level for finding in findings}
    return next(level for level in (Level.FAIL, Level.WARN, Level.OK) if level in levels or level is Level.OK)


def verdict(study: Study, findings: Sequence[Finding]) -> str:
    """The verdict, as a sentence."""
    failed = [finding for finding in findings if finding.level is Level.FAIL]
    odd = [finding.check for finding in findings if finding.level is Level.WARN]
    if not study.answered:
        return "No answer came."
    if failed:
        return f"Something is wrong: {', '.join(finding.check for finding in failed)}. {failed[0].cause}"
    return f"The stream is well, but look at: {', '.join(odd)}." if odd else "All is well."


# --- JSON ---


def as_dict(study: Study, findings: Sequence[Finding]) -> dict[str, Any]:
    """The report as values that JSON has. It has no text of a prompt or an answer."""
    plan, shown = study.results[0].plan, example(study)
    return {
        "url": f"{plan.server.scheme}://{plan.server.authority}{plan.target.partition('?')[0]}",
        "api": plan.api.name,
        "model": plan.model,
        "verdict": verdict(study, findings),
        "level": worst(findings),
        "path": [] if shown is None else [{"name": name, "value": value} for name, value in path_rows(study, shown)],
        "checks": [
            {"check": it.check, "level": it.level, "seen": it.seen, "cause": it.cause, "remedy": it.remedy}
            for it in findings
        ],
        "calls": [_call(result) for result in study.results],
    }


def _call(result: Result) -> dict[str, Any]:
    summary, head, probe = result.summary, result.head, result.probe
    facts = probe.connection
    return {
        "kind": Kind(result.plan.kind).value,
        "status": None if head is None else head.status,
        "protocol": None if head is None else head.version,
        "tls": facts.tls_version,
        "reused": facts.is_reused,
        "dns": facts.dns,
        "connect": facts.tcp,
        "tls_handshake": facts.tls,
        "outcome": None if summary is None else summary.outcome.value,
        "error_type": result.error_type,
        "time_to_headers": None if result.stream is None else result.stream.headers_at,
        "time_to_first_chunk": result.first_chunk,
        "time_to_last_chunk": result.last_chunk,
        "gap_p50": percentile(result.gaps, 0.5),
        "gap_p95": percentile(result.gaps, 0.95),
        "gap_max": max(result.gaps, default=0.0),
        "chunks": 0 if summary is None else summary.chunks,
        "input_tokens": None if summary is None else summary.input_tokens,
        "output_tokens": None if summary is None else summary.output_tokens,
        "finish_reasons": [] if summary is None else list(summary.finish_reasons),
        "away": [{"at": begin - probe.started, "for": end - begin} for begin, end in probe.away],
        "reads": [
            {"at": read.at, "wait": read.wait, "bytes": read.size, "events": dict(read.events)} for read in result.reads
        ],
    }
