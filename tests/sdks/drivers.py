"""Drivers for real SDKs. Each is a generator that requests a stream from the chaos server and yields the SDK's items.

Closing the generator closes the stream in the way that the SDK documents. Each driver imports its SDK itself, because
no environment has all SDKs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

QUESTION: Final = [{"role": "user", "content": "the question"}]
KEY: Final = "test-key"
TIMEOUT: Final = 30.0  # seconds; much longer than any scenario takes
AIOHTTP: Final = "aiohttp"


@dataclass(frozen=True)
class Ask:
    """The request of a driver.

    Attributes:
        url: the chaos server's root.
        model: the scenario with its parameters.
        retries: maximum number of retries of the SDK.
    """

    url: str
    model: str
    retries: int = 0


@dataclass(frozen=True)
class Driver:
    """One way to read a stream with an SDK.

    Attributes:
        sdk: the distribution's name.
        api: the method of the SDK that is called.
        how: `sync`, `async`, or `aiohttp` (async over that transport).
        run: sends the request and reads the stream.
        needs: a name that the SDK's module must have. Older versions without it lack the transport.
        retries: whether the SDK retries by itself.
        closes: whether the SDK closes its stream when its generator is closed. If not, the garbage collector does.
        socket: whether the stream comes over a WebSocket.
    """

    sdk: str
    api: str
    how: str
    run: Callable[[Ask], Any]
    needs: str | None = None
    retries: bool = True
    closes: bool = True
    socket: bool = False

    @property
    def name(self) -> str:
        """The driver's name in test ids."""
        return f"{self.sdk} {self.api} {self.how}"

    @property
    def version(self) -> str:
        """The installed version of the SDK."""
        return metadata.version(self.sdk)


DRIVERS: Final[list[Driver]] = []


