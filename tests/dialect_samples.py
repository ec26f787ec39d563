"""Hand-made streams, one of each dialect: the bytes as its provider writes them, and what must be said of them."""

import json
from dataclasses import dataclass
from typing import Any

from otel_llmstream import Summary
from otel_llmstream.testing import replay


@dataclass(frozen=True)
class Wire:
    """A stream that ends as it should.

    Attributes:
        path: where it was asked for.
        body: its bytes.
        terminal: how the event begins that makes it complete.
        says: what the summary must say.
        request: the request's body.
        content_type: the answer's media type.
        line: what ends an event: a blank line; nothing where an event ends by itself.
        host: who is asked.
    """

    path: str
    body: bytes
    terminal: bytes
    says: dict[str, Any]
    request: dict[str, Any]
    content_type: str = "text/event-stream"
    line: bytes = b"\n\n"
    host: str = "127.0.0.1"

    @property
    def begins(self) -> int:
        """Where the terminal event begins."""
        assert self.body.count(self.terminal) == 1
        return self.body.index(self.terminal)

    @property
    def complete(self) -> int:
        """How many bytes it takes until the terminal event is whole."""
        end = self.body.index(self.line, self.begins)
        if self.content_type != "text/event-stream":
            return end  # a line of JSON, and an object of an array, are whole without what follows them
        return end + len(self.line) - (b"\r" in self.line)  # a carriage return ends the line

    def replay(self, body: bytes | None = None, **how: Any) -> Summary:
        """The stream, or a part of it, through the pipeline."""
        request = json.dumps(self.request).encode()
        body = self.body if body is None else body
        how = {"content_type": self.content_type, "path": self.path, "host": self.host} | how
        return replay(body, request=request, **how)


def said(summary: Summary, names: dict[str, Any]) -> dict[str, Any]:
    """What a summary says under these names; those of the request's under `request_`."""
    return {
        name: getattr(summary.request, name[8:]) if name.startswith("request_") else getattr(summary, name)
        for name in names
    }


GEMINI = b"""\
data: {"candidates": [{"content": {"parts": [{"text": "Hm","thought": true}],"role": "model"},"index": 0}],\
"usageMetadata": {"promptTokenCount": 9,"totalTokenCount": 14,"thoughtsTokenCount": 5,\
"cachedContentTokenCount": 4},"modelVersion": "gemini-3-flash","responseId": "r-1"}

data: {"candidates": [{"content": {"parts": [{"text": "na\xc3\xafve }"}],"role": "model"},"index": 0}],\
"usageMetadata": {"promptTokenCount": 9,"candidatesTokenCount": 2,"totalTokenCount": 16,"thoughtsTokenCount": 5},\
"modelVersion": "gemini-3-flash","responseId": "r-1"}

data: {"candidates": [{"content": {"parts": [{"text": "","thoughtSignature": "EqAD"}],"role": "model"},\
"finishReason": "STOP","index": 0}],"usageMetadata": {"promptTokenCount": 9,"candidatesTokenCount": 3,\
"totalTokenCount": 24,"toolUsePromptTokenCount": 7,"thoughtsTokenCount": 5},"modelVersion": "gemini-3-flash",\
"responseId": "r-1"}

"""
GEMINI_SAYS = {
    "chunks": 2,
    "frames": 3,
    "finish_reasons": ("STOP",),
    "finish_reason": "stop",
    "terminator": False,
    "input_tokens": 16,
    "output_tokens": 8,
    "cache_read_tokens": 4,
    "reasoning_tokens": 5,
    "response_id": "r-1",
    "response_model": "gemini-3-flash",
    "request_dialect": "google.generate_content",
    "request_operation": "generate_content",
    "request_model": "gemini-flash",
}
GEMINI_EVENTS = GEMINI.replace(b"\n", b"\r\n")
GEMINI_ARRAY = b"[" + b"\r\n,\r\n".join(
    json.dumps(json.loads(event[6:]), indent=2, ensure_ascii=False).replace("\n", "\r\n").encode()
    for event in GEMINI.split(b"\n\n")[:-1]
) + b"\r\n]\r\n"  # fmt: skip

INTERACTION = b"""\
event: interaction.created
data: {"interaction":{"id":"v1_1","status":"in_progress","model":"gemini-3"},"event_type":"interaction.created"}

event: interaction.status_update
data: {"interaction_id":"v1_1","status":"in_progress","event_type":"interaction.status_update"}

event: step.start
data: {"index":0,"step":{"type":"thought"},"event_type":"step.start"}

event: step.delta
data: {"index":0,"delta":{"content":{"type":"text","text":"Hm"},"type":"thought_summary"},"event_type":"step.delta"}

event: step.delta
data: {"index":0,"delta":{"signature":"CiUB","type":"thought_signature"},"event_type":"step.delta"}

event: step.stop
data: {"index":0,"event_type":"step.stop"}

event: step.start
data: {"index":1,"step":{"type":"function_call","id":"f1","name":"look_up"},"event_type":"step.start"}

event: step.delta
data: {"index":1,"delta":{"arguments":"{}","type":"arguments_delta"},"event_type":"step.delta"}

event: interaction.completed
data: {"interaction":{"id":"v1_1","status":"requires_action","usage":{"total_tokens":42,"total_input_tokens":9,\
"total_cached_tokens":4,"total_output_tokens":13,"total_tool_use_tokens":0,"total_thought_tokens":20},\
"model":"gemini-3"},"event_type":"interaction.completed"}

event: done
data: [DONE]

"""

FIM = b"""\
data: {"id":"m1","object":"chat.completion.chunk","created":1,"model":"codestral-2508","choices":[{"index":0,\
"delta":{"role":"assistant","content":""},"finish_reason":null}],"p":"abc"}

data: {"id":"m1","object":"chat.completion.chunk","created":1,"model":"codestral-2508","choices":[{"index":0,\
"delta":{"content":"return"},"finish_reason":null}],"p":"abcdef"}

data: {"id":"m1","object":"chat.completion.chunk","created":1,"model":"codestral-2508","choices":[{"index":0,\
"delta":{"content":" 1"},"finish_reason":"length"}],"usage":{"prompt_tokens":8,"total_tokens":10,\
"completion_tokens":2},"p":"ab"}

data: [DONE]

"""

CONVERSATION = b"""\
event: conversation.response.started
data: {"type":"conversation.response.started","created_at":"2026-01-01T00:00:00Z","conversation_id":"conv_1"}

event: tool.execution.started
data: {"type":"tool.execution.started","id":"t1","name":"web_search","arguments":"","output_index":0}

event: tool.execution.done
data: {"type":"tool.execution.done","id":"t1","name":"web_search","output_index":0}

event: message.output.delta
data: {"type":"message.output.delta","id":"msg_1","content":"Hel","model":"mistral-medium-2508","role":"assistant"}

event: message.output.delta
data: {"type":"message.output.delta","id":"msg_1","content":[{"type":"text","text":"lo"}],"model":"mistral-medium-2508"}

event: conversation.response.done
data: {"type":"conversation.response.done","usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":42,\
"connector_tokens":30,"connectors":{"web_search":1}}}

"""

