"""The live page in a real browser: what a person sees while streams are open, and after they have ended."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from browser import browser, opened
from conditions import PATIENCE
from playwright.sync_api import expect
from programs import binary
from scripted_streams import CUT, HEALTHY, Player, chunk

from otel_llmstream import Settings
from otel_llmstream._instrumentor import PROCESS
from otel_llmstream.core.clock import SystemClock
from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.engine.observer import Observer
from otel_llmstream.testing import FakeClock, capture

pytestmark = pytest.mark.external

expect.set_options(timeout=PATIENCE * 1000)

TOKEN = "a-token-of-the-tests"
SECRET = "the prompt of the user"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture
def player() -> Iterator[Player]:
    clock = FakeClock()
    with capture(settings=Settings(stall_after=5.0), clock=clock) as captured:
        yield Player(captured.engine, clock)


@pytest.fixture
def url(player: Player) -> Iterator[str]:
    PROCESS.page.serve(Settings(status_port=0))
    assert PROCESS.page.url is not None
    yield PROCESS.page.url
    PROCESS.page.stop()


def streaming(player: Player, model: str, chunks: int = 3) -> Observer:
    """A stream of which some chunks have come. The application waits for the next one."""
    observer = player.open(model, messages=[{"role": "user", "content": SECRET}])
    player.answer(observer)
    player.feed(observer, *[chunk(SECRET)] * chunks, gap=0.0625, hold=0.03125)
    observer.asked_at = player.clock.now()
    return observer


def row(page: Any, table: str, text: str) -> Any:
    return page.locator(f"#{table} tbody tr:not(.space)").filter(has_text=text)


def test_streams_appear_while_they_are_open(player: Player, url: str, chromium: Any) -> None:
    """A stream is in the table from its request to its end. Then it is among the recent calls."""
    with opened(chromium, url) as page:
        expect(page.locator("#connection")).to_have_text("live")
        expect(page.locator("#open-none")).to_be_visible()
        observer = player.open("gpt-live")
        expect(row(page, "open", "gpt-live")).to_contain_text("the headers")
        player.answer(observer)
        player.feed(observer, chunk())
        expect(row(page, "open", "gpt-live")).to_contain_text("the application has it")
        player.feed(observer, *HEALTHY)
        player.end(observer)
        expect(row(page, "open", "gpt-live")).to_have_count(0)
        expect(row(page, "calls", "gpt-live")).to_contain_text("✓ completed")
        expect(page.locator("#outcomes")).to_have_attribute("aria-label", re.compile("1 completed, 0 truncated"))


def test_a_hanging_stream_is_marked_while_it_hangs(player: Player, url: str, chromium: Any) -> None:
    """It is the first row, and says what it waits for. When the next chunk comes, it is as the others again."""
    with opened(chromium, url) as page:
        streaming(player, "well")
        observer = streaming(player, "hanging")
        expect(row(page, "open", "hanging")).not_to_have_class("stalled")
        player.clock.advance(4.0)
        for other in tuple(player.engine.live):
            if other is not observer:
                other.asked_at = player.clock.now()
        player.clock.advance(2.0)
        expect(row(page, "open", "hanging")).to_have_class("stalled")
        expect(row(page, "open", "hanging")).to_contain_text("▲ stalled: the next chunk")
        expect(row(page, "open", "well")).not_to_have_class("stalled")
        assert "hanging" in page.locator("#open tbody tr:not(.space)").first.inner_text()
        expect(page.locator("#tiles div").filter(has_text="stalled now")).to_contain_text("1")
        bar = row(page, "open", "hanging").locator(".bar")
        expect(bar).to_have_attribute("aria-label", re.compile(r"network wait \d+\.\d+ s, hold \d+ ms"))
        observer.feed(chunk())
        observer.asked_at = player.clock.now()
        expect(row(page, "open", "hanging")).not_to_have_class("stalled")


SINCE_SHOWN = """() => {
  const find = () => [...document.querySelectorAll("#calls tbody tr")].find((it) => it.innerText.includes("broken"));
  window.shown = new Promise((resolve) => {
    const look = () => (find() ? resolve([Date.now(), find().innerText]) : requestAnimationFrame(look));
    look();
  });
}"""


def test_a_failure_shows_its_reason_at_once(player: Player, url: str, chromium: Any) -> None:
    """It takes less than a second from the end of the stream until its reason is drawn, as the browser's clock says."""
    with opened(chromium, url) as page:
        expect(page.locator("#connection")).to_have_text("live")
        took = []
        for number in range(5):  # a busy machine may take a nap
            page.evaluate(SINCE_SHOWN.replace("broken", f"broken{number}"))
            observer = streaming(player, f"broken{number}")
            before = page.evaluate("Date.now()")
            observer.end(End.FAILURE, ConnectionResetError("Connection reset by peer"))
            at, text = page.evaluate("window.shown")
            took.append(at - before)
            assert "✕ failed" in text
            assert "connection_reset, in streaming · Connection reset by peer" in text
        assert min(took) < 1000, took
        expect(page.locator("#reasons")).to_contain_text("5 connection_reset")


