"""The demo: its options, its pictures, its report, and that it ends well however it ends."""

import fcntl
import logging
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import httpx  # noqa: F401 - while another thread imports it, openai's SDK cannot close a stream
import httpx2
import pytest
from conditions import PATIENCE, until
from programs import binary
from prometheus_client import CollectorRegistry, Metric
from rich.console import Console

import otel_llmstream
from otel_llmstream import Health, Latency, Outcome, ServedOutcome
from otel_llmstream.cli import _report, main
from otel_llmstream.cli._alert_watch import FiringAlert
from otel_llmstream.cli._drivers import sync_clients
from otel_llmstream.cli._format import apis, between, plural, seconds, share
from otel_llmstream.cli._interrupt import Interrupt
from otel_llmstream.cli._log_filter import LogCounter
from otel_llmstream.cli._metrics_server import MetricsServer
from otel_llmstream.cli._results import CallResult, Kind, Tally, Verdict
from otel_llmstream.cli._table import View, progress, view
from otel_llmstream.cli._workload_plan import API, ENDPOINTS, OVER_SOCKET, PARAMETERS, planned_calls, scenarios
from otel_llmstream.testing import SCENARIOS
from otel_llmstream.testing.chaos import ChaosServer

CHAT, RESPONSES, MESSAGES, SOCKET = API
PLAYED = {*SCENARIOS, *OVER_SOCKET}
PAIRS = {
    (name, api) for name in SCENARIOS for api, endpoint in ENDPOINTS.items() if endpoint in SCENARIOS[name].endpoints
}
"""Scenarios and APIs over HTTP."""
COMMAND = (sys.executable, "-X", "dev", "-W", "error", "-c")
SCRIPT = "import sys; from otel_llmstream.cli import main; sys.exit(main(sys.argv[1:]))"

SUCCESS = "success"
NOTHING = "nothing: looked like success"
LOST = {"chat": "openai.APIConnectionError", "responses": "openai.APIConnectionError"}
LATE = {"chat": "openai.APITimeoutError", "responses": "openai.APITimeoutError", "anthropic": "httpx2.ReadTimeout"}
IN_BAND = {"chat": "openai.APIError", "anthropic": "anthropic.APIStatusError"}

# What the SDK tells, and what really happens; by API where the APIs differ.
EXPECTED: dict[str, tuple[str | dict[str, str], str | dict[str, str]]] = {
    "close-1000": (NOTHING, "truncated stream_truncated"),
    "no-finish": (NOTHING, "truncated stream_truncated"),
    "cut-event": (NOTHING, "truncated stream_incomplete_event"),
    "cut-close": (NOTHING, "truncated stream_truncated"),
    "html": (NOTHING, "truncated not_a_stream"),
    "empty": (NOTHING, "truncated stream_empty"),
    "comments": (NOTHING, "truncated stream_empty"),
    "json-error": (NOTHING, "truncated not_a_stream"),
    "reset": ({**LOST, "anthropic": "httpx2.ReadError"}, "failed connection_reset"),
    "cut-chunked": ({**LOST, "anthropic": "httpx2.RemoteProtocolError"}, "failed incomplete_body"),
    "bad-chunk-size": ({**LOST, "anthropic": "httpx2.RemoteProtocolError"}, "failed invalid_framing"),
    "malformed": ("json.JSONDecodeError", "failed malformed_event"),
    "silence": (LATE, "failed read_timeout"),
    "error": (
        {**IN_BAND, "responses": "an item: response.failed"},
        {"chat": "failed server_error", "responses": "failed server_error", "anthropic": "failed overloaded_error"},
    ),
    "error-flat": (
        {**IN_BAND, "responses": "an item: error"},
        {
            "chat": "failed server_error",
            "responses": "failed rate_limit_exceeded",
            "anthropic": "failed overloaded_error",
        },
    ),
    "error-then-done": (
        {**IN_BAND, "responses": "an item: response.failed"},
        {"chat": "failed server_error", "responses": "failed server_error", "anthropic": "failed overloaded_error"},
    ),
    "500": (
        {
            "chat": "openai.InternalServerError",
            "responses": "openai.InternalServerError",
            "anthropic": "anthropic.InternalServerError",
        },
        "failed 500",
    ),
    "open-after-end": ({**LATE, "chat": SUCCESS}, "completed"),
}
NOTES = {
    "429-429-ok": "2 retries",
    "500": "2 retries",
    "buffered-held": "buffered",
    "buffered-early": "buffered",
    "pause": "stalled",
    "silence": "stalled",
}
BY_THE_MACHINE = {"stalled", "buffered"}
"""Notes that a busy machine may cause in any scenario."""