def driver(sdk: str, api: str, how: str, **more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a function to the table of drivers."""

    def add(run: Callable[..., Any]) -> Callable[..., Any]:
        DRIVERS.append(Driver(sdk, api, how, run, **more))
        return run

    return add


# --- openai -----------------------------------------------------------------------------------------------------------


def _openai(ask: Ask) -> dict[str, Any]:
    return {"base_url": f"{ask.url}/v1", "api_key": KEY, "max_retries": ask.retries, "timeout": TIMEOUT}


@driver("openai", "chat.completions.create", "sync")
def openai_chat(ask: Ask) -> Iterator[Any]:
    import openai

    with (
        openai.OpenAI(**_openai(ask)) as client,
        closing_stream(client.chat.completions.create(model=ask.model, messages=QUESTION, stream=True)) as stream,
    ):
        yield from stream


@driver("openai", "chat.completions.create", "async")
async def openai_chat_async(ask: Ask) -> AsyncIterator[Any]:
    import openai

    async with (
        openai.AsyncOpenAI(**_openai(ask)) as client,
        await client.chat.completions.create(model=ask.model, messages=QUESTION, stream=True) as stream,
    ):
        async for item in stream:
            yield item


@driver("openai", "chat.completions.create", AIOHTTP, needs="DefaultAioHttpClient")
async def openai_chat_aiohttp(ask: Ask) -> AsyncIterator[Any]:
    import openai

    async with (
        openai.AsyncOpenAI(**_openai(ask), http_client=openai.DefaultAioHttpClient()) as client,
        await client.chat.completions.create(model=ask.model, messages=QUESTION, stream=True) as stream,
    ):
        async for item in stream:
            yield item


@driver("openai", "chat.completions.stream", "sync")
def openai_chat_helper(ask: Ask) -> Iterator[Any]:
    import openai

    with openai.OpenAI(**_openai(ask)) as client:
        chat = getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream
        with chat(model=ask.model, messages=QUESTION) as stream:
            yield from stream


@driver("openai", "chat.completions.stream", "async")
async def openai_chat_helper_async(ask: Ask) -> AsyncIterator[Any]:
    import openai

    async with openai.AsyncOpenAI(**_openai(ask)) as client:
        chat = getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream
        async with chat(model=ask.model, messages=QUESTION) as stream:
            async for item in stream:
                yield item


@driver("openai", "completions.create", "sync")
def openai_completions(ask: Ask) -> Iterator[Any]:
    import openai

    with (
        openai.OpenAI(**_openai(ask)) as client,
        closing_stream(client.completions.create(model=ask.model, prompt="the question", stream=True)) as stream,
    ):
        yield from stream


@driver("openai", "completions.create", "async")
async def openai_completions_async(ask: Ask) -> AsyncIterator[Any]:
    import openai

    async with (
        openai.AsyncOpenAI(**_openai(ask)) as client,
        await client.completions.create(model=ask.model, prompt="the question", stream=True) as stream,
    ):
        async for item in stream:
            yield item


@driver("openai", "responses.create", "sync")
def openai_responses(ask: Ask) -> Iterator[Any]:
    import openai

    with (
        openai.OpenAI(**_openai(ask)) as client,
        closing_stream(client.responses.create(model=ask.model, input="the question", stream=True)) as stream,
    ):
        yield from stream


@driver("openai", "responses.create", "async")
async def openai_responses_async(ask: Ask) -> AsyncIterator[Any]:
    import openai

    async with (
        openai.AsyncOpenAI(**_openai(ask)) as client,
        await client.responses.create(model=ask.model, input="the question", stream=True) as stream,
    ):
        async for item in stream:
            yield item


@driver("openai", "responses.stream", "sync")
def openai_responses_helper(ask: Ask) -> Iterator[Any]:
    import openai

    with openai.OpenAI(**_openai(ask)) as client, client.responses.stream(model=ask.model, input="x") as stream:
        yield from stream


@driver("openai", "responses.stream", "async")
async def openai_responses_helper_async(ask: Ask) -> AsyncIterator[Any]:
    import openai

    async with (
        openai.AsyncOpenAI(**_openai(ask)) as client,
        client.responses.stream(model=ask.model, input="x") as stream,
    ):
        async for item in stream:
            yield item


def _azure(ask: Ask) -> dict[str, Any]:
    # The deployment is part of the path, so it cannot contain the question mark of a scenario's parameters.
    return {
        "azure_endpoint": ask.url,
        "azure_deployment": "deployment",
        "api_version": "2025-01-01",
        "api_key": KEY,
        "max_retries": ask.retries,
        "timeout": TIMEOUT,
    }


@driver("openai", "AzureOpenAI", "sync")
def azure(ask: Ask) -> Iterator[Any]:
    import openai

    with (
        openai.AzureOpenAI(**_azure(ask)) as client,
        closing_stream(client.chat.completions.create(model=ask.model, messages=QUESTION, stream=True)) as stream,
    ):
        yield from stream


@driver("openai", "AzureOpenAI", "async")
async def azure_async(ask: Ask) -> AsyncIterator[Any]:
    import openai

    async with (
        openai.AsyncAzureOpenAI(**_azure(ask)) as client,
        await client.chat.completions.create(model=ask.model, messages=QUESTION, stream=True) as stream,
    ):
        async for item in stream:
            yield item


# --- anthropic --------------------------------------------------------------------------------------------------------


def _anthropic(ask: Ask) -> dict[str, Any]:
    return {"base_url": ask.url, "api_key": KEY, "max_retries": ask.retries, "timeout": TIMEOUT}


def _message(ask: Ask) -> dict[str, Any]:
    return {"model": ask.model, "messages": QUESTION, "max_tokens": 64}


@driver("anthropic", "messages.create", "sync")
def anthropic_create(ask: Ask) -> Iterator[Any]:
    import anthropic

    with (
        anthropic.Anthropic(**_anthropic(ask)) as client,
        closing_stream(client.messages.create(**_message(ask), stream=True)) as stream,
    ):
        yield from stream


@driver("anthropic", "messages.create", "async")
async def anthropic_create_async(ask: Ask) -> AsyncIterator[Any]:
    import anthropic

    async with (
        anthropic.AsyncAnthropic(**_anthropic(ask)) as client,
        await client.messages.create(**_message(ask), stream=True) as stream,
    ):
        async for item in stream:
            yield item


@driver("anthropic", "messages.create", AIOHTTP, needs="DefaultAioHttpClient")
async def anthropic_create_aiohttp(ask: Ask) -> AsyncIterator[Any]:
    import anthropic

    async with (
        anthropic.AsyncAnthropic(**_anthropic(ask), http_client=anthropic.DefaultAioHttpClient()) as client,
        await client.messages.create(**_message(ask), stream=True) as stream,
    ):
        async for item in stream:
            yield item


@driver("anthropic", "messages.stream", "sync")
def anthropic_helper(ask: Ask) -> Iterator[Any]:
    import anthropic

    with anthropic.Anthropic(**_anthropic(ask)) as client, client.messages.stream(**_message(ask)) as stream:
        yield from stream


@driver("anthropic", "messages.stream", "async")
async def anthropic_helper_async(ask: Ask) -> AsyncIterator[Any]:
    import anthropic

    async with (
        anthropic.AsyncAnthropic(**_anthropic(ask)) as client,
        client.messages.stream(**_message(ask)) as stream,
    ):
        async for item in stream:
            yield item


def in_path(model: str) -> str:
    """The scenario in a form that is allowed in a URL's path."""
    return model.replace("?", ";").replace("&", ";")


def _of_cloud(ask: Ask) -> dict[str, Any]:
    return _message(ask) | {"model": in_path(ask.model), "stream": True}


def _bedrock(ask: Ask) -> dict[str, Any]:
    keys = {"aws_access_key": KEY, "aws_secret_key": KEY, "aws_region": "us-east-1"}
    return {"base_url": ask.url, "max_retries": ask.retries, "timeout": TIMEOUT, **keys}


@driver("anthropic", "AnthropicBedrock", "sync")
def anthropic_bedrock(ask: Ask) -> Iterator[Any]:
    import anthropic

    with (
        anthropic.AnthropicBedrock(**_bedrock(ask)) as client,
        closing_stream(client.messages.create(**_of_cloud(ask))) as stream,
    ):
        yield from stream


@driver("anthropic", "AnthropicBedrock", "async")
async def anthropic_bedrock_async(ask: Ask) -> AsyncIterator[Any]:
    import anthropic

    async with (
        anthropic.AsyncAnthropicBedrock(**_bedrock(ask)) as client,
        await client.messages.create(**_of_cloud(ask)) as stream,
    ):
        async for item in stream:
            yield item


def _vertex(ask: Ask) -> dict[str, Any]:
    where = {"base_url": f"{ask.url}/v1", "project_id": "p", "region": "global"}
    return {**where, "access_token": KEY, "max_retries": ask.retries, "timeout": TIMEOUT}


@driver("anthropic", "AnthropicVertex", "sync")
def anthropic_vertex(ask: Ask) -> Iterator[Any]:
    import anthropic

    with (
        anthropic.AnthropicVertex(**_vertex(ask)) as client,
        closing_stream(client.messages.create(**_of_cloud(ask))) as stream,
    ):
        yield from stream


@driver("anthropic", "AnthropicVertex", "async")
async def anthropic_vertex_async(ask: Ask) -> AsyncIterator[Any]:
    import anthropic

    async with (
        anthropic.AsyncAnthropicVertex(**_vertex(ask)) as client,
        await client.messages.create(**_of_cloud(ask)) as stream,
    ):
        async for item in stream:
            yield item


# --- the other SDKs of the same generator -----------------------------------------------------------------------------


def _plain(ask: Ask, base: str = "") -> dict[str, Any]:
    return {"base_url": ask.url + base, "api_key": KEY, "max_retries": ask.retries, "timeout": TIMEOUT}


def _generated(client: Any, ask: Ask) -> Iterator[Any]:
    with (
        client,
        closing_stream(client.chat.completions.create(model=ask.model, messages=QUESTION, stream=True)) as stream,
    ):
        yield from stream


async def _generated_async(client: Any, ask: Ask) -> AsyncIterator[Any]:
    async with client:
        stream = client.chat.completions.create(model=ask.model, messages=QUESTION, stream=True)
        async with await stream if hasattr(stream, "__await__") else stream as items:
            async for item in items:
                yield item


@driver("groq", "chat.completions.create", "sync")
def groq(ask: Ask) -> Iterator[Any]:
    import groq as sdk

    yield from _generated(sdk.Groq(**_plain(ask)), ask)


@driver("groq", "chat.completions.create", "async")
def groq_async(ask: Ask) -> AsyncIterator[Any]:
    import groq as sdk

    return _generated_async(sdk.AsyncGroq(**_plain(ask)), ask)


@driver("groq", "chat.completions.create", AIOHTTP, needs="DefaultAioHttpClient")
def groq_aiohttp(ask: Ask) -> AsyncIterator[Any]:
    import groq as sdk

    return _generated_async(sdk.AsyncGroq(**_plain(ask), http_client=sdk.DefaultAioHttpClient()), ask)


@driver("together", "chat.completions.create", "sync")
def together(ask: Ask) -> Iterator[Any]:
    import together as sdk

    yield from _generated(sdk.Together(**_plain(ask, "/v1")), ask)


@driver("together", "chat.completions.create", "async")
def together_async(ask: Ask) -> AsyncIterator[Any]:
    import together as sdk

    return _generated_async(sdk.AsyncTogether(**_plain(ask, "/v1")), ask)


@driver("together", "chat.completions.create", AIOHTTP, needs="DefaultAioHttpClient")
def together_aiohttp(ask: Ask) -> AsyncIterator[Any]:
    import together as sdk

    return _generated_async(sdk.AsyncTogether(**_plain(ask, "/v1"), http_client=sdk.DefaultAioHttpClient()), ask)


@driver("fireworks-ai", "chat.completions.create", "sync")
def fireworks(ask: Ask) -> Iterator[Any]:
    import fireworks as sdk

    yield from _generated(sdk.Fireworks(**_plain(ask)), ask)


@driver("fireworks-ai", "chat.completions.create", AIOHTTP)
def fireworks_async(ask: Ask) -> AsyncIterator[Any]:
    import fireworks as sdk

    return _generated_async(sdk.AsyncFireworks(**_plain(ask)), ask)


@driver("cerebras-cloud-sdk", "chat.completions.create", "sync")
def cerebras(ask: Ask) -> Iterator[Any]:
    from cerebras.cloud import sdk

    yield from _generated(sdk.Cerebras(**_plain(ask), warm_tcp_connection=False), ask)


@driver("cerebras-cloud-sdk", "chat.completions.create", "async")
def cerebras_async(ask: Ask) -> AsyncIterator[Any]:
    from cerebras.cloud import sdk

    return _generated_async(sdk.AsyncCerebras(**_plain(ask), warm_tcp_connection=False), ask)


@driver("cerebras-cloud-sdk", "chat.completions.create", AIOHTTP, needs="DefaultAioHttpClient")
def cerebras_aiohttp(ask: Ask) -> AsyncIterator[Any]:
    from cerebras.cloud import sdk

    http = sdk.DefaultAioHttpClient()
    return _generated_async(sdk.AsyncCerebras(**_plain(ask), warm_tcp_connection=False, http_client=http), ask)


# --- Hugging Face -----------------------------------------------------------------------------------------------------


@driver("huggingface_hub", "InferenceClient.chat_completion", "sync", retries=False)
def hugging_face(ask: Ask) -> Iterator[Any]:
    from huggingface_hub import InferenceClient

    with InferenceClient(base_url=f"{ask.url}/v1", api_key=KEY, timeout=TIMEOUT) as client:
        yield from client.chat_completion(model=ask.model, messages=QUESTION, stream=True)


@driver("huggingface_hub", "InferenceClient.chat_completion", "async", retries=False)
async def hugging_face_async(ask: Ask) -> AsyncIterator[Any]:
    from huggingface_hub import AsyncInferenceClient

    async with AsyncInferenceClient(base_url=f"{ask.url}/v1", api_key=KEY, timeout=TIMEOUT) as client:
        async for item in await client.chat_completion(model=ask.model, messages=QUESTION, stream=True):
            yield item


# --- Google, Mistral, Cohere, Ollama: by default they do not retry a rejected stream ----------------------------------


def _google(ask: Ask, **more: Any) -> Any:
    from google import genai

    options = genai.types.HttpOptions(base_url=ask.url, timeout=int(TIMEOUT * 1000), **more)
    return genai.Client(api_key=KEY, http_options=options)


@driver("google-genai", "generate_content_stream", "sync", retries=False)
def google(ask: Ask) -> Iterator[Any]:
    client = _google(ask)
    with closing(client.models.generate_content_stream(model=in_path(ask.model), contents="?")) as items:
        yield from items


@driver("google-genai", "generate_content_stream", "async", retries=False)
async def google_async(ask: Ask) -> AsyncIterator[Any]:
    from google.genai.types import HttpOptions

    if "httpx_async_client" not in HttpOptions.model_fields:  # older versions always use httpx
        async for item in _google_stream(_google(ask), ask):
            yield item
        return
    import httpx2

    async with httpx2.AsyncClient() as http:
        async for item in _google_stream(_google(ask, httpx_async_client=http), ask):
            yield item


@driver("google-genai", "generate_content_stream", AIOHTTP, needs="has_aiohttp", retries=False)
async def google_aiohttp(ask: Ask) -> AsyncIterator[Any]:
    client = _google(ask)
    try:
        async for item in _google_stream(client, ask):
            yield item
    finally:
        await client.aio.aclose()


async def _google_stream(client: Any, ask: Ask) -> AsyncIterator[Any]:
    items = await client.aio.models.generate_content_stream(model=in_path(ask.model), contents="?")
    async with aclosing(items):
        async for item in items:
            yield item


def _mistral(ask: Ask) -> Any:
    try:
        from mistralai.client import Mistral
    except ImportError:
        from mistralai import Mistral
    return Mistral(api_key=KEY, server_url=f"{ask.url}/mistral", timeout_ms=int(TIMEOUT * 1000))


@driver("mistralai", "chat.stream", "sync", retries=False)
def mistral_chat(ask: Ask) -> Iterator[Any]:
    with _mistral(ask) as client, client.chat.stream(model=ask.model, messages=QUESTION) as stream:
        yield from stream


@driver("mistralai", "chat.stream", "async", retries=False)
async def mistral_chat_async(ask: Ask) -> AsyncIterator[Any]:
    async with _mistral(ask) as client, await client.chat.stream_async(model=ask.model, messages=QUESTION) as stream:
        async for item in stream:
            yield item


@driver("mistralai", "fim.stream", "sync", retries=False)
def mistral_fim(ask: Ask) -> Iterator[Any]:
    with _mistral(ask) as client, client.fim.stream(model=ask.model, prompt="?") as stream:
        yield from stream


@driver("mistralai", "fim.stream", "async", retries=False)
async def mistral_fim_async(ask: Ask) -> AsyncIterator[Any]:
    async with _mistral(ask) as client, await client.fim.stream_async(model=ask.model, prompt="?") as stream:
        async for item in stream:
            yield item


@driver("cohere", "ClientV2.chat_stream", "sync", retries=False)
def cohere(ask: Ask) -> Iterator[Any]:
    import cohere as sdk

    client = sdk.ClientV2(api_key=KEY, base_url=ask.url, timeout=TIMEOUT)
    with closing(client.chat_stream(model=ask.model, messages=QUESTION)) as items:
        yield from items


@driver("cohere", "ClientV2.chat_stream", "async", retries=False)
async def cohere_async(ask: Ask) -> AsyncIterator[Any]:
    import cohere as sdk

    client = sdk.AsyncClientV2(api_key=KEY, base_url=ask.url, timeout=TIMEOUT)
    async with aclosing(client.chat_stream(model=ask.model, messages=QUESTION)) as items:
        async for item in items:
            yield item


@driver("ollama", "chat", "sync", retries=False)
def ollama_chat(ask: Ask) -> Iterator[Any]:
    import ollama

    client = ollama.Client(host=ask.url, timeout=TIMEOUT)
    with closing(client.chat(model=ask.model, messages=QUESTION, stream=True)) as items:
        yield from items


@driver("ollama", "chat", "async", retries=False)
async def ollama_chat_async(ask: Ask) -> AsyncIterator[Any]:
    import ollama

    client = ollama.AsyncClient(host=ask.url, timeout=TIMEOUT)
    async with aclosing(await client.chat(model=ask.model, messages=QUESTION, stream=True)) as items:
        async for item in items:
            yield item


@driver("ollama", "generate", "sync", retries=False)
def ollama_generate(ask: Ask) -> Iterator[Any]:
    import ollama

    client = ollama.Client(host=ask.url, timeout=TIMEOUT)
    with closing(client.generate(model=ask.model, prompt="?", stream=True)) as items:
        yield from items


@driver("ollama", "generate", "async", retries=False)
async def ollama_generate_async(ask: Ask) -> AsyncIterator[Any]:
    import ollama

    client = ollama.AsyncClient(host=ask.url, timeout=TIMEOUT)
    async with aclosing(await client.generate(model=ask.model, prompt="?", stream=True)) as items:
        async for item in items:
            yield item


# --- Bedrock through boto3, on urllib3 --------------------------------------------------------------------------------


@contextmanager
def _boto3(ask: Ask) -> Iterator[Any]:
    import boto3
    from botocore.config import Config

    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": KEY, "region_name": "us-east-1"}
    config = Config(read_timeout=TIMEOUT, retries={"total_max_attempts": ask.retries + 1, "mode": "standard"})
    with closing(boto3.client("bedrock-runtime", endpoint_url=ask.url, config=config, **keys)) as client:
        yield client


@driver("boto3", "converse_stream", "sync")
def boto3_converse(ask: Ask) -> Iterator[Any]:
    with _boto3(ask) as client:
        messages = [{"role": "user", "content": [{"text": "the question"}]}]
        with closing(client.converse_stream(modelId=ask.model, messages=messages)["stream"]) as stream:
            yield from stream


@driver("boto3", "invoke_model_with_response_stream", "sync")
def boto3_invoke(ask: Ask) -> Iterator[Any]:
    body = b'{"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": []}'
    with (
        _boto3(ask) as client,
        closing(client.invoke_model_with_response_stream(modelId=ask.model, body=body)["body"]) as stream,
    ):
        yield from stream


# --- requests and urllib3 ---------------------------------------------------------------------------------------------


def _retry(ask: Ask) -> Any:
    from urllib3.util import Retry

    return Retry(
        ask.retries,
        allowed_methods=None,
        status_forcelist=(429,),
        raise_on_status=False,
        respect_retry_after_header=False,  # it takes whole seconds only
    )


@contextmanager
def _response(ask: Ask) -> Iterator[Any]:
    import requests
    from requests.adapters import HTTPAdapter

    body = {"model": ask.model, "messages": QUESTION, "stream": True}
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=_retry(ask)))
        with session.post(f"{ask.url}/v1/chat/completions", json=body, stream=True, timeout=TIMEOUT) as response:
            yield response