COHERE = b"""\
event: message-start
data: {"id":"co-1","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_calls":[]}}}

event: tool-plan-delta
data: {"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will"}}}

event: content-start
data: {"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}

event: content-delta
data: {"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Hello"}}}}

event: citation-start
data: {"type":"citation-start","index":0,"delta":{"message":{"citations":{"start":0,"end":5,"text":"Hello"}}}}

event: content-end
data: {"type":"content-end","index":0}

event: message-end
data: {"type":"message-end","delta":{"finish_reason":"MAX_TOKENS","usage":{"billed_units":{"input_tokens":12,\
"output_tokens":65},"tokens":{"input_tokens":212,"output_tokens":66},"cached_tokens":208}}}

data: [DONE]

"""

COHERE_V1 = b"""\
{"is_finished":false,"event_type":"stream-start","generation_id":"g-1"}
{"is_finished":false,"event_type":"text-generation","text":"Arr"}
{"is_finished":false,"event_type":"text-generation","text":"!"}
{"is_finished":true,"event_type":"stream-end","response":{"text":"Arr!","meta":{"billed_units":{"input_tokens":7.0,\
"output_tokens":2.0}}},"finish_reason":"COMPLETE"}
"""

OLLAMA_CHAT = b"""\
{"model":"qwen3","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"","thinking":"Hm"},\
"done":false}
{"model":"qwen3","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"","tool_calls":\
[{"function":{"name":"look_up","arguments":{"q":1}}}]},"done":false}
{"model":"qwen3","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"Hi"},"done":false}
{"model":"qwen3","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":""},"done":true,\
"done_reason":"stop","total_duration":9,"prompt_eval_count":11,"eval_count":3}
"""

OLLAMA_GENERATE = b"""\
{"model":"llama3","created_at":"2026-01-01T00:00:00Z","response":"A","done":false}
{"model":"llama3","created_at":"2026-01-01T00:00:00Z","response":" word","done":false}
{"model":"llama3","created_at":"2026-01-01T00:00:00Z","response":"","done":true,"context":[1,2],"eval_count":2}
"""

VERTEX_MESSAGE = b"""\
event: message_start
data: {"type":"message_start","message":{"id":"msg_vrtx_1","model":"claude-opus-5","usage":{"input_tokens":5,\
"cache_read_input_tokens":2,"cache_creation_input_tokens":0,"output_tokens":1}}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}

event: message_stop
data: {"type":"message_stop"}

"""

COMPLETE = b"""\
event: completion
data: {"type":"completion","id":"compl_1","completion":" Hel","stop_reason":null,"model":"claude-2.1","stop":null}

event: ping
data: {"type": "ping"}

event: completion
data: {"type":"completion","id":"compl_1","completion":"lo","stop_reason":null,"model":"claude-2.1","stop":null}

event: completion
data: {"type":"completion","id":"compl_1","completion":"","stop_reason":"max_tokens","model":"claude-2.1","stop":null}

""".replace(b"\n", b"\r\n")

VERCEL_UI = b"""\
data: {"type":"start","messageId":"m1","messageMetadata":{"model":"gpt-5"}}

data: {"type":"start-step"}

data: {"type":"reasoning-start","id":"r"}

data: {"type":"reasoning-delta","id":"r","delta":"Hm"}

data: {"type":"text-start","id":"t"}

data: {"type":"tool-input-start","toolCallId":"c1","toolName":"look_up"}

data: {"type":"tool-input-delta","toolCallId":"c1","inputTextDelta":"{}"}

data: {"type":"tool-output-error","toolCallId":"c1","errorText":"no such page"}

data: {"type":"data-weather","data":{"error":"unknown"}}

data: {"type":"text-delta","id":"t","delta":"na\xc3\xafve"}

data: {"type":"finish","finishReason":"length","messageMetadata":{"totalUsage":{"inputTokens":9,"outputTokens":5,\
"reasoningTokens":2,"cachedInputTokens":4}}}

data: [DONE]

"""

AG_UI = b"""\
data: {"type":"RUN_STARTED","threadId":"t","runId":"r1","protocolVersion":"1.0"}

data: {"type":"REASONING_MESSAGE_CONTENT","messageId":"m0","delta":"Hm"}

data: {"type":"TOOL_CALL_START","toolCallId":"c1","toolCallName":"look_up"}

data: {"type":"TOOL_CALL_ARGS","toolCallId":"c1","delta":"{}"}

data: {"type":"TEXT_MESSAGE_START","messageId":"m","role":"assistant"}

data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"Hi"}

data: {"type":"RUN_FINISHED","threadId":"t","runId":"r1","outcome":{"type":"success","pendingToolCallIds":["c1"]},\
"usage":[{"model":"gpt-5","inputTokens":9,"outputTokens":3,"reasoningTokens":1},{"model":"gpt-5","inputTokens":1,\
"outputTokens":2,"cachedInputTokens":1}]}

"""

A2A = b"""\
data: {"jsonrpc":"2.0","id":1,"result":{"task":{"id":"t1","status":{"state":"TASK_STATE_SUBMITTED"}}}}

data: {"jsonrpc":"2.0","id":1,"result":{"statusUpdate":{"taskId":"t1","status":{"state":"TASK_STATE_WORKING"}}}}

: ping - 2026-01-01 00:00:00

data: {"jsonrpc":"2.0","id":1,"result":{"artifactUpdate":{"taskId":"t1","artifact":{"artifactId":"a","parts":\
[{"text":"Hi"}]},"lastChunk":true}}}

data: {"jsonrpc":"2.0","id":1,"result":{"statusUpdate":{"taskId":"t1","status":{"state":"TASK_STATE_COMPLETED"}}}}

""".replace(b"\n", b"\r\n")

LANGSERVE = b"""\
event: metadata
data: {"run_id":"r1"}

event: data
data: {"content":"Hi","type":"AIMessageChunk","id":"m","additional_kwargs":{},"response_metadata":{}}

: ping - 2026-01-01 00:00:00

event: data
data: {"content":"","type":"AIMessageChunk","id":"m","response_metadata":{"finish_reason":"tool_calls","model_name":\
"gpt-5"},"usage_metadata":{"input_tokens":9,"output_tokens":3,"input_token_details":{"cache_read":4}}}

event: data
data: "na\xc3\xafve"

event: data
data: {"error":"a word of the application's"}

event: data
data: ["any"]

event: end

""".replace(b"\n", b"\r\n")

