"""A provider behind nginx and HAProxy: the problems of the runbooks occur, and their configuration fixes them."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from programs import free_port, running

from otel_llmstream import Settings
from otel_llmstream.monitoring._proxy_fixes import BUFFERING, TIMEOUTS, ProxyFix
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

pytestmark = pytest.mark.external

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {more}
    server {{
        listen 127.0.0.1:{port};
        location = /ready {{ return 200; }}
        {location}
    }}
}}
"""

HAPROXY = """
global
    log stdout format raw local0
defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 1s
    timeout server 1s
{remedy}
frontend api
    bind 127.0.0.1:{port}
    monitor-uri /ready
    default_backend llm
backend llm
    server provider 127.0.0.1:{upstream}
"""

SLOW = "ok?chunks=14&delay=0.1"
"""One event every 0.1 s, in a chunked body."""

SLOW_UNTIL_CLOSED = "cut-close?chunks=16&at=14&delay=0.1"
"""The same in a body that ends with the connection, as HTTP/1.0 servers send it."""

PAUSING = "pause?hold=2"
"""Two seconds of silence in the middle. The proxies' time-out is one second."""

SOON = 0.6
"""Most seconds to the first event if the proxy passes it on at once, on a busy machine. The last event takes 1.4 s."""

CORKED = 0.15
"""Seconds: a little less than the 200 ms for which Linux holds a partial packet (`TCP_CORK` in tcp(7))."""

TRIES = 3


def remedy(table: tuple[ProxyFix, ...], where: str) -> str:
    """The configuration in the runbook."""
    (found,) = (it.snippet for it in table if it.proxy == where)
    return found


def pointed(lines: str, server: ChaosServer) -> str:
    """The runbook's configuration, with the address of this test's provider."""
    assert "https://llm" in lines
    return lines.replace("https://llm", server.base_url)


@contextmanager
def nginx(folder: Path, location: str, more: str = "") -> Iterator[str]:
    """Run nginx with this location and more lines for its section `http`. Gives its URL."""
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # Its workers need access to the folder.
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, user=user, port=port, location=location, more=more))
    url = f"http://127.0.0.1:{port}"
    with running("nginx", "-c", config, "-p", folder, log=folder / "nginx.log", ready=f"{url}/ready"):
        yield url


@contextmanager
def haproxy(folder: Path, server: ChaosServer, lines: str = "") -> Iterator[str]:
    """Run HAProxy with more lines in its section `defaults`. Gives its URL."""
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, upstream=server.port, remedy=_as_defaults(lines)))
    url = f"http://127.0.0.1:{port}"
    with running("haproxy", "-db", "-f", config, log=folder / "haproxy.log", ready=f"{url}/ready"):
        yield url


def _as_defaults(lines: str) -> str:
    """The options of all sections of the runbook's configuration."""
    return "\n".join(line for line in lines.splitlines() if line.startswith(" "))


def ask(url: str, model: str) -> Captured:
    """Read one stream. Returns what was captured."""
    body = {"model": model, "stream": True, "messages": []}
    with (
        capture(settings=Settings(buffered_after=0.5)) as captured,
        suppress(httpx2.HTTPError),
        httpx2.Client(trust_env=False, timeout=20) as client,
        client.stream("POST", f"{url}/v1/chat/completions", json=body) as response,
    ):
        response.read()
    return captured


def verdict(captured: Captured) -> tuple[str, str | None, bool]:
    """Outcome, error type, and whether the delivery was buffered."""
    found = dict(captured.span.attributes or {})
    return found["llmstream.outcome"], found.get("error.type"), found.get("llmstream.buffered", False)


def first(captured: Captured) -> float:
    """Seconds to the first chunk."""
    return float(dict(captured.span.attributes or {})["gen_ai.response.time_to_first_chunk"])


# --- buffers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "more", "outcome"),
    [
        (SLOW, "gzip on; gzip_proxied any; gzip_types text/event-stream;", ("completed", None)),
        (SLOW_UNTIL_CLOSED, "", ("truncated", "stream_truncated")),
    ],
    ids=["gzip", "until closed"],
)
def test_nginx_collects(model, more, outcome, tmp_path, chaos_server):
    """Nginx holds back compressed bodies and bodies without length and chunks. The runbook's configuration fixes it."""
    with nginx(tmp_path, f"location / {{ proxy_pass {chaos_server.base_url}; }}", more) as url:
        # What was held comes in one burst. A busy machine may break it into two, which are no proof.
        found = next((it for _ in range(TRIES) if verdict(it := ask(url, model))[-1]), None)
    assert found is not None, "a body that was held was not told"
    assert verdict(found) == (*outcome, True)
    assert first(found) > 1.0

    with nginx(tmp_path, pointed(remedy(BUFFERING, "nginx"), chaos_server), more) as url:
        found = ask(url, model)
    assert verdict(found) == (*outcome, False)
    assert first(found) < SOON


def test_nginx_passes_chunks_on(tmp_path, chaos_server):
    """With its defaults, nginx passes on a chunked body at once if it does not compress it."""
    with nginx(tmp_path, f"location / {{ proxy_pass {chaos_server.base_url}; }}") as url:
        found = ask(url, SLOW)
    assert verdict(found) == ("completed", None, False)
    assert first(found) < SOON


def test_haproxy_waits_to_fill_packets(tmp_path, chaos_server):
    """HAProxy holds the headers and the first chunks for about 200 ms. The runbook's option prevents it."""
    with haproxy(tmp_path, chaos_server) as url:
        assert min(first(ask(url, SLOW)) for _ in range(TRIES)) > CORKED

    with haproxy(tmp_path, chaos_server, remedy(BUFFERING, "HAProxy")) as url:
        assert min(first(ask(url, SLOW)) for _ in range(TRIES)) < CORKED


# --- time-outs ----------------------------------------------------------------------------------------------------


def test_nginx_gives_up(tmp_path, chaos_server):
    """Nginx ends a silent stream and logs the message of the runbook. The runbook's configuration fixes it."""
    lines = pointed(remedy(TIMEOUTS, "nginx"), chaos_server)
    (asked,) = re.findall(r"proxy_read_timeout (\w+);", lines)
    impatient = lines.replace(f"proxy_read_timeout {asked};", "proxy_read_timeout 1s;")
    with nginx(tmp_path, impatient) as url:
        found = ask(url, PAUSING)
    assert verdict(found) == ("failed", "incomplete_body", False)
    (said,) = re.findall(r"`(upstream timed out[^`]+)`", next(it.text for it in TIMEOUTS if it.proxy == "nginx"))
    assert said in (tmp_path / "error.log").read_text()

    with nginx(tmp_path, lines) as url:
        found = ask(url, PAUSING)
    assert verdict(found) == ("completed", None, False)


def test_haproxy_gives_up(tmp_path, chaos_server):
    """HAProxy ends a silent stream and logs the state of the runbook. The runbook's configuration fixes it."""
    with haproxy(tmp_path, chaos_server) as url:
        found = ask(url, PAUSING)
    assert verdict(found) == ("failed", "incomplete_body", False)
    assert re.search(r" sD.. .*/v1/chat/completions", (tmp_path / "haproxy.log").read_text())

    with haproxy(tmp_path, chaos_server, remedy(TIMEOUTS, "HAProxy")) as url:
        found = ask(url, PAUSING)
    assert verdict(found) == ("completed", None, False)
