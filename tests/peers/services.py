"""A program with a real service and its real client in one process, both observed. It prints what both ends say.

    python services.py SERVICE

The last line of the output is JSON. SERVICE is a key of `SERVICES`. Each is asked three times: the answer is whole, the
service fails in the middle, and the body ends in the middle without an error. `tests/test_services_live.py` says where
it runs.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1", OTEL_SDK_DISABLED="true")

from datetime import UTC

import httpx
import uvicorn

import otel_llmstream
from otel_llmstream import ServedStreams

App = Callable[..., Awaitable[None]]

WORDS = ("Hel", "lo ", "you")
WHOLE, BROKEN, CUT = "whole", "broken", "cut"


class Cutting:
    """ASGI middleware that ends a stream cleanly after some bytes, as a proxy may, if `after` says so."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.after: int | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_stream = False
        sent = 0

        async def sending(message: Any) -> None:
            nonlocal is_stream, sent
            if message["type"] == "http.response.start":
                kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
                is_stream = bool(kinds) and b"event-stream" in kinds[0]
            elif message["type"] == "http.response.body" and is_stream and self.after is not None:
                before, sent = sent, sent + (b"\n" in message.get("body", b""))
                if before >= self.after:
                    if before == self.after and sent > before:
                        await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
            await send(message)

        await self.app(scope, receive, sending)


class Service:
    """A service.

    Attributes:
        after: messages of the body that come before a cut.
    """

    after = 4

    def app(self) -> Any:
        raise NotImplementedError

    async def ask(self, url: str, how: str) -> str:
        """What the client got, as text."""
        raise NotImplementedError


async def words(how: str) -> AsyncIterator[str]:
    for number, word in enumerate(WORDS):
        if how == BROKEN and number == 2:
            raise ValueError("Boom")
        await asyncio.sleep(0.02)
        yield word


async def post(url: str, body: dict[str, Any]) -> str:
    """All of a stream, for protocols whose own clients are not written in Python."""
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("POST", url, json=body, headers={"accept": "text/event-stream"}) as answer,
    ):
        return "".join([text async for text in answer.aiter_text()])


class Gradio(Service):
    """gradio and gradio_client."""

    def app(self) -> Any:
        import gradio
        from fastapi import FastAPI

        async def chat(how: str) -> AsyncIterator[str]:
            text = ""
            async for word in words(how):
                text += word
                yield text

        with gradio.Blocks() as blocks:
            box = gradio.Textbox()
            gradio.Button().click(chat, box, gradio.Textbox(), api_name="chat")
        return gradio.mount_gradio_app(FastAPI(), blocks.queue(), path="/demo")

    async def ask(self, url: str, how: str) -> str:
        from gradio_client import Client

        def talk() -> str:
            client = Client(f"{url}/demo", verbose=False)
            job = client.submit(how, api_name="/chat")
            with contextlib.suppress(Exception):
                job.result(timeout=5 if how == CUT else 20)
            return str(job.outputs()[-1:])

        return await asyncio.to_thread(talk)


class LangServe(Service):
    """langserve and its RemoteRunnable."""

    def app(self) -> Any:
        from fastapi import FastAPI
        from langchain_core.runnables import RunnableGenerator
        from langserve import add_routes

        async def chat(asked: AsyncIterator[str]) -> AsyncIterator[str]:
            async for how in asked:
                async for word in words(how):
                    yield word

        app = FastAPI()
        add_routes(app, RunnableGenerator(chat).with_types(input_type=str, output_type=str), path="/chat")
        return app

    async def ask(self, url: str, how: str) -> str:
        from langserve import RemoteRunnable

        return "".join([piece async for piece in RemoteRunnable(f"{url}/chat").astream(how)])


class LlamaIndex(Service):
    """llama-agents-server and llama-agents-client."""

    after = 1

    def app(self) -> Any:
        from llama_agents.server import WorkflowServer
        from workflows import Context, Workflow, step
        from workflows.events import Event, StartEvent, StopEvent

        class AgentStream(Event):
            delta: str

        class Chat(Workflow):
            @step
            async def chat(self, context: Context, asked: StartEvent) -> StopEvent:
                text = ""
                await asyncio.sleep(0.3)  # until the client reads
                async for word in words(asked.how):
                    text += word
                    context.write_event_to_stream(AgentStream(delta=word))
                return StopEvent(result=text)

        server = WorkflowServer()
        server.add_workflow("chat", Chat(timeout=20))
        return server.app

    async def ask(self, url: str, how: str) -> str:
        from llama_agents.client import WorkflowClient

        client = WorkflowClient(base_url=url)
        run = await client.run_workflow_nowait("chat", start_event={"how": how})
        stream = client.get_workflow_events(run.handler_id, max_reconnect_attempts=0)
        return ",".join([event.type async for event in stream])


