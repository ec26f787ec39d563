"""`otel-llmstream doctor` calls an endpoint, and names the fault that was made. A healthy one gives no alarm."""

import http.client
import json
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from loops import about
from packaging.version import Version
from programs import free_port
from test_proxies_live import haproxy, nginx
from tls_proxies import Break, Goodbye, h2_front, listening, relay, tls_front

from otel_llmstream.cli import main
from otel_llmstream.debugging.doctor.apis import APIS as APIS_BY_NAME
from otel_llmstream.debugging.doctor.apis import MAX_TOKENS, PROMPT
from otel_llmstream.debugging.doctor.checks import checked
from otel_llmstream.debugging.doctor.probe import Head, Kind, Plan, Probe, Server
from otel_llmstream.debugging.doctor.sdks import NEWEST_TESTED
from otel_llmstream.debugging.doctor.study import Study, judged
from otel_llmstream.testing.chaos import SCENARIOS, ChaosServer

KEY = "sk-proj-abcdefghij0123456789"
QUICK = ("--runs", "1", "--timeout", "2")


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    """Runs the command; gives its exit status, its report as values, and its complaint."""

    def run(url: str, *options: str, model: str = "ok") -> SimpleNamespace:
        status = main(["doctor", url, "--model", model, "--json", *options])
        printed = capsys.readouterr()
        report = json.loads(printed.out) if printed.out else {}
        checks = {check["check"]: check for check in report.get("checks", ())}
        return SimpleNamespace(status=status, report=report, checks=checks, out=printed.out, err=printed.err)

    return run


# --- each fault is named ---


@dataclass(frozen=True)
class Expected:
    """What the doctor says of a scenario.

    Attributes:
        level: how bad it is.
        check: the check that says so.
        words: one of these is in what was seen.
        model: the model to ask for, if it has parameters.
    """

    level: str
    check: str
    words: tuple[str, ...]
    model: str = ""


def well(check: str, *words: str, model: str = "") -> Expected:
    return Expected("ok", check, words, model)


def odd(check: str, *words: str, model: str = "") -> Expected:
    return Expected("warn", check, words, model)


def wrong(check: str, *words: str, model: str = "") -> Expected:
    return Expected("fail", check, words, model)


FAULTS = {
    "ok": well("ending", "whole"),
    "no-done": odd("terminator", "not seen"),
    "no-finish": wrong("ending", "stream_truncated"),
    "cut-event": wrong("ending", "stream_incomplete_event"),
    "reset": wrong("ending", "connection_reset"),
    "cut-chunked": wrong("ending", "incomplete_body"),
    "cut-close": odd("framing", "the end of the connection is the end of the body"),
    "malformed": wrong("events", "1 malformed event"),
    "bad-chunk-size": wrong("ending", "invalid_framing"),
    "silence": wrong("ending", "read_timeout", model="silence?hold=3"),
    "pause": odd("gaps", "a pause of 1,", model="pause?hold=1.2"),
    "drip": odd("pieces", "of 7 bytes"),
    "error": wrong("ending", "server_error"),
    "error-flat": wrong("ending", "server_error"),
    "error-then-done": wrong("ending", "server_error"),
    "429-429-ok": wrong("status", "429", model="429-429-ok?attempts=1000"),
    "500": wrong("status", "500"),
    "html": wrong("content type", "text/html"),
    "empty": wrong("ending", "stream_empty"),
    "comments": wrong("ending", "stream_empty"),
    "json-error": wrong("ending", "not_a_stream"),
    "length": well("finish reason", "length"),
    "content-filter": odd("finish reason", "content_filter"),
    "tool-calls": well("finish reason", "tool_calls"),
    "huge": well("ending", "whole"),
    "buffered-held": wrong("buffering", "40 chunks in one burst"),
    "buffered-early": wrong("buffering", "40 chunks in one burst"),
    "gzip": odd("compression", "gzip, though the request forbids it"),
    "pings": well("keep-alive comments", "in a call"),
    "open-after-end": odd("end of body", "after the last event", model="open-after-end?hold=1.2"),
}
"""What the doctor says of each scenario, if nothing is between it and the server."""

DROPPED = wrong("ending", "connection_reset", "incomplete_body")
"""How a server or a proxy ends a response whose rest it does not have."""