# --- options ---


@pytest.mark.parametrize(
    "arguments",
    [
        "--duration 0",
        "--duration -1",
        "--duration nan",
        "--duration inf",
        "--duration soon",
        "--rate 0",
        "--rate 1e9",
        "--rate many",
        "--prometheus-port -1",
        "--prometheus-port 65536",
        "--prometheus-port http",
        "--otlp-endpoint localhost:4318",
        "--otlp-endpoint http://",
        "--otlp-endpoint http://host:99999",
        "--otlp-endpoint ftp://host",
        "--seed lucky",
        "--fast",
    ],
)
def test_nonsense_is_refused(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option out of its range is an error message that names it, and status 2; nothing is started."""
    with pytest.raises(SystemExit) as ended:
        main(["demo", *arguments.split()])

    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert arguments.partition(" ")[0] in printed.err.splitlines()[-1]


NEEDED = ("openai", "anthropic", "rich", "h11", "yaml", "opentelemetry.exporter.prometheus", "starlette", "uvicorn")


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_package_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a package that it needs the demo says in one line what to install, with status 2."""
    monkeypatch.setitem(sys.modules, name, None)

    status = main(["demo"])

    assert status == 2
    assert capsys.readouterr().err == (f'otel-llmstream demo: missing {name}: pip install "otel-llmstream[demo]"\n')


def test_the_otlp_exporter_is_needed_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing OTLP exporter is named with `--otlp-endpoint`."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)

    status = main(["demo", "--otlp-endpoint", "http://127.0.0.1:4318"])

    assert status == 2
    assert 'pip install "otel-llmstream[demo]"' in capsys.readouterr().err


# --- what is asked for ---


def test_first_every_scenario_once() -> None:
    """The first round runs each scenario once, so that six seconds at the default rate show them all."""
    first = [order.scenario for order in islice(planned_calls(3), len(scenarios()))]

    assert sorted(first) == sorted(PLAYED)
    assert len(first) <= 6 * 6


def test_then_every_scenario_at_every_api() -> None:
    """The default run, 120 calls, leaves almost no scenario untried at any API, and tries healthy streams most."""
    made = list(islice(planned_calls(3), 120))
    pairs = {(order.scenario, order.api) for order in made}

    assert len(pairs & PAIRS) >= 0.9 * len(PAIRS)
    assert pairs - PAIRS == {("close-1000", SOCKET)}
    assert max(scenarios(), key=[order.scenario for order in made].count) == "ok"
    assert 0.3 < sum(order.is_async for order in made) / len(made) < 0.7


def test_a_seed_decides() -> None:
    """The same seed makes the same calls; another one makes others."""
    assert list(islice(planned_calls(7), 200)) == list(islice(planned_calls(7), 200))
    assert list(islice(planned_calls(7), 200)) != list(islice(planned_calls(8), 200))


# --- words ---


def test_durations_have_three_figures_at_most() -> None:
    """Durations are written in the unit that suits them."""
    written = [seconds(value) for value in (None, 0.0, 0.00949, 0.00996, 0.0123, 0.9994, 0.9996, 61.5)]

    assert written == ["-", "0.0 ms", "9.5 ms", "10 ms", "12 ms", "999 ms", "1.00 s", "61.50 s"]


def test_words() -> None:
    """Counts, ranges, ratios and APIs read as words."""
    assert [plural(1, "retry"), plural(2, "retry"), plural(0, "stream")] == ["1 retry", "2 retries", "0 streams"]
    assert [between(3, 3), between(11, 14)] == ["3", "11-14"]
    assert [share(None), share(0.466)] == ["-", "47 %"]
    assert [apis(ENDPOINTS), apis([RESPONSES, CHAT]), apis([MESSAGES]), apis([CHAT, MESSAGES]), apis([SOCKET])] == [
        "all", "openai", "anthropic", "chat anthropic", "websocket",
    ]  # fmt: skip


# --- pictures ---

OK = Kind("ok", Verdict.RIGHT, None, Outcome.COMPLETED, None)
RAISED = Kind("reset", Verdict.RAISED, "openai.APIConnectionError", Outcome.FAILED, "connection_reset")
TOLD = Kind("error", Verdict.IN_AN_EVENT, "response.failed", Outcome.FAILED, "server_error")
QUIET = Kind("cut-event", Verdict.SILENT, None, Outcome.TRUNCATED, "stream_incomplete_event")
ALARM = Kind("open-after-end", Verdict.FALSE_ALARM, "httpx2.ReadTimeout", Outcome.COMPLETED, None)


def finding(kind: Kind, api: API = CHAT, **changes: object) -> CallResult:
    return replace(CallResult(kind, api, 22, 0.024, 0.124, 0.0071, 0, stalled=False, buffered=False), **changes)


def tally_of(*findings: CallResult) -> Tally:
    tally = Tally()
    for one in findings:
        tally.add(one)
    return tally


def health_of(**changes: object) -> Health:
    none = dict.fromkeys(Outcome, 0)
    latency = Latency(0.0241, 0.7061, 0.9)
    health = Health(
        True, 3, 1, none | {Outcome.COMPLETED: 9, Outcome.TRUNCATED: 4, Outcome.FAILED: 1}, 5 / 14,
        {"connection_reset": 1, "stream_incomplete_event": 4}, 2, latency, latency, 0,
        dict.fromkeys(ServedOutcome, 0), 9 / 14, 1.2, 4_000.0, (("stream_incomplete_event", 4),),
    )  # fmt: skip
    return replace(health, **changes)


def look(tally: Tally, health: Health, *, ending: bool = False, firing: set[FiringAlert] | None = None) -> View:
    url = "http://127.0.0.1:9464/metrics"
    return view(tally, health, elapsed=7.4, duration=20, ending=ending, url=url, firing=firing)


def drawn(picture: object, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(picture)
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (140, 45), (200, 60)])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    """On a usual terminal every scenario, outcome and number of the live view is there whole."""
    tally = tally_of(*[finding(replace(QUIET, scenario=name)) for name in scenarios()], finding(OK))

    lines = drawn(look(tally, health_of()), width, height)

    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for name in scenarios():
        runs, latest = ("2", "completed") if name == "ok" else ("1", "truncated")
        assert re.search(rf"(^| ){re.escape(name)} +{runs} +{latest}.* 1( |$)", text, re.MULTILINE), name
    shown = ("active 3", "stalled now 1", "retries 2", "completed 9", "truncated 4", "failed 1", "failure rate 36 %",
             "p50 24 ms", "p95 706 ms", "stream_incomplete_event 4   connection_reset 1", "31 silent failures",
             "7 of 20 s", "Ctrl-C ends the demo", "http://127.0.0.1:9464/metrics")  # fmt: skip
    assert [part for part in shown if part not in text] == []