@driver("requests", "Response.iter_lines", "sync")
def requests_lines(ask: Ask) -> Iterator[Any]:
    with _response(ask) as response:
        yield from response.iter_lines()


@driver("requests", "Response.iter_content", "sync")
def requests_content(ask: Ask) -> Iterator[Any]:
    with _response(ask) as response:
        yield from response.iter_content(None)


@driver("sseclient-py", "SSEClient.events", "sync")
def sseclient(ask: Ask) -> Iterator[Any]:
    import sseclient as sdk

    with _response(ask) as response, closing(sdk.SSEClient(response)) as client:
        yield from client.events()


@driver("urllib3", "HTTPResponse.stream", "sync")
def urllib3(ask: Ask) -> Iterator[Any]:
    import json

    import urllib3 as sdk

    body = json.dumps({"model": ask.model, "messages": QUESTION, "stream": True})
    with sdk.PoolManager(retries=_retry(ask), timeout=TIMEOUT) as manager:
        url = f"{ask.url}/v1/chat/completions"
        with closing(manager.request("POST", url, body=body, preload_content=False)) as response:
            yield from response.stream()


def _azure_inference(ask: Ask) -> dict[str, Any]:
    from azure.core.credentials import AzureKeyCredential

    return {
        "endpoint": f"{ask.url}/v1",
        "credential": AzureKeyCredential(KEY),
        "retry_total": ask.retries,
        "retry_backoff_factor": 0,
    }


