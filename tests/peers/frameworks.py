"""A program with otel-llmstream and a framework that has telemetry of its own. It prints as JSON what both emit.

    python frameworks.py FRAMEWORK ORDER

FRAMEWORK is a key of `FRAMEWORKS`. ORDER is `ours-first` or `theirs-first`. `program.py` says where it runs.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ.update(
    HF_HUB_OFFLINE="1",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
    LITELLM_OTEL_INTEGRATION_ENABLE_METRICS="true",
    LANGFUSE_TRACING_ENABLED="true",
    GOOGLE_GENAI_USE_VERTEXAI="false",
)  # before the frameworks are imported: they read their variables then

from program import EXPORTER, WARNINGS, Keep, counts, providers, spans

import otel_llmstream
from otel_llmstream.testing.chaos import ChaosServer


class PydanticAI:
    """Its instrumentation is on for all agents, or off."""

    def on(self) -> None:
        from pydantic_ai import Agent

        Agent.instrument_all(True)

    def off(self) -> None:
        from pydantic_ai import Agent

        Agent.instrument_all(False)

    def agent(self, url: str, model: str) -> Any:
        from pydantic_ai import Agent
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        return Agent(OpenAIChatModel(model, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="k")))

    def call(self, url: str, model: str) -> None:
        with self.agent(url, model).run_stream_sync("hi") as result:
            for _ in result.stream_text():
                pass

    async def acall(self, url: str, model: str) -> None:
        async with self.agent(url, model).run_stream("hi") as result:
            async for _ in result.stream_text():
                pass


class AgentFramework:
    """Microsoft's agent-framework. It has only asynchronous calls."""

    def on(self) -> None:
        from agent_framework.observability import enable_instrumentation

        enable_instrumentation()

    def off(self) -> None:
        from agent_framework.observability import OBSERVABILITY_SETTINGS

        OBSERVABILITY_SETTINGS.enable_instrumentation = False

    async def acall(self, url: str, model: str) -> None:
        from agent_framework.openai import OpenAIChatCompletionClient

        client = OpenAIChatCompletionClient(model=model, base_url=f"{url}/v1", api_key="k")
        async for _ in client.get_response("hi", stream=True):
            pass


class ADK:
    """Google's Agent Development Kit. Its spans are always on, and its calls are asynchronous."""

    def on(self) -> None:
        import google.adk.telemetry.tracing  # noqa: F401

    def off(self) -> None:
        pass

    async def acall(self, url: str, model: str) -> None:
        from google.adk.agents import LlmAgent, RunConfig
        from google.adk.agents.run_config import StreamingMode
        from google.adk.models.google_llm import Gemini
        from google.adk.runners import InMemoryRunner
        from google.genai import types

        os.environ.update(GOOGLE_API_KEY="k", GOOGLE_GEMINI_BASE_URL=url)
        runner = InMemoryRunner(LlmAgent(name="agent", model=Gemini(model=model.replace("?", ";"))), app_name="app")
        session = await runner.session_service.create_session(app_name="app", user_id="u")
        async for _ in runner.run_async(
            user_id="u",
            session_id=session.id,
            new_message=types.Content(role="user", parts=[types.Part(text="hi")]),
            run_config=RunConfig(streaming_mode=StreamingMode.SSE),
        ):
            pass


class LangChain:
    """LangChain, which two instrumentations know. Both are callbacks; their spans are not current."""

    instrumentor: Any

    def on(self) -> None:
        self.instrumentor.instrument()

    def off(self) -> None:
        self.instrumentor.uninstrument()

    def model(self, url: str, model: str) -> Any:
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(model=model, base_url=f"{url}/v1", api_key="k", stream_usage=True)

    def options(self) -> dict[str, Any]:
        return {}

    def call(self, url: str, model: str) -> None:
        for _ in self.model(url, model).stream("hi", **self.options()):
            pass

    async def acall(self, url: str, model: str) -> None:
        async for _ in self.model(url, model).astream("hi", **self.options()):
            pass


class OpenInferenceLangChain(LangChain):
    def __init__(self) -> None:
        from openinference.instrumentation.langchain import LangChainInstrumentor

        self.instrumentor = LangChainInstrumentor()


class OpenLLMetryLangChain(LangChain):
    def __init__(self) -> None:
        from opentelemetry.instrumentation.langchain import LangchainInstrumentor

        self.instrumentor = LangchainInstrumentor()


