"""WebSockets: each response has one honest verdict, and the application's view is the same with us and without us."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from typing import Any, NamedTuple

import aiohttp
import pytest
import websocket
import websockets.asyncio.client
import websockets.sync.client
from conditions import until
from loops import about
from opentelemetry.sdk.trace import TracerProvider
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

import otel_llmstream
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import SOCKET_SCENARIOS, ChaosServer

QUICK = "chunks=6&delay=0.001&ttft=0&hold=0.02"
LIVE_PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"


class Api(NamedTuple):
    """How a bare client asks for a response, and when it has all of it."""

    name: str
    url: Callable[[str, str], str]
    asks: Callable[[str], list[dict[str, Any]]]
    is_last: Callable[[dict[str, Any]], object]
    binary: bool = False


RESPONSES = Api(
    "openai.responses",
    lambda root, _model: f"{root}/v1/responses",
    lambda model: [{"type": "response.create", "model": model, "input": "Hi"}],
    lambda message: message["type"] in ("response.completed", "response.failed", "error"),
)
REALTIME = Api(
    "openai.realtime",
    lambda root, model: f"{root}/v1/realtime?model={model.replace('?', '%3F').replace('&', '%26')}",
    lambda _model: [{"type": "response.create"}],
    lambda message: message["type"] == "response.done",
)
LIVE = Api(
    "google.live",
    lambda root, _model: f"{root}{LIVE_PATH}",
    lambda model: [
        {"setup": {"model": f"models/{model.replace('?', ';').replace('&', ';')}"}},
        {"client_content": {"turns": [{"role": "user", "parts": [{"text": "Hi"}]}], "turn_complete": True}},
    ],
    lambda message: "toolCall" in message or message.get("serverContent", {}).get("turnComplete"),
    binary=True,
)
APIS = (RESPONSES, REALTIME, LIVE)

View = list[Any]
"""What an application sees: the kind of each message, then how it ended."""


def kind_of(message: str | bytes) -> Any:
    try:
        found = json.loads(message)
    except ValueError:
        return (type(message).__name__, len(message))
    return (type(message).__name__, found.get("type") or sorted(found))


def end_of(error: ConnectionClosed) -> tuple[Any, ...]:
    return (type(error).__name__, error.rcvd and error.rcvd.code, error.sent and error.sent.code, str(error))


def is_last(api: Api, message: str | bytes) -> object:
    try:
        return api.is_last(json.loads(message))
    except ValueError:
        return False


def read(root: str, api: Api, model: str) -> View:
    """A bare sync client reads one response."""
    view: View = []
    with websockets.sync.client.connect(api.url(root, model), close_timeout=1) as connection:
        for ask in api.asks(model):
            connection.send(json.dumps(ask))
        try:
            while True:
                message = connection.recv()
                view.append(kind_of(message))
                if is_last(api, message):
                    return [*view, "last"]
        except ConnectionClosed as error:
            return [*view, end_of(error)]


async def read_async(root: str, api: Api, model: str) -> View:
    """A bare async client reads one response."""
    view: View = []
    async with websockets.asyncio.client.connect(api.url(root, model)) as connection:
        for ask in api.asks(model):
            await connection.send(json.dumps(ask))
        try:
            while True:
                message = await connection.recv()
                view.append(kind_of(message))
                if is_last(api, message):
                    return [*view, "last"]
        except ConnectionClosed as error:
            return [*view, end_of(error)]


async def read_aiohttp(root: str, api: Api, model: str) -> View:
    """Aiohttp reads one response."""
    view: View = []
    async with aiohttp.ClientSession() as session, session.ws_connect(api.url(root, model)) as connection:
        for ask in api.asks(model):
            await connection.send_json(ask)
        async for message in connection:
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                view.append((message.type.name, repr(message.data)))
                continue
            view.append(kind_of(message.data))
            if is_last(api, message.data):
                return [*view, "last"]
        return [*view, (connection.closed, connection.close_code, repr(connection.exception()))]


def read_websocket_client(root: str, api: Api, model: str) -> View:
    """websocket-client reads one response."""
    view: View = []
    with closing(websocket.create_connection(api.url(root, model))) as connection:
        for ask in api.asks(model):
            connection.send(json.dumps(ask))
        try:
            while True:
                message = connection.recv()
                if not message:
                    return [*view, (connection.connected, message)]
                view.append(kind_of(message))
                if is_last(api, message):
                    return [*view, "last"]
        except (websocket.WebSocketException, OSError) as error:
            return [*view, (type(error).__name__, str(error))]
        finally:
            connection.shutdown()  # its own `close` leaves the socket open if the server closed first


def read_websocket_app(root: str, api: Api, model: str) -> View:
    """websocket-client's own loop reads one response."""
    view: View = []
    sockets = []

    def on_open(app: Any) -> None:
        sockets.append(app.sock.sock)
        for ask in api.asks(model):
            app.send(json.dumps(ask))

    def on_message(app: Any, message: str | bytes) -> None:
        view.append(kind_of(message))
        if is_last(api, message):
            view.append("last")
            app.close()

    app = websocket.WebSocketApp(
        api.url(root, model),
        on_open=on_open,
        on_message=on_message,
        on_error=lambda _app, error: view.append((type(error).__name__, str(error))),
        on_close=lambda _app, code, reason: view.append((code, reason)),
    )
    app.run_forever()
    for sock in sockets:
        sock.close()  # the library leaves it open
    return view[: view.index("last") + 1] if "last" in view else view  # then both sides close at the same time


