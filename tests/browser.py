"""Debian's Chromium, driven by Playwright. Nothing is downloaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import programs
from conditions import PATIENCE
from playwright.sync_api import Browser, Page, sync_playwright


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser; a test without one is skipped, but not in CI."""
    program = programs.binary("chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield found
        finally:
            found.close()


@contextmanager
def opened(found: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page. What it complains about, on its console or as an error, fails the test."""
    complaints: list[str] = []
    context = found.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.on("console", lambda it: complaints.append(it.text) if it.type in ("error", "warning") else None)
    page.on("pageerror", lambda it: complaints.append(str(it)))
    try:
        page.goto(url)
        yield page
    finally:
        context.close()
    assert complaints == []
