"""A gateway that sends a provider's stream on to its own clients. Both ends are observed, and joined.

To run it: `python examples/fastapi_gateway.py` (needs fastapi and uvicorn), then
`curl -N 'http://127.0.0.1:8000/answer?model=ok'`. To leave early, press Ctrl-C during `model=pause`. PORT changes the
port. If OPENAI_BASE_URL is not set, a local server replaces the provider. `gateway_faults.py` plays each fault.

What to look for: if the client stays, both streams are `completed`. If it leaves, the provider's stream is `cancelled`
and the gateway's own is `disconnected`, without waiting for a time-out or the garbage collector. Afterwards
`GET /health` shows `active` as 0, and both counts.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any

try:
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse
    from openai import AsyncOpenAI
    from starlette.types import Send

    import otel_llmstream
    from otel_llmstream.testing import ChaosServer
except ModuleNotFoundError as missing:
    raise SystemExit(f"This example needs {missing.name}. Run: pip install -e '.[demo]' fastapi uvicorn") from None


class ClosedStreamingResponse(StreamingResponse):
    """A streaming response that always closes its generator.

    If a client leaves while a piece is being sent, newer servers (ASGI 2.4) raise in `send`. The generator is not
    running then, so only the garbage collector would close it. Until then, the provider would stream and charge for it.
    """

    async def stream_response(self, send: Send) -> None:
        """Send the pieces. The generator is closed even if this raises."""
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().stream_response(send)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with ExitStack() as stack:
        if "OPENAI_BASE_URL" not in os.environ:
            os.environ["OPENAI_BASE_URL"] = stack.enter_context(ChaosServer()).openai_url
            os.environ.setdefault("OPENAI_API_KEY", "any")
        otel_llmstream.instrument()
        async with AsyncOpenAI() as app.state.provider:
            yield
        otel_llmstream.shutdown()  # of all three providers; it is needed if the application sets them up itself


app = FastAPI(lifespan=lifespan)
app.add_middleware(otel_llmstream.ServedStreams)  # without this line, only the provider's streams are observed


async def forward(model: str) -> AsyncIterator[bytes]:
    """The provider's bytes, as they arrive. If they break, the exception cuts the client's stream too."""
    async with app.state.provider.chat.completions.with_streaming_response.create(
        model=model, messages=[{"role": "user", "content": "Tell me a story."}], stream=True
    ) as reply:
        async for piece in reply.iter_bytes():
            yield piece


@app.get("/answer")
async def answer(model: str = "ok") -> StreamingResponse:
    return ClosedStreamingResponse(forward(model), media_type="text/event-stream")


@app.get("/health")
async def health() -> dict[str, Any]:
    return asdict(otel_llmstream.health())


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
