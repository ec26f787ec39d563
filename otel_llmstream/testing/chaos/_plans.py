"""The plans of the scenarios, as short generators. In: a `Reply` and `Params`. Out: actions for `Wire` to perform.

After a plan the connection stays open for the next request, unless the plan ends with `Fin` or `Reset`. A plan that
leaves the body incomplete must end with one of them.
"""

from collections.abc import Callable, Iterable, Iterator

from ._actions import Action, Answer, End, Fin, Head, Raw, Reset, Send, Sleep
from ._params import Params
from ._reply import Reply
from ._sse import COMMENT, DONE, compact

Plan = Callable[[Reply, Params], Iterator[Action]]

_JSON = ("content-type", "application/json")
_HTML = ("content-type", "text/html; charset=utf-8")
_PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1></body></html>\n"
_PIECE_SIZE = 7
# Seconds before a reset. The bytes that were sent must arrive first, because a reset drops bytes in transit.
_DELIVERY_TIME = 0.01


# --- parts of plans ---


def _head(reply: Reply, params: Params, *, chunked: bool = True) -> Head:
    return Head((("content-type", reply.content_type), *reply.headers), params.encoding, chunked)


def _sends(frames: Iterable[bytes]) -> Iterator[Action]:
    return (Send(frame) for frame in frames)


def _paced(frames: list[bytes], params: Params) -> Iterator[Action]:
    for start in range(0, len(frames), params.coalesce):
        group = frames[start : start + params.coalesce]
        if start and params.delay:
            yield Sleep(params.delay)
        yield Send(b"".join(group), len(group))


def _begin(reply: Reply, params: Params, chunks: int, *, chunked: bool = True) -> Iterator[Action]:
    """A healthy stream up to and including its first output chunks."""
    # All frames are built before the first is sent, so that building them does not delay the sending.
    opening, frames = reply.opening(), reply.chunks(chunks)
    yield _head(reply, params, chunked=chunked)
    yield from _sends(opening)
    yield Sleep(params.ttft)
    yield from _paced(frames, params)


def _begin_to_fault(reply: Reply, params: Params) -> Iterator[Action]:
    return _begin(reply, params, params.strike)


def _rest(reply: Reply, params: Params) -> Iterator[Action]:
    """The output chunks after the fault and a healthy end."""
    frames = reply.chunks(params.chunks - params.strike)
    yield Sleep(params.delay)
    yield from _paced(frames, params)
    yield from _finish(reply, params)
    yield End()


def _finish(reply: Reply, params: Params) -> Iterator[Action]:
    yield Sleep(params.delay)
    yield from _sends(reply.closing())
    if reply.terminator:
        yield Send(reply.terminator)


def _full_body(reply: Reply, params: Params) -> Send:
    """A complete healthy body in one piece."""
    frames = [*reply.opening(), *reply.chunks(params.chunks), *reply.closing(), reply.terminator]
    return Send(b"".join(frames), params.chunks)


# --- answers that are not streamed ---


def answer(reply: Reply, params: Params) -> Iterator[Action]:
    """The complete answer as JSON, after the time that a stream would take."""
    reply.chunks(params.chunks)
    yield Sleep(params.ttft + params.delay * params.chunks)
    yield Answer(200, (_JSON, *reply.headers), compact(reply.answer()))


def http_error(reply: Reply, params: Params) -> Iterator[Action]:
    """An HTTP failure with the provider's error body."""
    headers = (_JSON, *reply.headers)
    if params.retry_after is not None:
        headers += (("retry-after-ms", f"{params.retry_after * 1000:.0f}"),)
    body = reply.envelope(params.status, f"The scenario asks for a failure with status {params.status}.")
    yield Answer(params.status, headers, compact(body))


def failing_first(then: Plan) -> Plan:
    """An HTTP failure for the first attempts of a round; for the last attempt, another plan."""

    def plan(reply: Reply, params: Params) -> Iterator[Action]:
        failing = reply.spec.attempt(params.attempts + 1) < params.attempts
        return (http_error if failing else then)(reply, params)

    return plan


def html(reply: Reply, _params: Params) -> Iterator[Action]:
    """A web page instead of the requested stream."""
    yield Answer(200, (_HTML, *reply.headers), _PAGE)


def json_error(reply: Reply, _params: Params) -> Iterator[Action]:
    """A JSON error with HTTP status 200."""
    yield Answer(200, (_JSON, *reply.headers), compact(reply.envelope(500, "The server had an error.")))


def no_response(_reply: Reply, params: Params) -> Iterator[Action]:
    """No answer, not even headers."""
    yield Sleep(params.hold)
    yield Fin()


# --- streams that end well ---


def healthy(reply: Reply, params: Params) -> Iterator[Action]:
    """A stream without a fault."""
    yield from _begin(reply, params, params.chunks)
    yield from _finish(reply, params)
    yield End()


def pause(reply: Reply, params: Params) -> Iterator[Action]:
    """A long pause in the middle."""
    yield from _begin_to_fault(reply, params)
    yield Sleep(params.hold)
    yield from _rest(reply, params)