def test_a_wide_picture_has_the_error_types() -> None:
    """Where there is room the live table says why."""
    tally = tally_of(finding(QUIET))

    assert "truncated stream_incomplete_event" in "\n".join(drawn(look(tally, health_of()), 140, 45))


def test_the_picture_before_the_first_stream() -> None:
    """Before anything has ended the view says so, and divides by nothing."""
    none = Latency(None, None, None)
    empty = health_of(
        active=0, totals=dict.fromkeys(Outcome, 0), failure_ratio=None, error_types={}, time_to_first_chunk=none
    )

    text = "\n".join(drawn(look(Tally(), empty, ending=True), 80, 24))

    assert text.count("waiting\n") + text.count("waiting ") >= len(scenarios())
    assert "no errors yet" in text
    assert "failure rate -" in text
    assert "waiting for the last streams" in text


def test_the_picture_on_a_small_terminal() -> None:
    """A terminal that is too low loses scenarios, and nothing else."""
    lines = drawn(look(tally_of(finding(OK)), health_of()), 80, 14)

    assert len(lines) <= 14
    assert "failure rate 36 %" in "\n".join(lines)


def test_outcomes_have_colours() -> None:
    """Each outcome has its own colour, and silent failures stand out."""
    console = Console(width=140, height=45, force_terminal=True, color_system="standard", highlight=False)
    with console.capture() as captured:
        console.print(look(tally_of(finding(OK), finding(RAISED), finding(QUIET)), health_of()))

    text = captured.get()
    assert "\x1b[32mcompleted" in text
    assert "\x1b[31mfailed" in text
    assert "\x1b[35mtruncated" in text
    assert "\x1b[1;37;41m1 silent failure\x1b" in text


