"""`otel-llmstream hops`: lines of hops are read, put in order, and one hop is named. No proxy runs here."""

import io
import json
import re
import sys
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from loops import about

from otel_llmstream import semconv
from otel_llmstream.cli import main
from otel_llmstream.monitoring import _hops
from otel_llmstream.monitoring._hop_causes import CAUSES, Blame, cause_of
from otel_llmstream.monitoring._hop_lines import (
    CLIENT,
    ENVOY,
    HAPROXY,
    NGINX,
    ErrorLine,
    HopLine,
    MalformedLineError,
    read_line,
)
from otel_llmstream.monitoring._hops import Traces, Verdict

DASHBOARDS = Path(__file__).parent.parent / "dashboards"

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
NOON = 1_795_780_800.0

A, B, PROVIDER = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


def nginx(
    listen=A, upstream=B, *, status="200", completion="OK", start=0.0, seconds=2.0, headers="0.1", trace=PARENT, **more
) -> str:
    end = NOON + start + seconds
    said = {
        "proxy": "nginx", "time": "2026-11-27T12:00:02+00:00", "end": f"{end:.3f}", "duration": str(seconds),
        "traceparent": trace, "host": "web", "listen": listen, "upstream": upstream, "status": status,
        "completion": completion, "upstream_header_time": headers, "pid": "7", "connection": "5",
    }  # fmt: skip
    return json.dumps({**said, **more})


def haproxy(listen=B, upstream=PROVIDER, *, state="----", status="200", start=0.001, seconds=2.0) -> str:
    return json.dumps({
        "proxy": "haproxy", "end_ms": f"{1000 * (NOON + start + seconds):.0f}", "duration_ms": f"{1000 * seconds:.0f}",
        "traceparent": PARENT, "host": "lb", "listen": listen, "upstream": upstream, "status": status, "state": state,
    })  # fmt: skip


def envoy(listen=B, upstream=PROVIDER, *, flags="-", status="200", start="2026-11-27T12:00:00.001Z") -> str:
    return json.dumps({
        "proxy": "envoy", "start": start, "duration_ms": 2000, "traceparent": PARENT, "host": "mesh",
        "listen": listen, "upstream": upstream, "status": int(status), "flags": flags,
    })  # fmt: skip


def ours(event: str, error: str | None = None, at: str | None = "2026-11-27T12:00:02.001Z", **more: object) -> str:
    kind = "llmstream.served.duration" if event.startswith("llm_served") else semconv.DURATION_SECONDS
    said = {"event": event, "trace_id": TRACE, "timestamp": at, "error.type": error, kind: 2.002, **more}
    return json.dumps({key: value for key, value in said.items() if value is not None})


def error_line(message: str, at: str = "2026/11/27 12:00:01", connection: str = "5") -> str:
    return f'{at} [error] 7#7: *{connection} {message}, client: 10.0.0.9, server: , request: "POST / HTTP/1.1"'


TIMED_OUT = error_line("upstream timed out (110: Connection timed out) while reading upstream")
LEFT = error_line("epoll_wait() reported that client prematurely closed connection, so upstream connection is closed")
RESET = error_line("readv() failed (104: Connection reset by peer) while reading upstream")


def judged(*lines: str) -> Verdict:
    """The verdict on the one trace of these lines."""
    traces = Traces()
    for line in lines:
        found = read_line(line)
        assert found is not None, line
        traces.add(found)
    (verdict,) = traces.verdicts()
    return verdict


