"""A gateway that forwards a provider's stream to its clients. If a client leaves, the provider's stream is closed.

To run it: `python examples/fastapi_gateway.py` (needs fastapi and uvicorn), then
`curl -N 'http://127.0.0.1:8000/answer?model=ok'`. To leave early, press Ctrl-C during `model=pause`. PORT changes the
port. If OPENAI_BASE_URL is not set, a local server replaces the provider.

What to look for: if the client stays, the stream is `completed`. If it leaves, the stream is `cancelled` at once,
without waiting for a time-out or the garbage collector. Afterwards `GET /health` shows `active` as 0.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI, OpenAIError
from starlette.types import Send

import otel_llmstream
from otel_llmstream.testing import ChaosServer


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


async def words(model: str) -> AsyncIterator[str]:
    """The provider's words, as they arrive."""
    messages: Any = [{"role": "user", "content": "Tell me a story."}]
    try:
        async with await app.state.provider.chat.completions.create(
            model=model, messages=messages, stream=True
        ) as stream:
            async for chunk in stream:
                yield (chunk.choices[0].delta.content or "") if chunk.choices else ""
    except OpenAIError as exc:
        yield f"\n[the answer ends here: {type(exc).__name__}]\n"  # status 200 is already sent


@app.get("/answer")
async def answer(model: str = "ok") -> StreamingResponse:
    return ClosedStreamingResponse(words(model), media_type="text/plain")


@app.get("/health")
async def health() -> dict[str, Any]:
    return asdict(otel_llmstream.health())


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