def test_progress_is_one_line() -> None:
    """Without a terminal the same is told in a line."""
    line = progress(look(tally_of(finding(QUIET)), health_of()))

    assert line == ("    7 s  14 streams: 9 completed, 4 truncated, 1 failed (1 silently); 2 retries, 3 active")


CUT = {FiringAlert("LLMStreamTruncated", "warning", name) for name in ("html", "cut-event")}
BURN = FiringAlert("LLMStreamErrorBudgetBurn", "critical", "500")


def test_alerts_have_a_line() -> None:
    """An alert that fires is named, with its number of models. No alert and no Prometheus look different."""
    tally = tally_of(finding(QUIET))

    firing = "\n".join(drawn(look(tally, health_of(), firing={*CUT, BURN}), 80, 24))
    none = "\n".join(drawn(look(tally, health_of(), firing=set()), 80, 24))
    unwatched = "\n".join(drawn(look(tally, health_of()), 80, 24))

    assert "\nalerts: LLMStreamErrorBudgetBurn 1   LLMStreamTruncated 2\n" in firing
    assert "\nno alert fires\n" in none
    assert "alert" not in unwatched
    assert len(firing.splitlines()) == len(unwatched.splitlines()) <= 24


def test_progress_counts_alerts() -> None:
    """Without a terminal they are a number."""
    assert progress(look(tally_of(finding(QUIET)), health_of(), firing={*CUT, BURN})).endswith("3 active, 3 alerts")


def test_the_report_of_alerts() -> None:
    """Each alert that fired has a line with its models; none, and a Prometheus that broke, are said to be so."""

    def alarms(*arguments: object) -> list[str]:
        console = Console(width=100, color_system=None, highlight=False)
        with console.capture() as captured:
            _report.alerts(console, *arguments)
        return [re.sub(r" +", " ", line).strip() for line in captured.get().splitlines()]

    assert alarms({*CUT, BURN})[1:5] == [
        "Alerts that Prometheus raised",
        "alert severity models",
        "LLMStreamErrorBudgetBurn critical 500",
        "LLMStreamTruncated warning cut-event, html",
    ]
    assert "No alert fired." in alarms(set())
    assert "Prometheus ended by itself with status 2." in alarms(set(), 2)


# --- report ---


def reported(tally: Tally, width: int, health: Health | None = None) -> str:
    console = Console(width=width, height=50, color_system=None, highlight=False)
    with console.capture() as captured:
        _report.write(console, tally, health or health_of())
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


MIXED = (finding(OK), finding(ALARM, MESSAGES), finding(RAISED, items=11), finding(RAISED, RESPONSES, items=14),
         finding(TOLD, RESPONSES), finding(QUIET, retries=1), finding(QUIET, MESSAGES, stalled=True, gap=0.7),
         finding(QUIET, RESPONSES, stalled=True, buffered=True, first=0.026, last=1.2))  # fmt: skip


@pytest.mark.parametrize("width", [139, 156, 200])
def test_a_wide_report_has_a_line_for_each_kind(width: int) -> None:
    """Both sides of a kind of calls are on one line, with its times and what was hidden."""
    report = reported(tally_of(*MIXED), width)

    rows = [re.sub(r" +", " ", line) for line in report.splitlines()]
    assert "reset 2 openai 11-14 openai.APIConnectionError failed connection_reset 24 ms 124 ms 7.1 ms" in rows
    assert "cut-event 3 all 22 nothing: looked like success truncated stream_incomplete_event 24 ms 124 ms 700 ms" in [
        row.partition(" 1 retry")[0] for row in rows
    ]
    assert "error 1 responses 22 an item: response.failed failed server_error 24 ms 124 ms 7.1 ms" in rows
    assert "open-after-end 1 anthropic 22 httpx2.ReadTimeout completed 24 ms 124 ms 7.1 ms" in rows
    assert re.search(r"1 retry,\s+stalled", report)
    assert max(map(len, report.splitlines())) <= width