CLIENTS: dict[str, Callable[[str, Api, str], View]] = {
    "websockets-sync": read,
    "websockets-asyncio": lambda *args: asyncio.run(read_async(*args)),
    "aiohttp": lambda *args: asyncio.run(read_aiohttp(*args)),
    "websocket-client": read_websocket_client,
    "websocket-client-app": read_websocket_app,
}
"""Name -> a function that reads one response with this client."""


def play(root: str, api: Api, model: str, *, is_async: bool) -> View:
    return CLIENTS["websockets-asyncio" if is_async else "websockets-sync"](root, api, model)


def connect(api: Api, server: ChaosServer, model: str = "", **options: Any) -> websockets.sync.client.ClientConnection:
    """A sync connection. The oldest version waits long if a message was not read before the close."""
    return websockets.sync.client.connect(api.url(server.socket_url, model), close_timeout=1, **options)


def connect_async(server: ChaosServer) -> websockets.asyncio.client.connect:
    return websockets.asyncio.client.connect(RESPONSES.url(server.socket_url, ""))


def verdict(attributes: Any) -> tuple[Any, ...]:
    names = ("llmstream.outcome", "error.type", "llmstream.close_code", "llmstream.finish_reason")
    return tuple(attributes.get(name) for name in names)


STOPPED = ("completed", None, None, "stop")

VERDICTS: dict[str, Any] = {
    "ok": STOPPED,
    "pause": STOPPED,
    "malformed": STOPPED,  # a bare client reads on
    "stray-error": STOPPED,
    "playback": STOPPED,
    "tool-call": ("completed", None, None, "tool_calls"),
    "close-1000": ("truncated", "stream_truncated", 1000, "none"),
    "close-1001": ("truncated", "stream_truncated", 1001, "none"),
    "close-none": ("truncated", "stream_truncated", 1005, "none"),
    "close-1008": ("failed", "websocket_close_1008", 1008, "none"),
    "close-1011": ("failed", "websocket_close_1011", 1011, "none"),
    "silence": ("truncated", "stream_truncated", 1001, "none"),
    "reset": ("failed", "connection_reset", 1006, "none"),
    "barge-in": ("cancelled", None, None, "none"),
    "error": {
        RESPONSES: ("failed", "rate_limit_exceeded", None, "none"),
        REALTIME: ("failed", "server_error", None, "none"),
        LIVE: ("failed", "malformed_function_call", None, "other"),
    },
    "limit": {
        RESPONSES: ("failed", "websocket_connection_limit_reached", None, "none"),
        REALTIME: ("truncated", "session_expired", 1001, "none"),
        LIVE: ("truncated", "go_away", 1001, "none"),
    },
}


def served(api: Api) -> Iterator[str]:
    """The scenarios that one response of this API can be asked for in."""
    reply = {"openai.responses": "ResponsesReply", "openai.realtime": "RealtimeReply", "google.live": "LiveReply"}
    for name, scenario in SOCKET_SCENARIOS.items():
        if any(it.__name__ == reply[api.name] for it in scenario.replies) and name not in ("refused", "steered"):
            yield name


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_each_response_has_one_honest_verdict(chaos_server: ChaosServer, api: Api, client: str) -> None:
    """Every scenario gives one span with the right verdict. The application sees what it sees without us."""
    for name in served(api):
        model = f"{name}?{QUICK}"
        bare = CLIENTS[client](chaos_server.socket_url, api, model)
        with about(name), capture() as captured:
            assert CLIENTS[client](chaos_server.socket_url, api, model) == bare
            attributes = captured.span.attributes
            expected = VERDICTS[name]
            assert verdict(attributes) == (expected[api] if isinstance(expected, dict) else expected)
            assert attributes["llmstream.dialect"] == api.name
            assert attributes["llmstream.transport"] == "websocket"
            assert attributes["gen_ai.request.model"].startswith(name)
            assert captured.total("llmstream.streams") == 1
            assert captured.engine.live == set()
            assert captured.engine.internal_errors == 0


