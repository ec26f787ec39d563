"""Hand-made streams of AWS's agents and endpoints, message by message, and how boto3 asks for each."""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from otel_llmstream.testing.chaos import _eventstream as aws

EVENTSTREAM = aws.CONTENT_TYPE
EVENTS = "text/event-stream"


@dataclass(frozen=True)
class Asked:
    """A stream, and how it is asked for.

    Attributes:
        service: boto3's name of the service.
        ask: asks a client, and gives what is to be read.
        path: where the request goes.
        messages: the stream. The last one ends it.
        says: what the span must say.
        marked: whether the dialect marks the end. The last message has the mark.
        proven: whether the last message proves the end of a dialect that marks none.
        content_type: the answer's media type.
        request: the request's body, if the path alone does not tell the dialect.
    """

    service: str
    ask: Callable[[Any], Any]
    path: str
    messages: tuple[bytes, ...]
    says: dict[str, Any]
    marked: bool = True
    proven: bool = False
    content_type: str = EVENTSTREAM
    request: bytes = b"{}"

    @property
    def body(self) -> bytes:
        """The stream in one piece."""
        return b"".join(self.messages)


def event(name: str, payload: Any) -> bytes:
    """A message with an event."""
    return aws.event(name, json.dumps(payload).encode())


def text(words: str) -> bytes:
    """A chunk of an agent's answer."""
    return event("chunk", {"bytes": b64encode(words.encode()).decode()})


def trace(kind: str, step: dict[str, Any]) -> bytes:
    """A trace of an agent."""
    return event("trace", {"agentId": "a", "sessionId": "s", "trace": {kind: step}})


def pieces(body: bytes, size: int = 40) -> tuple[bytes, ...]:
    """A container's body, in messages that end anywhere."""
    headers = {":event-type": "PayloadPart", ":content-type": "application/octet-stream", ":message-type": "event"}
    return tuple(aws.message(headers, body[at : at + size]) for at in range(0, len(body), size))


