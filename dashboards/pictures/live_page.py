"""Generate the pictures of the live page: real calls to the chaos server, the page that the process serves, Chromium.

    python dashboards/pictures/live_page.py [FOLDER]

Needs `pip install -e ".[dev]"`, and Debian's packages `chromium` and `fonts-inter`.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from playwright.sync_api import Browser, Page, sync_playwright

import otel_llmstream
from otel_llmstream import Settings
from otel_llmstream.testing import ChaosServer

HERE: Final = Path(__file__).resolve().parent
WIDTH: Final = 1_280
PORT: Final = 9465

Traffic = tuple[tuple[str, str, float], ...]
"""The model, the scenario that the server plays, and the seconds between two calls."""

HEALTHY: Final[Traffic] = (
    ("gpt-5.2", "ok?chunks=160&delay=0.03", 0.2),
    ("gpt-5.2", "ok?chunks=90&delay=0.05", 0.4),
    ("gpt-5.2-mini", "ok?chunks=60&delay=0.02", 0.3),
    ("claude-opus-4-8", "ok?chunks=220&delay=0.04", 0.1),
    ("gemini-3-flash", "tool-calls?delay=0.05", 0.9),
    ("gpt-5.2", "ok?chunks=300&delay=0.02", 0.5),
)
BROKEN: Final[Traffic] = (
    *HEALTHY,
    ("gpt-5.2", "silence?hold=30", 0.5),
    ("claude-opus-4-8", "no-finish?chunks=40&at=30&delay=0.04", 1.1),
    ("gpt-5.2-mini", "reset?chunks=80&at=50&delay=0.03", 2.3),
    ("gemini-3-flash", "error?chunks=30&at=12&delay=0.05", 2.9),
    ("gpt-5.2-mini", "malformed?chunks=30&at=9&delay=0.05", 4.3),
    ("gpt-5.2", "500", 5.0),
)


class Renaming(httpx2.HTTPTransport):
    """Asks the server for a scenario, whatever model the application asked for."""

    def __init__(self, scenario: str) -> None:
        super().__init__()
        self._scenario = scenario

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request with another body."""
        body = json.dumps({**json.loads(request.read()), "model": self._scenario}).encode()
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
        renamed = httpx2.Request(request.method, request.url, headers=headers, content=body)
        renamed.extensions = request.extensions
        return super().handle_request(renamed)


def main() -> None:
    """Generate all pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("live_page.py: not on the PATH: chromium")
    otel_llmstream.instrument(
        settings=Settings(stall_after=2.0), tracer_provider=TracerProvider(), meter_provider=MeterProvider(),
        http_spans=False, status_port=PORT,
    )  # fmt: skip
    with ChaosServer() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with traffic(server, HEALTHY):
            time.sleep(25)
            shoot(browser, folder / "page-healthy.png")
        with traffic(server, BROKEN):
            time.sleep(25)
            shoot(browser, folder / "page-failures.png", ready=has_stalled)
            shoot(browser, folder / "page-call.png", ready=open_call)
            shoot(browser, folder / "page-dark.png", scheme="dark", ready=has_stalled)
        browser.close()
    otel_llmstream.uninstrument()


@contextmanager
def traffic(server: ChaosServer, calls: Traffic) -> Iterator[None]:
    """Make calls while the block lasts."""
    ending = threading.Event()
    threads = [threading.Thread(target=call, args=(server, ending, *it)) for it in calls]
    for thread in threads:
        thread.start()
    yield
    ending.set()
    for thread in threads:
        thread.join()


def call(server: ChaosServer, ending: threading.Event, model: str, scenario: str, pause: float) -> None:
    """Make one call after the other."""
    body: Mapping[str, Any] = {
        "model": model,
        "stream": True,
        "messages": [],
        "stream_options": {"include_usage": True},
    }
    with httpx2.Client(transport=Renaming(scenario), timeout=8) as client:
        while not ending.wait(pause):
            try:
                with client.stream("POST", f"{server.openai_url}/chat/completions", json=body) as response:
                    for _ in response.iter_raw():
                        pass
            except httpx2.HTTPError:
                continue


def has_stalled(page: Page) -> None:
    """Wait until a stream hangs."""
    page.wait_for_selector("#open tr.stalled")


def open_call(page: Page) -> None:
    """Open a call that was cut off."""
    page.get_by_label("failures only").check()
    page.locator("#calls tbody tr.truncated").first.click()
    page.wait_for_selector("#line svg")


def shoot(browser: Browser, file: Path, *, scheme: str = "light", ready: Callable[[Page], None] | None = None) -> None:
    """Take one picture."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": WIDTH, "height": 900})  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{PORT}/")
    page.wait_for_selector("#calls tbody tr:not(.space)")
    page.wait_for_timeout(1500)
    if ready is not None:
        ready(page)
    page.screenshot(path=file, full_page=ready is not open_call)
    context.close()
    print(f"{file}: {file.stat().st_size // 1000} kB", flush=True)


if __name__ == "__main__":
    main()