def test_times_and_tokens_are_those_of_the_response(chaos_server: ChaosServer, captured: Captured) -> None:
    """A response's times count from the message that asks for it; there is no time to headers."""
    for api in APIS:
        with about(api.name):
            read(chaos_server.socket_url, api, "ok?chunks=4&delay=0.002&ttft=0.05")
            entry = chaos_server.log[-1]
            attributes = captured.spans[-1].attributes or {}
            assert entry.first_chunk is not None
            assert entry.last_chunk is not None
            assert attributes["llmstream.chunks"] == entry.chunks == 4
            assert attributes["gen_ai.usage.output_tokens"] == (6 if api is LIVE else 4)
            assert attributes["gen_ai.response.time_to_first_chunk"] >= entry.first_chunk - entry.received
            assert attributes["llmstream.time_to_last_chunk"] >= entry.last_chunk - entry.received
            assert "llmstream.time_to_headers" not in attributes
            assert attributes["llmstream.wait"] >= entry.first_chunk - entry.received


def test_a_turn_is_over_when_it_is_generated(chaos_server: ChaosServer, captured: Captured) -> None:
    """Gemini Live ends a turn when the audio has been played. The duration and the usage are the generation's."""
    read(chaos_server.socket_url, LIVE, "playback?chunks=2&delay=0&ttft=0&hold=1")
    attributes = captured.span.attributes or {}
    assert attributes["gen_ai.usage.output_tokens"] == 4
    assert (captured.span.end_time or 0) - (captured.span.start_time or 0) < 1e9


# --- the handshake --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refused_handshake_has_its_status(chaos_server: ChaosServer, client: str) -> None:
    """A handshake that is refused fails with its HTTP status. The application gets the library's exception."""
    seen = []
    for instrumented in (False, True):
        with capture() if instrumented else nullcontext() as captured:
            try:
                seen.append(CLIENTS[client](chaos_server.socket_url, REALTIME, "refused?status=429"))
            except Exception as error:  # noqa: BLE001 - each library has its own
                seen.append([type(error).__name__, str(error).partition("req_")[0]])
    assert str(seen[0]).partition("req_")[0] == str(seen[1]).partition("req_")[0]
    assert captured is not None
    attributes = captured.span.attributes or {}
    assert (attributes["error.type"], attributes["http.response.status_code"]) == ("429", 429)
    assert (attributes["llmstream.failure.stage"], attributes["llmstream.chunks"]) == ("headers", 0)
    assert str(attributes["llmstream.request_id"]).startswith("req_")
    assert captured.engine.internal_errors == 0


def test_other_websockets_are_left_alone(chaos_server: ChaosServer, captured: Captured) -> None:
    """A connection to another path, and a server in the same process, are not observed."""
    from websockets.sync.server import serve

    def echo(connection: Any) -> None:
        for message in connection:
            connection.send(message)

    with pytest.raises(websockets.exceptions.InvalidStatus):
        websockets.sync.client.connect(f"{chaos_server.socket_url}/chat")
    with serve(echo, "127.0.0.1", 0) as server:
        import threading

        threading.Thread(target=server.serve_forever).start()
        port = server.socket.getsockname()[1]
        with websockets.sync.client.connect(f"ws://127.0.0.1:{port}/v1/echo") as other:
            other.send('{"type":"response.create"}')
            assert other.recv() == '{"type":"response.create"}'
        with websockets.sync.client.connect(f"ws://127.0.0.1:{port}/v1/responses") as client:
            client.send('{"type":"response.create","model":"m"}')
            assert client.recv() == '{"type":"response.create","model":"m"}'
        server.shutdown()
    assert len(captured.spans) == 1  # the client's, and none of the server's
    assert captured.engine.internal_errors == 0


# --- lanes ----------------------------------------------------------------------------------------------------------