A2A_OLD = b"""\
data: {"id":1,"jsonrpc":"2.0","result":{"contextId":"c","id":"t1","kind":"task","status":{"state":"submitted"}}}

data: {"id":1,"jsonrpc":"2.0","result":{"artifact":{"artifactId":"a","parts":[{"kind":"text","text":"Hi"}]},\
"kind":"artifact-update","taskId":"t1"}}

data: {"id":1,"jsonrpc":"2.0","result":{"final":true,"kind":"status-update","status":{"message":{"kind":"message",\
"messageId":"m","parts":[{"kind":"text","text":"Where?"}],"role":"agent"},"state":"input-required"},"taskId":"t1"}}

"""

VERTEX = "/v1/projects/p/locations/global/publishers"
ASKED = {"model": "m", "stream": True}

WIRES = {
    "gemini": Wire(
        "/v1beta/models/gemini-flash:streamGenerateContent",
        GEMINI_EVENTS,
        b'data: {"candidates": [{"content": {"parts": [{"text": "","thoughtSignature"',
        GEMINI_SAYS | {"request_provider": "gcp.gen_ai"},
        {"contents": []},
        line=b"\r\n\r\n",
    ),
    "gemini array": Wire(
        VERTEX + "/google/models/gemini-flash:streamGenerateContent",
        GEMINI_ARRAY,
        b',\r\n{\r\n  "candidates": [\r\n    {\r\n      "content": {\r\n        "parts": [\r\n          {\r\n'
        b'            "text": "",',
        GEMINI_SAYS | {"request_provider": "gcp.vertex_ai"},
        {"contents": []},
        "application/json",
        line=b"\r\n]\r\n",
    ),
    "interactions": Wire(
        "/v1beta/interactions",
        INTERACTION,
        b"event: interaction.completed",
        {
            "chunks": 3,
            "frames": 10,
            "finish_reasons": ("requires_action",),
            "finish_reason": "tool_calls",
            "terminator": True,
            "input_tokens": 9,
            "output_tokens": 33,
            "cache_read_tokens": 4,
            "reasoning_tokens": 20,
            "response_id": "v1_1",
            "response_model": "gemini-3",
            "request_dialect": "google.interactions",
            "request_operation": "generate_content",
            "request_provider": "gcp.gen_ai",
            "request_model": "m",
        },
        ASKED,
    ),
    "anthropic on vertex": Wire(
        VERTEX + "/anthropic/models/claude-opus-5:streamRawPredict",
        VERTEX_MESSAGE,
        b"event: message_delta",
        {
            "chunks": 1,
            "frames": 5,
            "finish_reasons": ("end_turn",),
            "finish_reason": "stop",
            "terminator": True,
            "input_tokens": 7,
            "output_tokens": 4,
            "response_id": "msg_vrtx_1",
            "response_model": "claude-opus-5",
            "request_dialect": "anthropic.messages",
            "request_operation": "chat",
            "request_provider": "gcp.vertex_ai",
            "request_model": "claude-opus-5",
        },
        {"anthropic_version": "vertex-2023-10-16", "stream": True},
    ),
    "anthropic complete": Wire(
        "/v1/complete",
        COMPLETE,
        b'event: completion\r\ndata: {"type":"completion","id":"compl_1","completion":"",',
        {
            "chunks": 2,
            "frames": 4,
            "finish_reasons": ("max_tokens",),
            "finish_reason": "length",
            "terminator": False,
            "input_tokens": None,
            "output_tokens": None,
            "response_id": "compl_1",
            "response_model": "claude-2.1",
            "request_dialect": "anthropic.complete",
            "request_operation": "text_completion",
            "request_provider": "anthropic",
            "request_model": "m",
        },
        ASKED,
        line=b"\r\n\r\n",
    ),
    "mistral": Wire(
        "/v1/fim/completions",
        FIM,
        b'data: {"id":"m1","object":"chat.completion.chunk","created":1,"model":"codestral-2508","choices":[{"index":0,'
        b'"delta":{"content":" 1"}',
        {
            "chunks": 2,
            "frames": 4,
            "finish_reasons": ("length",),
            "finish_reason": "length",
            "terminator": True,
            "input_tokens": 8,
            "output_tokens": 2,
            "response_id": "m1",
            "response_model": "codestral-2508",
            "request_dialect": "mistral.chat",
            "request_operation": "text_completion",
            "request_provider": "mistral_ai",
            "request_model": "m",
        },
        ASKED,
    ),
    "mistral conversations": Wire(
        "/v1/conversations",
        CONVERSATION,
        b"event: conversation.response.done",
        {
            "chunks": 3,
            "frames": 6,
            "finish_reasons": (),
            "finish_reason": "none",
            "terminator": True,
            "input_tokens": 40,
            "output_tokens": 2,
            "response_id": "conv_1",
            "response_model": "mistral-medium-2508",
            "request_dialect": "mistral.conversations",
            "request_operation": "chat",
            "request_provider": "mistral_ai",
            "request_model": "m",
        },
        ASKED,
    ),
    "cohere": Wire(
        "/v2/chat",
        COHERE,
        b"event: message-end",
        {
            "chunks": 2,
            "frames": 8,
            "finish_reasons": ("MAX_TOKENS",),
            "finish_reason": "length",
            "terminator": True,
            "input_tokens": 12,
            "output_tokens": 65,
            "cache_read_tokens": None,
            "response_id": "co-1",
            "request_dialect": "cohere.chat",
            "request_operation": "chat",
            "request_provider": "cohere",
            "request_model": "m",
        },
        ASKED,
    ),
    "cohere v1": Wire(
        "/v1/chat",
        COHERE_V1,
        b'{"is_finished":true',
        {
            "chunks": 2,
            "frames": 4,
            "finish_reasons": ("COMPLETE",),
            "finish_reason": "stop",
            "terminator": True,
            "input_tokens": 7,
            "output_tokens": 2,
            "response_id": "g-1",
            "request_dialect": "cohere.chat_v1",
            "request_operation": "chat",
            "request_provider": "cohere",
            "request_model": "m",
        },
        {**ASKED, "message": "Ahoy"},
        "application/stream+json",
        line=b"\n",
    ),
    "ollama chat": Wire(
        "/api/chat",
        OLLAMA_CHAT,
        b'{"model":"qwen3","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":""},"done":true',
        {
            "chunks": 3,
            "frames": 4,
            "finish_reasons": ("stop",),
            "finish_reason": "tool_calls",
            "terminator": True,
            "input_tokens": 11,
            "output_tokens": 3,
            "response_id": None,
            "response_model": "qwen3",
            "request_dialect": "ollama.chat",
            "request_operation": "chat",
            "request_provider": "ollama",
            "request_model": "qwen3",
        },
        {"model": "qwen3", "messages": [{"role": "user", "content": "?"}]},
        "application/x-ndjson",
        line=b"\n",
    ),
    "ollama generate": Wire(
        "/api/generate",
        OLLAMA_GENERATE,
        b'{"model":"llama3","created_at":"2026-01-01T00:00:00Z","response":"","done":true',
        {
            "chunks": 2,
            "frames": 3,
            "finish_reasons": (),
            "finish_reason": "none",
            "terminator": True,
            "input_tokens": None,
            "output_tokens": 2,
            "response_model": "llama3",
            "request_dialect": "ollama.generate",
            "request_operation": "text_completion",
            "request_provider": "ollama",
            "request_model": "llama3",
        },
        {"model": "llama3", "prompt": "?"},
        "application/x-ndjson; charset=utf-8",
        line=b"\n",
    ),
    "vercel ui message stream": Wire(
        "/talk",
        VERCEL_UI,
        b'data: {"type":"finish"',
        {
            "chunks": 4,
            "frames": 12,
            "finish_reasons": ("length",),
            "finish_reason": "length",
            "terminator": True,
            "input_tokens": 9,
            "output_tokens": 5,
            "cache_read_tokens": 4,
            "reasoning_tokens": 2,
            "response_id": "m1",
            "response_model": "gpt-5",
            "request_dialect": "vercel.ui_message_stream",
            "request_operation": "chat",
            "request_provider": "vercel",
            "request_model": None,
        },
        {"id": "c", "trigger": "submit-message", "messages": []},
    ),
    "ag-ui": Wire(
        "/",
        AG_UI,
        b'data: {"type":"RUN_FINISHED"',
        {
            "chunks": 3,
            "frames": 7,
            "finish_reasons": ("success",),
            "finish_reason": "tool_calls",
            "terminator": True,
            "input_tokens": 10,
            "output_tokens": 5,
            "cache_read_tokens": 1,
            "reasoning_tokens": 1,
            "response_id": "r1",
            "response_model": "gpt-5",
            "request_dialect": "ag_ui",
            "request_operation": "invoke_agent",
            "request_provider": "ag_ui",
            "request_model": None,
        },
        {"threadId": "t", "runId": "r1", "messages": [], "tools": [], "context": [], "state": {}},
    ),
    "a2a": Wire(
        "/",
        A2A,
        b'data: {"jsonrpc":"2.0","id":1,"result":{"statusUpdate":{"taskId":"t1","status":{"state":"TASK_STATE_COMPL',
        {
            "chunks": 1,
            "frames": 4,
            "finish_reasons": ("TASK_STATE_COMPLETED",),
            "finish_reason": "stop",
            "terminator": True,
            "output_tokens": None,
            "response_id": "t1",
            "response_model": None,
            "request_dialect": "a2a",
            "request_operation": "invoke_agent",
            "request_provider": "a2a",
            "request_model": None,
        },
        {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {}},
        line=b"\r\n\r\n",
    ),
    "langserve": Wire(
        "/chain/stream",
        LANGSERVE,
        b"event: end",
        {
            "chunks": 4,
            "frames": 7,
            "finish_reasons": (),
            "finish_reason": "none",
            "terminator": True,
            "input_tokens": 9,
            "output_tokens": 3,
            "cache_read_tokens": 4,
            "response_id": "r1",
            "response_model": "gpt-5",
            "request_dialect": "langserve",
            "request_operation": "chat",
            "request_provider": "langchain",
            "request_model": None,
        },
        {"input": "?", "config": {}, "kwargs": {}},
        line=b"\r\n\r\n",
    ),
    "a2a 0.3": Wire(
        "/",
        A2A_OLD,
        b'data: {"id":1,"jsonrpc":"2.0","result":{"final":true',
        {
            "chunks": 2,
            "frames": 3,
            "finish_reasons": ("input-required",),
            "finish_reason": "pause",
            "terminator": True,
            "response_id": "t1",
            "request_dialect": "a2a",
            "request_operation": "invoke_agent",
            "request_provider": "a2a",
        },
        {"jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": {}},
    ),
}