NAMED = {
    # name of the case: (lines in any order, the hop that must be named)
    "nothing": ([ours("llm_stream.completed"), haproxy(), nginx()], ""),
    "outer time-out": ([haproxy(state="CD--"), nginx(), TIMED_OUT], f"nginx at {A} (web)"),
    "inner time-out": ([haproxy(state="sD--"), nginx(), RESET], f"HAProxy at {B} (lb)"),
    "envoy's time-out": ([nginx(), RESET, envoy(flags="UC,SI")], f"Envoy at {B} (mesh)"),
    "reset": ([haproxy(state="SD--"), nginx(), RESET], f"the server at {PROVIDER} behind HAProxy at {B} (lb)"),
    "client leaves": ([haproxy(state="CD--"), nginx(), LEFT], f"the client of nginx at {A} (web)"),
    "application closes": (
        [haproxy(state="CD--"), ours("llm_stream.cancelled"), nginx(), LEFT], "the application"
    ),
    "application's time-out": (
        [nginx(), LEFT, ours("llm_stream.failed", "read_timeout"), haproxy(state="CD--")], "the application"
    ),
    "cut cleanly": (
        [haproxy(), nginx(), ours("llm_stream.truncated", "stream_truncated")],
        f"the server at {PROVIDER} behind HAProxy at {B} (lb)",
    ),
    "provider's error": (
        [nginx(), ours("llm_stream.failed", "overloaded_error")], f"the server at {B} behind nginx at {A} (web)"
    ),
    "no proxy's line": (
        [ours("llm_stream.failed", "incomplete_body", **{"server.address": "api.example", "server.port": 443})],
        "the server at api.example:443 behind the application",
    ),
    "nginx without its error log": ([nginx(), ours("llm_stream.failed", "incomplete_body")], f"nginx at {A} (web)"),
    "a line without a time": (
        [envoy(), ours("llm_stream.failed", "incomplete_body", at=None)],
        f"the connection between the application and Envoy at {B} (mesh)",
    ),
    "nginx that is not complete": ([nginx(completion=""), haproxy(state="CD--")], f"nginx at {A} (web)"),
    "only the inner one": ([haproxy(state="CD--")], f"the client of HAProxy at {B} (lb)"),
    "each blames the other": (
        [haproxy(A, B, state="SD--", start=0), envoy(flags="DC")],
        f"the connection between HAProxy at {A} (lb) and Envoy at {B} (mesh)",
    ),
    "the inner one saw a whole response, and a client that left": (
        [nginx(), haproxy(state="CD--")], f"the connection between nginx at {A} (web) and HAProxy at {B} (lb)"
    ),
    "a killed hop between": (
        [haproxy(A, "10.0.0.7:80", state="SD--", start=0), envoy(flags="DC")],
        f"the server at 10.0.0.7:80 behind HAProxy at {A} (lb), in front of Envoy at {B} (mesh)",
    ),
    "nginx's own 504": ([nginx(status="504", headers="-")], f"nginx at {A} (web)"),
    "nginx passes a 504 on": ([nginx(status="504")], f"the server at {B} behind nginx at {A} (web)"),
    "nginx's 502": ([nginx(status="502", headers="-")], f"the server at {B} behind nginx at {A} (web)"),
    "nginx's 499": ([nginx(status="499")], f"the client of nginx at {A} (web)"),
    "nginx refuses": ([nginx(upstream="", status="403", headers="-")], f"nginx at {A} (web)"),
    "HAProxy refuses": ([haproxy(state="PR--", status="403")], f"HAProxy at {B} (lb)"),
    "HAProxy answers itself": ([haproxy(state="LR--", status="503")], f"HAProxy at {B} (lb)"),
    "an unlisted status": ([envoy(status="599")], f"the server at {PROVIDER} behind Envoy at {B} (mesh)"),
    "an unlisted state": ([haproxy(state="XY--")], f"HAProxy at {B} (lb)"),
    "an unlisted flag": ([envoy(flags="ZZ")], f"Envoy at {B} (mesh)"),
    "the service cuts": ([ours("llm_served.truncated", "stream_truncated"), nginx(start=-1)], "the service"),
    "the service passes a failure on": (
        [
            ours("llm_served.failed", "stream_error", **{"llmstream.served.upstream.outcome": "failed",
                                                         "llmstream.served.upstream.error.type": "incomplete_body"}),
            ours("llm_stream.failed", "incomplete_body", **{semconv.DURATION_SECONDS: 1.9}),
            haproxy(state="sD--", start=0.2, seconds=1.7),
        ],
        f"HAProxy at {B} (lb)",
    ),
    "the browser leaves": (
        [
            nginx(start=-0.5, seconds=2.6), LEFT, ours("llm_served.disconnected"),
            ours("llm_stream.cancelled", **{semconv.DURATION_SECONDS: 1.9}), haproxy(state="CD--", start=0.2),
        ],
        f"the client of nginx at {A} (web)",
    ),
    "the service is served": ([ours("llm_served.completed")], ""),
    "a failed attempt and a good one": (
        [
            haproxy(A, PROVIDER, state="SD--", start=0, seconds=1), haproxy(A, PROVIDER, start=3, seconds=1),
        ],
        f"the server at {PROVIDER} behind HAProxy at {A} (lb)",
    ),
}  # fmt: skip


