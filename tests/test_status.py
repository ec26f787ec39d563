"""The live page's server: what it tells, who may ask, and that the application does not notice it."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from conditions import PATIENCE, until
from fastapi import FastAPI
from programs import free_port
from scripted_streams import CUT, HEALTHY, Player, chunk

import otel_llmstream
from otel_llmstream import Settings, _status_page
from otel_llmstream._instrumentor import PROCESS
from otel_llmstream.core.open_stream import LiveStream
from otel_llmstream.core.summary import LLMRequest
from otel_llmstream.status import app, feed, picture
from otel_llmstream.status.feed import Feed
from otel_llmstream.testing import Captured, FakeClock, capture

TOKEN = "a-token-of-the-tests"
SECRET = "the prompt of the user"


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture(settings=Settings(stall_after=5.0), clock=FakeClock()) as found:
        yield found


@pytest.fixture
def player(captured: Captured) -> Player:
    clock = captured.engine.clock
    assert isinstance(clock, FakeClock)
    return Player(captured.engine, clock)


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=PATIENCE, trust_env=False) as client:
        yield client


def served(**settings: Any) -> str:
    PROCESS.page.serve(Settings(**{"status_port": 0, **settings}))
    assert PROCESS.page.url is not None
    return PROCESS.page.url


@pytest.fixture
def url(player: Player) -> Iterator[str]:
    yield served()
    PROCESS.page.stop()


@pytest.fixture
def guarded(player: Player) -> Iterator[str]:
    """A page with a token."""
    yield served(status_token=TOKEN)
    PROCESS.page.stop()


def events(response: httpx2.Response) -> Iterator[tuple[str, Any]]:
    """The events of a stream, as a page reads them."""
    name = ""
    for line in response.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


# --- what it tells ------------------------------------------------------------------------------------------------


def test_the_document(player: Player, url: str, http: httpx2.Client) -> None:
    """One JSON document has the totals, the open streams, the stalled ones first, and what has ended."""
    observers = [player.open("old", messages=[{"role": "user", "content": SECRET}]), player.open("hanging")]
    for observer in observers:
        player.answer(observer)
        player.feed(observer, chunk(SECRET), chunk(SECRET))
    player.play(*CUT, model="cut")
    observers[1].asked_at = player.clock.now()
    player.clock.advance(6.0)
    answer = http.get(url + "data.json")
    found = answer.json()
    assert (found["pid"], found["version"], found["open"]) == (os.getpid(), otel_llmstream.__version__, 2)
    assert (found["health"]["active"], found["health"]["stalled"]) == (2, 1)
    assert found["health"]["error_types"] == {"stream_truncated": 1}
    assert [(it["model"], it["phase"], it["stalled"]) for it in found["streams"]] == [
        ("hanging", "streaming", True), ("old", "held", False),
    ]  # fmt: skip
    assert found["streams"][0]["silence"] == 6.0
    (call,) = found["calls"]
    assert (call["model"], call["outcome"], call["error_type"], call["failed"]) == (
        "cut", "truncated", "stream_truncated", True,
    )  # fmt: skip
    assert call["chunk_offsets"] == [375, 500]
    assert "prompt" not in answer.text


def test_the_event_stream(player: Player, url: str, http: httpx2.Client) -> None:
    """It begins with all that has ended, and goes on with what ends then. A page that returns gets only what is new."""
    player.play(*HEALTHY, model="first")
    with http.stream("GET", url + "events") as response:
        assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
        found = events(response)
        name, news = next(found)
        assert (name, news["reset"], [it["model"] for it in news["calls"]]) == ("calls", True, ["first"])
        name, shown = next(found)
        assert (name, shown["health"]["totals"]["completed"]) == ("picture", 1)
        player.play(*CUT, model="second")
        news = next(value for name, value in found if name == "calls")
        assert (news["reset"], [it["model"] for it in news["calls"]]) == (False, ["second"])
    player.play(status=500, model="third")
    with http.stream("GET", url + "events", params={"after": news["cursor"]}) as response:
        name, news = next(events(response))
        assert (news["reset"], [it["model"] for it in news["calls"]]) == (False, ["third"])
    with http.stream("GET", url + "events", params={"after": "of.another"}) as response:
        name, news = next(events(response))
        assert (news["reset"], len(news["calls"])) == (True, 3)


def test_no_more_pages_than_fit(player: Player, url: str, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of event streams is bounded, and a closed page makes room for another."""
    monkeypatch.setattr(app, "MAX_PAGES", 1)
    with http.stream("GET", url + "events") as response:
        found = events(response)
        next(found)
        with http.stream("GET", url + "events") as second:
            assert second.status_code == 503

    def opens() -> bool:
        with http.stream("GET", url + "events") as response:
            return response.status_code == 200

    assert until(opens)