QIANFAN = b"""\
data: {"id":"as-1","object":"chat.completion","created":1,"sentence_id":0,"is_end":false,"is_truncated":false,\
"result":"Hel","need_clear_history":false,"finish_reason":"normal","usage":{"prompt_tokens":3,"completion_tokens":1,\
"total_tokens":4}}

data: {"id":"as-1","object":"chat.completion","created":1,"sentence_id":1,"is_end":false,"is_truncated":false,\
"result":"lo","need_clear_history":false,"finish_reason":"normal","usage":{"prompt_tokens":3,"completion_tokens":2,\
"total_tokens":5}}

data: {"id":"as-1","object":"chat.completion","created":1,"sentence_id":2,"is_end":true,"is_truncated":false,\
"result":"","need_clear_history":false,"finish_reason":"normal","usage":{"prompt_tokens":3,"completion_tokens":2,\
"total_tokens":5}}

"""

MINIMAX = b"""\
data: {"id":"mm-1","choices":[{"index":0,"delta":{"content":"Hel","role":"assistant"}}],"created":1,\
"model":"MiniMax-M2","object":"chat.completion.chunk"}

data: {"id":"mm-1","choices":[{"index":0,"delta":{"content":"lo","role":"assistant"}}],"created":1,\
"model":"MiniMax-M2","object":"chat.completion.chunk"}

data: {"id":"mm-1","choices":[{"finish_reason":"stop","index":0,"message":{"content":"Hello","role":"assistant"}}],\
"created":1,"model":"MiniMax-M2","object":"chat.completion","usage":{"total_tokens":5,"prompt_tokens":3,\
"completion_tokens":2},"base_resp":{"status_code":0,"status_msg":""}}

"""

CLOUDFLARE = b"""\
data: {"response":"Hel","p":"abc"}

data: {"response":" 7","p":"abcdef"}

data: {"response":"","usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}

data: [DONE]

"""

HUNYUAN = b"""\
data: {"Note":"n","Choices":[{"Index":0,"Delta":{"Role":"assistant","Content":"","ReasoningContent":"Hm"},\
"FinishReason":""}],"Created":1,"Id":"hy-1","Usage":{"PromptTokens":3,"CompletionTokens":1,"TotalTokens":4}}

data: {"Note":"n","Choices":[{"Index":0,"Delta":{"Role":"assistant","Content":"Hi"},"FinishReason":""}],"Created":1,\
"Id":"hy-1","Usage":{"PromptTokens":3,"CompletionTokens":2,"TotalTokens":5}}

data: {"Note":"n","Choices":[{"Index":0,"Delta":{"Role":"assistant","Content":""},"FinishReason":"stop"}],"Created":1,\
"Id":"hy-1","Usage":{"PromptTokens":3,"CompletionTokens":3,"TotalTokens":6}}

"""