class ChatKit(Service):
    """openai-chatkit. Its client is a browser's."""

    after = 5

    def app(self) -> Any:
        from datetime import datetime
        from unittest.mock import AsyncMock

        from chatkit.server import ChatKitServer
        from chatkit.store import Store
        from chatkit.types import (
            AssistantMessageContent,
            AssistantMessageContentPartTextDelta,
            AssistantMessageItem,
            Page,
            ThreadItemAddedEvent,
            ThreadItemDoneEvent,
            ThreadItemUpdatedEvent,
        )
        from fastapi import FastAPI, Request
        from fastapi.responses import StreamingResponse

        names = {name: AsyncMock(return_value=Page(data=[])) for name in Store.__abstractmethods__}
        store = type("Nothing", (Store,), names)()

        class Server(ChatKitServer[None]):
            async def respond(self, thread: Any, asked: Any, _context: Any) -> Any:
                def item(text: str) -> Any:
                    content = [AssistantMessageContent(text=text)]
                    return AssistantMessageItem(
                        id="m", thread_id=thread.id, created_at=datetime.now(UTC), content=content
                    )

                yield ThreadItemAddedEvent(item=item(""))
                async for word in words(asked.content[0].text):
                    update = AssistantMessageContentPartTextDelta(content_index=0, delta=word)
                    yield ThreadItemUpdatedEvent(item_id="m", update=update)
                yield ThreadItemDoneEvent(item=item("".join(WORDS)))

        server, app = Server(store), FastAPI()

        @app.post("/")
        async def talk(request: Request) -> StreamingResponse:
            return StreamingResponse(await server.process(await request.body(), None), media_type="text/event-stream")

        return app

    async def ask(self, url: str, how: str) -> str:
        content = [{"type": "input_text", "text": how}]
        asked = {"content": content, "attachments": [], "inference_options": {}}
        return await post(f"{url}/", {"type": "threads.create", "params": {"input": asked}, "metadata": {}})


class PydanticAI(Service):
    """pydantic-ai's adapters for front ends, whose clients are browsers'."""

    def adapter(self) -> Any:
        raise NotImplementedError

    def app(self) -> Any:
        from fastapi import FastAPI, Request
        from pydantic_ai import Agent
        from pydantic_ai.models.function import FunctionModel

        async def chat(messages: Any, _info: Any) -> AsyncIterator[str]:
            async for word in words(str(messages[-1].parts[-1].content)):
                yield word

        agent, adapter, app = Agent(FunctionModel(stream_function=chat)), self.adapter(), FastAPI()

        @app.post("/")
        async def talk(request: Request) -> Any:
            return await adapter.dispatch_request(request, agent=agent)

        return app


class Vercel(PydanticAI):
    """Vercel's UI message stream."""

    def adapter(self) -> Any:
        from pydantic_ai.ui.vercel_ai import VercelAIAdapter

        return VercelAIAdapter

    async def ask(self, url: str, how: str) -> str:
        message = {"id": "u", "role": "user", "parts": [{"type": "text", "text": how}]}
        return await post(f"{url}/", {"trigger": "submit-message", "id": "c", "messages": [message]})


class AGUI(PydanticAI):
    """AG-UI."""

    def adapter(self) -> Any:
        from pydantic_ai.ui.ag_ui import AGUIAdapter

        return AGUIAdapter

    async def ask(self, url: str, how: str) -> str:
        message = {"id": "u", "role": "user", "content": how}
        rest: dict[str, Any] = {"tools": [], "context": [], "state": {}, "forwardedProps": {}}
        return await post(f"{url}/", {"threadId": "t", "runId": "r", "messages": [message], **rest})


