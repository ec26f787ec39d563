"""One small stream of each dialect, in parts, so that a test can put them together as a server or a gateway may."""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from otel_llmstream import Summary
from otel_llmstream.testing import replay
from otel_llmstream.testing.chaos import _eventstream as aws

Payload = dict[str, Any]


def sse(payload: Any) -> bytes:
    """An event without a name."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return b"data: " + data + b"\n\n"


def line(payload: Any) -> bytes:
    """A line of JSON."""
    return (payload if isinstance(payload, bytes) else json.dumps(payload).encode()) + b"\n"


def converse(payload: Any) -> bytes:
    """A message of an AWS event stream: its name is the one member of the payload."""
    ((name, inner),) = payload.items()
    return aws.message({":message-type": "event", ":event-type": name}, json.dumps(inner).encode())


def wrapped(payload: Any) -> bytes:
    """A chunk of an AWS event stream."""
    inner = b64encode(json.dumps(payload).encode()).decode()
    return aws.message({":message-type": "event", ":event-type": "chunk"}, json.dumps({"bytes": inner}).encode())


def coze(payload: Any) -> bytes:
    """An event whose name says what it is, if it is one of Coze's own."""
    members = payload if isinstance(payload, dict) else {}
    name = ""
    if set(members) == {"id", "status"}:
        name = "conversation.chat." + members["status"]
    elif members.get("type") == "answer":
        name = "conversation.message.delta"
    elif "node_title" in members or "debug_url" in members:
        name = "Message" if "node_title" in members else "Done"
    return (f"event: {name}\n".encode() if name else b"") + sse(payload)


def cortex(payload: Any) -> bytes:
    """An event whose name says what it is, if it is one of Cortex's own."""
    members = payload if isinstance(payload, dict) else {}
    name = "response.text.delta" if set(members) == {"text"} else "response" if "role" in members else ""
    return (f"event: {name}\n".encode() if name else b"") + sse(payload)


def rpc(payload: Any) -> bytes:
    """An update of a task as the result of a JSON-RPC call."""
    is_update = isinstance(payload, dict) and {"artifactUpdate", "statusUpdate"} & set(payload)
    return sse({"jsonrpc": "2.0", "id": 1, "result": payload} if is_update else payload)


@dataclass(frozen=True)
class Parts:
    """A stream in parts.

    Attributes:
        path: path of the request.
        output: a frame of output, as its payload.
        finish: makes the payload that has a finish reason; None if the dialect has no such word.
        word: a normal finish reason.
        head: payloads that come first.
        end: payloads that come after the finish reason.
        request: body of the request.
        frame: makes bytes of a payload.
        content_type: header of the response.
        has_done: whether `[DONE]` is the dialect's own end.
        host: host of the request.
        endless: whether the dialect marks no end.
    """

    path: str
    output: Payload
    finish: Callable[[str], Payload] | None = None
    word: str = ""
    head: tuple[Payload, ...] = ()
    end: tuple[Payload, ...] = ()
    request: Payload = field(default_factory=lambda: {"model": "m", "stream": True, "messages": [{"role": "user"}]})
    frame: Callable[[Any], bytes] = sse
    content_type: str = "text/event-stream"
    has_done: bool = False
    host: str = "gateway.example"
    endless: bool = False

    def wire(self, *payloads: Any) -> bytes:
        """Payloads as they come on the wire."""
        return b"".join(map(self.frame, payloads))

    @property
    def begun(self) -> bytes:
        """The stream with two frames of output."""
        return self.wire(*self.head, self.output, self.output)

    def finished(self, word: str | None = None) -> bytes:
        """The frame with the finish reason, if there is one, and what follows it."""
        reason = () if self.finish is None else (self.finish(word or self.word),)
        return self.wire(*reason, *self.end)

    def replay(self, body: bytes, **how: Any) -> Summary:
        """A body through the pipeline."""
        request = json.dumps(self.request).encode()
        how = {"content_type": self.content_type, "host": self.host} | how
        return replay(body, path=self.path, request=request, **how)


def _chat(reason: str | None = None, **delta: Any) -> Payload:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def _response(kind: str, **fields: Any) -> Payload:
    return {"type": f"response.{kind}", "response": {"id": "r", "model": "m", **fields}}


def _ollama(member: str, text: Any, **fields: Any) -> Payload:
    content = {"message": {"role": "assistant", "content": text}} if member == "message" else {"response": text}
    return {"model": "m", "created_at": "2026-01-01T00:00:00Z", **content, "done": False, **fields}


def _watson(text: str, reason: str) -> Payload:
    return {"model_id": "m", "results": [{"generated_text": text, "generated_token_count": 1, "stop_reason": reason}]}