def test_it_is_usable_by_keyboard(player: Player, url: str, chromium: Any) -> None:
    """Tab reaches the tables, arrow keys move, Enter opens a call, Escape closes it, and the focus is where it was."""
    for number in range(40):
        player.play(*HEALTHY, model=f"call-{number}")
    streaming(player, "open-one")
    with opened(chromium, url) as page:
        expect(row(page, "calls", "call-39")).to_be_visible()
        page.keyboard.press("Tab")
        assert "open-one" in page.evaluate("document.activeElement.innerText")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.value") == "all"
        page.keyboard.press("Tab")
        assert "call-39" in page.evaluate("document.activeElement.innerText")
        for _ in range(20):
            page.keyboard.press("ArrowDown")
        assert "call-19" in page.evaluate("document.activeElement.innerText")
        player.play(*HEALTHY, model="new")
        expect(page.locator("#calls-count")).to_have_text("41")
        assert "call-19" in page.evaluate("document.activeElement.innerText")
        page.keyboard.press("Enter")
        expect(page.locator("#call")).to_be_visible()
        expect(page.locator("#call-title")).to_have_text("✓ call-19: completed")
        assert page.locator("#line .chunk").count() == 3
        expect(page.locator("#line")).to_contain_text("first chunk 375 ms")
        page.keyboard.press("Escape")
        expect(page.locator("#call")).to_be_hidden()
        assert "call-19" in page.evaluate("document.activeElement.innerText")
        page.keyboard.press("End")
        assert "call-0" in page.evaluate("document.activeElement.innerText")
        page.keyboard.press("Home")
        assert "new" in page.evaluate("document.activeElement.innerText")


def test_a_click_opens_a_call(player: Player, url: str, chromium: Any) -> None:
    """Its time line has its chunks and its end, and its facts have no content."""
    player.play(*CUT, model="cut", gap=0.5)
    with opened(chromium, url) as page:
        row(page, "calls", "cut").click()
        expect(page.locator("#call-reason")).to_have_text("stream_truncated, in streaming")
        expect(page.locator("#line .end.truncated")).to_have_count(1)
        expect(page.locator("#line")).to_contain_text("last chunk 1.25 s")
        expect(page.locator("#facts")).to_contain_text("not seen")
        page.locator("#close").click()
        expect(page.locator("#call")).to_be_hidden()


def test_failures_only(player: Player, url: str, chromium: Any) -> None:
    """A filter leaves out what did not fail. Failures stay, however many successes come after them."""
    player.play(*CUT, model="cut")
    for number in range(70):
        player.play(*HEALTHY, model=f"ok-{number}")
    with opened(chromium, url) as page:
        expect(page.locator("#calls-count")).to_have_text("65")
        page.get_by_label("failures only").check()
        expect(page.locator("#calls-count")).to_have_text("1")
        expect(row(page, "calls", "cut")).to_contain_text("stream_truncated")


