"""A gateway: its clients' streams are fed by a provider's stream, and end it when they leave.

Run it: `python examples/fastapi_gateway.py` (needs fastapi and uvicorn), then
`curl -N 'http://127.0.0.1:8000/answer?model=ok'`; press Ctrl-C on `model=pause` to leave early. PORT changes the port.
Where OPENAI_BASE_URL is not set, a local server plays the provider.

What to look for: a client that stays makes `completed`, one that leaves makes `cancelled`, at once and not when some
time-out or the garbage collector comes by; `GET /health` shows `active` back at 0.
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
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from starlette.types import Send

import otel_llmstream
from otel_llmstream.testing import ChaosServer


class ClosedStreamingResponse(StreamingResponse):
    """Closes its generator whatever happens.

    A client may leave while a piece is being sent. Newer servers (ASGI 2.4) raise in `send` then, and the generator,
    which is not running, would wait for the garbage collector while the provider goes on streaming and charging.
    """

    async def stream_response(self, send: Send) -> None:
        """Send the pieces; close the generator also when that is cut short."""
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
        provider = trace.get_tracer_provider()
        if isinstance(provider, TracerProvider):
            provider.shutdown()  # uvicorn dies of the signal that stops it, before atexit could send the last spans


app = FastAPI(lifespan=lifespan)


async def words(model: str) -> AsyncIterator[str]:
    """The provider's words, as they come."""
    messages: Any = [{"role": "user", "content": "Tell me a story."}]
    try:
        async with await app.state.provider.chat.completions.create(
            model=model, messages=messages, stream=True
        ) as stream:
            async for chunk in stream:
                yield (chunk.choices[0].delta.content or "") if chunk.choices else ""
    except OpenAIError as exc:
        yield f"\n[the answer ends here: {type(exc).__name__}]\n"  # 200 is out already; all that is left are words


@app.get("/answer")
async def answer(model: str = "ok") -> StreamingResponse:
    return ClosedStreamingResponse(words(model), media_type="text/plain")


@app.get("/health")
async def health() -> dict[str, Any]:
    return asdict(otel_llmstream.health())


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
