"""nginx and HAProxy in front of the chaos server, with the logs of `dashboards/proxies`: the right hop is named."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from conditions import until
from loops import about
from programs import free_port, running

from otel_llmstream.cli import main
from otel_llmstream.monitoring._hop_lines import HopLine, read_line
from otel_llmstream.testing.chaos import ChaosServer

pytestmark = pytest.mark.external

PROXIES = Path(__file__).parent.parent / "dashboards" / "proxies"

NGINX = """
daemon off;
pid {folder}/nginx.pid;
{user}
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{access}
    server {{
        listen 127.0.0.1:{port};
        location = /ready {{ return 200; }}
        location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_read_timeout {patience}; }}
    }}
}}
"""

HAPROXY = """
global
    log stdout format raw local0
defaults
    log global
    timeout connect 5s
    timeout client {patience}
    timeout server {patience}
{access}
    bind 127.0.0.1:{port}
    monitor-uri /ready
    default_backend llm
backend llm
    mode http
    server provider {upstream}
"""


class Proxy(NamedTuple):
    """A proxy that runs: its address, its logs, and its process."""

    address: str
    logs: tuple[Path, ...]
    pid: int


@contextmanager
def nginx(folder: Path, upstream: str, patience: str) -> Iterator[Proxy]:
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # Its workers need access to the folder.
    access = (PROXIES / "nginx.conf").read_text().replace("/var/log/nginx", str(folder))
    config = folder / "nginx.conf"
    config.write_text(
        NGINX.format(folder=folder, user=user, access=access, port=port, upstream=upstream, patience=patience)
    )
    ready = f"http://127.0.0.1:{port}/ready"
    with running("nginx", "-c", config, "-p", folder, log=folder / "nginx.log", ready=ready) as process:
        yield Proxy(f"127.0.0.1:{port}", (folder / "llm.json", folder / "error.log"), process.pid)


@contextmanager
def haproxy(folder: Path, upstream: str, patience: str) -> Iterator[Proxy]:
    port = free_port()
    access = (PROXIES / "haproxy.cfg").read_text()
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(access=access, port=port, upstream=upstream, patience=patience))
    log = folder / "haproxy.log"
    with running("haproxy", "-db", "-f", config, log=log, ready=f"http://127.0.0.1:{port}/ready") as process:
        yield Proxy(f"127.0.0.1:{port}", (log,), process.pid)


CALLS = iter(range(1, 1000))


def ask(address: str, model: str, leave_after: int | None = None, meanwhile: Callable[[], Any] | None = None) -> str:
    """Read one stream, or only so many pieces of it. Returns the trace id."""
    trace = f"{next(CALLS):032x}"
    body = {"model": model, "stream": True, "messages": []}
    headers = {"traceparent": f"00-{trace}-{'b' * 16}-01"}
    with (
        suppress(httpx2.HTTPError),
        httpx2.Client(trust_env=False, timeout=30) as client,
        client.stream("POST", f"http://{address}/v1/chat/completions", json=body, headers=headers) as response,
    ):
        for number, _ in enumerate(response.iter_raw(), 1):
            if meanwhile and number == 1:
                meanwhile()
            if number == leave_after:
                break
    return trace


def lines_of(log: Path, trace: str) -> list[str]:
    """The JSON lines of a trace. The other lines in the files are messages of the proxies."""
    text = log.read_text() if log.exists() else ""
    return [line for line in text.splitlines() if f'"trace_id":"{trace}"' in line]


def named(capsys, trace: str, *proxies: Proxy, told: Callable[[], bool] | None = None) -> str:
    """What the command says about a trace, when all proxies have written their lines."""
    logs = [log for proxy in proxies for log in proxy.logs]
    until(told or (lambda: all(lines_of(proxy.logs[0], trace) for proxy in proxies)))
    status = main(["hops", "--trace", trace, *map(str, logs)])
    said = capsys.readouterr().out
    assert status == (0 if "no hop's line" in said else 1), said
    return said


def address(server: ChaosServer) -> str:
    return f"127.0.0.1:{server.port}"


# The pause is longer than the proxies' time-out of two seconds. Between the chunks of the others there is 0.1 s.
PAUSE, RESET, SLOW = "pause?hold=3.5", "reset", "ok?chunks=40&delay=0.1"


def test_one_proxy(tmp_path, chaos_server, capsys):
    """One proxy alone: its idle time-out, a reset behind it, a client that leaves, a whole stream, an error status."""
    for run, name in ((nginx, "nginx"), (haproxy, "HAProxy")):
        folder = tmp_path / name
        folder.mkdir()
        with run(folder, address(chaos_server), "2s") as proxy, about(name):
            here = f"{name} at {proxy.address}"
            said = named(capsys, ask(proxy.address, PAUSE), proxy)
            assert f": {here} (" in said
            assert "change: Raise" in said

            said = named(capsys, ask(proxy.address, RESET), proxy)
            assert f": the server at {address(chaos_server)} behind {here} (" in said

            said = named(capsys, ask(proxy.address, SLOW, leave_after=2), proxy)
            assert f": the client of {here} (" in said

            said = named(capsys, ask(proxy.address, "ok?chunks=3&delay=0"), proxy)
            assert "no hop's line tells a failure" in said

            said = named(capsys, ask(proxy.address, "500?status=503"), proxy)
            assert f": the server at {address(chaos_server)} behind {here} (" in said
            assert "It answered 503." in said


def test_one_behind_the_other(tmp_path, chaos_server, capsys):
    """Two proxies, in both orders: the time-out of each, a reset, a client that leaves, a worker that is killed."""
    for outer, inner in ((nginx, haproxy), (haproxy, nginx)):
        for case, patience in (("outer", ("2s", "20s")), ("inner", ("20s", "2s"))):
            folder = tmp_path / f"{outer.__name__}-{case}"
            folder.mkdir()
            with (
                inner(folder, address(chaos_server), patience[1]) as second,
                outer(folder, second.address, patience[0]) as first,
                about((outer.__name__, case)),
            ):
                impatient = first if case == "outer" else second
                said = named(capsys, ask(first.address, PAUSE), first, second)
                assert re.search(rf": (nginx|HAProxy) at {impatient.address} \(\w+\) ended the stream", said)
                assert said.index(f"1. {_name(outer)}") < said.index(f"2. {_name(inner)}")

                said = named(capsys, ask(first.address, RESET), first, second)
                assert f": the server at {address(chaos_server)} behind {_name(inner)} at {second.address}" in said

                said = named(capsys, ask(first.address, SLOW, leave_after=2), first, second)
                assert f": the client of {_name(outer)} at {first.address}" in said


def _name(run: Any) -> str:
    return {nginx: "nginx", haproxy: "HAProxy"}[run]


def test_a_worker_that_is_killed(tmp_path, chaos_server, capsys):
    """A killed worker writes no line. The proxy in front of it says that it is behind, and at which address."""
    with (
        nginx(tmp_path, address(chaos_server), "20s") as killed,
        haproxy(tmp_path, killed.address, "20s") as front,
    ):
        trace = ask(front.address, SLOW, meanwhile=lambda: kill_workers(killed.pid))
        said = named(capsys, trace, front, killed, told=lambda: bool(lines_of(front.logs[0], trace)))
    assert f": the server at {killed.address} behind HAProxy at {front.address}" in said
    assert "was killed" in said


def kill_workers(pid: int) -> None:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)


def test_a_reload_in_the_middle(tmp_path, chaos_server, capsys, monkeypatch):
    """A reload lets a stream end. If the proxy limits how long that may take, the proxy is named."""
    for run, name, reload in ((nginx, "nginx", signal.SIGHUP), (haproxy, "HAProxy", signal.SIGUSR1)):
        for limit in (False, True):
            if limit:
                monkeypatch.setitem(globals(), "NGINX", f"worker_shutdown_timeout 1s;{NGINX}")
                monkeypatch.setitem(globals(), "HAPROXY", f"global\n    hard-stop-after 500ms\n{HAPROXY}")
            folder = tmp_path / f"{name}-{limit}"
            folder.mkdir()
            with run(folder, address(chaos_server), "20s") as proxy, about(name, limit):
                model = SLOW if limit else "ok?chunks=8&delay=0.1"
                trace = ask(proxy.address, model, meanwhile=lambda pid=proxy.pid, sent=reload: os.kill(pid, sent))
                said = named(capsys, trace, proxy)
                assert (f": {name} at {proxy.address} (" if limit else "no hop's line tells a failure") in said
            monkeypatch.undo()


def test_only_the_llm_paths_are_logged(tmp_path, chaos_server):
    """Requests of other paths leave no line, and each line of an LLM path can be read."""
    for run in (nginx, haproxy):
        folder = tmp_path / run.__name__
        folder.mkdir()
        with run(folder, address(chaos_server), "20s") as proxy, about(run.__name__):
            httpx2.get(f"http://{proxy.address}/log", trust_env=False)
            trace = ask(proxy.address, "ok?chunks=2&delay=0")
            until(lambda log=proxy.logs[0], trace=trace: bool(lines_of(log, trace)))
            written = [line for line in proxy.logs[0].read_text().splitlines() if line.startswith("{")]
        (line,) = written
        found = read_line(line)
        assert isinstance(found, HopLine)
        assert (found.trace_id, found.listen, found.upstream) == (trace, proxy.address, address(chaos_server))
        assert json.loads(line)["path"] == "/v1/chat/completions"