def brightness(page: Any, element: str, name: str) -> float:
    colour = page.evaluate(f"getComputedStyle(document.querySelector('{element}')).{name}")
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])

    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(player: Player, url: str, chromium: Any, scheme: str) -> None:
    """The page follows the system's choice, and its text has the contrast that WCAG AA asks for in both modes."""
    player.play(*CUT, model="cut")
    player.play(*HEALTHY, model="ok")
    player.play(status=500, model="refused")
    streaming(player, "hanging")
    player.clock.advance(6.0)
    with opened(chromium, url, color_scheme=scheme) as page:
        expect(row(page, "calls", "cut")).to_be_visible()
        ground = brightness(page, "body", "backgroundColor")
        assert (ground > 0.5) is (scheme == "light")
        for element, behind in (
            ("body", "body"), ("#process", "body"), ("#calls td", "section"), ("#calls td.muted", "section"),
            ("tr.completed .verdict", "section"), ("tr.truncated .verdict", "section"),
            ("tr.failed .verdict", "section"), ("tr.stalled .phase", "tr.stalled"), ("tr.stalled td", "tr.stalled"),
        ):  # fmt: skip
            pair = brightness(page, element, "color"), brightness(page, behind, "backgroundColor")
            assert (max(pair) + 0.05) / (min(pair) + 0.05) >= 4.5, (element, pair)


def test_no_prompt_is_in_the_page(player: Player, url: str, chromium: Any) -> None:
    """Neither what was asked nor what was answered is in the page, or in anything that it loads."""
    with opened(chromium, url) as page:
        observer = streaming(player, "gpt-live")
        expect(row(page, "open", "gpt-live")).to_be_visible()
        player.feed(observer, *HEALTHY)
        player.end(observer)
        row(page, "calls", "gpt-live").click()
        assert SECRET not in page.content()
        document = page.evaluate("fetch('data.json').then((it) => it.text())")
        assert "gpt-live" in document
        assert SECRET not in document


def test_it_loads_nothing_from_elsewhere(player: Player, url: str, chromium: Any) -> None:
    """Every request goes to the page's own server."""
    asked: list[str] = []
    context = chromium.new_context()
    page = context.new_page()
    page.on("request", lambda it: asked.append(it.url))
    page.goto(url)
    expect(page.locator("#connection")).to_have_text("live")
    context.close()
    assert len(asked) >= 10
    assert [it for it in asked if not it.startswith(url)] == []


class _Evil(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>evil</title>")

    def log_message(self, *_args: object) -> None: ...


@pytest.fixture
def other_origin() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Evil)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


READS = """async (url) => {
  const results = [];
  for (const mode of ["cors", "no-cors"]) {
    try { results.push((await (await fetch(url, { mode })).text()).length); } catch { results.push("refused"); }
  }
  const frame = document.createElement("iframe");
  frame.src = url;
  const loaded = new Promise((resolve) => { frame.onload = resolve; });
  document.body.append(frame);
  await loaded;
  try { results.push(frame.contentDocument === null ? "refused" : "shown"); } catch { results.push("refused"); }
  return results;
}"""


def test_a_page_of_another_origin_gets_nothing(player: Player, url: str, chromium: Any, other_origin: str) -> None:
    """It can neither read the data nor show the page in a frame, though it is on the same machine."""
    player.play(*CUT, model="cut")
    context = chromium.new_context()
    page = context.new_page()
    page.goto(other_origin)
    assert page.evaluate(READS, url + "data.json") == ["refused", "refused", "refused"]
    assert page.frames[1].content().count("cut") == 0
    context.close()


def test_a_name_that_was_made_to_point_here(player: Player, url: str, chromium: Any) -> None:
    """A browser that is led here by a foreign name gets a refusal."""
    port = url.rstrip("/").rpartition(":")[2]
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    found = chromium.browser_type.launch(executable_path=binary("chromium"), args=["--no-sandbox", rules])
    try:
        answer = found.new_page().goto(f"http://evil.example:{port}/data.json")
        assert answer is not None
        assert answer.status == 421
    finally:
        found.close()