@driver("azure-ai-inference", "ChatCompletionsClient.complete", "sync", retries=False)
def azure_chat(ask: Ask) -> Iterator[Any]:
    from azure.ai.inference import ChatCompletionsClient

    with (
        ChatCompletionsClient(**_azure_inference(ask)) as client,
        client.complete(model=ask.model, messages=QUESTION, stream=True) as stream,
    ):
        yield from stream


@driver("azure-ai-inference", "ChatCompletionsClient.complete", "async", retries=False)
async def azure_chat_async(ask: Ask) -> AsyncIterator[Any]:
    from azure.ai.inference.aio import ChatCompletionsClient

    async with ChatCompletionsClient(**_azure_inference(ask)) as client:
        stream = await client.complete(model=ask.model, messages=QUESTION, stream=True)
        try:
            async for item in stream:
                yield item
        finally:
            await stream.aclose()


@driver("mlflow-skinny", "predict_stream", "sync", closes=False)
def mlflow_databricks(ask: Ask) -> Iterator[Any]:
    """Databricks' serving endpoints through MLflow's client."""
    import os

    from mlflow.deployments import get_deploy_client

    os.environ.update(DATABRICKS_HOST=ask.url, DATABRICKS_TOKEN=KEY)
    client = get_deploy_client("databricks")
    inputs = {"model": ask.model, "messages": QUESTION}
    with closing(client.predict_stream(endpoint="chat", inputs=inputs)) as items:
        yield from items


