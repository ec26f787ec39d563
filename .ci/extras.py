# ruff: noqa: INP001, T201 - a script
"""The wheel in environments that have nothing else: each extra alone, one HTTP client alone, and none.

Run as `python .ci/extras.py WHEEL FOLDER` by a Python that has uv; the environments are made in FOLDER. In each one,
the package is imported with warnings as errors, and does what it promises there. The exit status is 1 if one fails.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from versions import others

SERVER: Final = """
import http.server, json, threading
CHUNK = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"w"}}]}\\n\\n'
class Cut(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(CHUNK * 3)
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Cut)
threading.Thread(target=server.serve_forever, daemon=True).start()
URL = f"http://127.0.0.1:{server.server_address[1]}/v1/chat/completions"
BODY = {"model": "m", "stream": True, "messages": []}
import otel_llmstream
otel_llmstream.instrument(http_spans=False)
"""
"""A provider whose streams are cut."""

SEEN: Final = """
(call,) = otel_llmstream.recent().calls
assert (call.error_type, call.chunks) == ("stream_truncated", 3), call
"""

NONE: Final = """
import sys
import otel_llmstream
clients = {"httpx", "httpx2", "aiohttp", "botocore", "urllib3", "requests", "grpc", "websockets", "websocket"}
otel_llmstream.instrument()
assert not clients & sys.modules.keys(), clients & sys.modules.keys()
assert otel_llmstream.health().instrumented
"""

HTTPX: Final = "import httpx\nhttpx.post(URL, json=BODY, trust_env=False)\n"
HTTPX2: Final = HTTPX.replace("httpx", "httpx2")
REQUESTS: Final = """
import requests
session = requests.Session()
session.trust_env = False
session.post(URL, json=BODY)
"""
AIOHTTP: Final = """
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession() as session, session.post(URL, json=BODY) as response:
        await response.read()
asyncio.run(main())
"""

STATUS: Final = """
import logging, urllib.request
import otel_llmstream
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logger = logging.getLogger("otel_llmstream")
logger.addHandler(handler)
logger.setLevel(logging.INFO)
otel_llmstream.instrument(status_port=0)
(url,) = [line.rpartition(" ")[2] for line in said if "live page" in line]
assert b"<title>LLM streams</title>" in urllib.request.urlopen(url).read()
assert b'"instrumented":true' in urllib.request.urlopen(url + "data.json").read()
"""

DOCTOR: Final = """
from otel_llmstream.cli import _doctor_view, main
from otel_llmstream.debugging.doctor import http2
assert main(['doctor', 'http://127.0.0.1:9/v1', '--model', 'm']) == 2
"""

CASES: Final = {
    "nothing": ("", (), NONE),
    "httpx": ("", ("httpx",), SERVER + HTTPX + SEEN),
    "httpx2": ("", ("httpx2",), SERVER + HTTPX2 + SEEN),
    "aiohttp": ("[aiohttp]", (), SERVER + AIOHTTP + SEEN),
    "requests": ("[requests]", (), SERVER + REQUESTS + SEEN),
    "websockets": ("[websockets]", (), NONE + "import websockets.sync.client\n"),
    "boto3": ("[boto3]", (), "import otel_llmstream\notel_llmstream.instrument()\nimport boto3\n"),
    "grpc": ("[grpc]", (), "import otel_llmstream\notel_llmstream.instrument()\nimport grpc\n"),
    "otlp": ("[otlp]", (), NONE + "import opentelemetry.exporter.otlp.proto.http.trace_exporter\n"),
    "prometheus": ("[prometheus]", (), "import otel_llmstream\notel_llmstream.instrument(prometheus_port=0)\n"),
    "status": ("[status]", (), STATUS),
    "monitoring": ("[monitoring]", (), "from otel_llmstream.cli import main\nassert main(['alerts']) == 0\n"),
    "doctor": (
        "[doctor]",
        (),
        DOCTOR,
    ),
    "testing": ("[testing]", (), "from otel_llmstream.testing import ChaosServer\nwith ChaosServer(): pass\n"),
    "testing-grpc": (
        "[testing-grpc]",
        (),
        "from otel_llmstream.testing.chaos.grpc import GRPCChaosServer\nwith GRPCChaosServer(): pass\n",
    ),
}
"""Name: what is installed, what else, and the program that must run there."""

EVERYWHERE: Final = ("nothing", "httpx", "aiohttp")
"""The cases that are also tried with every other CPython on the PATH."""


def main(wheel: Path, folder: Path) -> int:
    """Run all; the exit status."""
    runs = [("", sys.executable, name) for name in CASES]
    runs += [(version, program, name) for version, program in others().items() for name in EVERYWHERE]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda run: tried(*run, wheel, folder / f"{run[2]}{run[0]}"), runs))
    return 0 if all(done) else 1


def tried(version: str, program: str, name: str, wheel: Path, folder: Path) -> bool:
    """Make the environment, and run the case in it; print what came of it."""
    extra, more, code = CASES[name]
    uv = (sys.executable, "-m", "uv")
    python = str(folder / "bin" / "python")
    for command in (
        (*uv, "venv", "--quiet", "--python", program, str(folder)),
        (*uv, "pip", "install", "--quiet", "--python", python, f"otel-llmstream{extra} @ {wheel.as_uri()}", *more),
        (python, "-I", "-W", "error", "-c", code),
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            print(f"{name} {version}: failed\n{done.stdout}{done.stderr}")
            return False
    print(f"ok: the wheel with {name}" + (f", CPython {version}" if version else ""))
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), Path(sys.argv[2])))