OVER_TLS = {"reset": DROPPED}
OVER_HTTP2 = {
    **dict.fromkeys(("reset", "cut-chunked", "bad-chunk-size"), wrong("ending", "http2_error")),
    "cut-close": wrong("ending", "stream_truncated"),
    "drip": well("ending", "whole"),  # the test's proxy joins the pieces
}
BEHIND_PROXY = {
    **dict.fromkeys(("reset", "cut-chunked", "bad-chunk-size"), DROPPED),
    "drip": well("ending", "whole"),
}
OF_NGINX = {**BEHIND_PROXY, "cut-close": wrong("ending", "stream_truncated")}
"""nginx knows no end of a body without a length, either, and makes chunks of it."""


def diagnoses(doctor: Any, url: str, other: dict[str, Expected], *options: str) -> None:
    """The doctor names the fault of each scenario, from one stream."""
    assert SCENARIOS.keys() == FAULTS.keys()
    for name, expected in (FAULTS | other).items():
        with about(name):
            found = doctor(url, *QUICK, "--no-whole", *options, model=expected.model or name)
            check = found.checks[expected.check]
            assert check["level"] == expected.level, found.checks
            assert any(word in check["seen"] for word in expected.words), check
            assert bool(check["cause"] and check["remedy"]) is (expected.level != "ok")
            assert found.status == (1 if "fail" in {it["level"] for it in found.checks.values()} else 0)
            if expected.level == "fail":
                assert found.status == 1
                assert expected.check in found.report["verdict"]


def test_each_fault(doctor: Any, chaos_server: ChaosServer) -> None:
    """Against every scenario the diagnosis names the fault that was made."""
    diagnoses(doctor, chaos_server.openai_url, {})


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine trusts the test's authority."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


@contextmanager
def front(authority: trustme.CA, server: ChaosServer, how: Goodbye | Break, name: str = "127.0.0.1") -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    with ExitStack() as stack:
        if isinstance(how, Break):
            context.set_alpn_protocols(["h2"])
            port = stack.enter_context(h2_front(context, server.port, how))
        else:
            port = stack.enter_context(tls_front(context, server.port, how))
        yield f"https://127.0.0.1:{port}/v1"


@pytest.mark.usefixtures("trusted")
def test_each_fault_over_tls(doctor: Any, chaos_server: ChaosServer, authority: trustme.CA) -> None:
    """So it does over TLS."""
    with front(authority, chaos_server, Goodbye.SAID) as url:
        diagnoses(doctor, url, OVER_TLS)


@pytest.mark.usefixtures("trusted")
def test_each_fault_over_http2(doctor: Any, chaos_server: ChaosServer, authority: trustme.CA) -> None:
    """So it does over HTTP/2."""
    with front(authority, chaos_server, Break.RESET) as url:
        diagnoses(doctor, url, OVER_HTTP2, "--http2")


PASSES = "location / {{ proxy_pass {url}; proxy_http_version 1.1; proxy_buffering on; }}"
COMPRESSES = "gzip on; gzip_types text/event-stream; gzip_min_length 0; gzip_proxied any;"


@pytest.mark.external
def test_each_fault_behind_nginx(doctor: Any, chaos_server: ChaosServer, tmp_path: Path) -> None:
    """So it does through nginx, which buffers and compresses."""
    with nginx(tmp_path, PASSES.format(url=chaos_server.base_url), COMPRESSES) as url:
        diagnoses(doctor, f"{url}/v1", OF_NGINX)


@pytest.mark.external
def test_each_fault_behind_haproxy(doctor: Any, chaos_server: ChaosServer, tmp_path: Path) -> None:
    """So it does through HAProxy."""
    with haproxy(tmp_path, chaos_server, "    timeout server 60s\n    timeout client 60s") as url:
        diagnoses(doctor, f"{url}/v1", BEHIND_PROXY)


SLOW = "ok?chunks=20&delay=0.03"


@pytest.mark.external
def test_a_proxy_that_compresses_is_named(doctor: Any, chaos_server: ChaosServer, tmp_path: Path) -> None:
    """Nginx holds back what it compresses: the plain stream is well, the compressed one comes in a burst."""
    with nginx(tmp_path, PASSES.format(url=chaos_server.base_url), COMPRESSES) as url:
        found = doctor(f"{url}/v1", model=SLOW)
        seen = found.checks["with compression"]
        assert (found.status, seen["level"]) == (1, "fail")
        assert "comes in a burst" in seen["seen"]
        assert "compresses" in seen["cause"]
        assert "gzip off" in seen["remedy"]
        assert found.checks["buffering"]["level"] == "ok"
        assert any("nginx" in fact["value"] for fact in found.report["path"] if fact["name"] == "hops")