USAGE = {"metadata": {"usage": {"inputTokens": 4, "outputTokens": 1}}}
AGENT = (
    trace("preProcessingTrace", {"modelInvocationInput": {"foundationModel": "claude", "text": "?"}}),
    trace("preProcessingTrace", {"modelInvocationOutput": USAGE}),
    trace("orchestrationTrace", {"rationale": {"text": "Hm"}}),
    trace("orchestrationTrace", {"modelInvocationOutput": USAGE}),
    text("na\xefve "),
    text("answer"),
)
CONTROL = event("returnControl", {"invocationId": "i", "invocationInputs": []})
FLOW = (
    event("flowTraceEvent", {"trace": {"nodeInputTrace": {"error": "a word of a node's"}}}),
    event("flowOutputEvent", {"nodeName": "n", "nodeType": "FlowOutputNode", "content": {"document": "Hi"}}),
    event("flowCompletionEvent", {"completionReason": "SUCCESS"}),
)
ANSWER = (event("output", {"text": "Hel"}), event("output", {"text": "lo"}), event("guardrail", {"action": "NONE"}))
RETRIEVED = (
    event("traceEvent", {"id": "t", "timestamp": 1, "attributes": {}}),
    event("responseEvent", {"text": "Hi"}),
    event("result", {"results": []}),
)
HARNESS = (
    event("messageStart", {"role": "assistant"}),
    event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}}),
    event("messageStop", {"stopReason": "end_turn"}),
    event("metadata", {"usage": {"inputTokens": 4, "outputTokens": 1, "totalTokens": 5}, "metrics": {"latencyMs": 1}}),
)
CHAT = b"".join(
    b"data: %s\n\n" % json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m", **more}).encode()
    for more in (
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"index": 0, "delta": {"content": "Hel"}}]},
        {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}},
    )
)
CHAT_ENDS = CHAT.index(b'data: {"id": "c"', CHAT.index(b"Hel"))
DONE = b"data: [DONE]\n\n"
LINES = (
    b'{"token": {"id": 1, "text": "Hel", "log_prob": -0.5}}\n{"token": {"id": 2, "text": "l", "log_prob": -0.5}}\n',
    b'{"token": {"id": 2, "text": "o"}, "generated_text": "Hello", "details": {"finish_reason": "length"}}\n',
)
TGI = tuple(
    b"data:%s\n\n" % json.dumps({"token": {"id": 9, "text": word, "special": False}, "generated_text": whole}).encode()
    for word, whole in (("Hel", None), ("lo", "Hello"))
)
CORE = tuple(b"data: %s\n\n" % json.dumps(it).encode() for it in ("Hel", {"text": "lo", "error": None}, ["any"]))
RUN = tuple(
    b"data: %s\n\n" % json.dumps(it).encode()
    for it in (
        {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "Hi"},
        {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"},
    )
)

_RUNTIME = "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/agent"
_HARNESS = "arn:aws:bedrock-agentcore:us-east-1:123456789012:harness/agent-0123456789"
_SESSION = "s" * 33
_RUNTIME_PATH = "/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-east-1%3A123456789012%3Aruntime%2Fagent/invocations"
_ENDPOINT = "/endpoints/llama/invocations-response-stream"


def _endpoint(client: Any) -> Any:
    return client.invoke_endpoint_with_response_stream(EndpointName="llama", Body=b'{"messages": []}')["Body"]


def _runtime(client: Any) -> Any:
    asked = client.invoke_agent_runtime(agentRuntimeArn=_RUNTIME, runtimeSessionId=_SESSION, payload=b'{"prompt":"?"}')
    return asked["response"].iter_lines(chunk_size=64)


def _said(dialect: str, chunks: int, **more: Any) -> dict[str, Any]:
    """What the span says; `_` stands for a dot of a name."""
    known = {"llmstream.dialect": dialect, "llmstream.chunks": chunks, "gen_ai.provider.name": "aws.bedrock"}
    return known | {"gen_ai.operation.name": "invoke_agent"} | more


_TOKENS: dict[str, Any] = {"gen_ai.usage.input_tokens": 4, "gen_ai.usage.output_tokens": 1}
_SAGEMAKER: dict[str, Any] = {
    "gen_ai.provider.name": "aws.sagemaker",
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "llama",
}

ASKED: dict[str, Asked] = {
    "agent": Asked(
        "bedrock-agent-runtime",
        lambda client: client.invoke_agent(
            agentId="AGENTID123", agentAliasId="ALIASID123", sessionId="s1", inputText="?", enableTrace=True
        )["completion"],
        "/agents/AGENTID123/agentAliases/ALIASID123/sessions/s1/text",
        AGENT,
        _said("bedrock.agent", 2)
        | {"gen_ai.usage.input_tokens": 8, "gen_ai.usage.output_tokens": 2, "gen_ai.response.model": "claude"},
        marked=False,
    ),
    "agent that returns control": Asked(
        "bedrock-agent-runtime",
        lambda client: client.invoke_agent(
            agentId="AGENTID123", agentAliasId="ALIASID123", sessionId="s1", inputText="?"
        )["completion"],
        "/agents/AGENTID123/agentAliases/ALIASID123/sessions/s1/text",
        (text("I need "), CONTROL),
        _said("bedrock.agent", 1) | {"gen_ai.response.finish_reasons": ("returnControl",)},
        proven=True, marked=False,
    ),
    "inline agent": Asked(
        "bedrock-agent-runtime",
        lambda client: client.invoke_inline_agent(
            sessionId="s1", foundationModel="claude", instruction="You answer. " * 5, inputText="?"
        )["completion"],
        "/agents/s1",
        AGENT,
        _said("bedrock.agent", 2),
        marked=False,
        request=b'{"foundationModel": "claude", "instruction": "x", "inputText": "?"}',
    ),
    "flow": Asked(
        "bedrock-agent-runtime",
        lambda client: client.invoke_flow(
            flowIdentifier="FLOWID1234",
            flowAliasIdentifier="ALIASID123",
            inputs=[{"nodeName": "n", "content": {"document": "?"}, "nodeOutputName": "document"}],
        )["responseStream"],
        "/flows/FLOWID1234/aliases/ALIASID123",
        FLOW,
        _said("bedrock.flow", 1) | {"gen_ai.response.finish_reasons": ("SUCCESS",)},
    ),
    "knowledge base": Asked(
        "bedrock-agent-runtime",
        lambda client: client.retrieve_and_generate_stream(input={"text": "?"})["stream"],
        "/retrieveAndGenerateStream",
        ANSWER,
        _said("bedrock.knowledge_base", 2) | {"gen_ai.operation.name": "chat"},
        marked=False,
    ),
    "agentic retrieval": Asked(
        "bedrock-agent-runtime",
        lambda client: client.agentic_retrieve_stream(
            messages=[{"role": "user", "content": {"text": "?"}}],
            retrievers=[{"configuration": {"knowledgeBase": {"knowledgeBaseId": "KBID123456"}}}],
            agenticRetrieveConfiguration={"foundationModelType": "MANAGED"},
        )["stream"],
        "/agenticRetrieveStream",
        RETRIEVED,
        _said("bedrock.knowledge_base", 1) | {"gen_ai.operation.name": "chat"},
        proven=True, marked=False,
    ),
    "harness": Asked(
        "bedrock-agentcore",
        lambda client: client.invoke_harness(
            harnessArn=_HARNESS,
            runtimeSessionId=_SESSION,
            messages=[{"role": "user", "content": [{"text": "?"}]}],
            model={"bedrockModelConfig": {"modelId": "claude"}},
        )["stream"],
        "/harnesses/invoke",
        (*HARNESS[:2], b"".join(HARNESS[2:])),
        _said("agentcore.harness", 1) | _TOKENS | {"gen_ai.request.model": "claude"},
        request=b'{"messages": [], "model": {"bedrockModelConfig": {"modelId": "claude"}}}',
    ),
    "runtime": Asked(
        "bedrock-agentcore",
        _runtime,
        _RUNTIME_PATH,
        CORE,
        _said("agentcore.runtime", 3),
        marked=False,
        content_type=EVENTS,
    ),
    "runtime that speaks AG-UI": Asked(
        "bedrock-agentcore", _runtime, _RUNTIME_PATH, RUN, _said("ag_ui", 1) | {"gen_ai.provider.name": "ag_ui"},
        content_type=EVENTS,
    ),
    "endpoint, chat": Asked(
        "sagemaker-runtime",
        _endpoint,
        _ENDPOINT,
        (*pieces(CHAT[:CHAT_ENDS]), b"".join(pieces(CHAT[CHAT_ENDS:] + DONE))),
        _said("openai.chat", 2) | _TOKENS | _SAGEMAKER,
    ),
    "endpoint, lines": Asked(
        "sagemaker-runtime",
        _endpoint,
        _ENDPOINT,
        (*pieces(LINES[0]), *pieces(LINES[1], 400)),
        _said("sagemaker.endpoint", 3) | _SAGEMAKER | {"gen_ai.response.finish_reasons": ("length",)},
        proven=True, marked=False,
    ),
    "endpoint, TGI": Asked(
        "sagemaker-runtime",
        _endpoint,
        _ENDPOINT,
        (*pieces(TGI[0]), *pieces(TGI[1], 999)),
        _said("tgi.generate", 2) | _SAGEMAKER,
    ),
    "endpoint, text": Asked(
        "sagemaker-runtime",
        _endpoint,
        _ENDPOINT,
        pieces(b"The answer is: 42, of course.", 10),
        _said("sagemaker.endpoint", 3) | _SAGEMAKER,
        marked=False,
    ),
}  # fmt: skip