def test_lanes_interleave(chaos_server: ChaosServer, captured: Captured) -> None:
    """Eight responses at the same time on one connection have eight verdicts, each its own."""
    names = ["ok", "error", "ok", "error", "ok", "ok", "error", "ok"]
    with connect(RESPONSES, chaos_server) as connection:
        for number, name in enumerate(names):
            ask = {"type": "response.create", "model": f"{name}?{QUICK}", "stream_id": f"lane {number}"}
            connection.send(json.dumps(ask))
        open_lanes = set(range(len(names)))
        while open_lanes:
            message = json.loads(connection.recv())
            if RESPONSES.is_last(message):
                open_lanes.discard(int(message["stream_id"].split()[1]))
    found = sorted(str((span.attributes or {})["llmstream.outcome"]) for span in captured.spans)
    assert found == ["completed"] * 5 + ["failed"] * 3
    failed = [it.attributes or {} for it in captured.spans if (it.attributes or {})["llmstream.outcome"] == "failed"]
    for attributes in failed:
        assert (attributes["error.type"], attributes["http.response.status_code"]) == ("rate_limit_exceeded", 429)
        assert (attributes["llmstream.ratelimit.remaining_requests"], attributes["llmstream.retry_after"]) == (0, 2)
    assert all((it.attributes or {})["llmstream.chunks"] in (3, 6) for it in captured.spans)


def test_ten_lanes_of_a_connection_that_drops(chaos_server: ChaosServer, captured: Captured) -> None:
    """If the connection drops, each open lane fails, once."""
    with connect(RESPONSES, chaos_server) as connection:
        for number in range(10):
            name = "reset?chunks=4&delay=0.05&ttft=0" if number == 9 else "silence?chunks=4&delay=0&ttft=0"
            connection.send(json.dumps({"type": "response.create", "model": name, "stream_id": str(number)}))
        with pytest.raises(ConnectionClosedError):
            while True:
                connection.recv()
    assert len(captured.spans) == 10
    assert {verdict(span.attributes) for span in captured.spans} == {("failed", "connection_reset", 1006, "none")}
    assert captured.engine.live == set()


def test_a_successor_is_a_stream_of_its_own(chaos_server: ChaosServer, captured: Captured) -> None:
    """A steered response is followed by one that the application did not ask for. It inherits the model."""
    view: list[str] = []
    with connect(RESPONSES, chaos_server) as connection:
        connection.send(json.dumps({"type": "response.create", "model": f"steered?{QUICK}"}))
        while "response.completed" not in view:
            view.append(json.loads(connection.recv())["type"])
    steered, successor = captured.spans
    assert (steered.attributes or {})["gen_ai.response.finish_reasons"] == ("incomplete",)
    assert verdict(successor.attributes) == STOPPED
    assert (successor.attributes or {})["gen_ai.request.model"] == f"steered?{QUICK}"


def test_the_server_begins_by_itself(chaos_server: ChaosServer, captured: Captured) -> None:
    """With voice detection the server begins responses. A response that is cancelled by a message is no failure."""
    with websockets.sync.client.connect(
        REALTIME.url(chaos_server.socket_url, "silence?chunks=4&delay=0")
    ) as connection:
        connection.send('{"type":"input_audio_buffer.commit"}')
        while json.loads(connection.recv())["type"] != "response.output_text.delta":
            pass
        connection.send('{"type":"response.cancel"}')
        while json.loads(connection.recv())["type"] != "response.done":
            pass
    assert verdict(captured.span.attributes) == ("cancelled", None, None, "none")


# --- parents, calls, holds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
def test_parent_and_call_are_taken_at_the_send(
    chaos_server: ChaosServer, captured: Captured, *, is_async: bool
) -> None:
    """The span that is current at the send is the parent. `call()` joins what is sent inside it."""
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("outer") as outer, otel_llmstream.call(name="named"):
        play(chaos_server.socket_url, RESPONSES, f"ok?{QUICK}", is_async=is_async)
    span = captured.span
    assert span.parent is not None
    assert (span.name, span.parent.span_id) == ("named", outer.get_span_context().span_id)


@pytest.mark.parametrize("is_async", [False, True])
def test_what_the_queue_holds_back_is_the_applications_hold(
    chaos_server: ChaosServer, captured: Captured, *, is_async: bool
) -> None:
    """If the application does not read, the library stops to read, and the time is the application's."""
    model = "ok?chunks=300&delay=0&ttft=0&size=2000"
    pause = 0.5

    async def slow() -> None:
        async with connect_async(chaos_server) as connection:
            await connection.send(json.dumps(RESPONSES.asks(model)[0]))
            await connection.recv()
            await asyncio.sleep(pause)
            while not is_last(RESPONSES, await connection.recv()):
                pass

    if is_async:
        asyncio.run(slow())
    else:
        import time

        with connect(RESPONSES, chaos_server) as connection:
            connection.send(json.dumps(RESPONSES.asks(model)[0]))
            connection.recv()
            time.sleep(pause)
            while not is_last(RESPONSES, connection.recv()):
                pass
    attributes = captured.span.attributes or {}
    assert attributes["llmstream.chunks"] == 300
    assert float(str(attributes["llmstream.hold"])) > pause * 0.9