# --- DashScope, on requests and aiohttp -------------------------------------------------------------------------------


def _dashscope(ask: Ask) -> dict[str, Any]:
    return {
        "model": ask.model,
        "api_key": KEY,
        "base_address": f"{ask.url}/api/v1",
        "stream": True,
        "request_timeout": int(TIMEOUT),
    }


@driver("dashscope", "Generation.call", "sync", retries=False)
def dashscope_generation(ask: Ask) -> Iterator[Any]:
    from dashscope import Generation

    with closing(Generation.call(messages=QUESTION, result_format="message", **_dashscope(ask))) as items:
        yield from items


@driver("dashscope", "AioGeneration.call", AIOHTTP, retries=False)
async def dashscope_generation_async(ask: Ask) -> AsyncIterator[Any]:
    from dashscope import AioGeneration

    items = await AioGeneration.call(
        messages=QUESTION, result_format="message", incremental_output=True, **_dashscope(ask)
    )
    async with aclosing(items):
        async for item in items:
            yield item


@driver("dashscope", "MultiModalConversation.call", "sync", retries=False)
def dashscope_conversation(ask: Ask) -> Iterator[Any]:
    from dashscope import MultiModalConversation

    messages = [{"role": "user", "content": [{"text": "the question"}]}]
    with closing(MultiModalConversation.call(messages=messages, incremental_output=True, **_dashscope(ask))) as items:
        yield from items


