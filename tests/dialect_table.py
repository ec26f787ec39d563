"""The table of dialects: what the registry states, and what the tests have as evidence."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent / "bench"))

from aws_samples import ASKED
from dialect_samples import SNIFFED, UNMARKED, WIRES
from rule_streams import PARTS
from samples import SAMPLES
from test_corpus import COUNTS
from test_hosted_dialects import HEALTHY

from otel_llmstream import semconv
from otel_llmstream.core.events import NO_TERMINATOR, UNKNOWN_DIALECT
from otel_llmstream.dialects import DIALECTS, SOCKET_DIALECTS, Dialect, Generic, RequestInfo
from otel_llmstream.dialects._base import DONE
from otel_llmstream.dialects._providers import hosts_of

TESTS: Final = Path(__file__).parent

DRIVEN: Final[Mapping[str, tuple[str, ...]]] = {
    "openai.chat": ("openai", "litellm", "groq", "together", "cerebras-cloud-sdk", "fireworks-ai", "huggingface_hub",
                    "azure-ai-inference", "langchain-openai", "pydantic-ai-slim", "mlflow-skinny"),
    "openai.responses": ("openai", "openai-agents"),
    "openai.completions": ("openai",),
    "anthropic.messages": ("anthropic", "langchain-anthropic", "pydantic-ai-slim"),
    "bedrock.converse": ("boto3",),
    "bedrock.invoke": ("boto3", "anthropic"),
    "cohere.chat": ("cohere",),
    "google.generate_content": ("google-genai",),
    "mistral.chat": ("mistralai",),
    "ollama.chat": ("ollama",),
    "ollama.generate": ("ollama",),
    "xai.chat": ("xai-sdk",),
    "dashscope.generation": ("dashscope",),
}  # fmt: skip
"""Dialect -> the SDKs that `tests/sdks` drives in it. `tests/test_dialect_table.py` checks that it does."""

SERVICES: Final[Mapping[str, tuple[str, ...]]] = {
    "gradio": ("gradio", "gradio-client"),
    "langserve": ("langserve",),
    "llama_index.workflow": ("llama-agents-server", "llama-agents-client"),
    "openai.chatkit": ("openai-chatkit",),
    "snowflake.cortex": ("snowflake-core",),
    "vercel.ui_message_stream": ("pydantic-ai-slim",),
    "ag_ui": ("pydantic-ai-slim",),
    "a2a": ("a2a-sdk",),
    "langgraph": ("langgraph-cli", "langgraph-sdk"),
    "google.adk": ("google-adk",),
}
"""Dialect -> the services and clients that `tests/test_services_live.py` drives in it."""

FORMATS: Final = {
    "text/event-stream": "events",
    "application/x-ndjson": "JSON lines",
    "application/stream+json": "JSON lines",
    "application/json": "JSON array",
    "application/vnd.amazon.eventstream": "AWS event stream",
    "text/plain; charset=utf-8": "lines of a code and JSON",
}

ENDS: Final = {
    "a2a": "a task's last state, or a message",
    "ag_ui": "`RUN_FINISHED`",
    "coze.workflow": "event `Done`",
    "gradio": "`process_completed`, or event `complete`",
    "llama_index.workflow": "a `StopEvent`",
    "openai.assistants": "`[DONE]` or the run's status",
    "replicate": "event `done`",
    "xai.chat": "finish reason",
    "vercel.data_stream": "line `d`",
    "langserve": "event `end`",
    "langgraph.events": "lifecycle event `completed`",
    "snowflake.agent": "`[DONE]` or event `response`",
    "openai.realtime": "`response.done`",
    "google.live": "`turnComplete`",
}
"""Ends that neither the dialect's attributes nor its samples name."""

NOWHERE: Final = RequestInfo(method="POST", host="", path="/")
HEADS: Final = ("dialect", "provider", "endpoints", "format", "end", "seen at", "evidence")