def test_the_right_hop_is_named():
    """Each combination of lines, in both orders of the files, names the hop that ended the stream first."""
    for name, (lines, expected) in NAMED.items():
        for given_lines in (lines, lines[::-1]):
            with about(name):
                assert judged(*given_lines).hop == expected


def test_addresses_count_more_than_clocks():
    """A proxy whose clock is late still stands in front of the hop that it sends to."""
    found = judged(haproxy(), nginx(start=0.4), ours("llm_stream.completed", at=None))
    assert [hop.line.kind for hop in found.hops] == [CLIENT, NGINX, HAPROXY]
    ring = judged(nginx(A, B), haproxy(B, A))
    assert [hop.line.kind for hop in ring.hops] == [NGINX, HAPROXY]


def test_the_error_log_is_joined_by_connection_and_time():
    """A message of another connection, of another time, or of a line without a time says nothing about the request."""
    late, early = "2026/11/27 12:00:09", "2026/11/27 11:59:50"
    for line in (error_line("upstream timed out", connection="6"), error_line("upstream timed out", late),
                 error_line("upstream timed out", early)):  # fmt: skip
        assert judged(nginx(), line).hop == ""
    assert judged(nginx(time="noon"), TIMED_OUT).hop == ""
    assert judged(nginx(), TIMED_OUT).snippet.startswith("location /v1/ {")


def test_a_server_that_reports_its_own_failure_needs_no_line():
    """A status or an error in the stream says who failed. A cut says only where."""
    silent = "No line of that server says why"
    assert silent not in judged(nginx(), ours("llm_stream.failed", "overloaded_error")).why
    assert silent not in judged(nginx(status="503")).why
    assert silent in judged(nginx(), ours("llm_stream.truncated", "stream_truncated")).why
    assert silent in judged(nginx(), RESET).why


def test_the_table_is_usable():
    """Each row has a sign of its own, and says why and what to change; a hop that says "I did" can be changed."""
    assert len({(it.hop, it.sign) for it in CAUSES}) == len(CAUSES)
    assert all(it.why.endswith(".") and it.change.endswith(".") for it in CAUSES)
    assert all(it.blame is Blame.HERE for it in CAUSES if it.is_timeout)
    for row in CAUSES:
        if row.hop in (HAPROXY, ENVOY):
            key = "state" if row.hop == HAPROXY else "flags"
            assert cause_of(HopLine(row.hop, TRACE, facts={key: row.sign})) is row
        elif row.hop == NGINX and " " in row.sign:
            assert cause_of(HopLine(NGINX, TRACE), row.sign) is row, row.sign


def test_our_own_lines_are_read(captured, chaos_server):
    """The lines that this package writes, as structlog's JSON and as records of the standard library, are read."""
    with httpx2.Client(trust_env=False) as client:
        for model in ("ok?delay=0", "no-finish?delay=0"):
            body = {"model": model, "stream": True, "messages": []}
            client.post(f"{chaos_server.base_url}/v1/chat/completions", json=body)
    ended = [line for line in captured.logs if line["event"] in ("llm_stream.completed", "llm_stream.truncated")]
    for line in ended:
        event = line["event"]
        record = {**line, "event": None, "message": f"{event} a=b", "asctime": "2026-11-27 12:00:02,001"}
        for said in (line, record):
            found = read_line(json.dumps(said, default=str))
            assert isinstance(found, HopLine)
            assert (found.kind, found.trace_id, found.fact("event")) == (CLIENT, line["trace_id"], event)
            assert found.upstream == "127.0.0.1"
            assert found.duration == line[semconv.DURATION_SECONDS]
    assert len(ended) == 2
    assert isinstance(found, HopLine)
    assert found.end == pytest.approx(NOON + 2.001)


