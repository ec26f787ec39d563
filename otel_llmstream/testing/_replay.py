"""A recorded body through the whole pipeline, without a network: what would be said of it?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from .._settings import Settings
from ..core.response import ResponseInfo
from ..core.states import End
from ..core.summary import Summary
from ..debugging.null_recorder import NullRecorder
from ..dialects import RequestInfo, match_response
from ..engine.engine import Engine
from ._clock import FakeClock


def replay(
    body: bytes,
    *,
    path: str = "/v1/chat/completions",
    host: str = "127.0.0.1",
    request: bytes = b'{"model": "replayed", "stream": true}',
    method: str = "POST",
    content_type: str = "text/event-stream",
    content_encoding: str = "",
    status: int = 200,
    chunks: int | Sequence[int] | Iterable[bytes] | None = None,
    gap: float = 0.01,
    end: End = End.EOF,
    settings: Settings | None = None,
) -> Summary:
    """Send a body through decoder, framer, dialect and state machine, and give the summary.

    Args:
        body: the response's body, as it came.
        path: path of the request, which tells the dialect.
        host: host of the request, which tells the provider.
        request: body of the request.
        method: method of the request.
        content_type: header of the response.
        content_encoding: header of the response.
        status: status of the response.
        chunks: how the network splits the body: pieces of so many bytes each; cuts at these offsets; or the pieces
            themselves. In one piece unless given.
        gap: seconds between two pieces.
        end: what ends the stream after the last piece.
        settings: as for `instrument`.

    Raises:
        ValueError: the request is none that a stream would answer.
    """
    clock = FakeClock()
    request_info = RequestInfo(method=method, host=host, port=443, path=path, body=request)
    engine, response = Engine(NullRecorder(), settings, clock), ResponseInfo(status, content_type, content_encoding)
    observer = engine.begin(request_info, is_known=True)
    clock.advance(gap)
    if observer is not None:
        observer.responded(response)
    elif match_response(request_info, response) is not None:
        observer = engine.sniff(request_info, response, clock.now() - gap)
    else:
        raise ValueError(f"no dialect matches a {method} to {path} with this body")
    for piece in _pieces(body, chunks):
        observer.asked_at = clock.now()
        clock.advance(gap)
        observer.feed(piece)
    observer.asked_at = clock.now()
    observer.end(end)
    summary = observer.call.summary if observer.call is not None else None
    assert summary is not None, "the stream has just ended"
    return summary


def _pieces(body: bytes, chunks: int | Sequence[int] | Iterable[bytes] | None) -> list[bytes]:
    if chunks is None:
        return [body] if body else []
    if isinstance(chunks, int):
        return [body[start : start + chunks] for start in range(0, len(body), chunks)]
    given = list(chunks)
    if given and isinstance(given[0], bytes):
        return [piece for piece in given if isinstance(piece, bytes)]
    cuts = [0, *sorted(cut for cut in given if isinstance(cut, int)), len(body)]
    return [body[low:high] for low, high in pairwise(cuts) if low < high]