def rows(code: Any) -> Iterator[tuple[str, ...]]:
    """One row for each name of a dialect.

    Args:
        code: puts a word into backticks.
    """
    together: dict[str, list[type[Dialect]]] = defaultdict(list)
    for dialect in dict.fromkeys((*DIALECTS, *SOCKET_DIALECTS, Generic)):
        together[dialect.name].append(dialect)
    for name, variants in sorted(together.items()):
        first = variants[0]
        yield (
            code(name),
            code(provider) if (provider := first.provider_of(NOWHERE)) != "unknown" else "",
            _endpoints(variants, code),
            ", ".join(dict.fromkeys(_formats(name, variants))),
            _end(first, code),
            "both ends" if semconv.HTTP in first.transports else "the client",
            "; ".join(_evidence(name)),
        )


def _endpoints(variants: list[type[Dialect]], code: Any) -> str:
    paths = [path for it in variants for path in it.paths]
    if paths:
        return ", ".join(map(code, paths))
    headers = [f"header {code(it.response_header)}" for it in variants if it.response_header]
    hosts = [f"host {code(host)}" for it in variants if it.only_at for host in hosts_of(it.only_at)]
    return ", ".join((*hosts, *headers)) or "any, told by the request or by the first event"


def _formats(name: str, variants: list[type[Dialect]]) -> Iterator[str]:
    """Of the samples, and of the transports that have no sample of bytes."""
    for sample, it in SAMPLES.items():
        if sample.partition(",")[0] == name and it.transport == semconv.HTTP:
            yield FORMATS[it.content_type]
    for it in variants:
        if semconv.GRPC in it.transports:
            yield "gRPC"
        if it in SOCKET_DIALECTS:
            yield "WebSocket"


def _end(dialect: type[Dialect], code: Any) -> str:
    """How a healthy stream ends."""
    preface = getattr(dialect, "preface", ())
    if NO_TERMINATOR in preface or UNKNOWN_DIALECT in preface:
        return "unproven"
    if dialect.name in ENDS:
        return ENDS[dialect.name]
    found = [code(DONE.decode())] if getattr(dialect, "terminator", None) == DONE else []
    parts = PARTS.get(dialect.name)
    if parts is not None:
        found += [_named(payload, code) for payload in parts.end[-1:]]
        found += ["finish reason"] if parts.finish is not None else []
    return " or ".join(found)


def _named(payload: Mapping[str, Any], code: Any) -> str:
    """The type of an event, or the one member that it has."""
    names = (payload.get(name) for name in ("type", "event", "event_type", "object"))
    return str(code(next((name for name in names if isinstance(name, str)), next(iter(payload)))))


def _evidence(name: str) -> Iterator[str]:
    """What the tests have: drivers, recordings, samples."""
    if name in DRIVEN:
        yield f"driven: {', '.join(DRIVEN[name])}"
    elif name in {str(it.says["llmstream.dialect"]) for it in ASKED.values()}:
        yield "driven: boto3" if _is_of_aws(name) else "driven: boto3, through AWS"
    elif name in SERVICES:
        yield f"driven: {', '.join(SERVICES[name])}"
    elif name in ("openai.realtime", "google.live"):
        yield "driven: its SDK"
    if name in COUNTS:
        yield f"recordings: {COUNTS[name]}"
    samples = {str(wire.says["request_dialect"]) for wire in (*WIRES.values(), *UNMARKED.values(), *SNIFFED.values())}
    if name in (samples | set(HEALTHY) | set(PARTS) | {it.partition(",")[0] for it in SAMPLES}):
        yield "sample"


def _is_of_aws(name: str) -> bool:
    return any(it.name == name and it.provider_of(NOWHERE).startswith("aws.") for it in DIALECTS)


def seen_sdks() -> set[str]:
    """The SDKs that were driven."""
    lines = (TESTS / "sdks" / "seen.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["sdk"] for row in map(json.loads, lines)}