def test_other_lines_are_passed_over():
    """Lines about something else, also of nginx's error log, are no problem. A syslog prefix is not one either."""
    for line in ("{}", '{"event": "shop.sold"}', '{"event": 5, "proxy": ["nginx"]}', ours("llm_stream.retry", "503"),
                 "2026/11/27 12:00:01 [notice] 7#7: signal 1 (SIGHUP) received"):  # fmt: skip
        assert read_line(line) is None
    prefixed = read_line(f"<134>Nov 27 12:00:02 lb haproxy[7]: {haproxy()}")
    assert isinstance(prefixed, HopLine)
    assert prefixed.listen == B
    assert isinstance(read_line(TIMED_OUT), ErrorLine)


def test_values_of_any_type_are_read():
    """Values of a wrong type or size, and control characters, are never an error, and never reach a terminal."""
    for value in (None, True, [], {}, -1, 1e400, "x" * 9999, "\x1b[2J", 10**30, "0" * 32, "nan"):
        for make in (nginx, haproxy, envoy):
            keys = json.loads(make())
            for key in keys.keys() - {"proxy"}:
                found = read_line(json.dumps({**keys, key: value}))
                assert isinstance(found, HopLine)
                assert len(found.fact(key)) <= 200
                assert found.fact(key).isprintable()
                cause_of(found)
                assert found.start is None or abs(found.start) < 1e15


@given(st.text(max_size=300) | st.dictionaries(st.sampled_from(["proxy", "state", "event", "end", "flags", "trace_id"]),
       st.sampled_from(["nginx", "haproxy", "envoy", "llm_stream.failed", "llm_served.failed"]) | st.text(max_size=40)
       | st.floats() | st.none()).map(json.dumps))  # fmt: skip
def test_any_text(text):
    """Any line is read, passed over, or refused. A line that is read has a meaning."""
    found = None
    with suppress(MalformedLineError):
        found = read_line(text)
    assert not isinstance(found, HopLine) or cause_of(found).blame in Blame


def test_caps(monkeypatch):
    """Lines beyond the caps are counted, and not kept."""
    monkeypatch.setattr(_hops, "MAX_TRACES", 1)
    monkeypatch.setattr(_hops, "MAX_LINES", 2)
    monkeypatch.setattr(_hops, "MAX_ERRORS", 1)
    traces = Traces()
    for line in (nginx(), nginx(), nginx(), nginx(trace=f"00-{'1' * 32}-00f067aa0ba902b7-01"), TIMED_OUT, LEFT):
        traces.add(read_line(line))
    (verdict,) = traces.verdicts()
    assert (traces.dropped, len(verdict.hops)) == (3, 2)


# --- the command --------------------------------------------------------------------------------------------------


