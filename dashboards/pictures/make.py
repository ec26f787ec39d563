"""The pictures of README, anew: traffic, Prometheus, the page of Grafana's components, Chromium; and the demo's.

    python dashboards/pictures/make.py [--seconds 720] [--output dashboards/pictures]

Needs `pip install -e ".[demo]"`, Node.js 20, and Debian's packages `prometheus`, `chromium` and `fonts-inter`.
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
SETTLE: Final = 3 * SCRAPE
"""Seconds after the last call until it has been scraped, more than once."""

WIDTH: Final = 1_600
PATIENCE: Final = 60.0

PICTURES: Final = (
    {"board": "overview", "file": "overview.png", "to": "Latency"},
    {"board": "overview", "file": "overview-below.png", "from": "Latency", "to": "Tokens and volume"},
    {"board": "failures", "file": "failures.png", "to": "For whom"},
    {"board": "failures", "file": "failures-below.png", "from": "For whom", "to": "One by one: traces and log lines"},
    {"board": "latency", "file": "latency.png", "to": "First chunk, last chunk"},
    {"board": "latency", "file": "latency-below.png", "from": "First chunk, last chunk", "to": "One by one"},
)
"""From which row to which, of which dashboard, goes into which file."""

CONFIG: Final = """
global:
  scrape_interval: {scrape}s
scrape_configs:
- job_name: shop
  static_configs:
  - targets: ["{target}"]
"""


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description="Make the pictures of README anew.")
    parser.add_argument("--seconds", type=int, default=720, help="of traffic; half of it calm (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=HERE, help="the folder (default: beside this file)")
    args = parser.parse_args()
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        sys.exit(f"make.py: not on the PATH: {', '.join(missing)}")
    args.output.mkdir(parents=True, exist_ok=True)
    build()
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder, ExitStack() as stack:
        store, ended = played(stack, Path(folder), args.seconds)
        shoot(stack, store, ended - args.seconds // 2, ended, args.output)
    subprocess.run([sys.executable, HERE / "terminal.py", args.output], check=True)
    for path in sorted((*args.output.glob("*.png"), *args.output.glob("*.svg"))):
        print(f"{path}: {path.stat().st_size // 1000} kB")


def build() -> None:
    """The page, with the packages that the lock file names."""
    if not (HERE / "node_modules").exists():
        # No package's scripts are run; Grafana's packages disagree on their peers' versions. Not `npm ci`: it refuses a
        # lock file without the builds for other systems, which not every registry has.
        install = ("npm", "install", "--no-save", "--ignore-scripts", "--legacy-peer-deps")
        subprocess.run(install, cwd=HERE, check=True)
    subprocess.run(["npm", "run", "--silent", "build", "--", "--logLevel", "warn"], cwd=HERE, check=True)


def played(stack: ExitStack, folder: Path, seconds: int) -> tuple[str, float]:
    """Let the traffic run to its end, watched by Prometheus; gives its address, and when the last call began."""
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
    time.sleep(SETTLE)
    return f"http://127.0.0.1:{port}", ended


def shoot(stack: ExitStack, store: str, begin: float, end: float, output: Path) -> None:
    """Photograph the dashboards, from one time to another; the time before is what they compare with."""
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
    """A process for as long as the block lasts."""
    with subprocess.Popen(command, **more) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_for(url: str) -> None:
    """Until somebody answers there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urlopen(url, timeout=PATIENCE).close()  # noqa: S310 - a page of ours
        except (URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def iso(seconds: float) -> str:
    """A time as the page takes it."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def span(seconds: int) -> str:
    """A duration, in minutes where they are whole."""
    return f"{seconds}s" if seconds % 60 else f"{seconds // 60}m"


def free_port() -> int:
    """One that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


if __name__ == "__main__":
    main()
