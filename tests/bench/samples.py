"""One chunk of each dialect, as its provider writes it, in the middle of a long answer: what `dialects.py` measures.

`TEXT` stands where the model's words are. It is filled up until the chunk has `SIZE` bytes, so that dialects are
compared at one size; one whose frames are larger without any words keeps its own.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from otel_llmstream.testing.chaos._eventstream import CONTENT_TYPE, event
from otel_llmstream.testing.chaos._protobuf import field

SIZE: Final = 300  # bytes; what OpenAI's chunks have, and most
TEXT: Final = "{text}"

EVENTS: Final = "text/event-stream"
LINES: Final = "application/x-ndjson"


@dataclass(frozen=True)
class Sample:
    """A chunk.

    Attributes:
        path: where it was asked for.
        chunk: its bytes, with `TEXT` in them; for an event stream of AWS's its name and payload; for protobuf a
            function that makes them of a text.
        content_type: the answer's media type.
        asked: what the request says beside the model, and that it streams.
        host: who is asked.
        method: how.
        start: what stands before the first chunk.
        transport: what carries the answer.
        marks: response headers that name the dialect.
    """

    path: str
    chunk: str | tuple[str, str] | Callable[[str], bytes]
    content_type: str = EVENTS
    asked: tuple[tuple[str, Any], ...] = ()
    host: str = "gateway.test"
    method: str = "POST"
    start: bytes = b""
    transport: str = "http"
    marks: tuple[str, ...] = ()

    @property
    def request(self) -> bytes:
        """The request's body."""
        return json.dumps({"model": "m", "stream": True, **dict(self.asked)}).encode()

    def bytes(self) -> bytes:
        """The chunk, filled up."""
        missing = SIZE - len(self._filled(""))
        filled = self._filled("x" * max(1, missing))
        return self._filled("x" * max(1, missing - (len(filled) - SIZE))) if missing > 0 else filled

    def _filled(self, text: str) -> bytes:
        if isinstance(self.chunk, str):
            return self.chunk.replace(TEXT, text).encode()
        if callable(self.chunk):
            return self.chunk(text)
        name, payload = self.chunk
        payload = payload.replace(TEXT, text)
        if name == "chunk":  # of any model, wrapped once more
            payload = json.dumps({"bytes": b64encode(payload.encode()).decode(), "p": "abcdef"})
        return event(name, payload.encode())


def data(payload: str, end: str = "\n\n") -> str:
    """An event that has only data."""
    return f"data: {payload}{end}"


def named(name: str, payload: str) -> str:
    """An event with its name."""
    return f"event: {name}\ndata: {payload}\n\n"


def xai(text: str) -> bytes:
    """A chunk of xAI's: id, output, time, model, fingerprint."""
    output = field(1, field(1, text) + field(2, 2))
    names = field(3, field(1, 1_760_000_000)) + field(4, "grok-4-0709") + field(5, "fp_2c8a09ba8c")
    return field(1, "8e5a1a7c-5b1f-4f5c-9d0e-3f1f0b6f3c11") + field(2, output) + names


def vertex(text: str) -> bytes:
    """A chunk of Vertex AI's: a candidate, its tokens so far, the model, the id."""
    candidate = field(2, field(1, "model") + field(2, field(1, text)))
    usage = field(1, 9) + field(2, 40) + field(3, 49)
    return field(2, candidate) + field(4, usage) + field(11, "gemini-2.5-flash") + field(13, "r-1")


def choice(kind: str, output: str) -> str:
    """A chunk as OpenAI's, of chat or of completions."""
    head = f'{{"id":"c-9XqL2","object":"{kind}","created":1760000000,"model":"m-2026-01-01",'
    return head + f'"choices":[{{"index":0,{output},"logprobs":null,"finish_reason":null}}]}}'


