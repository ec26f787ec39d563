"""Generate the pictures: traffic, Prometheus, a page of Grafana's components, Chromium, the demo, and the live page.

    python dashboards/pictures/make.py [--seconds 720] [--output dashboards/pictures]

Needs `pip install -e ".[dev]"`, Node.js 20, and Debian's packages `prometheus`, `chromium` and `fonts-inter`.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

HERE: Final = Path(__file__).resolve().parent
PROGRAMS: Final = ("prometheus", "chromium", "npm", "node")

SCRAPE: Final = 5
SCRAPE_WAIT: Final = 3 * SCRAPE
"""Seconds after the last call until it has been scraped several times."""

WIDTH: Final = 1_600
WAIT_SECONDS: Final = 60.0

PICTURES: Final = (
    {"board": "overview", "file": "overview.png", "to": "Latency"},
    {"board": "overview", "file": "overview-below.png", "from": "Latency", "to": "Tokens and volume"},
    {"board": "failures", "file": "failures.png", "to": "By provider, model and server"},
    {
        "board": "failures",
        "file": "failures-below.png",
        "from": "By provider, model and server",
        "to": "Single calls: traces and log lines",
    },
    {"board": "latency", "file": "latency.png", "to": "First chunk, first answer, last chunk"},
    {
        "board": "latency",
        "file": "latency-below.png",
        "from": "First chunk, first answer, last chunk",
        "to": "Single calls",
    },
    {"board": "served", "file": "served.png", "to": "Outcomes by route"},
    {
        "board": "served",
        "file": "served-below.png",
        "from": "Outcomes by route",
        "to": "Single streams: traces and log lines",
    },
)
"""The pictures: the dashboard, the file, and the rows at which the picture begins and ends."""

CONFIG: Final = """
global:
  scrape_interval: {scrape}s
scrape_configs:
- job_name: shop
  static_configs:
  - targets: ["{target}"]
"""


def main() -> None:
    """Generate all pictures."""
    parser = argparse.ArgumentParser(description="Generate the pictures of README.")
    parser.add_argument(
        "--seconds",
        type=int,
        default=720,
        help="seconds of traffic; the first half has no problems (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, default=HERE, help="the output folder (default: the folder of this file)"
    )
    args = parser.parse_args()
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        sys.exit(f"make.py: not on the PATH: {', '.join(missing)}")
    args.output.mkdir(parents=True, exist_ok=True)
    build()
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder, ExitStack() as stack:
        store, ended = run_traffic(stack, Path(folder), args.seconds)
        shoot(stack, store, ended - args.seconds // 2, ended, args.output)
    subprocess.run([sys.executable, HERE / "terminal.py", args.output], check=True)
    subprocess.run([sys.executable, HERE / "live_page.py", args.output], check=True)
    for path in sorted((*args.output.glob("*.png"), *args.output.glob("*.svg"))):
        print(f"{path}: {path.stat().st_size // 1000} kB")


def build() -> None:
    """Build the page with the packages of the lock file."""
    if not (HERE / "node_modules").exists():
        # Install scripts are not run. `--legacy-peer-deps`: Grafana's packages disagree on the versions of their peers.
        # `npm ci` is not used: it rejects a lock file without the builds for other systems, and some registries do not
        # have these builds.
        install = ("npm", "install", "--no-save", "--ignore-scripts", "--legacy-peer-deps")
        subprocess.run(install, cwd=HERE, check=True)
    subprocess.run(["npm", "run", "--silent", "build", "--", "--logLevel", "warn"], cwd=HERE, check=True)


def run_traffic(stack: ExitStack, folder: Path, seconds: int) -> tuple[str, float]:
    """Run the traffic to its end while Prometheus scrapes it. Returns Prometheus's URL and the end of the traffic."""
    port = free_port()
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    traffic = stack.enter_context(running(sys.executable, HERE / "traffic.py", str(seconds), text=True, **pipes))
    target = urlsplit(traffic.stdout.readline().strip()).netloc
    ended = time.time() + seconds
    (folder / "prometheus.yml").write_text(CONFIG.format(scrape=SCRAPE, target=target))
    log = stack.enter_context((folder / "log").open("w"))
    storage = f"--storage.tsdb.path={folder / 'data'}"
    listen = f"--web.listen-address=127.0.0.1:{port}"
    config = f"--config.file={folder / 'prometheus.yml'}"
    stack.enter_context(running("prometheus", config, storage, listen, stdout=log, stderr=log))
    print(f"{seconds} s of traffic ...", flush=True)
    assert traffic.stdout.readline().strip() == "done", "the traffic ended too early"
    time.sleep(SCRAPE_WAIT)
    return f"http://127.0.0.1:{port}", ended


def shoot(stack: ExitStack, store: str, begin: float, end: float, output: Path) -> None:
    """Take pictures of the dashboards for this time range. They compare it with the range of equal length before it."""
    port = free_port()
    preview = ("node", HERE / "node_modules/vite/bin/vite.js", "preview", "--port", str(port))
    environment = {**os.environ, "PROMETHEUS": store}
    stack.enter_context(running(*preview, cwd=HERE, env=environment, stdout=subprocess.DEVNULL))
    page = f"http://127.0.0.1:{port}/"
    wait_for(page)
    asked = {"from": iso(begin), "to": iso(end), "scrape": f"{SCRAPE}s", "var-before": span(round(end - begin))}
    jobs = [
        {
            **picture,
            "url": f"{page}?{urlencode({'board': picture['board'], **asked})}",
            "file": str(output.resolve() / picture["file"]),
            "width": WIDTH,
        }
        for picture in PICTURES
    ]
    subprocess.run(["node", HERE / "shoot.mjs", shutil.which("chromium"), json.dumps(jobs)], check=True)


@contextmanager
def running(*command: Any, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a process until the block ends."""
    with subprocess.Popen(command, **more) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_for(url: str) -> None:
    """Wait until the URL answers."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            urlopen(url, timeout=WAIT_SECONDS).close()  # noqa: S310 - a page of ours
        except (URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def iso(seconds: float) -> str:
    """A time in the format of the page's parameters."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def span(seconds: int) -> str:
    """A duration, in minutes if it is a whole number of them."""
    return f"{seconds}s" if seconds % 60 else f"{seconds // 60}m"


def free_port() -> int:
    """A free TCP port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


if __name__ == "__main__":
    main()
