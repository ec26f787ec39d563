"""What a picture of the live page costs, by the number of open streams: `python tests/bench/page.py`.

A page that is open asks for a picture four times a second. A page that is closed asks for nothing: see the variants
`page closed` and `page, a picture` of `instructions.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from instructions import instructions_of

SIZES = (0, 10, 100)
FEW, MORE = 2, 6
CHUNKS = 40


def child(streams: int, pictures: int, *, timed: bool = False) -> None:
    """Open streams, and make pictures."""
    from otel_llmstream._instrumentor import PROCESS
    from otel_llmstream.core.response import ResponseInfo
    from otel_llmstream.dialects import RequestInfo
    from otel_llmstream.status.feed import Feed
    from otel_llmstream.testing import capture

    with capture() as captured:
        for number in range(streams):
            _open(captured.engine, number, RequestInfo, ResponseInfo)
        times = []
        for _ in range(pictures):
            began = perf_counter()
            event, _cursor = Feed(PROCESS.page._source).event("")
            times.append(perf_counter() - began)
        if timed:
            print(json.dumps([min(times), len(event)]))


def _open(engine: Any, number: int, request_info: Any, response_info: Any) -> None:
    body = json.dumps({"model": f"m{number}", "stream": True}).encode()
    observer = engine.begin(
        request_info(method="POST", host="api.test", port=443, path="/v1/chat/completions", body=body)
    )
    observer.responded(response_info(200, "text/event-stream", "", "req-9", "1.1", None))
    for _ in range(CHUNKS):
        observer.asked_at = observer.clock()
        observer.feed(b'data: {"choices":[{"index":0,"delta":{"content":"word"}}]}\n\n')


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]), int(sys.argv[3]))
        return
    print("one picture of the live page")
    for streams in SIZES:
        few, more = (
            instructions_of([str(Path(__file__)), "--child", str(streams), str(number)]) for number in (FEW, MORE)
        )
        print(f"{streams:>6,} open streams {(more - few) / (MORE - FEW):>14,.0f} instructions", end="  ")
        child(streams, FEW, timed=True)


if __name__ == "__main__":
    main()