def _dashscope(text: str, reason: str) -> Payload:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return {"output": {"choices": [choice]}, "request_id": "q"}


_CHAT: dict[str, Any] = {
    "output": _chat(content="x"),
    "finish": _chat,
    "word": "stop",
}
_MESSAGE: dict[str, Any] = {
    "head": ({"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 3}}},),
    "output": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
    "finish": lambda word: {"type": "message_delta", "delta": {"stop_reason": word}, "usage": {"output_tokens": 2}},
    "word": "end_turn",
    "end": ({"type": "message_stop"},),
}
_GEMINI: dict[str, Any] = {
    "output": {"candidates": [{"index": 0, "content": {"parts": [{"text": "x"}]}}], "usageMetadata": {}},
    "finish": lambda word: {"candidates": [{"index": 0, "finishReason": word}], "usageMetadata": {}},
    "word": "STOP",
}

PARTS: dict[str, Parts] = {
    "openai.chat": Parts("/v1/chat/completions", has_done=True, **_CHAT),
    "openai.completions": Parts(
        "/v1/completions",
        {"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": "x"}]},
        lambda word: {"id": "c", "choices": [{"index": 0, "text": "", "finish_reason": word}]},
        "stop",
        has_done=True,
    ),
    "mistral.chat": Parts("/v1/chat/completions", host="api.mistral.ai", has_done=True, **_CHAT),
    "writer.chat": Parts("/v1/chat", host="api.writer.com", **_CHAT),
    "watsonx.chat": Parts("/ml/v1/text/chat_stream", **_CHAT),
    "snowflake.cortex": Parts("/api/v2/cortex/inference:complete", _chat(content="x"), endless=True),
    "openai.responses": Parts(
        "/v1/responses",
        {"type": "response.output_text.delta", "delta": "x"},
        head=(_response("created"),),
        end=(_response("completed", status="completed"),),
    ),
    "openai.assistants": Parts(
        "/v1/threads/t/runs",
        {"object": "thread.message.delta", "delta": {"content": [{"index": 0, "type": "text"}]}},
        end=({"object": "thread.run", "id": "r", "status": "completed"},),
        has_done=True,
    ),
    "openai.images": Parts(
        "/v1/images/generations",
        {"type": "image_generation.partial_image", "b64_json": "eA"},
        end=({"type": "image_generation.completed", "b64_json": "eA"},),
    ),
    "openai.transcription": Parts(
        "/v1/audio/transcriptions",
        {"type": "transcript.text.delta", "delta": "x"},
        end=({"type": "transcript.text.done", "text": "xx"},),
    ),
    "openai.speech": Parts(
        "/v1/audio/speech",
        {"type": "speech.audio.delta", "audio": "eA"},
        end=({"type": "speech.audio.done"},),
        request={"model": "m", "stream_format": "sse"},
    ),
    "anthropic.messages": Parts("/v1/messages", **_MESSAGE),
    "anthropic.complete": Parts(
        "/v1/complete",
        {"type": "completion", "completion": "x", "model": "m"},
        lambda word: {"type": "completion", "completion": "", "stop_reason": word, "model": "m"},
        "stop_sequence",
    ),
    "google.generate_content": Parts("/v1beta/models/m:streamGenerateContent", **_GEMINI),
    "google.interactions": Parts(
        "/v1beta/interactions",
        {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "x"}},
        lambda word: {"event_type": "interaction.completed", "interaction": {"id": "i", "status": word}},
        "completed",
        has_done=True,
    ),
    "mistral.conversations": Parts(
        "/v1/conversations",
        {"type": "message.output.delta", "content": "x"},
        end=({"type": "conversation.response.done", "usage": {}},),
        host="api.mistral.ai",
    ),
    "cohere.chat": Parts(
        "/v2/chat",
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "x"}}}},
        lambda word: {"type": "message-end", "delta": {"finish_reason": word}},
        "COMPLETE",
        head=({"type": "message-start", "id": "c"},),
        has_done=True,
    ),
    "cohere.chat_v1": Parts(
        "/v1/chat",
        {"event_type": "text-generation", "text": "x"},
        lambda word: {"event_type": "stream-end", "finish_reason": word},
        "COMPLETE",
        head=({"event_type": "stream-start", "generation_id": "g"},),
        request={"model": "m", "message": "?", "stream": True},
        frame=line,
        content_type="application/x-ndjson",
    ),
    "ollama.chat": Parts(
        "/api/chat",
        _ollama("message", "x"),
        lambda word: _ollama("message", "", done=True, done_reason=word),
        "stop",
        frame=line,
        content_type="application/x-ndjson",
    ),
    "ollama.generate": Parts(
        "/api/generate",
        _ollama("response", "x"),
        lambda word: _ollama("response", "", done=True, done_reason=word),
        "stop",
        request={"model": "m", "prompt": "?", "stream": True},
        frame=line,
        content_type="application/x-ndjson",
    ),
    "bedrock.converse": Parts(
        "/model/m/converse-stream",
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "x"}}},
        lambda word: {"messageStop": {"stopReason": word}},
        "end_turn",
        head=({"messageStart": {"role": "assistant"}},),
        end=({"metadata": {"usage": {"inputTokens": 3, "outputTokens": 2}}},),
        frame=converse,
        content_type="application/vnd.amazon.eventstream",
    ),
    "bedrock.invoke": Parts(
        "/model/m/invoke-with-response-stream",
        frame=wrapped,
        content_type="application/vnd.amazon.eventstream",
        **_MESSAGE,
    ),
    "bedrock.agent": Parts(
        "/agents/a/agentAliases/l/sessions/s/text",
        {"chunk": {"bytes": "eA=="}},
        frame=converse,
        content_type=aws.CONTENT_TYPE,
        endless=True,
    ),
    "bedrock.flow": Parts(
        "/flows/f/aliases/a",
        {"flowOutputEvent": {"content": {"document": "x"}}},
        lambda word: {"flowCompletionEvent": {"completionReason": word}},
        "SUCCESS",
        frame=converse,
        content_type=aws.CONTENT_TYPE,
    ),
    "bedrock.knowledge_base": Parts(
        "/retrieveAndGenerateStream",
        {"output": {"text": "x"}},
        frame=converse,
        content_type=aws.CONTENT_TYPE,
        endless=True,
    ),
    "agentcore.harness": Parts(
        "/harnesses/invoke",
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "x"}}},
        lambda word: {"messageStop": {"stopReason": word}},
        "end_turn",
        frame=converse,
        content_type=aws.CONTENT_TYPE,
    ),
    "agno": Parts(
        "/agents/a/runs",
        {"event": "RunContent", "content": "x"},
        head=({"event": "RunStarted", "run_id": "r"},),
        end=({"event": "RunCompleted", "run_id": "r"},),
        request={"message": "?"},
    ),
    "snowflake.agent": Parts(
        "/api/v2/cortex/agent:run",
        {"text": "x"},
        end=({"role": "assistant", "content": []},),
        request={"messages": []},
        frame=cortex,
        has_done=True,
    ),
    "langgraph.events": Parts(
        "/threads/t/stream/events",
        {"method": "messages", "params": {"data": {"event": "content-block-delta"}}},
        end=({"method": "lifecycle", "params": {"data": {"event": "completed"}}},),
        request={"channels": []},
    ),
    "google.adk": Parts(
        "/run_sse",
        {"author": "a", "invocationId": "e", "partial": True, "content": {"parts": [{"text": "x"}]}},
        lambda word: {"author": "a", "invocationId": "e", "finishReason": word},
        "STOP",
        request={"appName": "a", "newMessage": {}},
        endless=True,
    ),
    "oci.chat": Parts(
        "/20231130/actions/chat",
        {"index": 0, "message": {"role": "ASSISTANT", "content": [{"type": "TEXT", "text": "x"}]}},
        lambda word: {"index": 0, "finishReason": word},
        "stop",
        request={"chatRequest": {"isStream": True}},
        has_done=True,
    ),
    "lm_studio.chat": Parts(
        "/api/v1/chat",
        {"type": "message.delta", "content": "x"},
        end=({"type": "chat.end", "result": {}},),
        request={"input": "?", "stream": True},
    ),
    "koboldcpp.generate": Parts(
        "/api/extra/generate/stream",
        {"token": "x", "finish_reason": "null"},
        lambda word: {"token": "", "finish_reason": word},
        "stop",
    ),
    "triton.generate": Parts(
        "/v2/models/m/generate_stream",
        {"model_name": "m", "model_version": "1", "text_output": "x"},
        endless=True,
    ),
    "watsonx.text": Parts(
        "/ml/v1/text/generation_stream",
        _watson("x", "not_finished"),
        lambda word: _watson("", word),
        "eos_token",
    ),
    "writer.completions": Parts("/v1/completions", {"value": "x"}, host="api.writer.com", endless=True),
    "tgi.generate": Parts(
        "/generate_stream",
        {"index": 1, "token": {"id": 1, "text": "x", "special": False}, "generated_text": None},
        lambda word: {"token": {"text": ""}, "generated_text": "xx", "details": {"finish_reason": word}},
        "eos_token",
    ),
    "llama_cpp.completion": Parts(
        "/completion",
        {"content": "x", "stop": False},
        lambda word: {"content": "", "stop": True, "stop_type": word},
        "eos",
        request={"prompt": "?", "stream": True},
    ),
    "qianfan.chat_v1": Parts(
        "/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/completions",
        {"id": "q", "sentence_id": 0, "is_end": False, "result": "x"},
        lambda word: {"id": "q", "sentence_id": 1, "is_end": True, "result": "", "finish_reason": word},
        "normal",
    ),
    "minimax.chat": Parts("/v1/text/chatcompletion_v2", has_done=True, **_CHAT),
    "cloudflare.run": Parts(
        "/client/v4/accounts/a/ai/run/@cf/meta/llama", host="api.cloudflare.com", has_done=True, **_CHAT
    ),
    "hunyuan.chat": Parts(
        "/",
        {"Choices": [{"Index": 0, "Delta": {"Content": "x"}, "FinishReason": ""}], "Id": "h"},
        lambda word: {"Choices": [{"Index": 0, "Delta": {"Content": ""}, "FinishReason": word}], "Id": "h"},
        "stop",
        request={"Model": "m", "Stream": True},
        host="hunyuan.tencentcloudapi.com",
    ),
    "dashscope.generation": Parts(
        "/api/v1/services/aigc/text-generation/generation",
        _dashscope("x", "null"),
        lambda word: _dashscope("", word),
        "stop",
        request={"model": "m", "parameters": {"incremental_output": True}},
    ),
    "databricks.agent": Parts(
        "/serving-endpoints/agent/invocations",
        {"type": "response.output_text.delta", "delta": "x"},
        end=(_response("completed", status="completed"),),
        has_done=True,
    ),
    "coze.chat": Parts(
        "/v3/chat",
        {"id": "m", "type": "answer", "content": "x"},
        lambda word: {"id": "c", "status": word},
        "completed",
        request={"bot_id": "b", "stream": True},
        frame=coze,
        has_done=True,
    ),
    "coze.workflow": Parts(
        "/v1/workflow/stream_run",
        {"content": "x", "node_title": "Message"},
        end=({"debug_url": "https://coze.test"},),
        frame=coze,
        has_done=True,
    ),
    "flowise": Parts(
        "/api/v1/prediction/f",
        {"event": "token", "data": "x"},
        end=({"event": "end", "data": "[DONE]"},),
        request={"question": "?", "streaming": True},
    ),
    "sglang.generate": Parts(
        "/generate",
        {"text": "x", "meta_info": {"id": "q", "completion_tokens": 1}},
        lambda word: {"text": "x", "meta_info": {"finish_reason": {"type": word}, "completion_tokens": 1}},
        "stop",
        request={"text": "?", "sampling_params": {}, "stream": True},
        has_done=True,
    ),
    "openai.chatkit": Parts(
        "/chat",
        {"type": "thread.item.updated", "update": {"delta": "x"}},
        head=({"type": "thread.created", "thread": {"id": "t"}},),
        request={"type": "threads.create", "params": {"input": {}}},
        endless=True,
    ),
    "langflow": Parts(
        "/api/v1/run/f",
        {"event": "token", "data": {"chunk": "x"}},
        end=({"event": "end", "data": {}},),
        frame=line,
        content_type="application/x-ndjson",
    ),
    "vercel.ui_message_stream": Parts(
        "/talk",
        {"type": "text-delta", "id": "t", "delta": "x"},
        lambda word: {"type": "finish", "finishReason": word},
        "stop",
        head=({"type": "start", "messageId": "m"},),
        request={"trigger": "submit-message", "messages": []},
        has_done=True,
    ),
    "ag_ui": Parts(
        "/run",
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "x"},
        lambda word: {"type": "RUN_FINISHED", "outcome": {"type": word}},
        "success",
        head=({"type": "RUN_STARTED", "threadId": "t", "runId": "r"},),
        request={"threadId": "t", "runId": "r", "messages": []},
    ),
    "a2a": Parts(
        "/task",
        {"artifactUpdate": {"taskId": "t", "artifact": {"artifactId": "a", "parts": [{"text": "x"}]}}},
        end=({"statusUpdate": {"taskId": "t", "status": {"state": "TASK_STATE_COMPLETED"}}},),
        request={"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {}},
        frame=rpc,
    ),
    "dify": Parts(
        "/v1/workflows/run",
        {"event": "text_chunk", "task_id": "t", "data": {"text": "x"}},
        lambda word: {"event": "workflow_finished", "task_id": "t", "data": {"status": word}},
        "succeeded",
        request={"inputs": {}, "response_mode": "streaming"},
    ),
}
"""All dialects whose frames are JSON objects of the dialect's own, but the generic one, which has no path."""