DASHSCOPE = b"""\
id:1
event:result
:HTTP_STATUS/200
data:{"output":{"choices":[{"message":{"role":"assistant","content":"","reasoning_content":"Hm"},"finish_reason":"null"\
}]},"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4},"request_id":"q-1"}

id:2
event:result
:HTTP_STATUS/200
data:{"output":{"choices":[{"message":{"role":"assistant","content":"Hi"},"finish_reason":"null"}]},"usage":\
{"input_tokens":3,"output_tokens":2,"total_tokens":5},"request_id":"q-1"}

id:3
event:result
:HTTP_STATUS/200
data:{"output":{"choices":[{"message":{"role":"assistant","content":""},"finish_reason":"stop"}]},"usage":\
{"input_tokens":3,"output_tokens":3,"total_tokens":6,"output_tokens_details":{"reasoning_tokens":1}},"request_id":"q-1"}

"""

DASHSCOPE_PARTS = b"""\
id:1
event:result
:HTTP_STATUS/200
data:{"output":{"choices":[{"message":{"role":"assistant","content":[{"text":"Hi"}]},"finish_reason":"null"}]},\
"usage":{"input_tokens":3,"output_tokens":1},"request_id":"q-1"}

id:2
event:result
:HTTP_STATUS/200
data:{"output":{"choices":[{"message":{"role":"assistant","content":[]},"finish_reason":"length"}]},\
"usage":{"input_tokens":3,"output_tokens":2},"request_id":"q-1"}

"""

DIFY = b"""\
event: ping

data: {"event":"message","task_id":"t-1","message_id":"m-1","conversation_id":"c","answer":"Hel","created_at":1}

event: ping

data: {"event":"message","task_id":"t-1","message_id":"m-1","conversation_id":"c","answer":"lo","created_at":1}

data: {"event":"message_end","task_id":"t-1","message_id":"m-1","conversation_id":"c","metadata":{"usage":\
{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"latency":0.5}}}

"""

DIFY_WORKFLOW = b"""\
data: {"event":"workflow_started","task_id":"t-1","workflow_run_id":"w-1","data":{"id":"w-1","workflow_id":"w"}}

data: {"event":"node_started","task_id":"t-1","workflow_run_id":"w-1","data":{"node_id":"n"}}

data: {"event":"text_chunk","task_id":"t-1","workflow_run_id":"w-1","data":{"text":"Hi"}}

data: {"event":"workflow_finished","task_id":"t-1","workflow_run_id":"w-1","data":{"status":"succeeded",\
"outputs":{"text":"Hi"},"error":null,"total_tokens":5}}

"""

COZE = b"""\
event:conversation.chat.created
data:{"id":"c-1","status":"created"}

event:conversation.chat.in_progress
data:{"id":"c-1","status":"in_progress"}

event:conversation.message.delta
data:{"id":"m","role":"assistant","type":"answer","content":"","reasoning_content":"Hm"}

event:conversation.message.delta
data:{"id":"m","role":"assistant","type":"answer","content":"Hi"}

event:conversation.message.completed
data:{"id":"m","role":"assistant","type":"answer","content":"Hi"}

event:conversation.chat.completed
data:{"id":"c-1","status":"completed","usage":{"token_count":5,"output_count":2,"input_count":3}}

event:done
data:"[DONE]"

"""

COZE_WORKFLOW = b"""\
id: 0
event: Message
data: {"content":"Hel","node_is_finish":false,"node_seq_id":"0","node_title":"Message"}

id: 1
event: Message
data: {"content":"lo","node_is_finish":true,"node_seq_id":"1","node_title":"Message"}

id: 2
event: Done
data: {"debug_url":"https://coze.test/w"}

"""

DATABRICKS = b"""\
data: {"type":"response.output_text.delta","item_id":"m","delta":"Hel"}

data: {"type":"response.output_text.delta","item_id":"m","delta":"lo"}

data: {"type":"response.output_item.done","item":{"type":"message","id":"m","content":[{"type":"output_text",\
"text":"Hello"}]}}

data: {"trace_id":"tr-1"}

data: [DONE]

"""

LANGFLOW = b"""\
{"event": "vertices_sorted", "data": {"ids": ["a"], "to_run": ["a"]}}

{"event": "add_message", "data": {"text": "?", "sender": "User"}}

{"event": "token", "data": {"chunk": "Hel", "id": "m-1", "timestamp": "t"}}

{"event": "token", "data": {"chunk": "lo", "id": "m-1", "timestamp": "t"}}

{"event": "end", "data": {"result": {"session_id": "s", "outputs": []}}}

"""


def platform(dialect: str, provider: str, chunks: int, frames: int, **says: Any) -> dict[str, Any]:
    """What a summary says of a platform's stream. Its tokens are those of most samples here."""
    usual = {"finish_reasons": (), "finish_reason": "none", "terminator": True, "unproven": False}
    asked = {"request_dialect": dialect, "request_provider": provider}
    return {"chunks": chunks, "frames": frames, **usual, "input_tokens": 3, "output_tokens": 2, **asked, **says}


UNCOUNTED = {"input_tokens": None, "output_tokens": None}
STOPPED = {"finish_reasons": ("stop",), "finish_reason": "stop", "terminator": False}
AGENT = {"request_operation": "invoke_agent", "request_model": None}

