"""One WebSocket connection. In: an upgrade request and its socket. Out: answers, several of them at the same time.

One thread serves the connection. Each answer is a plan. The next step of the plan that is due first is done, and in the
meantime the client's messages are read.
"""

from __future__ import annotations

import heapq
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from wsproto import WSConnection
from wsproto.connection import ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    TextMessage,
)
from wsproto.events import (
    Request as Upgrade,
)
from wsproto.frame_protocol import CloseReason

from ._actions import Reset, Sleep
from ._errors import Rejection
from ._log import Log, Outcome, Record
from ._params import Params, read_params, split_model
from ._providers import provider_of
from ._reply import Finish, ReplySpec
from ._request import Request
from ._socket_replies import LiveReply, RealtimeReply, ResponsesReply, SocketReply
from ._socket_scenarios import REFUSED, SOCKET_SCENARIOS, Close, Message, SocketAction
from ._sse import compact
from ._wire import NO_LINGER

_READ: Final = 65_536
_CLOSE_TIMEOUT: Final = 1.0
"""Seconds that the client has to answer a close frame."""

_APIS: Final[tuple[tuple[str, type[SocketReply]], ...]] = (
    ("/responses", ResponsesReply),
    ("/realtime", RealtimeReply),
    ("BidiGenerateContent", LiveReply),
    ("BidiGenerateContentConstrained", LiveReply),
)


@dataclass(order=True, slots=True)
class _Job:
    """One answer that is being given."""

    due: float
    number: int
    plan: Iterator[SocketAction] = field(compare=False)
    record: Record = field(compare=False)
    reply: SocketReply = field(compare=False)


