"""A program that runs Snowflake's client for Cortex against a local server, bare and observed.

    python snowflake_cortex.py

The server answers the login, and plays each of `ANSWERS` to `complete`. The last line of the output is JSON: for each
case what the application got without us and with us, and the calls that were observed. `tests/test_snowflake_live.py`
says where it runs.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

os.environ["OTEL_SDK_DISABLED"] = "true"

from snowflake.connector import connect
from snowflake.core import Root
from snowflake.core.cortex.inference_service import CompleteRequest

import otel_llmstream

LOGIN = {
    "token": "t", "masterToken": "m", "validityInSeconds": 99, "masterValidityInSeconds": 99, "sessionId": 1,
    "sessionInfo": {}, "parameters": [], "rowset": [], "rowtype": [], "total": 0, "returned": 0, "queryId": "q",
}  # fmt: skip

EVENT = b"data: %b\n\n"


def piece(text: str, **more: Any) -> bytes:
    """One frame of an answer."""
    delta = {"type": "text", "content": text, "content_list": [], "text": text}
    return EVENT % json.dumps({"id": "c", "model": "m", "choices": [{"delta": delta}], "usage": more}).encode()


WORDS = piece("Hel") + piece("lo ")
TOKENS = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
WHOLE = (200, WORDS + piece("you", **TOKENS))
BUSY = (429, b'{"message": "busy"}')
ANSWERS: dict[str, list[tuple[int, bytes]]] = {
    "whole": [WHOLE],
    "error": [(200, WORDS + EVENT % b'{"error": {"code": "busy", "message": "Boom"}}')],
    "torn": [(200, WORDS + piece("you")[:-9])],
    "refused": [(400, b'{"message": "no such model"}')],
    "retried": [BUSY, BUSY, WHOLE],
}


class Snowflake(BaseHTTPRequestHandler):
    """The login, and the answers of a case in turn."""

    left: ClassVar[list[tuple[int, bytes]]] = []

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        status, body = 200, json.dumps({"data": LOGIN, "success": True, "code": None, "message": None}).encode()
        if "cortex" in self.path:
            status, body = self.left.pop(0)
        is_stream = "cortex" in self.path and status == 200
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream" if is_stream else "application/json")
        if not is_stream:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: Any) -> None: ...


def got(service: Any, case: str) -> list[str]:
    """What the application sees."""
    Snowflake.left = list(ANSWERS[case])
    seen = []
    try:
        question = CompleteRequest(model="m", messages=[{"content": "hi"}], stream=True)
        seen += [event.data for event in service.complete(question).events()]
    except Exception as exc:  # noqa: BLE001 - the application's view is compared, whatever it is
        seen.append(f"{type(exc).__name__}: {str(exc).splitlines()[0]}")
    return seen


def observed(service: Any, case: str) -> dict[str, Any]:
    """What the application sees, and the calls."""
    calls: list[Any] = []
    remove = otel_llmstream.on_end(calls.append)
    seen = got(service, case)
    remove()
    told = [[it.request.dialect, it.outcome, it.error_type, it.attempts, it.chunks, it.output_tokens] for it in calls]
    return {"got": seen, "calls": told}


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Snowflake)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connection = connect(
        account="a", user="u", password="p", host="127.0.0.1", port=server.server_address[1], protocol="http",
        session_parameters={"CLIENT_TELEMETRY_ENABLED": False},
    )  # fmt: skip
    service = Root(connection).cortex_inference_service
    bare = {case: got(service, case) for case in ANSWERS}
    otel_llmstream.instrument()
    found = {case: {"bare": bare[case], **observed(service, case)} for case in ANSWERS}
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # the connector's threads would ask the server once more


if __name__ == "__main__":
    main()