WIRES |= {
    "qianfan": Wire(
        "/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/completions",
        QIANFAN,
        b'data: {"id":"as-1","object":"chat.completion","created":1,"sentence_id":2',
        platform(
            "qianfan.chat_v1", "baidu", 2, 3, finish_reasons=("normal",), finish_reason="stop", response_id="as-1"
        ),
        {"messages": [], "stream": True},
    ),
    "minimax": Wire(
        "/v1/text/chatcompletion_v2",
        MINIMAX,
        b'data: {"id":"mm-1","choices":[{"finish_reason":"stop"',
        platform("minimax.chat", "minimax", 2, 3, **STOPPED, response_id="mm-1", response_model="MiniMax-M2"),
        ASKED,
    ),
    "cloudflare": Wire(
        "/client/v4/accounts/a/ai/run/@cf/meta/llama-3-8b",
        CLOUDFLARE,
        b"data: [DONE]",
        platform("cloudflare.run", "cloudflare", 2, 4, request_model="@cf/meta/llama-3-8b"),
        {"messages": [], "stream": True},
        host="api.cloudflare.com",
    ),
    "hunyuan": Wire(
        "/",
        HUNYUAN,
        b'data: {"Note":"n","Choices":[{"Index":0,"Delta":{"Role":"assistant","Content":""},',
        platform("hunyuan.chat", "tencent", 2, 3, **STOPPED | {"output_tokens": 3}, response_id="hy-1")
        | {"request_model": "hunyuan-pro"},
        {"Model": "hunyuan-pro", "Stream": True, "Messages": []},
        host="hunyuan.tencentcloudapi.com",
    ),
    "dashscope": Wire(
        "/api/v1/services/aigc/text-generation/generation",
        DASHSCOPE,
        b"id:3",
        platform("dashscope.generation", "alibaba_cloud", 2, 3, **STOPPED | {"output_tokens": 3}, response_id="q-1")
        | {"reasoning_tokens": 1, "request_model": "qwen-plus"},
        {"model": "qwen-plus", "input": {"messages": []}, "parameters": {"incremental_output": True}},
    ),
    "dashscope, several modalities": Wire(
        "/api/v1/services/aigc/multimodal-generation/generation",
        DASHSCOPE_PARTS,
        b"id:2",
        platform("dashscope.generation", "alibaba_cloud", 1, 2, finish_reasons=("length",), finish_reason="length")
        | {"terminator": False},
        {"model": "qwen-vl-plus", "input": {"messages": []}, "parameters": {"incremental_output": True}},
    ),
    "dify": Wire(
        "/v1/chat-messages",
        DIFY,
        b'data: {"event":"message_end"',
        platform("dify", "dify", 2, 3, **AGENT, response_id="m-1"),
        {"query": "?", "user": "u", "response_mode": "streaming"},
    ),
    "dify workflow": Wire(
        "/v1/workflows/run",
        DIFY_WORKFLOW,
        b'data: {"event":"workflow_finished"',
        platform("dify", "dify", 1, 4, **AGENT | UNCOUNTED, finish_reasons=("succeeded",), finish_reason="stop"),
        {"inputs": {}, "user": "u", "response_mode": "streaming"},
    ),
    "coze": Wire(
        "/v3/chat",
        COZE,
        b"event:conversation.chat.completed",
        platform("coze.chat", "coze", 2, 7, **AGENT, finish_reasons=("completed",), finish_reason="stop"),
        {"bot_id": "b", "user_id": "u", "stream": True},
    ),
    "databricks": Wire(
        "/serving-endpoints/agent/invocations",
        DATABRICKS,
        b"data: [DONE]",
        platform("databricks.agent", "databricks", 2, 5, **AGENT | UNCOUNTED),
        {"input": [], "stream": True},
    ),
    "langflow": Wire(
        "/api/v1/run/f",
        LANGFLOW,
        b'{"event": "end"',
        platform("langflow", "langflow", 2, 5, **AGENT | UNCOUNTED),
        {"input_value": "?"},
        "application/x-ndjson",
    ),
    "coze workflow": Wire(
        "/v1/workflow/stream_run",
        COZE_WORKFLOW,
        b"id: 2",
        platform("coze.workflow", "coze", 2, 3, **AGENT | UNCOUNTED),
        {"workflow_id": "w"},
    ),
}

OCI = b"""\
data: {"index":0,"message":{"role":"ASSISTANT","content":[{"type":"TEXT","text":"Hel"}]},"pad":"aa"}

data: {"index":0,"message":{"role":"ASSISTANT","content":[{"type":"TEXT","text":"na\xc3\xafve"}]},"pad":"a"}

data: {"message":{"role":"ASSISTANT","content":[]},"finishReason":"length","usage":{"promptTokens":3,\
"completionTokens":2,"totalTokens":5}}

"""

OCI_COHERE = b"""\
data: {"apiFormat":"COHERE","text":"Hel","pad":"aa"}

data: {"apiFormat":"COHERE","text":"lo","pad":"a"}

data: {"apiFormat":"COHERE","text":"Hello","chatHistory":[],"finishReason":"COMPLETE","pad":"a"}

"""

LM_STUDIO = b"""\
event: chat.start
data: {"type":"chat.start","model_instance_id":"qwen3"}

event: model_load.progress
data: {"type":"model_load.progress","model_instance_id":"qwen3","progress":0.5}

event: prompt_processing.progress
data: {"type":"prompt_processing.progress","progress":0.5}

event: reasoning.start
data: {"type":"reasoning.start"}

event: reasoning.delta
data: {"type":"reasoning.delta","content":"Hm"}

event: tool_call.arguments
data: {"type":"tool_call.arguments","tool":"look_up","arguments":{"q":1}}

event: message.delta
data: {"type":"message.delta","content":"Hi"}

event: chat.end
data: {"type":"chat.end","result":{"model_instance_id":"qwen3","response_id":"resp_1","output":[],"stats":\
{"input_tokens":3,"total_output_tokens":2,"reasoning_output_tokens":1,"time_to_first_token_seconds":0.1}}}

"""

KOBOLD = b"""\
event: message
data: {"token": "Hel", "finish_reason": "null"}

event: message
data: {"token": "lo", "finish_reason": "null"}

event: message
data: {"token": "", "finish_reason": "length"}

"""

AGNO = b"""\
event: TeamRunStarted
data: {"event":"TeamRunStarted","run_id":"r-1","model":"gpt-5"}

event: RunStarted
data: {"event":"RunStarted","run_id":"r-2","parent_run_id":"r-1"}

event: RunContent
data: {"event":"RunContent","content":"Hel","reasoning_content":"","run_id":"r-2","parent_run_id":"r-1"}

event: RunCompleted
data: {"event":"RunCompleted","content":"Hel","run_id":"r-2","parent_run_id":"r-1","metrics":{"input_tokens":9}}

event: TeamRunContent
data: {"event":"TeamRunContent","content":"na\xc3\xafve","run_id":"r-1"}

event: TeamRunCompleted
data: {"event":"TeamRunCompleted","content":"na\xc3\xafve","run_id":"r-1","metrics":\
{"input_tokens":3,"output_tokens":2}}

"""

CORTEX_AGENT = b"""\
event: response.status
data: {"message":"Planning","status":"planning"}

event: response.thinking.delta
data: {"content_index":0,"text":"Hm","sequence_number":1}

event: response.tool_use
data: {"type":"search","name":"look_up","input":{}}

event: response.text.delta
data: {"content_index":1,"text":"Hi","sequence_number":2}

event: response.text.delta
data: {"content_index":1,"text":"Hi","sequence_number":2}

event: response
data: {"role":"assistant","content":[{"type":"text","text":"Hi"}]}

event: done
data: [DONE]

"""


def enveloped(method: str, data: Any, namespace: Any = ()) -> bytes:
    """An event of LangGraph's second version."""
    payload = {"type": "event", "seq": 1, "method": method, "params": {"namespace": list(namespace), "data": data}}
    return b"event: %s\ndata: %s\n\n" % (method.encode(), json.dumps(payload).encode())