class SocketConnection:
    """Serves one WebSocket.

    Args:
        sock: The socket.
        request: The upgrade request.
        log: Where each answer is recorded.
        stopping: Set when the server stops.
    """

    def __init__(self, sock: socket.socket, request: Request, log: Log, stopping: threading.Event) -> None:
        self._sock = sock
        self._request = request
        self._log = log
        self._stopping = stopping
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._jobs: list[_Job] = []
        self._numbers = count()
        self._setup: dict[str, Any] = {}
        self._closing: float | None = None
        self._outcome: Outcome = "client_gone"
        self._text = ""
        self._bytes = b""
        path = urlsplit(request.target).path
        self._api = next((api for end, api in _APIS if path.endswith(end)), None)

    def serve(self) -> None:
        """Serve until one side ends the connection."""
        try:
            if self._shake_hands():
                self._loop()
        except OSError:
            self._outcome = "client_gone"
        finally:
            outcome = "stopped" if self._stopping.is_set() else self._outcome
            if outcome == "reset":
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self._sock.close()
            for job in self._jobs:
                self._log.end(job.record, outcome)

    # --- the handshake --------------------------------------------------------------------------------------

    def _shake_hands(self) -> bool:
        headers = [(name.encode(), value.encode()) for name, value in self._request.headers.items()]
        self._protocol.initiate_upgrade_connection(headers, self._request.target)
        (upgrade,) = self._protocol.events()
        assert isinstance(upgrade, Upgrade), "wsproto has checked the request"
        rejection = self._rejection()
        if rejection is not None:
            self._reject(rejection)
            return False
        self._send(AcceptConnection(extra_headers=[(b"x-request-id", f"req_{uuid4().hex[:24]}".encode())]))
        if self._api is RealtimeReply:
            self._say(compact({"type": "session.created", "event_id": "event_0", "session": {"type": "realtime"}}))
        return True

    def _rejection(self) -> Rejection | None:
        if self._api is None:
            known = ", ".join(end for end, _ in _APIS)
            return Rejection(404, f"no WebSocket at {self._request.target}; known paths end with {known}")
        name, query = split_model(self._asked_model())
        if name != REFUSED:
            return None
        return Rejection(read_params(query, Params(status=401)).status, "The scenario refuses the handshake.")

    def _asked_model(self) -> str:
        """The model that the handshake names."""
        query = parse_qs(urlsplit(self._request.target).query)
        return self._request.headers.get("x-chaos-model") or query.get("model", [""])[0]

    def _reject(self, rejection: Rejection) -> None:
        record = self._record(REFUSED, self._asked_model())
        record.status = rejection.status
        provider = provider_of(None)
        body = compact(provider.error(rejection.status, rejection.message, None, record.request_id))
        pairs = (("content-type", "application/json"), ("content-length", str(len(body))))
        headers = [(name.encode(), value.encode()) for name, value in (*provider.headers(record.request_id), *pairs)]
        self._send(RejectConnection(status_code=rejection.status, headers=headers, has_body=True))
        self._send(RejectData(data=body))
        self._log.end(record, "complete")

    # --- the loop -------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stopping.is_set():
            wait = self._wait()
            if self._closing is not None and wait == 0.0:
                return
            readable, _, _ = select.select([self._sock], [], [], wait)
            if readable and not self._read():
                return
            if self._closing is None and not self._work():
                return

    def _wait(self) -> float | None:
        """Seconds until something is due; None if nothing is."""
        due = self._closing if self._closing is not None else self._jobs[0].due if self._jobs else None
        return None if due is None else max(0.0, due - time.perf_counter())

    def _read(self) -> bool:
        """Read what the client sends. False if the connection is over."""
        data = self._sock.recv(_READ)
        if not data:
            return False
        self._protocol.receive_data(data)
        return all(self._take(event) for event in self._protocol.events())

    def _take(self, event: Event) -> bool:
        if isinstance(event, Ping):
            self._send(event.response())
        elif isinstance(event, CloseConnection):
            if self._closing is None:
                self._send(event.response())
            return False
        elif isinstance(event, TextMessage):
            self._text += event.data
            if event.message_finished:
                message, self._text = self._text, ""
                self._hear(message)
        elif isinstance(event, BytesMessage):
            self._bytes += event.data
            if event.message_finished:
                message, self._bytes = self._bytes.decode(), b""
                self._hear(message)
        return True

    def _work(self) -> bool:
        """Do what is due. False if the connection is over."""
        now = time.perf_counter()
        while self._jobs and self._jobs[0].due <= now:
            job = heapq.heappop(self._jobs)
            done = self._step(job)
            if done is not None:
                self._jobs.append(job)  # it ends with the connection
                self._outcome = done
                return self._closing is not None
        return True

    def _step(self, job: _Job) -> Outcome | None:
        """Go on with an answer, up to its next pause. Gives the outcome if it ends the connection."""
        for action in job.plan:
            if isinstance(action, Message):
                self._output(job, action)
            elif isinstance(action, Sleep):
                if action.seconds:
                    job.due = time.perf_counter() + action.seconds
                    heapq.heappush(self._jobs, job)
                    return None
            elif isinstance(action, Reset):
                return "reset"
            else:
                self._close(action)
                return "cut"
        self._log.end(job.record, "complete")
        return None

    def _output(self, job: _Job, message: Message) -> None:
        now = time.perf_counter()
        self._say(message.data, binary=job.reply.binary)
        if message.outputs:
            job.record.output(message.outputs, now)

    def _close(self, action: Close) -> None:
        self._send(
            CloseConnection(
                code=CloseReason.NO_STATUS_RCVD if action.code is None else action.code, reason=action.reason or None
            )
        )
        self._closing = time.perf_counter() + _CLOSE_TIMEOUT

    def _say(self, data: bytes, *, binary: bool = False) -> None:
        self._send(BytesMessage(data=data) if binary else TextMessage(data=data.decode()))

    def _send(self, event: Event) -> None:
        self._sock.sendall(self._protocol.send(event))

    # --- the client's messages ------------------------------------------------------------------------------

    def _hear(self, text: str) -> None:
        try:
            message = json.loads(text)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            return
        if self._api is LiveReply:
            self._hear_live(message)
        elif message.get("type") == "response.create":
            self._begin(message)
        elif message.get("type") == "input_audio_buffer.commit":  # as the end of speech: the server begins by itself
            self._begin({})
        elif message.get("type") == "response.cancel" and self._jobs:
            job = self._jobs[0]
            job.plan, job.due = map(Message, job.reply.interrupted("client_cancelled")), 0.0

    def _hear_live(self, message: dict[str, Any]) -> None:
        if "setup" in message:
            self._setup = message["setup"]
            self._say(compact({"setupComplete": {}}), binary=True)
            return
        content = message.get("clientContent") or message.get("client_content") or {}
        live = message.get("realtimeInput") or message.get("realtime_input") or {}
        asks = content.get("turnComplete") or content.get("turn_complete") or live.get("text")
        if asks or "toolResponse" in message or "tool_response" in message:
            self._begin({"model": self._setup.get("model")})

    def _begin(self, message: dict[str, Any]) -> None:
        """Begin an answer."""
        model = str(message.get("model") or self._asked_model() or "ok")
        name, query = split_model(model.replace(";", "?", 1).replace(";", "&"))
        record = self._record(name, model)
        lane = message.get("stream_id")
        try:
            plan, reply = self._answer(record, name, query, lane if isinstance(lane, str) else None)
        except Rejection as rejection:
            self._refuse(rejection, lane, record)
        else:
            heapq.heappush(self._jobs, _Job(time.perf_counter(), next(self._numbers), plan, record, reply))

    def _answer(
        self, record: Record, name: str, query: str, lane: str | None
    ) -> tuple[Iterator[SocketAction], SocketReply]:
        scenario, api = SOCKET_SCENARIOS.get(name), self._api
        if scenario is None or api is None or api not in scenario.replies:
            known = ", ".join(it.name for it in SOCKET_SCENARIOS.values() if api in it.replies)
            raise Rejection(404, f"no scenario {name!r} over this WebSocket; known scenarios are: {known}")
        params = read_params(query, scenario.defaults)
        reply = api(_spec(record, name, params), lane)
        return scenario.plan(reply, params), reply

    def _refuse(self, rejection: Rejection, lane: Any, record: Record) -> None:
        error = provider_of(None).error(rejection.status, rejection.message, None, record.request_id)
        named = {} if lane is None else {"stream_id": lane}
        self._say(compact({"type": "error", "status": rejection.status, **error, **named}))
        self._log.end(record, "complete")

    def _record(self, scenario: str, model: str) -> Record:
        headers = self._request.headers
        record = Record(
            f"req_{uuid4().hex[:24]}",
            path=self._request.target,
            scenario=scenario,
            model=model,
            stream=True,
            traceparent=headers.get("traceparent"),
            status=101,
        )
        self._log.add(record)
        return record


def _spec(record: Record, name: str, params: Params) -> ReplySpec:
    return ReplySpec(
        ident=record.request_id.removeprefix("req_"),
        model=f"chaos-{name}",
        finish=Finish.STOP,
        include_usage=True,
        size=params.size,
        attempt=lambda _round: 0,
    )