def drip(reply: Reply, params: Params) -> Iterator[Action]:
    """Every frame in pieces of 7 bytes. Each piece is an HTTP chunk of its own."""
    yield _head(reply, params)
    yield from _in_pieces(reply.opening(), params)
    yield Sleep(params.ttft)
    yield from _in_pieces(reply.chunks(params.chunks), params, outputs=1)
    yield from _in_pieces([*reply.closing(), reply.terminator], params)
    yield End()


def _in_pieces(frames: Iterable[bytes], params: Params, outputs: int = 0) -> Iterator[Action]:
    for frame in frames:
        for start in range(0, len(frame), _PIECE_SIZE):
            completes = start + _PIECE_SIZE >= len(frame)
            yield Sleep(params.delay)
            yield Send(frame[start : start + _PIECE_SIZE], outputs if completes else 0)


def pings(reply: Reply, params: Params) -> Iterator[Action]:
    """A comment, and the endpoint's own ping event, before each output chunk."""
    for action in healthy(reply, params):
        if isinstance(action, Send) and action.outputs:
            yield Send(COMMENT + reply.ping)
        yield action


def buffered_held(reply: Reply, params: Params) -> Iterator[Action]:
    """A wait, then the headers and the body in one burst."""
    yield Sleep(params.hold)
    yield _head(reply, params)
    yield _full_body(reply, params)
    yield End()


def buffered_early(reply: Reply, params: Params) -> Iterator[Action]:
    """Headers at once, then a wait, then the body in one burst."""
    yield _head(reply, params)
    yield Sleep(params.hold)
    yield _full_body(reply, params)
    yield End()


def open_after_end(reply: Reply, params: Params) -> Iterator[Action]:
    """All events, then a wait before the last HTTP chunk."""
    yield from _begin(reply, params, params.chunks)
    yield from _finish(reply, params)
    yield Sleep(params.hold)
    yield End()


# --- streams that end early, with a clean end of body ---


def no_done(reply: Reply, params: Params) -> Iterator[Action]:
    """A finish reason without a terminator."""
    yield from _begin(reply, params, params.chunks)
    yield Sleep(params.delay)
    yield from _sends(reply.closing())
    yield End()


def no_finish(reply: Reply, params: Params) -> Iterator[Action]:
    """Neither a finish reason nor a terminator."""
    yield from _begin_to_fault(reply, params)
    yield End()


def cut_event(reply: Reply, params: Params) -> Iterator[Action]:
    """The first half of a frame, then the end."""
    yield from _begin_to_fault(reply, params)
    (frame,) = reply.chunks(1)
    yield Send(frame[: len(frame) // 2])
    yield End()


def empty(reply: Reply, params: Params) -> Iterator[Action]:
    """An event stream without any byte."""
    yield _head(reply, params)
    yield End()


def comments(reply: Reply, params: Params) -> Iterator[Action]:
    """Comments only."""
    yield _head(reply, params)
    yield from (action for _ in range(params.chunks) for action in (Sleep(params.delay), Send(COMMENT)))
    yield End()


# --- streams with a fault inside ---


def malformed(reply: Reply, params: Params) -> Iterator[Action]:
    """An additional frame with incomplete JSON, between the output chunks."""
    yield from _begin_to_fault(reply, params)
    yield Send(reply.malformed)
    yield from _rest(reply, params)


def in_band_error(reply: Reply, params: Params) -> Iterator[Action]:
    """An error event in the endpoint's own form, then the end."""
    yield from _begin_to_fault(reply, params)
    yield Send(reply.error())
    yield End()


def in_band_error_flat(reply: Reply, params: Params) -> Iterator[Action]:
    """An error event in its flat form, if the endpoint has one, then the end."""
    yield from _begin_to_fault(reply, params)
    yield Send(reply.flat_error())
    yield End()


def error_then_done(reply: Reply, params: Params) -> Iterator[Action]:
    """An error event, then the terminator of a healthy stream."""
    yield from _begin_to_fault(reply, params)
    yield Send(reply.error())
    # The Responses API has no terminator. Some gateways add this one.
    yield Send(reply.terminator or DONE)
    yield End()


# --- streams that break below HTTP ---


def reset(reply: Reply, params: Params) -> Iterator[Action]:
    """A TCP reset."""
    yield from _begin_to_fault(reply, params)
    yield Sleep(max(params.delay, _DELIVERY_TIME))
    yield Reset()


def cut_chunked(reply: Reply, params: Params) -> Iterator[Action]:
    """A close of the connection without the last HTTP chunk."""
    yield from _begin_to_fault(reply, params)
    yield Fin()


def cut_close(reply: Reply, params: Params) -> Iterator[Action]:
    """A close-delimited body that is closed too early. No client can distinguish this from a correct end."""
    yield from _begin(reply, params, params.strike, chunked=False)
    yield Fin()


def bad_chunk_size(reply: Reply, params: Params) -> Iterator[Action]:
    """An HTTP chunk whose size is not a hexadecimal number, then a close of the connection."""
    yield from _begin_to_fault(reply, params)
    (frame,) = reply.chunks(1)
    yield Raw(b"zz\r\n" + frame + b"\r\n")
    yield Fin()


def silence(reply: Reply, params: Params) -> Iterator[Action]:
    """No more bytes, while the connection stays open."""
    yield from _begin_to_fault(reply, params)
    yield Sleep(params.hold)
    yield Fin()