GRAPH_EVENTS = b"".join(
    (
        enveloped("lifecycle", {"event": "started"}),
        enveloped("messages", {"event": "message-start"}),
        enveloped("messages", {"event": "content-block-delta", "index": 0, "delta": {"type": "reasoning-delta"}}),
        enveloped("messages", {"event": "content-block-delta", "index": 1, "delta": {"type": "text-delta"}}),
        enveloped("messages", {"event": "message-finish", "usage": {"input_tokens": 3, "output_tokens": 2}}),
        enveloped("values", {"error": "a word of the application's"}),
        enveloped("lifecycle", {"event": "completed"}, ["node:1"]),
        enveloped("lifecycle", {"event": "completed"}),
    )
)

WIRES |= {
    "agno": Wire(
        "/teams/t/runs",
        AGNO,
        b"event: TeamRunCompleted",
        platform("agno", "agno", 2, 6, **AGENT, finish_reasons=("completed",), finish_reason="stop")
        | {"response_id": "r-1", "response_model": "gpt-5"},
        {"message": "?"},
    ),
    "cortex agent": Wire(
        "/api/v2/databases/d/schemas/s/agents/a:run",
        CORTEX_AGENT,
        b"event: response\n",
        platform("snowflake.agent", "snowflake", 2, 7, **AGENT | UNCOUNTED),
        {"messages": []},
        host="me.snowflakecomputing.com",
    ),
    "langgraph events": Wire(
        "/threads/t/stream/events",
        GRAPH_EVENTS,
        enveloped("lifecycle", {"event": "completed"})[:-2],
        platform("langgraph.events", "langchain", 2, 8, **AGENT, finish_reasons=("completed",), finish_reason="stop"),
        {"channels": ["messages", "lifecycle"]},
    ),
    "oci": Wire(
        "/20231130/actions/chat",
        OCI,
        b'data: {"message"',
        platform("oci.chat", "oci", 2, 3, finish_reasons=("length",), finish_reason="length", terminator=False)
        | {"request_model": "meta.llama"},
        {"servingMode": {"modelId": "meta.llama"}, "chatRequest": {"apiFormat": "GENERIC", "isStream": True}},
        host="inference.generativeai.us-chicago-1.oci.oraclecloud.com",
    ),
    "oci, cohere": Wire(
        "/20231130/actions/chat",
        OCI_COHERE,
        b'data: {"apiFormat":"COHERE","text":"Hello"',
        platform("oci.chat", "oci", 2, 3, **UNCOUNTED, finish_reasons=("COMPLETE",), finish_reason="stop")
        | {"terminator": False, "request_model": None},
        {"chatRequest": {"apiFormat": "COHERE", "isStream": True}},
    ),
    "lm studio": Wire(
        "/api/v1/chat",
        LM_STUDIO,
        b"event: chat.end",
        platform("lm_studio.chat", "lm_studio", 3, 8, reasoning_tokens=1, response_id="resp_1", response_model="qwen3"),
        {"model": "qwen3", "input": "?", "stream": True},
    ),
    "koboldcpp": Wire(
        "/api/extra/generate/stream",
        KOBOLD,
        b'event: message\ndata: {"token": ""',
        platform("koboldcpp.generate", "koboldcpp", 2, 3, **UNCOUNTED, finish_reasons=("length",), terminator=False)
        | {"finish_reason": "length", "request_operation": "text_completion"},
        {"prompt": "?", "max_length": 9},
    ),
}


FLOWISE = b"""\
message:
data:{"event":"agentFlowEvent","data":"INPROGRESS"}

message:
data:{"event":"thinking","data":"Hm"}

message:
data:{"event":"token","data":"Hel"}

message:
data:{"event":"token","data":"na\xc3\xafve"}

message:
data:{"event":"usageMetadata","data":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}

message:
data:{"event":"token","data":"!"}

message:
data:{"event":"end","data":"[DONE]"}

"""

SGLANG = b"""\
data: {"text":"Hel","output_ids":[1],"meta_info":{"id":"q-1","finish_reason":null,"prompt_tokens":3,\
"weight_version":"default","completion_tokens":1,"cached_tokens":2}}

data: {"text":"Hello","output_ids":[1,2],"meta_info":{"id":"q-1","finish_reason":null,"prompt_tokens":3,\
"weight_version":"default","completion_tokens":2,"cached_tokens":2}}

data: {"text":"Hello","output_ids":[1,2],"meta_info":{"id":"q-1","finish_reason":{"type":"length","length":2},\
"prompt_tokens":3,"weight_version":"default","completion_tokens":2,"cached_tokens":2,"e2e_latency":0.2}}

data: [DONE]

"""

WIRES |= {
    "flowise": Wire(
        "/api/v1/prediction/f",
        FLOWISE,
        b'message:\ndata:{"event":"end"',
        platform("flowise", "flowise", 4, 7, **AGENT),
        {"question": "?", "streaming": True},
    ),
    "sglang": Wire(
        "/generate",
        SGLANG,
        b'data: {"text":"Hello","output_ids":[1,2],"meta_info":{"id":"q-1","finish_reason":{',
        platform("sglang.generate", "sglang", 2, 4, finish_reasons=("length",), finish_reason="length")
        | {"response_id": "q-1", "cache_read_tokens": 2, "request_operation": "text_completion"},
        {"text": "?", "sampling_params": {"max_new_tokens": 2}, "stream": True},
    ),
}


# --- streams without a mark of their end ------------------------------------------------------------------------------

ADK = b"""\
data: {"content":{"parts":[{"text":"Hm","thought":true}],"role":"model"},"partial":true,"invocationId":"e-1","author":\
"a","actions":{},"id":"1"}

data: {"content":{"parts":[{"text":"na\xc3\xafve"}],"role":"model"},"partial":true,"invocationId":"e-1","author":"a",\
"actions":{},"id":"2"}

data: {"content":{"parts":[{"text":"na\xc3\xafve"}],"role":"model"},"finishReason":"STOP","usageMetadata":\
{"promptTokenCount":3,"candidatesTokenCount":1,"thoughtsTokenCount":1,"totalTokenCount":5},"invocationId":"e-1",\
"author":"a","actions":{},"id":"3"}

"""

ENGINE = b"".join(
    json.dumps(event).encode() + b"\n"
    for event in (
        {"content": {"parts": [{"function_call": {"name": "f", "args": {}}}], "role": "model"}, "author": "a",
         "invocation_id": "e-1", "actions": {}, "usage_metadata": {"prompt_token_count": 1}},
        {"content": {"parts": [{"function_response": {"name": "f"}}], "role": "user"}, "author": "a",
         "invocation_id": "e-1", "actions": {}},
        {"content": {"parts": [{"text": "Hi"}], "role": "model"}, "author": "a", "invocation_id": "e-1",
         "actions": {}, "finish_reason": "STOP",
         "usage_metadata": {"prompt_token_count": 2, "candidates_token_count": 2}},
    )
)  # fmt: skip