# --- frameworks -------------------------------------------------------------------------------------------------------


def _litellm(ask: Ask) -> dict[str, Any]:
    return {
        "model": f"openai/{ask.model}",
        "api_base": f"{ask.url}/v1",
        "api_key": KEY,
        "max_retries": ask.retries,
        "timeout": TIMEOUT,
        "messages": QUESTION,
        "stream": True,
    }


@driver("litellm", "completion", "sync", closes=False)
def litellm_sync(ask: Ask) -> Iterator[Any]:
    import litellm

    yield from litellm.completion(**_litellm(ask))


@driver("litellm", "acompletion", AIOHTTP)
async def litellm_async(ask: Ask) -> AsyncIterator[Any]:
    import litellm

    stream = await litellm.acompletion(**_litellm(ask))
    async for item in stream:
        yield item


def _chat_openai(ask: Ask) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(base_url=f"{ask.url}/v1", api_key=KEY, model=ask.model, max_retries=ask.retries, timeout=TIMEOUT)


@driver("langchain-openai", "ChatOpenAI.stream", "sync")
def langchain_openai(ask: Ask) -> Iterator[Any]:
    with closing(_chat_openai(ask).stream("the question")) as items:
        yield from items


@driver("langchain-openai", "ChatOpenAI.stream", "async")
async def langchain_openai_async(ask: Ask) -> AsyncIterator[Any]:
    async with aclosing(_chat_openai(ask).astream("the question")) as items:
        async for item in items:
            yield item