class Buffering(BaseHTTPRequestHandler):
    """A gateway that has the whole answer before it sends a byte of it."""

    protocol_version = "HTTP/1.1"
    behind = ("127.0.0.1", 0)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with closing(http.client.HTTPConnection(*self.behind)) as connection:
            connection.request("POST", self.path, body, dict(self.headers))
            response = connection.getresponse()
            data = response.read()
        self.send_response(response.status)
        self.send_header("content-type", response.getheader("content-type", ""))
        self.send_header("transfer-encoding", "chunked")
        self.send_header("via", "1.1 slowpoke")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def gateway(chaos_server: ChaosServer) -> Iterator[str]:
    handler = type("Handler", (Buffering,), {"behind": ("127.0.0.1", chaos_server.port)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_a_gateway_that_buffers(doctor: Any, gateway: str) -> None:
    """Three answers in a burst each: the check says so, and names the hop that its header names."""
    found = doctor(gateway, model=SLOW)
    check = found.checks["buffering"]
    assert (found.status, check["level"]) == (1, "fail")
    assert "20 chunks in one burst" in check["seen"]
    assert "1.1 slowpoke (via)" in check["seen"]


def test_with_and_without_a_gateway(doctor: Any, chaos_server: ChaosServer, gateway: str) -> None:
    """`--via` compares: the server itself is well, and the burst is the gateway's."""
    found = doctor(chaos_server.openai_url, "--via", gateway, model=SLOW)
    assert found.checks["buffering"]["level"] == "ok"
    assert found.checks["through --via"]["level"] == "fail"
    assert "through the other URL the output comes in a burst" in found.checks["through --via"]["seen"]
    assert found.status == 1


# --- no false alarm ---


def calm(doctor: Any, url: str, *options: str) -> None:
    found = doctor(url, *options)
    alarms = {name: check["seen"] for name, check in found.checks.items() if check["level"] != "ok"}
    assert (found.status, alarms) == (0, {})
    assert found.report["verdict"] == "All is well."


def test_a_healthy_server(doctor: Any, chaos_server: ChaosServer) -> None:
    """Twenty runs against a healthy server give no alarm."""
    for number in range(20):
        with about(number):
            calm(doctor, chaos_server.openai_url)


APIS = {
    "chat": "/v1",
    "completions": "/v1",
    "responses": "/v1",
    "messages": "",
    "gemini": "",
    "mistral": "/mistral",
    "cohere": "",
    "ollama": "",
}


def test_every_api(doctor: Any, chaos_server: ChaosServer) -> None:
    """A healthy server of every API gives no alarm, and its tokens are read."""
    for api, path in APIS.items():
        with about(api):
            found = doctor(chaos_server.base_url + path, "--api", api, "--runs", "1")
            alarms = {name: check["seen"] for name, check in found.checks.items() if check["level"] != "ok"}
            assert (found.status, alarms) == (0, {})
            assert "tokens in" in found.checks["usage"]["seen"]


@pytest.mark.usefixtures("trusted")
def test_healthy_over_tls_and_http2(doctor: Any, chaos_server: ChaosServer, authority: trustme.CA) -> None:
    """TLS and HTTP/2 give no alarm. The path has the version and the cipher."""
    with front(authority, chaos_server, Goodbye.SAID) as url:
        calm(doctor, url)
    with front(authority, chaos_server, Break.RESET) as url:
        calm(doctor, url, "--http2")
        path = {fact["name"]: fact["value"] for fact in doctor(url, "--http2").report["path"]}
    assert "1.3" in path["TLS"]
    assert "ALPN h2" in path["TLS"]
    assert path["protocol"] == "HTTP/2"


# --- bad input, and servers that do not answer ---


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does this with each connection after it has read the request."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        answer(connection)

    with listening(serve) as port:
        yield f"http://127.0.0.1:{port}/v1"


def no_answer(found: SimpleNamespace, error_type: str) -> dict[str, str]:
    """There is no answer: one check says why, and nothing is raised."""
    assert found.status == 2
    assert found.report["verdict"] == "No answer came."
    assert found.err == ""
    check: dict[str, str] = found.checks["connection"]
    assert check["level"] == "fail"
    assert check["seen"].startswith(error_type)
    assert check["remedy"]
    return check


def test_an_unknown_name(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not resolve."""

    def unknown(*_args: Any, **_kwargs: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    no_answer(doctor("http://nowhere.invalid/v1", "--yes"), "dns_error")


def test_a_name_that_takes_for_ever(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that does not answer is not waited for any longer than the time-out."""
    done = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: done.wait(60) and [])
    no_answer(doctor("http://slow.invalid/v1", "--yes", "--timeout", "0.2"), "connect_timeout")
    done.set()


def test_a_closed_port(doctor: Any) -> None:
    """A port at which nothing listens."""
    no_answer(doctor(f"http://127.0.0.1:{free_port()}/v1"), "connect_error")


def test_a_server_that_never_answers(doctor: Any) -> None:
    """It is asked once, and not for each run."""
    asked = []

    def answer(connection: socket.socket) -> None:
        asked.append(connection)
        connection.recv(1)

    with serving(answer) as url:
        no_answer(doctor(url, "--timeout", "0.5"), "read_timeout")
    assert len(asked) == 1


def test_a_server_that_hangs_up(doctor: Any) -> None:
    """The connection is closed without an answer."""
    with serving(lambda _connection: None) as url:
        no_answer(doctor(url), "connection_reset")


def test_rubbish(doctor: Any) -> None:
    """An answer that is no HTTP."""
    with serving(lambda connection: connection.sendall(b"220 mail.test ESMTP\r\n\r\n")) as url:
        no_answer(doctor(url), "invalid_framing")


@pytest.mark.usefixtures("trusted")
def test_another_name_in_the_certificate(doctor: Any, chaos_server: ChaosServer, authority: trustme.CA) -> None:
    """A TLS name that does not match."""
    with front(authority, chaos_server, Goodbye.SAID, name="api.test") as url:
        check = no_answer(doctor(url), "tls_error")
        assert "certificate" in check["seen"]
        assert "wrong name" in check["cause"]


def test_an_unknown_authority(doctor: Any, chaos_server: ChaosServer, authority: trustme.CA) -> None:
    """A certificate of an authority that this machine does not trust."""
    with front(authority, chaos_server, Goodbye.SAID) as url:
        no_answer(doctor(url), "tls_error")


def test_no_tls_there(doctor: Any, chaos_server: ChaosServer) -> None:
    """Https at a port of http."""
    no_answer(doctor(chaos_server.openai_url.replace("http:", "https:")), "tls_error")


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'


def test_an_endless_stream(doctor: Any) -> None:
    """It is read up to a limit of bytes, once. Memory and time are bounded."""
    piece = EVENT.replace(b'"a"', b'"%s"' % (b"a" * 900)) * 60

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        with suppress(OSError):
            while True:
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))

    with serving(answer) as url:
        tracemalloc.start()
        found = doctor(url)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert found.status == 1
    assert found.checks["ending"]["seen"].startswith("the stream did not end: doctor stopped after 4,")
    assert peak < 64 * 1024 * 1024