def test_report(tmp_path, capsys):
    """The report has the hops in order, the hop that is named, why, what to change, and the configuration for it."""
    (tmp_path / "app.json").write_text(ours("llm_stream.failed", "incomplete_body") + "\n")
    (tmp_path / "lb.json").write_text(f"{haproxy(state='sD--')}\n\n")
    (tmp_path / "web.json").write_text(f"{nginx()}\n{RESET}\n")
    logs = [str(tmp_path / name) for name in ("web.json", "lb.json", "app.json")]

    assert main(["hops", *logs]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert re.sub(r"\n {4}.*", "", out) == (
        f"trace {TRACE}: HAProxy at {B} (lb) ended the stream\n"
        "  1. the application: llm_stream.failed incomplete_body  2.002 s\n"
        f"  2. nginx at {A} (web) -> {B}: 200 OK while reading upstream  2.000 s\n"
        f"  3. HAProxy at {B} (lb) -> {PROVIDER}: 200 sD--  2.000 s\n"
        "  why: The server behind it sent nothing for longer than `timeout server`.\n"
        "  change: Raise `timeout server`, or let the server behind it send a comment every 15 seconds.\n\n"
    )
    assert "        timeout server 600s" in out


def test_all_failed_traces_or_one(tmp_path, capsys):
    """Without --trace, only failed traces are shown. With it, that trace is, whatever its outcome."""
    log = tmp_path / "log"
    other = "1" * 32
    log.write_text("\n".join([nginx(), nginx(status="499", trace=f"00-{other}-00f067aa0ba902b7-01")]))

    assert main(["hops", str(log)]) == 1
    assert re.findall(r"^trace (\w+)", capsys.readouterr().out, re.MULTILINE) == [other]
    assert main(["hops", "--trace", TRACE.upper(), str(log)]) == 0
    assert capsys.readouterr().out.startswith(f"trace {TRACE}: no hop's line tells a failure\n  1. nginx")
    log.write_text(nginx())
    assert main(["hops", str(log)]) == 0
    assert capsys.readouterr().out == "no hop's line tells a failure\n"


def test_malformed_lines_are_counted_and_named(tmp_path, capsys, monkeypatch):
    """Lines that cannot be read are counted for each file, with the first one's number and reason."""
    bad = [b"no json", b"{", b"\xff\xfe", b'{"n": ' + b"9" * 5000 + b"}", b"[" * 40_000 + b"{", b"{" + b"x" * 200_000,
           b'{"a":' * 30_000]  # fmt: skip
    log = tmp_path / "log"
    log.write_bytes(b"\n".join([nginx().encode(), *bad, nginx(trace="-").encode(), nginx(status="499").encode()]))

    assert main(["hops", str(log)]) == 1
    out, err = capsys.readouterr()
    assert f"{log}: 7 lines could not be read (the first is line 2: it is neither JSON nor a line of nginx's" in err
    assert "no trace id in 1 line, because" in err
    assert "the client of nginx" in out

    monkeypatch.setattr(_hops, "MAX_LINES", 1)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(log.read_bytes())))
    assert main(["hops", "-"]) == 0
    assert "1 line left out" in capsys.readouterr().err


def test_unusable_input(tmp_path, capsys):
    """A file that cannot be read, files without a line of a hop or of the trace, and a wrong id: status 2, a reason."""
    log = tmp_path / "log"
    log.write_text("{}\n")
    for arguments, reason in (
        ([str(tmp_path / "none")], "cannot read"),
        ([str(tmp_path)], "cannot read"),
        ([str(log)], "no line of a hop in the files"),
        (["--trace", TRACE, str(log)], f"no line of trace {TRACE} in the files"),
    ):
        assert main(["hops", *arguments]) == 2
        assert reason in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["hops", "--trace", "xyz", str(log)])
    assert ended.value.code == 2
    assert "32 hexadecimal digits" in capsys.readouterr().err


# --- the files for operators --------------------------------------------------------------------------------------


def test_the_collector_part_joins_the_gateway():
    """The part adds one pipeline. What it uses is defined in it or in the gateway's file, and its pattern finds ids."""
    part = yaml.safe_load((DASHBOARDS / "proxies" / "otelcol-proxies.yaml").read_text(encoding="utf-8"))
    gateway = yaml.safe_load((DASHBOARDS / "collector" / "otelcol.yaml").read_text(encoding="utf-8"))
    ((name, pipeline),) = part["service"]["pipelines"].items()
    assert name not in gateway["service"]["pipelines"]
    assert set(pipeline["receivers"]) == set(part["receivers"])
    assert set(pipeline["processors"]) <= set(gateway["processors"])
    assert set(pipeline["exporters"]) <= set(gateway["exporters"])
    for receiver in part["receivers"].values():
        (pattern,) = [it["regex"] for it in receiver["operators"] if it["type"] == "regex_parser"]
        for line in (nginx(), haproxy(), envoy()):
            found = re.search(pattern, line.replace('": ', '":'))
            assert found is not None
            assert found["trace_id"] == TRACE


def test_envoys_log_has_what_is_read():
    """Envoy's configuration is YAML, and its lines have the keys that the command reads. It was not run with Envoy."""
    text = (DASHBOARDS / "proxies" / "envoy.yaml").read_text(encoding="utf-8")
    (log,) = yaml.safe_load(text)["access_log"]
    pattern = log["filter"]["header_filter"]["header"]["string_match"]["safe_regex"]["regex"]
    assert set(json.loads(envoy())) <= set(log["typed_config"]["log_format"]["json_format"])
    assert re.fullmatch(pattern, "/v1/chat/completions?x=1")
    assert not re.fullmatch(pattern, "/health")
    assert "NOT RUN" in text