def _chat_anthropic(ask: Ask) -> Any:
    from langchain_anthropic import ChatAnthropic

    return ChatAnthropic(
        base_url=ask.url, api_key=KEY, model=ask.model, max_retries=ask.retries, timeout=TIMEOUT, max_tokens=64
    )


@driver("langchain-anthropic", "ChatAnthropic.stream", "sync", closes=False)
def langchain_anthropic(ask: Ask) -> Iterator[Any]:
    with closing(_chat_anthropic(ask).stream("the question")) as items:
        yield from items


@driver("langchain-anthropic", "ChatAnthropic.stream", "async")
async def langchain_anthropic_async(ask: Ask) -> AsyncIterator[Any]:
    async with aclosing(_chat_anthropic(ask).astream("the question")) as items:
        async for item in items:
            yield item


@driver("pydantic-ai-slim", "Agent.run_stream, OpenAI", "async")
async def pydantic_ai_openai(ask: Ask) -> AsyncIterator[Any]:
    import openai
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async with openai.AsyncOpenAI(**_openai(ask)) as client:
        agent = Agent(OpenAIChatModel(ask.model, provider=OpenAIProvider(openai_client=client)))
        async with agent.run_stream("the question") as result:
            async for item in result.stream_text(delta=True, debounce_by=None):
                yield item


@driver("pydantic-ai-slim", "Agent.run_stream, Anthropic", "async")
async def pydantic_ai_anthropic(ask: Ask) -> AsyncIterator[Any]:
    import anthropic
    from pydantic_ai import Agent
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    async with anthropic.AsyncAnthropic(**_anthropic(ask)) as client:
        agent = Agent(AnthropicModel(ask.model, provider=AnthropicProvider(anthropic_client=client)))
        async with agent.run_stream("the question") as result:
            async for item in result.stream_text(delta=True, debounce_by=None):
                yield item


def closing_stream(stream: Any) -> Any:
    """The SDK's stream as a context manager. Streams of older versions get one that closes them."""
    return stream if hasattr(stream, "__exit__") else closing(stream)


# --- xai-sdk, over gRPC -----------------------------------------------------------------------------------------------

OVER_GRPC: Final = {
    "no-finish": "cut",
    "reset": "killed",
    "error": "unavailable",
    "500": "resource-exhausted",
}
"""What the chaos server's scenarios are called at the gRPC server."""


@contextmanager
def _xai(ask: Ask, client: str) -> Iterator[Any]:
    """A chat of the SDK's with a gRPC server of its own."""
    import xai_sdk
    from xai_sdk.chat import user

    from otel_llmstream.testing.chaos.grpc import GRPCChaosServer

    name, _, parameters = ask.model.partition("?")
    model = f"{OVER_GRPC.get(name, name)}?{parameters}"
    with GRPCChaosServer() as server:
        made = getattr(xai_sdk, client)(api_key=KEY, api_host=server.target, timeout=TIMEOUT, use_insecure_channel=True)
        yield made, made.chat.create(model=model, messages=[user("the question")])