CHAT: Final = choice("chat.completion.chunk", '"delta":{"content":"{text}"}')
COMPLETION: Final = choice("text_completion", '"text":"{text}"')
GEMINI: Final = (
    '{"candidates": [{"content": {"parts": [{"text": "{text}"}],"role": "model"},"index": 0}],'
    '"usageMetadata": {"promptTokenCount": 9,"candidatesTokenCount": 2,"totalTokenCount": 16,'
    '"promptTokensDetails": [{"modality": "TEXT","tokenCount": 9}],"thoughtsTokenCount": 5},'
    '"modelVersion": "gemini-3-flash","responseId": "r-1"}'
)
GEMINI_LINES: Final = json.dumps(json.loads(GEMINI), indent=2).replace("\n", "\r\n")
CLAUDE: Final = '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"{text}"}}'
OLLAMA: Final = '{"model":"qwen3","created_at":"2026-01-01T00:00:00.123456Z",%s,"done":false}\n'
VERTEX: Final = "/v1/projects/p/locations/global/publishers"
WATSONX: Final = "us-south.ml.cloud.ibm.com"

SAMPLES: Final[dict[str, Sample]] = {
    "openai.chat": Sample("/v1/chat/completions", data(CHAT)),
    "mistral.chat": Sample("/v1/chat/completions", data(CHAT), host="api.mistral.ai"),
    "openai.responses": Sample(
        "/v1/responses",
        named(
            "response.output_text.delta",
            '{"type":"response.output_text.delta","sequence_number":7,"item_id":"msg_1","output_index":0,'
            '"content_index":0,"delta":"{text}","logprobs":[],"obfuscation":"a1b2"}',
        ),
    ),
    "anthropic.messages": Sample("/v1/messages", named("content_block_delta", CLAUDE)),
    "anthropic.complete": Sample(
        "/v1/complete",
        named(
            "completion",
            '{"type":"completion","id":"compl_1","completion":"{text}","stop_reason":null,"model":"claude-2.1",'
            '"stop":null,"log_id":"compl_1"}',
        ),
    ),
    "openai.completions": Sample("/v1/completions", data(COMPLETION)),
    "anthropic.messages, Vertex": Sample(
        VERTEX + "/anthropic/models/claude:streamRawPredict", named("content_block_delta", CLAUDE)
    ),
    "google.generate_content": Sample("/v1beta/models/g:streamGenerateContent", data(GEMINI, "\r\n\r\n")),
    "google.generate_content, array": Sample(
        "/v1beta/models/g:streamGenerateContent", ",\r\n" + GEMINI_LINES, "application/json", start=b"[{}\r\n"
    ),
    "google.interactions": Sample(
        "/v1beta/interactions",
        named("step.delta", '{"index":1,"delta":{"text":"{text}","type":"text"},"event_type":"step.delta"}'),
    ),
    "mistral.conversations": Sample(
        "/v1/conversations",
        named(
            "message.output.delta",
            '{"type":"message.output.delta","created_at":"2026-01-01T00:00:00Z","output_index":0,"id":"msg_1",'
            '"content_index":0,"model":"mistral-medium","role":"assistant","content":"{text}"}',
        ),
    ),
    "cohere.chat": Sample(
        "/v2/chat",
        named("content-delta", '{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"{text}"}}}}'),
    ),
    "cohere.chat_v1": Sample(
        "/v1/chat",
        '{"is_finished":false,"event_type":"text-generation","text":"{text}"}\n',
        "application/stream+json",
        asked=(("message", "Ahoy"),),
    ),
    "ollama.chat": Sample(
        "/api/chat",
        OLLAMA % '"message":{"role":"assistant","content":"{text}"}',
        LINES,
        asked=(("messages", [{"role": "user", "content": "?"}]),),
    ),
    "ollama.generate": Sample("/api/generate", OLLAMA % '"response":"{text}"', LINES, asked=(("prompt", "?"),)),
    "bedrock.converse": Sample(
        "/model/m/converse-stream",
        ("contentBlockDelta", '{"contentBlockIndex":0,"delta":{"text":"{text}"},"p":"abcdef"}'),
        CONTENT_TYPE,
    ),
    "bedrock.invoke": Sample("/model/m/invoke-with-response-stream", ("chunk", CLAUDE), CONTENT_TYPE),
    "bedrock.agent": Sample(
        "/agents/a/agentAliases/l/sessions/s/text",
        ("chunk", "x" * 120 + "{text}"),
        CONTENT_TYPE,
    ),
    "bedrock.flow": Sample(
        "/flows/f/aliases/a",
        ("flowOutputEvent", '{"nodeName":"n","nodeType":"FlowOutputNode","content":{"document":"{text}"}}'),
        CONTENT_TYPE,
    ),
    "bedrock.knowledge_base": Sample("/retrieveAndGenerateStream", ("output", '{"text":"{text}"}'), CONTENT_TYPE),
    "agentcore.harness": Sample(
        "/harnesses/invoke",
        ("contentBlockDelta", '{"contentBlockIndex":0,"delta":{"text":"{text}"},"p":"abcdef"}'),
        CONTENT_TYPE,
    ),
    "agentcore.runtime": Sample("/runtimes/r/invocations", data('{"piece":"{text}","at":7}')),
    "sagemaker.endpoint": Sample(
        "/endpoints/e/invocations-response-stream",
        ("PayloadPart", '{"token": {"id": 9, "text": "{text}", "log_prob": -0.5}}\n'),
        CONTENT_TYPE,
    ),
    "openai.assistants": Sample(
        "/v1/threads/t/runs",
        named(
            "thread.message.delta",
            '{"id":"msg_1","object":"thread.message.delta","delta":{"content":'
            '[{"index":0,"type":"text","text":{"value":"{text}"}}]}}',
        ),
    ),
    "watsonx.text": Sample(
        "/ml/v1/text/generation_stream",
        "id: 7\n"
        + named(
            "message",
            '{"model_id":"ibm/granite","created_at":"2026-01-01T00:00:00Z","results":[{"generated_text":"{text}",'
            '"generated_token_count":7,"input_token_count":0,"stop_reason":"not_finished"}]}',
        ),
        host=WATSONX,
    ),
    "watsonx.chat": Sample(
        "/ml/v1/text/chat_stream",
        "id: 7\n" + named("message", CHAT[:-1] + ',"model_id":"ibm/granite"}'),
        host=WATSONX,
    ),
    "writer.chat": Sample("/v1/chat", data(CHAT), host="api.writer.com"),
    "writer.completions": Sample("/v1/completions", data('{"value":"{text}"}'), host="api.writer.com"),
    "snowflake.cortex": Sample(
        "/api/v2/cortex/inference:complete",
        data(
            '{"id":"c","model":"m-1","choices":[{"delta":{"type":"text","content":"{text}","content_list":'
            '[{"type":"text","text":""}],"text":""}}],"usage":{}}'
        ),
    ),
    "tgi.generate": Sample(
        "/generate_stream",
        data(
            '{"index":7,"token":{"id":7,"text":"{text}","logprob":-0.25,"special":false},'
            '"generated_text":null,"details":null}'
        ),
    ),
    "llama_cpp.completion": Sample(
        "/completion",
        data(
            '{"index":0,"content":"{text}","tokens":[7],"stop":false,"id_slot":0,"tokens_predicted":7,'
            '"tokens_evaluated":9}'
        ),
    ),
    "replicate": Sample(
        "/v1/streams/x", "event: output\nid: 1760000000:7\ndata: {text}\n\n", method="GET", host="stream.replicate.com"
    ),
    "agno": Sample(
        "/agents/a/runs",
        named("RunContent", '{"event":"RunContent","content":"{text}","run_id":"r-1","agent_id":"a"}'),
        start=b'event: RunStarted\ndata: {"event":"RunStarted","run_id":"r-1"}\n\n',
    ),
    "flowise": Sample(
        "/api/v1/prediction/f",
        'message:\ndata:{"event":"token","data":"{text}"}\n\n',
        asked=(("question", "?"), ("streaming", True)),
    ),
    "sglang.generate": Sample(
        "/generate",
        data(
            '{"text":"{text}","output_ids":[1],"meta_info":{"id":"q-1","finish_reason":null,"prompt_tokens":3,'
            '"weight_version":"default","completion_tokens":2,"cached_tokens":0}}'
        ),
        asked=(("sampling_params", {}),),
    ),
    "openai.chatkit": Sample(
        "/chat",
        data(
            '{"type":"thread.item.updated","item_id":"m1","update":{"type":'
            '"assistant_message.content_part.text_delta","content_index":0,"delta":"{text}"}}'
        ),
        start=b'data: {"type":"thread.created","thread":{"id":"t"}}\n\n',
    ),
    "gradio": Sample(
        "/queue/data",
        data(
            '{"msg":"process_generating","event_id":"e1","output":{"data":[[["append",[],"{text}"]]],'
            '"is_generating":true,"duration":0.05},"success":true,"time_limit":null}'
        ),
        method="GET",
        start=b'data: {"msg":"estimation","event_id":"e1"}\n\n',
    ),
    "gradio, one call": Sample("/call/f/e1", named("generating", '["{text}"]'), method="GET"),
    "llama_index.workflow": Sample(
        "/events/h",
        'id: 7\ndata: {"value":{"delta":"{text}","current_agent_name":"a"},"qualified_name":"w.AgentStream",'
        '"type":"AgentStream","types":null}\n\n',
        method="GET",
    ),
    "n8n": Sample(
        "/webhook/w",
        '{"type":"item","content":"{text}","metadata":{"nodeId":"n1","nodeName":"Agent","itemIndex":0}}\n',
        LINES,
        start=b'{"type":"begin","metadata":{"nodeId":"n1"}}\n',
    ),
    "snowflake.agent": Sample(
        "/api/v2/cortex/agent:run",
        named("response.text.delta", '{"content_index":0,"text":"{text}"}'),
        asked=(("messages", []),),
        start=b'event: response.status\ndata: {"status":"planning"}\n\n',
    ),
    "langgraph.events": Sample(
        "/threads/t/stream/events",
        named(
            "messages",
            '{"type":"event","seq":7,"method":"messages","params":{"namespace":[],"data":{"event":'
            '"content-block-delta","index":0,"delta":{"type":"text-delta","text":"{text}"}}}}',
        ),
        asked=(("channels", []),),
    ),
    "google.adk": Sample(
        "/run_sse",
        data(
            '{"content":{"parts":[{"text":"{text}"}],"role":"model"},"partial":true,"invocationId":"e-1","author":"a",'
            '"actions":{},"id":"2","timestamp":1760000000.5}'
        ),
        asked=(("appName", "a"), ("newMessage", {})),
    ),
    "oci.chat": Sample(
        "/20231130/actions/chat",
        data('{"index":0,"message":{"role":"ASSISTANT","content":[{"type":"TEXT","text":"{text}"}]},"pad":"aaaa"}'),
        asked=(("chatRequest", {"isStream": True}),),
    ),
    "lm_studio.chat": Sample(
        "/api/v1/chat",
        named("message.delta", '{"type":"message.delta","content":"{text}"}'),
        asked=(("input", "?"),),
    ),
    "koboldcpp.generate": Sample(
        "/api/extra/generate/stream", named("message", '{"token":"{text}","finish_reason":"null"}')
    ),
    "triton.generate": Sample(
        "/v2/models/m/generate_stream", data('{"model_name":"m","model_version":"1","text_output":"{text}"}')
    ),
    "assistant_stream": Sample("/talk", '0:"{text}"\n', "text/plain; charset=utf-8"),
    "openai.images": Sample(
        "/v1/images/generations",
        named(
            "image_generation.partial_image",
            '{"type":"image_generation.partial_image","b64_json":"{text}","partial_image_index":0,"background":"auto",'
            '"created_at":1,"output_format":"png","quality":"low","size":"1024x1024"}',
        ),
    ),
    "openai.transcription": Sample(
        "/v1/audio/transcriptions",
        named("transcript.text.delta", '{"type":"transcript.text.delta","delta":"{text}"}'),
    ),
    "openai.speech": Sample(
        "/v1/audio/speech", data('{"type":"speech.audio.delta","audio":"{text}"}'), asked=(("stream_format", "sse"),)
    ),
    "xai.chat": Sample("/xai_api.Chat/GetCompletionChunk", xai, transport="grpc"),
    "google.generate_content, gRPC": Sample(
        "/google.cloud.aiplatform.v1.PredictionService/StreamGenerateContent", vertex, transport="grpc"
    ),
    "vercel.ui_message_stream": Sample(
        "/talk",
        data('{"type":"text-delta","id":"t","delta":"{text}"}'),
        asked=(("trigger", "submit-message"), ("messages", [])),
    ),
    "ag_ui": Sample(
        "/",
        data('{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"{text}"}'),
        asked=(("threadId", "t"), ("runId", "r"), ("messages", [])),
    ),
    "a2a": Sample(
        "/",
        data(
            '{"jsonrpc":"2.0","id":1,"result":{"artifactUpdate":{"taskId":"t1","artifact":{"artifactId":"a","parts":'
            '[{"text":"{text}"}]}}}}'
        ),
        asked=(("jsonrpc", "2.0"), ("method", "SendStreamingMessage")),
    ),
    "langgraph": Sample(
        "/runs/stream",
        named("messages", '[{"type":"AIMessageChunk","content":"{text}","id":"m"},{"run_attempt":1}]'),
        asked=(("assistant_id", "a"), ("input", {})),
    ),
    "langserve": Sample(
        "/chain/stream",
        named("data", '{"content":"{text}","type":"AIMessageChunk","id":"m"}'),
        asked=(("input", {}), ("config", {}), ("kwargs", {})),
    ),
    "vercel.data_stream": Sample(
        "/talk", '0:"{text}"\n', "text/plain; charset=utf-8", marks=("x-vercel-ai-data-stream",)
    ),
    "generic": Sample("/v1/strange", data('{"piece":"{text}","at":7}')),
    "qianfan.chat_v1": Sample(
        "/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/completions",
        data(
            '{"id":"as-1","object":"chat.completion","created":1,"sentence_id":1,"is_end":false,"is_truncated":false,'
            '"result":"{text}","finish_reason":"normal","usage":{"prompt_tokens":3,"completion_tokens":2}}'
        ),
    ),
    "minimax.chat": Sample("/v1/text/chatcompletion_v2", data(CHAT)),
    "cloudflare.run": Sample(
        "/client/v4/accounts/a/ai/run/@cf/meta/llama",
        data('{"response":"{text}","p":"abc"}'),
        host="api.cloudflare.com",
    ),
    "hunyuan.chat": Sample(
        "/",
        data(
            '{"Note":"n","Choices":[{"Index":0,"Delta":{"Role":"assistant","Content":"{text}"},"FinishReason":""}],'
            '"Created":1,"Id":"hy-1","Usage":{"PromptTokens":3,"CompletionTokens":2,"TotalTokens":5}}'
        ),
        asked=(("Stream", True), ("Model", "hunyuan-pro")),
        host="hunyuan.tencentcloudapi.com",
    ),
    "dashscope.generation": Sample(
        "/api/v1/services/aigc/text-generation/generation",
        named(
            "result",
            '{"output":{"choices":[{"message":{"role":"assistant","content":"{text}"},"finish_reason":"null"}]},'
            '"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4},"request_id":"q-1"}',
        ),
        asked=(("parameters", {"incremental_output": True}),),
    ),
    "dify": Sample(
        "/v1/chat-messages",
        data('{"event":"message","task_id":"t-1","message_id":"m-1","conversation_id":"c","answer":"{text}"}'),
        asked=(("response_mode", "streaming"),),
    ),
    "coze.chat": Sample(
        "/v3/chat",
        named("conversation.message.delta", '{"id":"m","role":"assistant","type":"answer","content":"{text}"}'),
        asked=(("bot_id", "b"),),
    ),
    "databricks.agent": Sample(
        "/serving-endpoints/agent/invocations",
        data('{"type":"response.output_text.delta","item_id":"m","delta":"{text}"}'),
        asked=(("input", []),),
    ),
    "langflow": Sample(
        "/api/v1/run/f",
        '{"event": "token", "data": {"chunk": "{text}", "id": "m-1", "timestamp": "t"}}\n\n',
    ),
    "coze.workflow": Sample(
        "/v1/workflow/stream_run",
        named("Message", '{"content":"{text}","node_is_finish":false,"node_seq_id":"0","node_title":"Message"}'),
    ),
}
"""Name -> sample; what stands after a comma is another way to the same dialect."""