TRITON = b"""\
data: {"model_name":"llama","model_version":"1","text_output":"Hel"}

data: {"model_name":"llama","model_version":"1","text_output":"lo"}

"""

ASSISTANT = b"""\
0:"Hel"
aui-reasoning-delta:{"reasoningDelta":"Hm"}
0:"lo: \\"1\\""
"""

CHATKIT = b"""\
data: {"type":"thread.created","thread":{"id":"t1","created_at":"2026-01-01T00:00:00","status":{"type":"active"}}}

data: {"type":"thread.item.done","item":{"id":"u1","thread_id":"t1","type":"user_message","content":[]}}

data: {"type":"stream_options","stream_options":{"allow_cancel":true}}

data: {"type":"thread.item.added","item":{"id":"m1","thread_id":"t1","type":"assistant_message","content":[]}}

data: {"type":"thread.item.updated","item_id":"m1","update":{"type":"assistant_message.content_part.text_delta",\
"content_index":0,"delta":"Hel"}}

data: {"type":"thread.item.updated","item_id":"m1","update":{"type":"assistant_message.content_part.text_delta",\
"content_index":0,"delta":"na\xc3\xafve"}}

data: {"type":"thread.item.done","item":{"id":"m1","thread_id":"t1","type":"assistant_message","content":\
[{"annotations":[],"text":"Helna\xc3\xafve","type":"output_text"}]}}

"""

UNMARKED = {
    "chatkit": Wire(
        "/chat",
        CHATKIT,
        b'data: {"type":"thread.item.done","item":{"id":"m1"',
        platform("openai.chatkit", "openai", 2, 7, **AGENT | UNCOUNTED),
        {"type": "threads.create", "params": {"input": {"content": []}}},
    ),
    "adk": Wire(
        "/run_sse",
        ADK,
        b'data: {"content":{"parts":[{"text":"na\xc3\xafve"}],"role":"model"},"finishReason"',
        platform(
            "google.adk",
            "gcp.gen_ai",
            2,
            3,
            **AGENT,
            **STOPPED | {"terminator": True, "finish_reasons": ("STOP",)},
            reasoning_tokens=1,
        )
        | {"response_id": "e-1"},
        {"appName": "a", "userId": "u", "sessionId": "s", "newMessage": {"parts": []}, "streaming": True},
    ),
    "agent engine": Wire(
        "/v1/projects/p/locations/l/reasoningEngines/1:streamQuery",
        ENGINE,
        b'{"content": {"parts": [{"text": "Hi"}]',
        platform(
            "google.adk", "gcp.vertex_ai", 2, 3, **AGENT, **STOPPED | {"terminator": True, "finish_reasons": ("STOP",)}
        ),
        {"class_method": "stream_query", "input": {}},
        "application/json",
        line=b"\n",
    ),
    "triton": Wire(
        "/v2/models/llama/versions/1/generate_stream",
        TRITON,
        b"",
        platform("triton.generate", "nvidia.triton", 2, 2, **UNCOUNTED, terminator=False, unproven=True)
        | {"request_operation": "text_completion", "request_model": "llama", "response_model": "llama"},
        {"text_input": "?", "stream": True},
    ),
    "assistant-stream": Wire(
        "/talk",
        ASSISTANT,
        b"",
        platform("assistant_stream", "assistant_ui", 3, 3, **UNCOUNTED, terminator=False, unproven=True),
        {"stream": True},
        "text/plain; charset=utf-8",
        line=b"\n",
    ),
}
"""A clean end of the body proves nothing in these. A soft sign of it is the `terminal` event, where there is one."""

# --- streams that only their frames tell ------------------------------------------------------------------------------

GRADIO = b"""\
data: {"msg":"estimation","event_id":"e1","rank":0,"queue_size":1,"rank_eta":0.1}

data: {"msg":"process_starts","event_id":"e1","eta":0.1}

data: {"msg":"heartbeat"}

data: {"msg":"process_generating","event_id":"e1","output":{"data":["Hel"],"is_generating":true},"success":true}

data: {"msg":"process_generating","event_id":"e1","output":{"data":[[["append",[],"na\xc3\xafve"]]],\
"is_generating":true},"success":true}

data: {"msg":"process_completed","event_id":"e1","output":{"data":["Helna\xc3\xafve"],"is_generating":false},\
"success":true,"title":null}

data: {"msg":"close_stream","event_id":null}

"""

GRADIO_CALL = b"""\
event: generating
data: ["Hel"]

event: heartbeat
data: null

event: generating
data: ["Helna\xc3\xafve"]

event: complete
data: ["Helna\xc3\xafve"]

"""

LLAMA_INDEX = b"""\
id: 1
data: {"value":{"delta":"Hel","response":"Hel","current_agent_name":"a"},"qualified_name":"w.AgentStream","type":\
"AgentStream","types":null}

id: 2
data: {"value":{"delta":"na\xc3\xafve","response":"","current_agent_name":"a"},"qualified_name":"w.AgentStream",\
"type":"AgentStream","types":null}

id: 4
data: {"value":{"result":"Helna\xc3\xafve"},"qualified_name":"workflows.events.StopEvent","type":"StopEvent",\
"types":null}

"""

N8N = b"".join(
    json.dumps({"type": kind, **content, "metadata": {"nodeId": node, "nodeName": "Agent", "itemIndex": 0}}).encode()
    + b"\n"
    for kind, node, content in (
        ("begin", "n1", {}),
        ("item", "n1", {"content": "Hel"}),
        ("begin", "n2", {}),
        ("item", "n2", {"content": "lo"}),
        ("end", "n2", {}),
        ("end", "n1", {}),
    )
)

_TOLD = platform("gradio", "gradio", 2, 7, **UNCOUNTED, request_operation="generate_content")
_NOTHING: dict[str, Any] = {}

SNIFFED = {
    "gradio": Wire("/queue/data", GRADIO, b'data: {"msg":"process_completed"', _TOLD, _NOTHING),
    "gradio, one call": Wire("/call/f/e1", GRADIO_CALL, b"event: complete", _TOLD | {"frames": 4}, _NOTHING),
    "llama_index": Wire(
        "/events/h",
        LLAMA_INDEX,
        b"id: 4",
        platform("llama_index.workflow", "llama_index", 2, 3, **AGENT | UNCOUNTED)
        | {"finish_reasons": ("completed",), "finish_reason": "stop"},
        _NOTHING,
    ),
    "n8n": Wire(
        "/webhook/w",
        N8N,
        N8N[N8N.rindex(b'{"type') :],
        platform("n8n", "n8n", 2, 6, **AGENT | UNCOUNTED),
        _NOTHING,
        "application/json",
        line=b"\n",
    ),
}
"""Streams whose requests say nothing, such as a GET at a path of the application's own."""