def stream(number: int, *, stalled: bool = False) -> LiveStream:
    request = LLMRequest("openai.chat", "chat", "openai", "m", "api.test", 443)
    return LiveStream(str(number), request, "streaming", stalled, attempt=1, age=float(number))


def test_caps(player: Player) -> None:
    """Of very many streams, the stalled and the oldest ones are listed; of very many calls, the newest ones."""
    many = [stream(number, stalled=number == 7) for number in range(picture.MAX_STREAMS + 10)]
    source = PROCESS.page._source._replace(
        streams=lambda: many, served=lambda: [(None, str(number)) for number in range(picture.MAX_SERVED + 1)]
    )
    found = picture.picture(source)
    assert (found["open"], len(found["streams"])) == (len(many), picture.MAX_STREAMS)
    assert [it["key"] for it in found["streams"][:3]] == ["7", "2009", "2008"]
    assert len(found["served"]) == picture.MAX_SERVED
    player.play(*CUT)
    news = PROCESS.news("")
    many_calls = [(number, 0, news.ended[0][2]) for number in range(picture.MAX_CALLS + 5)]
    calls = picture.calls(news._replace(ended=many_calls))["calls"]
    assert [it["number"] for it in (calls[0], calls[-1])] == [5, picture.MAX_CALLS + 4]


class SlowClock:
    """Each look takes a while."""

    def __init__(self, step: float) -> None:
        self.time, self.step = 0.0, step

    def __call__(self) -> float:
        self.time += self.step
        return self.time


@pytest.mark.parametrize(("takes", "pause"), [(0.001, feed.INTERVAL), (0.025, 0.5), (0.05, 1.0), (1.0, feed.MOST)])
def test_pictures_take_a_small_part_of_the_time(player: Player, takes: float, pause: float) -> None:
    """The longer a picture takes, the rarer are pictures."""
    found = Feed(PROCESS.page._source, SlowClock(takes))
    found.event("")
    assert found.pause == pytest.approx(pause)


def test_pages_share_a_picture(player: Player) -> None:
    """Two pages that ask at the same time cost one picture."""
    made: list[int] = []

    def streams() -> list[LiveStream]:
        made.append(1)
        return []

    clock = FakeClock()
    found = Feed(PROCESS.page._source._replace(streams=streams), clock.now)
    assert found.event("")[0] == found.event("")[0]
    assert len(made) == 1
    clock.advance(feed.INTERVAL)
    found.event("")
    assert len(made) == 2


# --- who may ask --------------------------------------------------------------------------------------------------


def status(http: httpx2.Client, url: str, **headers: str) -> int:
    return http.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()}).status_code


@pytest.mark.parametrize("path", ["", "page.js", "data.json", "events"])
def test_only_names_of_this_machine(url: str, http: httpx2.Client, path: str) -> None:
    """A name that someone makes point to this machine is refused, on every path."""
    for host in ("evil.example", "evil.example:9465", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.7",
                 "0.0.0.0", "", "localhost:x", "[::1", "evil.example@localhost:x"):  # fmt: skip
        assert status(http, url + path, host=host) == 421, host
    if path != "events":
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:9465", "127.1.2.3", "[::1]:9465"):
            assert status(http, url + path, host=host) == 200, host