class A2A(Service):
    """a2a-sdk, server and client."""

    after = 2

    def card(self, url: str) -> Any:
        from a2a.types import AgentCapabilities, AgentCard, AgentInterface

        return AgentCard(
            name="a", description="d", version="1", default_input_modes=["text"], default_output_modes=["text"],
            capabilities=AgentCapabilities(streaming=True), skills=[],
            supported_interfaces=[AgentInterface(protocol_binding="JSONRPC", url=url, protocol_version="1.0")],
        )  # fmt: skip

    def app(self) -> Any:
        from a2a.helpers import new_task_from_user_message, new_text_part
        from a2a.server.agent_execution import AgentExecutor
        from a2a.server.request_handlers import DefaultRequestHandler
        from a2a.server.routes import create_jsonrpc_routes
        from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
        from starlette.applications import Starlette

        class Chat(AgentExecutor):
            async def execute(self, context: Any, event_queue: Any) -> None:
                task = new_task_from_user_message(context.message)
                await event_queue.enqueue_event(task)
                updater = TaskUpdater(event_queue, task.id, task.context_id)
                begun = False
                async for word in words(context.get_user_input()):
                    await updater.add_artifact([new_text_part(word)], artifact_id="a", append=begun)
                    begun = True
                await updater.complete()

            async def cancel(self, context: Any, event_queue: Any) -> None:
                raise NotImplementedError

        handler = DefaultRequestHandler(Chat(), InMemoryTaskStore(), self.card(""))
        return Starlette(routes=create_jsonrpc_routes(handler, "/rpc"))

    async def ask(self, url: str, how: str) -> str:
        from a2a.client import create_client
        from a2a.helpers import new_text_message
        from a2a.types import Role, SendMessageRequest

        client = await create_client(self.card(f"{url}/rpc"))
        message = new_text_message(how, role=Role.ROLE_USER)
        parts = [part async for part in client.send_message(SendMessageRequest(message=message))]
        return str(len(parts))


class ADK(Service):
    """google-adk's API server, which has no client of its own."""

    after = 2

    def app(self) -> Any:
        import tempfile
        from pathlib import Path

        from google.adk.cli.fast_api import get_fast_api_app

        folder = Path(tempfile.mkdtemp())
        (folder / "chat").mkdir()
        (folder / "chat" / "__init__.py").write_text("from . import agent\n")
        (folder / "chat" / "agent.py").write_text(_ADK_AGENT)
        sys.modules["services"] = sys.modules["__main__"]
        return get_fast_api_app(agents_dir=str(folder), web=False)

    async def ask(self, url: str, how: str) -> str:
        async with httpx.AsyncClient() as client:
            made = await client.post(f"{url}/apps/chat/users/u/sessions", json={})
        body = {"appName": "chat", "userId": "u", "sessionId": made.json()["id"], "streaming": True}
        return await post(f"{url}/run_sse", {**body, "newMessage": {"role": "user", "parts": [{"text": how}]}})


_ADK_AGENT = """
from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmResponse
from google.genai import types
from services import WORDS, words

class Model(BaseLlm):
    async def generate_content_async(self, llm_request, stream=False):
        def said(text, **more):
            return LlmResponse(content=types.Content(role="model", parts=[types.Part(text=text)]), **more)
        async for word in words(llm_request.contents[-1].parts[0].text):
            yield said(word, partial=True)
        yield said("".join(WORDS), finish_reason="STOP")

root_agent = LlmAgent(name="chat", model=Model(model="m"))
"""

SERVICES: dict[str, type[Service]] = {
    "gradio": Gradio,
    "langserve": LangServe,
    "llama_index": LlamaIndex,
    "chatkit": ChatKit,
    "vercel": Vercel,
    "ag_ui": AGUI,
    "a2a": A2A,
    "adk": ADK,
}


@contextlib.contextmanager
def serving(app: Any) -> Any:
    """A server in a thread; gives its URL."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


async def main(service: Service) -> dict[str, Any]:
    """Ask in each way, and collect what both ends say."""
    read: list[Any] = []
    sent: list[Any] = []
    otel_llmstream.instrument(prometheus_port=None)
    otel_llmstream.on_end(read.append)
    otel_llmstream.on_served_end(sent.append)
    told: dict[str, Any] = {}
    cutting = Cutting(service.app())
    with serving(ServedStreams(cutting)) as url:
        for how in (WHOLE, BROKEN, CUT):
            cutting.after = service.after if how == CUT else None
            read.clear()
            sent.clear()
            try:
                got = "got " + await service.ask(url, how)
            except Exception as error:  # noqa: BLE001 - what a client raises is its own
                got = f"raised {type(error).__name__}: {error}"
            for _ in range(200):
                if read and sent:
                    break
                await asyncio.sleep(0.05)
            told[how] = {
                "client": [
                    [it.request.dialect, it.outcome.value, it.error_type, it.chunks, it.unproven] for it in read
                ],
                "served": [[it.dialect, it.outcome.value, it.error_type, it.chunks] for it in sent],
                "got": got[:200],
            }
    return told


if __name__ == "__main__":
    told = asyncio.run(main(SERVICES[sys.argv[1]]()))
    sys.stdout.write(f"\n{json.dumps(told)}\n")