@driver("xai-sdk", "chat.stream", "sync", retries=False, closes=False)
def xai_chat(ask: Ask) -> Iterator[Any]:
    with _xai(ask, "Client") as (client, chat):
        yield from chat.stream()
        client.close()


@driver("xai-sdk", "chat.stream", "async", retries=False)
async def xai_chat_async(ask: Ask) -> AsyncIterator[Any]:
    with _xai(ask, "AsyncClient") as (client, chat):
        async for item in chat.stream():
            yield item
        await client.close()


# --- over WebSockets --------------------------------------------------------------------------------------------------

OVER_SOCKET: Final = {"no-finish": "close-1000", "500": "refused"}
"""What the chaos server's scenarios are called over a WebSocket. The cut one is closed as if all were well."""

LAST_EVENTS: Final = ("response.completed", "response.failed", "response.done", "error")


def _over_socket(ask: Ask) -> tuple[str, dict[str, str]]:
    """The model, and the header that names a scenario of the handshake."""
    name, _, parameters = ask.model.partition("?")
    model = f"{OVER_SOCKET.get(name, name)}?{parameters}"
    return model, {"x-chaos-model": model}


OPENAI_SOCKETS: Final[dict[str, tuple[Callable[..., Any], Callable[..., Any]]]] = {
    "responses.connect": (
        lambda client, _model, headers: client.responses.connect(extra_headers=headers),
        lambda connection, model: connection.response.create(model=model, input="the question"),
    ),
    "realtime.connect": (
        lambda client, model, headers: client.realtime.connect(model=model, extra_headers=headers),
        lambda connection, _model: connection.response.create(),
    ),
}
"""What opens a connection, and what asks for a response on it."""


def openai_socket(api: str) -> None:
    """The drivers of one method of openai that opens a connection."""
    opens, asks = OPENAI_SOCKETS[api]

    @driver("openai", api, "sync", retries=False, socket=True)
    def sync(ask: Ask) -> Iterator[Any]:
        import openai

        model, headers = _over_socket(ask)
        with openai.OpenAI(**_openai(ask)) as client, opens(client, model, headers) as connection:
            asks(connection, model)
            for event in connection:
                yield event
                if event.type in LAST_EVENTS:
                    return

    @driver("openai", api, "async", retries=False, socket=True)
    async def asynchronous(ask: Ask) -> AsyncIterator[Any]:
        import openai

        model, headers = _over_socket(ask)
        async with openai.AsyncOpenAI(**_openai(ask)) as client, opens(client, model, headers) as connection:
            await asks(connection, model)
            async for event in connection:
                yield event
                if event.type in LAST_EVENTS:
                    return


for name in OPENAI_SOCKETS:
    openai_socket(name)


@driver("openai-agents", "OpenAIResponsesWSModel", "async", retries=False, socket=True)
async def openai_agents(ask: Ask) -> AsyncIterator[Any]:
    import agents
    import openai
    from agents.models.openai_responses import OpenAIResponsesWSModel

    agents.set_tracing_disabled(True)  # it would send traces to OpenAI
    name, headers = _over_socket(ask)
    async with openai.AsyncOpenAI(**_openai(ask)) as client:
        model = OpenAIResponsesWSModel(name, client)
        settings = agents.ModelSettings(extra_headers=headers)
        try:
            result = agents.Runner.run_streamed(agents.Agent("a", model=model, model_settings=settings), "the question")
            async for event in result.stream_events():
                if event.type == "raw_response_event":
                    yield event
        finally:
            result.cancel()
            await model.close()


@driver("google-genai", "live.connect", "async", retries=False, socket=True)
async def google_live(ask: Ask) -> AsyncIterator[Any]:
    """The SDK insists on TLS, which this server does not have."""
    from google import genai

    model, headers = _over_socket(ask)
    client = genai.Client(api_key=KEY, http_options={"headers": headers})
    client._api_client._websocket_ssl_ctx = {}
    client._api_client._websocket_base_url = lambda *_args: ask.url.replace("http", "ws", 1)
    turn = {"role": "user", "parts": [{"text": "the question"}]}
    async with client.aio.live.connect(model=in_path(model)) as session:
        await session.send_client_content(turns=turn, turn_complete=True)
        async for message in session.receive():
            yield message