@pytest.mark.parametrize("path", ["", "page.js", "data.json", "events"])
def test_no_other_origin(url: str, http: httpx2.Client, path: str) -> None:
    """A page of another origin gets nothing. A link from another page leads to the page, as links do."""
    own = url.rstrip("/")
    other_port = f"http://127.0.0.1:{free_port()}"
    for origin in ("http://evil.example", other_port, "http://localhost", "null", "", own + ".evil.example"):
        assert status(http, url + path, origin=origin) == 403, origin
    for site in ("cross-site", "same-site"):
        assert status(http, url + path, sec_fetch_site=site, sec_fetch_mode="cors") == 403
        assert status(http, url + path, sec_fetch_site=site, sec_fetch_mode="no-cors") == 403
    if path != "events":
        assert status(http, url + path, origin=own, sec_fetch_site="same-origin", sec_fetch_mode="cors") == 200
        assert status(http, url + path, sec_fetch_site="cross-site", sec_fetch_mode="navigate") == 200


def test_headers_of_every_answer(url: str, http: httpx2.Client) -> None:
    """Each answer forbids other pages to show it or read it, and the page loads nothing from elsewhere."""
    answers = [http.get(url + path) for path in ("", "page.css", "data.json")] + [http.get(url, headers={"host": "x"})]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_it_is_read_only(url: str, http: httpx2.Client) -> None:
    """Other methods and other paths are answered with an error."""
    assert [http.request(method, url + "data.json").status_code for method in ("POST", "PUT", "DELETE", "OPTIONS")] == [
        405
    ] * 4
    for path in ("page", "../_settings.py", "page.py", "page/../../app.py", "%2e%2e/app.py"):
        assert http.get(url + path).status_code == 404


def test_a_token(guarded: str, http: httpx2.Client) -> None:
    """With a token, the files of the page are for everyone, and the data for those who have it."""
    assert {path: status(http, guarded + path) for path in app.FILES} == dict.fromkeys(app.FILES, 200)
    for path in ("data.json", "events"):
        for given in ("", TOKEN, f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer"):
            answer = http.get(guarded + path, headers={"authorization": given, "cookie": f"token={TOKEN}"})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), given
        assert http.get(guarded + path, params={"token": TOKEN}).status_code == 401
    right = {"authorization": f"Bearer {TOKEN}"}
    assert http.get(guarded + "data.json", headers=right).status_code == 200
    assert http.get(guarded + "data.json", headers={**right, "host": "192.0.2.7:1"}).status_code == 200
    assert http.get(guarded + "data.json", headers={**right, "host": "evil.example"}).status_code == 421
    assert http.get(guarded + "data.json", headers={**right, "origin": "http://evil.example"}).status_code == 403
    assert http.get(guarded + "data.json", headers={"authorization": "Bearer ä".encode()}).status_code == 401