class LiteLLM:
    """litellm's `otel` callback. It makes its span after the call, in a thread or task of litellm's own."""

    def on(self) -> None:
        import litellm

        litellm.callbacks = ["otel"]

    def off(self) -> None:
        import litellm

        litellm.callbacks = []
        for name in vars(litellm):
            if name.endswith("_callback") and isinstance(getattr(litellm, name), list):
                getattr(litellm, name).clear()

    def request(self, url: str, model: str) -> dict[str, Any]:
        return {
            "model": f"openai/{model}",
            "api_base": f"{url}/v1",
            "api_key": "k",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_retries": 0,
        }

    def call(self, url: str, model: str) -> None:
        import litellm

        for _ in litellm.completion(**self.request(url, model)):
            pass

    async def acall(self, url: str, model: str) -> None:
        import litellm

        async for _ in await litellm.acompletion(**self.request(url, model)):
            pass


class Langfuse:
    """Langfuse's wrapper of the openai SDK. Its processor joins our tracer provider; its host is a closed port."""

    def on(self) -> None:
        from langfuse import Langfuse as Client

        self.client = Client(public_key="pk", secret_key="sk", host="http://127.0.0.1:9", timeout=1)

    def off(self) -> None:
        self.client.shutdown()

    def request(self, model: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": "hi"}]
        return {"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}

    def call(self, url: str, model: str) -> None:
        from langfuse.openai import OpenAI

        client = OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)
        for _ in client.chat.completions.create(**self.request(model)):
            pass

    async def acall(self, url: str, model: str) -> None:
        from langfuse.openai import AsyncOpenAI

        client = AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)
        async for _ in await client.chat.completions.create(**self.request(model)):
            pass


FRAMEWORKS: dict[str, Callable[[], Any]] = {
    "pydantic-ai": PydanticAI,
    "agent-framework": AgentFramework,
    "google-adk": ADK,
    "langchain-openinference": OpenInferenceLangChain,
    "langchain-openllmetry": OpenLLMetryLangChain,
    "litellm": LiteLLM,
    "langfuse": Langfuse,
}

MODELS = ("ok", "no-finish", "error")


def emitted(before: dict[str, Any]) -> dict[str, Any]:
    """What was emitted since `before`, which is then brought up to date."""
    now = counts()
    grown = {
        scope: {
            name: value - before.get(scope, {}).get(name, 0)
            for name, value in metrics.items()
            if value != before.get(scope, {}).get(name, 0)
        }
        for scope, metrics in now.items()
    }
    before.clear()
    before.update(now)
    return {"spans": spans(), "metrics": {scope: metrics for scope, metrics in grown.items() if metrics}}


def plain_sdk(url: str) -> None:
    """A call that no framework knows of."""
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="k")
    for _ in client.chat.completions.create(model="ok", messages=[{"role": "user", "content": "hi"}], stream=True):
        pass


async def asynchronous(framework: Any, url: str, result: dict[str, Any], before: dict[str, Any]) -> None:
    for model in MODELS:
        with contextlib.suppress(Exception):
            await framework.acall(url, model)
        await settled(framework)
        result[f"async {model}"] = emitted(before)


async def settled(framework: Any) -> None:
    """Litellm calls its callback in a worker of the event loop and in a pool of threads: wait for its span."""
    for _ in range(1000 if isinstance(framework, LiteLLM) else 0):
        if any(span.instrumentation_scope.name == "litellm" for span in EXPORTER.get_finished_spans()):
            await measured()
            return
        await asyncio.sleep(0.01)


async def measured() -> None:
    """The callback ends its span before it records its metrics: wait until they are there and grow no more."""
    before: dict[str, float] = {}
    for _ in range(200):
        now = counts().get("litellm", {})
        if now == before and any(name.endswith("token.usage") for name in now):
            return
        before = now
        await asyncio.sleep(0.05)


def main(name: str, order: str) -> None:
    logging.getLogger("otel_llmstream").addHandler(Keep(logging.WARNING))
    providers(name)
    framework = FRAMEWORKS[name]()
    switches = [otel_llmstream.instrument, framework.on]
    for on in switches if order == "ours-first" else reversed(switches):
        on()
    result: dict[str, Any] = {}
    before: dict[str, Any] = {}
    with ChaosServer() as server:
        for model in MODELS if hasattr(framework, "call") else ():
            with contextlib.suppress(Exception):
                framework.call(server.base_url, model)
            asyncio.run(settled(framework))
            result[f"sync {model}"] = emitted(before)
        asyncio.run(asynchronous(framework, server.base_url, result, before))
        framework.off()
        plain_sdk(server.base_url)
        result["without theirs"] = emitted(before)
    result["warnings"] = WARNINGS
    result["internal errors"] = otel_llmstream.health().internal_errors
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