def test_a_narrow_report_has_two_lines_for_each_kind() -> None:
    """On 80 columns nothing of it is cut off."""
    lines = reported(tally_of(*MIXED), 80).splitlines()

    place = lines.index("cut-event       nothing: looked like success  truncated stream_incomplete_event")
    assert lines[place + 1] == "  3 runs        22 items, all                 24 ms, 124 ms, 700 ms  1 retry,"
    assert lines[place + 2].strip() == "stalled"
    assert max(map(len, lines)) <= 80


def test_the_worst_comes_last() -> None:
    """Silent failures stand at the end of the report, where a terminal shows them, and are counted below."""
    report = reported(tally_of(*MIXED), 160)

    titles = ["No failure", "No failure, but", "Failures that the SDK raised", "did not raise", "Silent failures"]
    assert [report.index(title) for title in titles] == sorted(report.index(title) for title in titles)
    assert "8 streams, 6 failures: 2 raised by the SDK, 1 reported in an item,\n 3 that the application" in report


def test_a_report_says_what_it_lacks() -> None:
    """Scenarios that were not run, streams that were not observed and errors of our own are owned up to."""
    tally = tally_of(*[finding(replace(OK, scenario=name)) for name in scenarios() if name not in {"gzip", "html"}])
    tally.add(None)

    report = reported(tally, 160, health_of(internal_errors=1))

    assert "Not run: html, gzip." in report
    assert "Not observed: 1 stream." in report
    assert "1 error in this library" in report
    assert "29 streams, 0 failures\n" in report


def test_a_report_of_nothing() -> None:
    """A demo that is ended before its first stream has nothing to report, and says so."""
    assert reported(Tally(), 80) == "No stream has ended: there is nothing to report."


# --- parts ---


def test_ctrl_c_is_a_flag() -> None:
    """The first SIGINT raises nothing; afterwards Ctrl-C is what it was."""
    before = signal.getsignal(signal.SIGINT)

    with Interrupt() as interrupt:
        assert not interrupt.asked
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked

    assert signal.getsignal(signal.SIGINT) is before


def test_logs_are_counted_and_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings of others are kept for the report; our own lines and chatter are not."""
    with LogCounter() as quiet:
        for _ in range(2):
            logging.getLogger("some.exporter").warning("no\nluck")
        logging.getLogger("other").error("x" * 300)
        logging.getLogger("otel_llmstream").error("llm_stream.failed")
        logging.getLogger("openai").info("request")

    assert quiet.lines() == ["exporter: no (2 times)", f"other: {'x' * 93} ..."]
    assert capsys.readouterr().err == ""


# --- the whole ---


class Receiver(ThreadingHTTPServer):
    """An OTLP/HTTP receiver that keeps what comes."""

    def __init__(self) -> None:
        self.received: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), Posted)


class Posted(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received[self.path] = self.server.received.get(self.path, b"") + body
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def expected(scenario: str, api: str) -> tuple[str, str]:
    told, real = EXPECTED.get(scenario, (SUCCESS, "completed"))
    return told if isinstance(told, str) else told[api], real if isinstance(real, str) else real[api]


def rows_of(report: str) -> list[list[str]]:
    """The cells of the wide report's rows."""
    split = [re.split(r" {2,}", line.strip()) for line in report.splitlines() if line and not line.startswith(" ")]
    return [cells for cells in split if cells[0] in PLAYED and len(cells) > 5]


def apis_of(cell: str) -> list[str]:
    names = {"all": list(ENDPOINTS), "openai": [CHAT, RESPONSES]}
    return names.get(cell) or cell.split()


def wait_for_threads(before: set[threading.Thread]) -> None:
    """Until no thread is left that was not there before; one that answers a last scrape may take its time."""
    until(lambda: not set(threading.enumerate()) - before, lambda: set(threading.enumerate()) - before)


@contextmanager
def interrupted(once: Callable[[], Any]) -> Iterator[None]:
    """Ctrl-C as soon as something is so: a demo that runs in this block ends then, and not after a time."""
    over = threading.Event()

    def watch() -> None:
        until(lambda: over.is_set() or once())
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


LONG = "3600"
"""Seconds for a demo that a condition ends."""


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, API]]:
    """The scenario and the API of each call of the demo that has ended."""
    calls: set[tuple[str, API]] = set()
    add = Tally.add

    def noted(self: Tally, finding: CallResult | None) -> None:
        add(self, finding)
        if finding is not None:
            calls.add((finding.kind.scenario, finding.api))

    monkeypatch.setattr(Tally, "add", noted)
    return calls