def test_another_address_needs_a_token(player: Player, caplog: pytest.LogCaptureFixture, http: httpx2.Client) -> None:
    """Without one, the page is not served, and a warning says why. With one it is."""
    PROCESS.page.serve(Settings(status_port=0, status_host="0.0.0.0"))
    assert PROCESS.page.url is None
    assert "need a token" in caplog.text
    try:
        found = served(status_host="0.0.0.0", status_token=TOKEN)
        assert http.get(found + "data.json", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    finally:
        PROCESS.page.stop()
    assert TOKEN not in caplog.text


# --- in the application's own server ------------------------------------------------------------------------------


def mounted(**options: Any) -> FastAPI:
    application = FastAPI()
    application.mount("/llm-streams", otel_llmstream.status_app(**options))
    otel_llmstream.instrument_app(application)
    return application


async def ask(application: Any, path: str, client: str = "127.0.0.1", **headers: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(application, client=(client, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000") as asking:
        return await asking.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.anyio
async def test_mounted(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works below a path. Its event streams end after a while: a server waits for them when it shuts down."""
    monkeypatch.setattr(app, "LASTS", 0.1)
    monkeypatch.setattr(app.StatusApp.__init__, "__kwdefaults__", {"lasts": 0.1})
    application = mounted()
    player.play(*CUT, model="cut")
    assert (await ask(application, "/llm-streams")).headers["location"] == "http://localhost:8000/llm-streams/"
    assert "<title>LLM streams</title>" in (await ask(application, "/llm-streams/")).text
    answer = await ask(application, "/llm-streams/events")
    assert [name for name, _ in events(answer)] == ["calls", "picture"]


@pytest.mark.anyio
async def test_mounted_in_public(player: Player) -> None:
    """Without a token, no other machine and no proxy gets anything. With one, names can be allowed."""
    application = mounted()
    assert (await ask(application, "/llm-streams/data.json")).status_code == 200
    assert (await ask(application, "/llm-streams/data.json", client="192.0.2.7")).status_code == 403
    for header in ("x_forwarded_for", "forwarded", "via", "x_real_ip"):
        assert (await ask(application, "/llm-streams/", **{header: "192.0.2.7"})).status_code == 403
    with pytest.raises(ValueError, match="need a token"):
        otel_llmstream.status_app(hosts=["app.example.com"])
    application = mounted(token=TOKEN, hosts=["app.example.com"])
    right = {"authorization": f"Bearer {TOKEN}", "host": "APP.example.com", "x_forwarded_for": "192.0.2.7"}
    assert (await ask(application, "/llm-streams/data.json", client="192.0.2.7", **right)).status_code == 200


@pytest.mark.anyio
async def test_we_do_not_observe_ourselves(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application whose served streams are observed may have the page: its event stream is none of them."""
    monkeypatch.setattr(app.StatusApp.__init__, "__kwdefaults__", {"lasts": 0.1})
    answer = await ask(mounted(), "/llm-streams/events")
    assert answer.status_code == 200
    health = otel_llmstream.health()
    assert (sum(health.served.values()), health.internal_errors, captured.spans) == (0, 0, ())


def test_a_client_that_reads_the_page(captured: Captured, url: str, http: httpx2.Client) -> None:
    """Nor is it a stream of an LLM for a process that reads it."""
    with http.stream("GET", url + "events") as response:
        found = events(response)
        for _ in range(4):
            next(found)
        assert otel_llmstream.health().active == 0
    assert (captured.spans, otel_llmstream.recent().calls) == ((), ())


# --- the application does not notice it ---------------------------------------------------------------------------


def test_the_loggers_of_a_web_server_stay_as_they_are(player: Player, caplog: pytest.LogCaptureFixture) -> None:
    """An application that runs in uvicorn keeps its log of requests, and our requests are not in it."""
    names = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")

    def state() -> list[Any]:
        loggers = [logging.getLogger(name) for name in names]
        return [(it.level, list(it.handlers), it.propagate, it.disabled) for it in loggers]

    before = state()
    with caplog.at_level(logging.INFO):
        found = served()
        with httpx2.Client(trust_env=False) as client:
            assert client.get(found + "data.json").status_code == 200
        PROCESS.page.stop()
    assert state() == before
    ours = [record.getMessage() for record in caplog.records if record.name != "httpx2"]
    assert ours == [f"the live page is at {found}"]


def test_a_port_that_is_taken(player: Player, url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A second process says once that it has no page, and goes on."""
    port = int(url.rstrip("/").rpartition(":")[2])
    second = _status_page.StatusPage(PROCESS.page._source, lambda: None)
    second.serve(Settings(status_port=port))
    assert second.url is None
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"port {port}: " in line
    assert f"(process {os.getpid()})" in line
    assert "another process of the same application" in line


def test_the_end_of_the_process_is_not_prepared_early(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application may set its providers up after `instrument()`. Our last spans must end before they shut down."""
    monkeypatch.setattr(PROCESS, "at_exit", False)
    served()
    PROCESS.page.stop()
    assert (PROCESS.at_exit, PROCESS.at_fork) == (False, hasattr(os, "fork"))


def test_packages_are_missing(
    player: Player, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`instrument()` says what to install, and goes on. `status_app` raises: the application cannot mount nothing."""
    monkeypatch.setattr(_status_page, "find_spec", lambda name: None if name == "uvicorn" else name)
    PROCESS.page.serve(Settings(status_port=0))
    assert (PROCESS.page.url, "pip install 'otel-llmstream[status]'" in caplog.text) == (None, True)
    with pytest.raises(ImportError, match=r"otel-llmstream\[status\]"):
        otel_llmstream.status_app()


def test_an_open_page_ends_with_the_server(player: Player, http: httpx2.Client) -> None:
    """`uninstrument()` ends the event streams and frees the port. It can be served again."""
    found = served()
    with http.stream("GET", found + "events") as response:
        shown = events(response)
        next(shown)
        PROCESS.page.stop()
        with pytest.raises(httpx2.TransportError):
            list(shown)
    with pytest.raises(httpx2.ConnectError):
        http.get(found)
    again = served(status_port=int(found.rstrip("/").rpartition(":")[2]))
    assert http.get(again).status_code == 200
    PROCESS.page.stop()


PROGRAM = """
import os, sys, threading
import httpx2
import otel_llmstream
from otel_llmstream._instrumentor import PROCESS

otel_llmstream.instrument(status_port=0, http_spans=False)
url = PROCESS.page.url
client = httpx2.Client(timeout=60, trust_env=False)
stream = client.send(client.build_request("GET", url + "events"), stream=True)
lines = stream.iter_lines()
next(lines)
"""

ENDS = """
print("ended", flush=True)
"""

FORKS = """
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.close(writing)
    os.read(reading, 1)  # until the parent has closed its page
    try:
        otel_llmstream.instrument(status_port=0)  # it is on already
        assert PROCESS.page.url is None
        otel_llmstream.uninstrument()
        otel_llmstream.instrument(status_port=0)
        with httpx2.Client(timeout=60, trust_env=False) as mine:
            assert mine.get(PROCESS.page.url + "data.json").json()["pid"] == os.getpid()
        otel_llmstream.uninstrument()
        print("child", flush=True)
    finally:
        sys.stdout.flush()
    sys.exit(0)
with httpx2.Client(timeout=60, trust_env=False) as other:
    assert other.get(url + "data.json").json()["pid"] == os.getpid()
next(lines)
otel_llmstream.uninstrument()
try:
    for line in lines:  # ends, though the child has had a copy of the connection
        pass
except httpx2.TransportError:
    pass
otel_llmstream.instrument(status_port=int(url.rstrip("/").rpartition(":")[2]))  # free, though the child lives
assert PROCESS.page.url == url
os.close(writing)
assert os.waitpid(child, 0)[1] == 0
print("ended", flush=True)
"""


def run(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "app.py"
    script.write_text(PROGRAM + text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "COV"))}
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", script],
        env={**environment, "OTEL_TRACES_EXPORTER": "none"}, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was printed, but for the client that the program leaves open on purpose, and the second `instrument()`."""
    known = ("unclosed <socket.socket", "  ", "already instrumented", "ResourceWarning")
    return [line for line in done.stderr.splitlines() if not any(it in line for it in known) and line.strip()]


def test_the_process_ends_quietly(tmp_path: Path) -> None:
    """A page that is open does not keep a process from ending, and nothing is printed."""
    done = run(tmp_path, ENDS)
    assert (done.returncode, done.stdout, complaints(done)) == (0, "ended\n", [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork(tmp_path: Path) -> None:
    """The page stays the parent's: the child lets go of its sockets, and may serve a page of its own."""
    done = run(tmp_path, FORKS)
    assert (done.returncode, sorted(done.stdout.split()), complaints(done)) == (0, ["child", "ended"], []), done.stderr


def test_trio(player: Player) -> None:
    """The mounted page also works in an event loop of trio."""
    answer = anyio.run(ask, mounted(), "/llm-streams/data.json", backend="trio")
    assert answer.json()["pid"] == os.getpid()