def test_an_endless_slow_stream(doctor: Any) -> None:
    """It is read for four times the time-out."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        with suppress(OSError):
            while True:
                time.sleep(0.05)
                connection.sendall(b"%x\r\n%s\r\n" % (len(EVENT), EVENT))

    with serving(answer) as url:
        found = doctor(url, "--timeout", "0.4", "--no-whole")
    assert "doctor stopped after 2 s" in found.checks["ending"]["seen"]


def test_an_endless_head(doctor: Any) -> None:
    """A head without an end is given up."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        with suppress(OSError):
            while True:
                connection.sendall(b"x-more: and more\r\n" * 1000)

    with serving(answer) as url:
        no_answer(doctor(url), "invalid_framing")


def test_a_redirect(doctor: Any) -> None:
    """A redirect is named, and not followed: the key is for this server."""
    answer = b"HTTP/1.1 301 Moved\r\nlocation: http://other.test/\r\ncontent-length: 0\r\n\r\n"
    with serving(lambda connection: connection.sendall(answer)) as url:
        found = doctor(url, *QUICK)
    assert found.status == 1
    assert found.checks["status"]["seen"] == "301 in the only call"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["ftp://127.0.0.1/"], "must be a URL"),
        (["http://"], "must be a URL"),
        (["http://127.0.0.1:99999/"], "must be a URL"),
        (["http://a b/"], "must be a URL"),
        (["http://127.0.0.1", "--runs", "0"], "from 1 to 20"),
        (["http://127.0.0.1", "--timeout", "-1"], "seconds from 0"),
        (["http://127.0.0.1", "--limit", "tfft=1"], "like ttft=2,gap=5"),
        (["http://127.0.0.1", "--http1", "--http2"], "not allowed with"),
    ],
)
def test_wrong_options(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence says what is wrong."""
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--model", "m", *options])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


# --- cost, and secrets ---


def test_calls_that_cost(doctor: Any) -> None:
    """An address that is not loopback needs `--yes`. The message has the most that the calls cost."""
    found = doctor("https://api.test/v1")
    assert (found.status, found.out) == (2, "")
    assert "6 calls to api.test cost at most 240 tokens of input and 384 tokens of output" in found.err
    assert "--yes" in found.err


def test_via_may_cost_too(doctor: Any, chaos_server: ChaosServer) -> None:
    """So does the address of `--via`."""
    found = doctor(chaos_server.openai_url, "--via", "https://api.test/v1")
    assert (found.status, found.out) == (2, "")
    assert "api.test" in found.err


def test_the_limit_of_tokens_is_sent(doctor: Any, chaos_server: ChaosServer) -> None:
    """Each request names the limit that the cost is computed from."""
    for api in APIS:
        body = APIS_BY_NAME[api].request_body("m", streams=True)
        assert str(MAX_TOKENS).encode() in body


def test_a_key(chaos_server: ChaosServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The key is sent, and it is nowhere in the report; no prompt and no answer is there either."""
    monkeypatch.setenv("MY_KEY", KEY)
    sent: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        sent.append(connection.recv(65536))
        said = b'data: {"error": {"message": "Incorrect API key provided: %s"}}\n\n' % KEY.encode()
        connection.sendall(HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (len(said), said))

    for extra in ([], ["--json"]):
        with listening(serve) as port:
            main(["doctor", f"http://127.0.0.1:{port}/v1", "--model", "m", "--api-key-env", "MY_KEY", *QUICK, *extra])
    assert b"Bearer " + KEY.encode() in sent[0]
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err
    for extra in ([], ["--json"]):
        main(["doctor", chaos_server.openai_url, "--model", "ok", *QUICK, *extra])
        out = capsys.readouterr().out
        assert PROMPT not in out
        assert "wordA" not in out


def test_a_key_that_is_not_there(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set, or that cannot be in a header, is named."""
    monkeypatch.delenv("MY_KEY", raising=False)
    found = doctor("http://127.0.0.1:1", "--api-key-env", "MY_KEY")
    assert (found.status, found.err) == (2, "otel-llmstream doctor: the environment variable MY_KEY is not set\n")
    monkeypatch.setenv("MY_KEY", "a\r\nb: c")
    assert "no header may have" in doctor("http://127.0.0.1:1", "--api-key-env", "MY_KEY").err


# --- what it shows ---


def test_the_report(chaos_server: ChaosServer, capsys: pytest.CaptureFixture[str]) -> None:
    """On 80 columns it has the path, the time line, the sparkline, the checks and a verdict. No line is longer."""
    assert main(["doctor", chaos_server.openai_url, "--model", SLOW]) == 0
    out = capsys.readouterr().out
    for words in ("TCP", "request id", "time line of stream", "names the response", "gaps: p50", "█", "All is well."):
        assert words in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_slo(doctor: Any, chaos_server: ChaosServer) -> None:
    """An objective that is missed is a failure."""
    found = doctor(chaos_server.openai_url, *QUICK, "--limit", "ttft=0.001,gap=0.001", model=SLOW)
    assert {name for name, check in found.checks.items() if check["level"] == "fail"} == {"first chunk", "gaps"}
    assert found.status == 1
    found = doctor(chaos_server.openai_url, *QUICK, "--limit", "ttft=60,gap=60", model=SLOW)
    assert found.status == 0


def test_a_connection_is_reused(doctor: Any, chaos_server: ChaosServer) -> None:
    """The calls use one connection, and the path says so."""
    found = doctor(chaos_server.openai_url)
    assert [call["reused"] for call in found.report["calls"]] == [False, True, True, True, True]


def test_newest_tested_sdks() -> None:
    """The table has the newest version of each SDK that the tests of the SDKs have run."""
    seen: dict[str, set[str]] = {}
    for line in (Path(__file__).parent / "sdks" / "seen.jsonl").read_text().splitlines():
        record = json.loads(line)
        seen.setdefault(record["sdk"], set()).add(record["version"])
    newest = {name: max(versions, key=Version) for name, versions in seen.items()}
    assert newest | NEWEST_TESTED == newest
    for_no_api_of_doctor = {"dashscope", "mlflow-skinny", "openai-agents"}
    assert newest.keys() - NEWEST_TESTED.keys() == {"requests", "urllib3", "sseclient-py"} | for_no_api_of_doctor


def test_a_newer_name_of_the_limit(doctor: Any) -> None:
    """If the server asks for `max_completion_tokens`, the calls use that name."""
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            asked.append(data)
            if b'"max_tokens"' in data:
                said = b'{"error": {"message": "Use \'max_completion_tokens\' instead."}}'
                connection.sendall(b"HTTP/1.1 400 Bad\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said))
            else:
                body = EVENT + b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
                body += b"data: [DONE]\n\n"
                connection.sendall(HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

    with listening(serve) as port:
        found = doctor(f"http://127.0.0.1:{port}/v1", "--no-whole")
    assert found.checks["status"]["seen"] == "200"
    assert [b"max_completion_tokens" in data for data in asked] == [False, True, True, True, True]


def test_a_proxy_of_the_environment(
    doctor: Any, chaos_server: ChaosServer, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Https goes through the tunnel of `https_proxy`. Its name is in the path, and its password is not."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        asked.append(head)
        with socket.create_connection(("127.0.0.1", int(head.split()[1].rpartition(b":")[2]))) as back:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            relay(connection, back)

    for name in ("no_proxy", "NO_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with listening(serve) as port, front(authority, chaos_server, Goodbye.SAID) as url:
        monkeypatch.setenv("https_proxy", f"http://me:hidden@127.0.0.1:{port}")
        found = doctor(url, *QUICK)
    assert asked[0].startswith(b"CONNECT 127.0.0.1:")
    assert b"Proxy-Authorization: Basic bWU6aGlkZGVu" in asked[0] or b"proxy-authorization" in asked[0]
    assert found.status == 0
    assert {"name": "proxy", "value": f"127.0.0.1:{port}"} in found.report["path"]
    assert "hidden" not in found.out


# --- the rule for bursts, without a network ---


CHUNKS = 40
END = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


def buffering(
    reads: int, spread: float, *, wait: float = 2.0, away: tuple[tuple[float, float], ...] = ()
) -> tuple[str, str]:
    """What the check says of 40 chunks that come in so many reads, within this time, after this wait."""
    plan = Plan(Kind.STREAM, Server("http", "127.0.0.1", 80), APIS_BY_NAME["chat"], "m")
    probe = Probe(plan, 100.0, sent_at=100.0, head_at=100.0, away=list(away))
    probe.head = Head(200, (("content-type", "text/event-stream"),), "1.1", "chunked")
    before = 100.0
    for number in range(reads):
        came = 100.0 + wait + spread * number / max(1, reads - 1)
        probe.reads.append((EVENT * (CHUNKS // reads), before, came))
        before = came
    probe.reads.append((END, before, before))
    probe.ended_at = before
    (found,) = (it for it in checked(Study([judged(probe)])) if it.check == "buffering")
    return found.level, found.seen


def test_bursts() -> None:
    """One read, and a few large ones, are a burst. Output in many reads is none, however fast it is."""
    assert buffering(1, 0) == ("fail", "40 chunks in one burst of 0.0 ms, after 2,000 ms of nothing")
    assert buffering(2, 0.043)[0] == "fail"
    assert buffering(40, 0.002)[0] == "fail", "no model makes 40 chunks in 2 ms"
    assert buffering(40, 0.1)[0] == buffering(8, 0.1)[0] == buffering(2, 0.5)[0] == "ok"
    assert buffering(1, 0, wait=0.1)[0] == "ok", "an answer that came so soon was not held"


def test_a_burst_of_its_own() -> None:
    """If this program could not run before the burst, it does not blame a hop. Other absences do not count."""
    assert buffering(1, 0, away=((100.3, 101.99),)) == ("ok", "not judged: this machine was too busy to tell")
    assert buffering(1, 0, away=((100.0, 101.5),))[0] == "fail"
    assert buffering(1, 0, away=((101.5, 101.99),))[0] == "fail", "it was away for a quarter of the wait only"
