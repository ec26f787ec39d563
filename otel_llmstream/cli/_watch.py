"""The command ``otel-llmstream watch``. In: the address of a live page. Out: the same in a terminal, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

from ._urls import web_url
from ._watch_events import Event, WatchError, follow

TOKEN_VARIABLE: Final = "OTEL_LLMSTREAM_STATUS_TOKEN"  # noqa: S105 - the name of a variable

_UNKNOWN: Final = "This is no live page, or that of another version of otel-llmstream."


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line's parser."""
    parser = subparsers.add_parser(
        "watch",
        help="show the live page of a process in the terminal",
        description="Show the open streams and the last calls of a process that serves the live page: the one that "
        "called instrument(status_port=9465), or an application that mounts status_app(). If the output is no "
        "terminal, each ended call is one line. Ctrl-C ends it.",
        epilog="Exit status: 0 after Ctrl-C, 1 if a page that was there is gone, 2 if there was none.",
    )
    parser.add_argument("url", metavar="URL", help="address of the page, for example http://127.0.0.1:9465/")
    parser.add_argument(
        "--token-env",
        default=TOKEN_VARIABLE,
        metavar="NAME",
        help="environment variable that has the page's token (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command. The exit status is 0 after Ctrl-C, 1 if a page that was there is gone, 2 if there was none."""
    url = args.url if "://" in args.url else f"http://{args.url}"
    parts = web_url(url)
    if parts is None or not _has_port(url):
        print(f"otel-llmstream watch: not a web address: {args.url}", file=sys.stderr)
        return 2
    if find_spec("rich") is None:
        print("otel-llmstream watch: it needs rich: pip install rich", file=sys.stderr)
        return 2
    events = _Events(follow(parts, os.environ.get(args.token_env) or None, args.token_env))
    try:
        (_draw if sys.stdout.isatty() else _print)(url, events)
    except KeyboardInterrupt:
        return 0
    except WatchError as error:
        gone = "It is gone. " if events.began else ""
        print(f"otel-llmstream watch: {url}: {gone}{error}", file=sys.stderr)
        return 1 if events.began else 2
    except (KeyError, TypeError):
        print(f"otel-llmstream watch: {url}: {_UNKNOWN}", file=sys.stderr)
        return 2
    return 0


def _has_port(url: str) -> bool:
    parts = web_url(url)
    try:
        return parts is not None and parts.port != 0
    except ValueError:  # it is not a number, or out of range
        return False


class _Events:
    """The events, and whether one has come."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self.began = False

    def __iter__(self) -> Iterator[Event]:
        for event in self._events:
            self.began = True
            yield event


def _draw(url: str, events: _Events) -> None:
    from rich.console import Console
    from rich.live import Live

    from ._watch_view import View

    view = View(url)
    console = Console(highlight=False, markup=False, emoji=False)
    with Live(view, console=console, auto_refresh=False, screen=True) as live:
        for name, value in events:
            view.take(name, value)
            if name == "picture":
                live.refresh()


def _print(_url: str, events: _Events) -> None:
    from ._watch_view import line

    for name, value in events:
        if name == "calls":
            for call in value["calls"]:
                print(line(call), flush=True)