def test_the_demo_tells_the_truth(
    receiver: Receiver,
    ended: set[tuple[str, API]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each scenario is told as its SDK tells it, beside what really happened to it.

    Telemetry goes where it should, though the port is taken, and nothing is left behind.
    """
    monkeypatch.delenv("COLUMNS", raising=False)
    # With the demo's own one second a busy machine causes time-outs, and so retries, that the table does not have.
    monkeypatch.setattr("otel_llmstream.cli._drivers.READ_TIMEOUT", 6.0)
    monkeypatch.setitem(PARAMETERS, "silence", "hold=3000")
    monkeypatch.setitem(PARAMETERS, "open-after-end", "hold=3000")
    everything = PAIRS | {(name, SOCKET) for name in OVER_SOCKET}
    threads = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with interrupted(lambda: ended >= everything):
            status = main([
                "demo", "--duration", LONG, "--rate", "20", "--seed", "1", "--prometheus-port", str(port),
                "--otlp-endpoint", f"http://127.0.0.1:{receiver.server_port}/", "--no-prometheus",
            ])  # fmt: skip

    printed = capsys.readouterr()
    assert status == 0
    assert printed.err == ""
    assert f"Port {port} is not free (Address already in use). The demo uses another one." in printed.out
    assert re.search(r"\n +\d+ s  \d+ streams: \d+ completed, ", printed.out)
    assert "Not run" not in printed.out
    assert "Not observed" not in printed.out
    assert "in this library" not in printed.out
    assert "logged meanwhile" not in printed.out
    assert "Alerts that" not in printed.out
    _check_rows(rows_of(printed.out))
    _check_closing(printed.out, port)
    assert set(receiver.received) == {"/v1/traces", "/v1/metrics", "/v1/logs"}
    assert b"llmstream.outcome" in receiver.received["/v1/traces"]
    assert b"llmstream.streams" in receiver.received["/v1/metrics"]
    assert b"llm_stream.truncated" in receiver.received["/v1/logs"]
    wait_for_threads(threads)
    assert not otel_llmstream.health().instrumented


def _check_rows(rows: list[list[str]]) -> None:
    assert {cells[0] for cells in rows} == PLAYED
    for cells in rows:
        scenario, _runs, where, _items, told, real = cells[:6]
        assert [(told, real)] * len(apis_of(where)) == [expected(scenario, api) for api in apis_of(where)], cells
        # A second note may be on the next line. Only the machine causes it.
        notes = set(filter(None, re.split(r",\s*", cells[9]))) if len(cells) > 9 else set()
        wanted = {NOTES[scenario]} if scenario in NOTES else set()
        assert wanted <= notes <= wanted | BY_THE_MACHINE, cells


def _check_closing(report: str, port: int) -> None:
    counted = re.search(
        r"(\d+) streams, (\d+) failures: (\d+) raised by the SDK, (\d+) reported in an item,\n (\d+) that", report
    )
    assert counted is not None
    streams, failures, *parts = map(int, counted.groups())
    assert streams >= len(PLAYED)
    assert sum(parts) == failures
    assert parts[2] >= 7
    url = re.search(r"Metrics for Prometheus were at http://127\.0\.0\.1:(\d+)/metrics", report)
    assert url is not None
    assert int(url[1]) != port
    assert "add one line:  otel_llmstream.instrument()\n" in report
    assert report.rstrip().endswith("otel-llmstream alerts --output DIR")


@contextmanager
def on_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The demo as a process of its own, with a terminal of 80 columns and 24 lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = subprocess.Popen(
        [*COMMAND, SCRIPT, "demo", "--prometheus-port", "0", "--status-port", "0", *arguments],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environ | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.communicate()
        os.close(ours)


def read_until(terminal: int, pattern: bytes) -> bytes:
    """What the terminal shows, up to a pattern; with an empty one, up to its end."""
    seen = b""
    while not (pattern and re.search(pattern, seen)):
        ready = select.select([terminal], [], [], PATIENCE)[0]
        assert ready, seen[-2000:]
        try:
            data = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other side has gone
            data = b""
        if not data:
            assert pattern == b"", seen[-2000:]
            break
        seen += data
    return seen


def test_ctrl_c_ends_the_live_table_with_the_report() -> None:
    """Ctrl-C gives the terminal back, prints the report of what there is, and ends with status 0.

    Until then a live table is on the terminal's other screen; no word is on stderr, no warning either.
    """
    with on_terminal("--duration", LONG, "--no-prometheus") as (process, terminal):
        begun = read_until(terminal, rb"[1-9] silent failure")
        url = re.search(rb"http://127\.0\.0\.1:\d+/metrics", begun)
        assert url is not None
        until(lambda: "llmstream_streams_total{" in httpx2.get(url[0].decode(), trust_env=False, timeout=PATIENCE).text)
        process.send_signal(signal.SIGINT)
        rest = read_until(terminal, b"")
        err = process.stderr.read() if process.stderr is not None else b""
        status = process.wait(PATIENCE)

    assert status == 0
    assert err == b""
    assert b"\x1b[?1049h" in begun
    assert b"waiting for the last streams" in rest
    report = rest.partition(b"\x1b[?1049l")[2].decode()
    assert "nothing: looked like success" in report
    assert "Not run: " in report
    assert report.rstrip().endswith("otel-llmstream alerts --output DIR")


def test_a_second_ctrl_c_ends_at_once() -> None:
    """Who presses Ctrl-C twice does not want to wait, not even for the SDKs to load."""
    with on_terminal() as (process, terminal):
        read_until(terminal, b"loading the SDKs")
        status = signalled(process, signal.SIGINT)
        err = process.stderr.read() if process.stderr is not None else b""

    assert status == 130
    assert err == b""


def signalled(process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """Signal until the process has ended; its status. Two signals that come too fast are one."""
    process.send_signal(number)

    def again() -> bool:
        process.send_signal(number)
        return process.poll() is not None

    until(again, step=0.1)
    return process.wait()


# --- with Prometheus ---


def children_of_ours() -> set[str]:
    """Command lines of processes that this one has started, and that still run."""
    found = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    return {line for line in found.stdout.splitlines() if "--config.file=" in line}


@pytest.mark.external
def test_alerts_fire_before_ones_eyes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a Prometheus on the PATH the shipped rules fire for what breaks; nothing of it is left behind."""
    binary("prometheus")
    threads = set(threading.enumerate())
    firing: set[str] = set()  # as the lines of progress count them

    def noted(now: View) -> str:
        firing.update(wakeup.name for wakeup in now.firing or ())
        return progress(now)

    monkeypatch.setattr("otel_llmstream.cli._session.progress", noted)
    monkeypatch.setattr("otel_llmstream.cli._session.PROGRESS_INTERVAL", 1.0)
    with interrupted(lambda: "LLMStreamErrorBudgetBurn" in firing):
        status = main(["demo", "--duration", LONG, "--rate", "9", "--seed", "1", "--prometheus-port", "0", "--plain"])

    printed = capsys.readouterr()
    assert (status, printed.err) == (0, "")
    assert re.search(r"\nAlerts, 90 times as fast as in production: http://127\.0\.0\.1:\d+/alerts\n", printed.out)
    assert re.search(r", [1-9]\d* alerts?\n", printed.out)
    _, _, alerts = printed.out.partition("\nAlerts that Prometheus raised\n")
    (burning,) = re.findall(r"^LLMStreamErrorBudgetBurn +critical +(.+?) *$", alerts, re.MULTILINE)
    assert set(burning.split(", ")) & EXPECTED.keys()
    assert "ended by itself" not in alerts
    assert children_of_ours() == set()
    wait_for_threads(threads)


class Slow:
    """A registry of which the second exposition, and each later one, waits for leave."""

    def __init__(self) -> None:
        self.collections = 0
        self.leave = threading.Event()

    def collect(self) -> Iterator[Metric]:
        self.collections += 1
        if self.collections > 1:
            self.leave.wait(PATIENCE)
        gauge = Metric("collections", "", "gauge")
        gauge.add_sample("collections", {}, self.collections)
        yield gauge


def test_metrics_are_served_while_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape gets the newest whole exposition at once: Prometheus would give up one that takes a second."""
    monkeypatch.setattr("otel_llmstream.cli._metrics_server.INTERVAL", 0.001)
    threads = set(threading.enumerate())
    registry = Slow()
    server = MetricsServer(registry, 0)
    try:
        until(lambda: registry.collections == 2)
        assert "collections 1.0" in httpx2.get(server.url, trust_env=False).text
        registry.leave.set()
        until(lambda: "collections 2.0" in httpx2.get(server.url, trust_env=False).text)
    finally:
        registry.leave.set()
        server.close()
    wait_for_threads(threads)


def test_a_scrape_that_leaves_early_is_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    """A client that resets its connection prints no traceback into the demo's table; any other fault does."""
    server = MetricsServer(CollectorRegistry(), 0)
    try:
        for error in (ConnectionResetError(), BrokenPipeError(), ValueError("a fault of ours")):
            with pytest.raises(type(error)), ExitStack() as handling:
                handling.callback(server._server.handle_error, None, ("127.0.0.1", 1))
                raise error
    finally:
        server.close()
    printed = capsys.readouterr().err
    assert "ValueError: a fault of ours" in printed
    assert "ResetError" not in printed
    assert "BrokenPipe" not in printed


def test_no_proxy_of_the_environment_is_asked(chaos_server: ChaosServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's server is on this machine, also where the environment names a proxy for everything."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    clients = sync_clients(chaos_server)
    message = {"role": "user", "content": "?"}
    with clients.openai.chat.completions.create(model="ok?chunks=2", messages=[message], stream=True) as stream:
        assert len(list(stream)) > 2
    with clients.anthropic.messages.create(
        model="ok?chunks=2", messages=[message], max_tokens=9, stream=True
    ) as events:
        assert len(list(events)) > 2
    clients.openai.close()
    clients.anthropic.close()


SHORT = ("--duration", "0.5", "--prometheus-port", "0", "--status-port", "0", "--plain")


def test_without_prometheus_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is none, one line says so and what to install, and the demo is what it was."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert main(["demo", *SHORT]) == 0

    printed = capsys.readouterr()
    assert printed.err == ""
    assert (
        "\nNo alerts: prometheus is not on the PATH (apt-get install prometheus, brew install prometheus, or "
        "https://prometheus.io/download/).\n" in printed.out
    )
    assert "Alerts that" not in printed.out


def test_prometheus_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """`--no-prometheus` starts none, and says nothing of it. The live page's address is printed in any case."""
    assert main(["demo", *SHORT, "--no-prometheus"]) == 0

    printed = capsys.readouterr().out
    assert "Alerts that" not in printed
    assert re.search(r"^Live page, for a browser: http://127\.0\.0\.1:\d+/$", printed, re.MULTILINE)


def test_a_prometheus_that_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that ends at once takes nothing with it; the report says so."""
    path = tmp_path / "prometheus"
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert main(["demo", *SHORT]) == 0

    printed = capsys.readouterr()
    assert printed.err == ""
    assert "No alert fired." in printed.out
    assert "Prometheus ended by itself with status 3." in printed.out


def test_a_prometheus_that_is_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be started is said to be so, and the demo is what it was."""
    path = tmp_path / "prometheus"
    path.write_bytes(b"\x7fELF, but not really")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert main(["demo", *SHORT]) == 0

    printed = capsys.readouterr()
    assert printed.err == ""
    assert f"\nNo alerts: {path} cannot be started: Exec format error\n" in printed.out
    assert "Alerts that" not in printed.out


def test_a_prometheus_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is deaf to a polite word is killed, so that the demo ends."""
    path = tmp_path / "prometheus"
    path.write_text("#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.1; done # --config.file=\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert main(["demo", *SHORT]) == 0
    assert children_of_ours() == set()


@pytest.mark.external
def test_the_second_ctrl_c_takes_prometheus_along() -> None:
    """Who leaves at once leaves no process behind."""
    program = binary("prometheus")
    with on_terminal("--duration", LONG) as (process, terminal):
        begun = read_until(terminal, rb"http://127\.0\.0\.1:\d+/alerts")
        url = re.search(rb"http://127\.0\.0\.1:(\d+)/alerts", begun)
        assert url is not None
        read_until(terminal, rb"waiting|active")
        status = signalled(process, signal.SIGTERM)

    assert status in (0, 128 + signal.SIGTERM)
    listens = f"--web.listen-address=127.0.0.1:{url[1].decode()}"
    left = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    assert not [line for line in left.splitlines() if listens in line and program in line]