# --- how the application ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
def test_what_the_application_closes_is_cancelled(
    chaos_server: ChaosServer, captured: Captured, *, is_async: bool
) -> None:
    """The end of a `with` block in the middle of a response is a cancellation. So is a cancelled task."""
    model = "silence?chunks=4&delay=0&ttft=0"

    async def leave() -> None:
        async with connect_async(chaos_server) as connection:
            await connection.send(json.dumps(RESPONSES.asks(model)[0]))
            await connection.recv()
            await asyncio.wait_for(connection.wait_closed(), 0.01)

    if is_async:
        with pytest.raises(TimeoutError):
            asyncio.run(leave())
    else:
        with connect(RESPONSES, chaos_server) as connection:
            connection.send(json.dumps(RESPONSES.asks(model)[0]))
            connection.recv()
    assert verdict(captured.span.attributes) == ("cancelled", None, None, "none")


@pytest.mark.parametrize("is_async", [False, True])
def test_what_the_application_aborts_is_cancelled(
    chaos_server: ChaosServer, captured: Captured, *, is_async: bool
) -> None:
    """Some frameworks drop the transport instead of closing the connection. The server is not to blame."""
    model = "silence?chunks=4&delay=0&ttft=0"

    async def abort() -> None:
        connection = await connect_async(chaos_server)
        await connection.send(json.dumps(RESPONSES.asks(model)[0]))
        await connection.recv()
        connection.transport.abort()
        await connection.wait_closed()

    if is_async:
        asyncio.run(abort())
    else:
        with connect(RESPONSES, chaos_server) as connection:
            connection.send(json.dumps(RESPONSES.asks(model)[0]))
            connection.recv()
            connection.close_socket()
            connection.recv_events_thread.join()
    assert verdict(captured.span.attributes) == ("cancelled", None, None, "none")


def test_a_dropped_connection_is_abandoned(chaos_server: ChaosServer, captured: Captured) -> None:
    """A connection of a loop that is gone is collected, and its response was abandoned."""

    async def drop() -> None:
        connection = await connect_async(chaos_server)
        await connection.send(json.dumps(RESPONSES.asks("silence?chunks=4&delay=0&ttft=0")[0]))
        await connection.recv()
        connection.transport.abort = None  # type: ignore[method-assign] # nothing closes it

    def run() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(drop())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.close()

    with pytest.warns(ResourceWarning):  # noqa: PT031 - the collector warns
        run()
        gc.collect()
    until(lambda: captured.spans)
    assert verdict(captured.span.attributes) == ("abandoned", None, None, "none")


def test_an_unanswered_ping_is_named(captured: Captured) -> None:
    """The client closes with 1011 if a ping is not answered. This is not the server's verdict."""
    import socket
    import threading

    from wsproto import ConnectionType, WSConnection
    from wsproto.events import AcceptConnection

    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def mute() -> None:
        sock, _ = listener.accept()
        with sock:
            protocol = WSConnection(ConnectionType.SERVER)
            protocol.receive_data(sock.recv(65536))
            list(protocol.events())
            sock.sendall(protocol.send(AcceptConnection()))
            done.wait()

    server = threading.Thread(target=mute)
    server.start()

    async def wait() -> None:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/responses"
        async with websockets.asyncio.client.connect(
            url, ping_interval=0.01, ping_timeout=0.01, close_timeout=0.01
        ) as connection:
            await connection.send(json.dumps(RESPONSES.asks("m")[0]))
            await connection.recv()

    with pytest.raises(ConnectionClosedError):
        asyncio.run(wait())
    done.set()
    server.join()
    listener.close()
    assert verdict(captured.span.attributes) == ("failed", "keepalive_timeout", None, "none")


def test_a_message_over_the_clients_limit_is_named(chaos_server: ChaosServer, captured: Captured) -> None:
    """The client closes with 1009 if a message is too large. This is not the server's verdict either."""
    url = RESPONSES.url(chaos_server.socket_url, "")
    with websockets.sync.client.connect(url, max_size=2000) as connection:
        connection.send(json.dumps(RESPONSES.asks("ok?chunks=3&delay=0&ttft=0&size=5000")[0]))
        with pytest.raises(ConnectionClosedError):
            while True:
                connection.recv()
    assert verdict(captured.span.attributes) == ("failed", "message_too_big", None, "none")