def test_a_token(player: Player, chromium: Any) -> None:
    """The page asks for it, or gets it with the address. It does not stay in the address, and survives a reload."""
    PROCESS.page.serve(Settings(status_port=0, status_token=TOKEN))
    url = PROCESS.page.url
    assert url is not None
    player.play(*CUT, model="cut")
    try:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(url)
        expect(page.get_by_label("This page needs its token")).to_be_focused()
        for given in ("a-wrong-token-that-is-long", TOKEN):
            expect(row(page, "calls", "cut")).to_have_count(0)
            page.get_by_label("This page needs its token").fill(given)
            page.keyboard.press("Enter")
        expect(row(page, "calls", "cut")).to_be_visible()
        expect(page.locator("#ask")).to_be_hidden()
        page.reload()
        expect(row(page, "calls", "cut")).to_be_visible()
        context.close()
        with opened(chromium, f"{url}#token={TOKEN}") as page:
            expect(row(page, "calls", "cut")).to_be_visible()
            assert page.url == url
    finally:
        PROCESS.page.stop()


def test_a_process_that_restarts(player: Player, chromium: Any) -> None:
    """The page says that the process does not answer, asks again, and forgets the calls of the old process."""
    PROCESS.page.serve(Settings(status_port=0))
    url = PROCESS.page.url
    assert url is not None
    player.play(*CUT, model="old")
    context = chromium.new_context()
    page = context.new_page()
    page.goto(url)
    expect(row(page, "calls", "old")).to_be_visible()
    PROCESS.page.stop()
    expect(page.locator("#connection")).to_contain_text("does not answer")
    telemetry = PROCESS.telemetry
    assert telemetry is not None
    telemetry.reset_after_fork()  # a new process has kept nothing
    player.play(*CUT, model="new")
    PROCESS.page.serve(Settings(status_port=int(url.rstrip("/").rpartition(":")[2])))
    try:
        expect(page.locator("#connection")).to_have_text("live")
        expect(row(page, "calls", "new")).to_be_visible()
        expect(row(page, "calls", "old")).to_have_count(0)
    finally:
        context.close()
        PROCESS.page.stop()


FRAMES = """(seconds) => new Promise((resolve) => {
  const [frames, began] = [[], performance.now()];
  const tick = (now) => {
    frames.push(now - began);
    if (now - began < seconds * 1000) requestAnimationFrame(tick);
    else resolve(frames);
  };
  requestAnimationFrame(tick);
})"""
"""When the browser draws, in milliseconds."""


@contextmanager
def very_many(count: int) -> Iterator[Callable[[], None]]:
    """Very many open streams on the real clock, and a function that gives each of them a chunk."""
    with capture(settings=Settings(stall_after=5.0), clock=SystemClock()) as captured:
        player = Player(captured.engine, FakeClock())
        observers = [player.open(f"model-{number}") for number in range(count)]
        for observer in observers:
            observer.responded(ResponseInfo(200, "text/event-stream", "", "req", "1.1", None))

        def move() -> None:
            for observer in observers:
                observer.asked_at = observer.clock()
                observer.feed(chunk())

        yield move


def test_a_thousand_streams(chromium: Any) -> None:
    """Of a thousand open streams only those in view are drawn. Scrolling reaches all of them, and frames go on."""
    with very_many(1000) as move:
        PROCESS.page.serve(Settings(status_port=0))
        try:
            assert PROCESS.page.url is not None
            with opened(chromium, PROCESS.page.url) as page:
                expect(page.locator("#open-count")).to_have_text("1,000")
                move()
                rows = page.locator("#open tbody tr:not(.space)")
                assert rows.count() < 60
                page.evaluate("document.querySelector('#open-view').scrollTop = 1e9")
                expect(rows.last).to_have_attribute("aria-rowindex", "1001")
                assert rows.count() < 60
                assert len(page.evaluate(FRAMES, 2)) > 2
        finally:
            PROCESS.page.stop()
