"""From frames to events, one file per wire dialect. To add a dialect, add a file and a line in `DIALECTS`."""

from __future__ import annotations

from typing import Final, NamedTuple

from .. import semconv
from ..core.events import InBandError
from ..core.response import ResponseInfo
from ..core.summary import LLMRequest
from ..wire import Frame, Framer, framer_for
from ._base import Dialect, Events
from ._chunk_template import ChunkTemplate
from ._errors import coded_error, hidden_error
from ._json import repaired
from ._lanes import Ask, Heard, Kind, Lanes
from ._paths import PathTable
from ._request import RequestInfo
from .a2a import A2A
from .ag_ui import AGUI
from .agentcore import AgentCore, Harness
from .agno import Agno
from .anthropic_complete import AnthropicComplete
from .anthropic_messages import AnthropicMessages, AnthropicVertex
from .bedrock_agent import BedrockAgent, BedrockFlow, BedrockKnowledgeBase
from .bedrock_converse import BedrockConverse
from .bedrock_invoke import BedrockInvoke
from .chatkit import ChatKit
from .cloudflare import CloudflareAI
from .cohere_chat import CohereChat
from .cohere_chat_v1 import CohereChatV1
from .coze import CozeChat, CozeWorkflow
from .dashscope import DashScope
from .databricks import DatabricksAgent
from .dify import Dify
from .flowise import Flowise
from .generic import Generic
from .google_adk import GoogleADK
from .google_generate import GoogleGenerate
from .google_generate_grpc import GoogleGenerateGRPC
from .google_interactions import GoogleInteractions
from .google_live import GoogleLive
from .gradio import Gradio
from .hunyuan import Hunyuan
from .koboldcpp import KoboldCpp
from .langflow import Langflow
from .langgraph import LangGraph
from .langgraph_events import LangGraphEvents
from .langserve import LangServe
from .llama_cpp import LlamaCpp
from .llama_index import LlamaIndex
from .lm_studio import LMStudio
from .minimax import MiniMaxChat
from .mistral_chat import MistralChat, MistralVertex
from .mistral_conversations import MistralConversations
from .n8n import N8N
from .oci import OCI
from .ollama import OllamaChat, OllamaGenerate
from .openai_assistants import OpenAIAssistants
from .openai_audio import OpenAISpeech, OpenAITranscription
from .openai_chat import OpenAIChat, OpenAICompletions
from .openai_images import OpenAIImages
from .openai_realtime import OpenAIRealtime
from .openai_responses import OpenAIResponses
from .qianfan import Qianfan
from .replicate import Replicate
from .sagemaker import SageMaker
from .sglang import SGLang
from .snowflake_agent import SnowflakeAgent
from .snowflake_cortex import SnowflakeCortex
from .tgi import TGI
from .triton import Triton
from .vercel_data import AssistantStream, VercelData
from .vercel_ui import VercelUI
from .watsonx import WatsonxChat, WatsonxText
from .writer import WriterChat, WriterCompletions
from .xai_chat import XAIChat

DIALECTS: Final[tuple[type[Dialect], ...]] = (
    MistralChat,
    Qianfan,  # one of its paths ends as the next one's
    OpenAIChat,
    SnowflakeAgent,  # its events begin as the next one's
    OpenAIResponses,
    AnthropicMessages,
    WriterCompletions,  # shares its path with the next
    OpenAICompletions,
    AnthropicVertex,
    MistralVertex,
    GoogleADK,  # its events have Gemini's counts
    GoogleGenerate,
    GoogleGenerateGRPC,
    GoogleInteractions,
    MistralConversations,
    CohereChat,
    CohereChatV1,
    OllamaChat,
    OllamaGenerate,
    BedrockConverse,
    BedrockInvoke,
    BedrockAgent,
    BedrockFlow,
    BedrockKnowledgeBase,
    Harness,
    SageMaker,
    AgentCore,  # its path ends as that of Databricks
    AnthropicComplete,
    OpenAIAssistants,
    OpenAIImages,
    OpenAITranscription,
    OpenAISpeech,
    WatsonxText,
    WatsonxChat,
    WriterChat,
    SnowflakeCortex,
    Triton,  # its path ends as the next one's
    TGI,
    DashScope,  # one of its paths ends as the next one's
    LlamaCpp,
    Replicate,
    XAIChat,
    MiniMaxChat,
    CloudflareAI,
    Hunyuan,
    DatabricksAgent,
    Dify,
    CozeChat,
    CozeWorkflow,
    Langflow,
    OCI,
    LMStudio,
    KoboldCpp,
    Agno,
    Flowise,
    SGLang,
    LangGraphEvents,
    VercelUI,
    VercelData,
    AssistantStream,
    AGUI,
    A2A,
    LangGraph,
    LangServe,
    ChatKit,
    LlamaIndex,
    Gradio,
    N8N,
)
"""The order in which they are asked, for requests and for first frames."""

SOCKET_DIALECTS: Final[tuple[type[Dialect], ...]] = (OpenAIResponses, OpenAIRealtime, GoogleLive)
"""The dialects that a WebSocket carries."""

_PATHS: Final = PathTable(DIALECTS)

_WITHOUT_PATH: Final = tuple(dialect for dialect in DIALECTS if not dialect.paths)

_EVENTS: Final = "text/event-stream"

RESPONSE_HEADERS: Final = tuple(dialect.response_header for dialect in DIALECTS if dialect.response_header)
"""Response headers, in lower case, that name a dialect."""


def serves_path(path: str, host: str = "") -> bool:
    """Whether a dialect may answer a request to this path. It is cheap: ask before a `RequestInfo` is made.

    Args:
        path: path of the URL.
        host: host of the URL. Some dialects are told by the host alone.
    """
    return _PATHS.serves(path, host)


def lanes_for(path: str) -> Lanes | None:
    """The lanes of a new connection to this path; None if no dialect answers there over a WebSocket."""
    found = next((dialect for dialect in SOCKET_DIALECTS if dialect.serves_path(path)), None)
    return found.lanes() if found is not None and found.lanes is not None else None


class Match(NamedTuple):
    """What a request tells of its answer.

    Attributes:
        dialect: the dialect that the answer will be in.
        request: what is asked for.
        confirmed: whether the request alone shows that the answer is an LLM's. If not, the answer must show it.
    """

    dialect: type[Dialect]
    request: LLMRequest
    confirmed: bool


def match_request(request: RequestInfo) -> Match | None:
    """What a request tells of its answer. None if no dialect claims the request."""
    is_socket = request.transport == semconv.WEBSOCKET
    for dialect in SOCKET_DIALECTS if is_socket else _PATHS.dialects(request.path, request.host):
        found = dialect.matches_request(request)
        if found is not None:
            return Match(dialect, found, dialect.is_confirmed(request))
    return None


def match_non_streaming(request: RequestInfo) -> Match | None:
    """The same for a request that asks for its answer in one piece."""
    found = match_request(request.as_streaming(_PATHS.streaming_counterpart(request.path)))
    return None if found is None else found._replace(request=found.request.replace(streams=False))


def match_response(request: RequestInfo, response: ResponseInfo) -> type[Dialect] | None:
    """The dialect that a response's header names, or that the request's body asks for. None if neither does.

    Services choose the paths of the protocols that they speak to their own clients. The body counts only if an
    event stream answers it.
    """
    named = next((dialect for dialect in DIALECTS if dialect.response_header in response.marks), None)
    if named is not None or response.media_type != _EVENTS:
        return named
    return _protocol_of(request)


def asks_for_stream(request: RequestInfo) -> bool:
    """Whether the body asks for a stream: with `"stream": true`, or in the words of a protocol without a path."""
    return request.wants_stream or _protocol_of(request) is not None


def _protocol_of(request: RequestInfo) -> type[Dialect] | None:
    if request.method != "POST":
        return None
    return next((dialect for dialect in _WITHOUT_PATH if dialect.asked_for_by(request)), None)


def framer_of(dialect: Dialect | type[Dialect], content_type: str) -> Framer | None:
    """A framer for an answer in a dialect, by its `Content-Type`. None if that names no stream."""
    factory = dialect.framers.get(content_type.partition(";")[0].strip().lower())
    return factory() if factory is not None else framer_for(content_type)


def reread(dialect: Dialect, frame: Frame, events: Events) -> Events:
    """What a malformed frame says to the parsers of most SDKs; see `repaired`.

    Args:
        dialect: what read the frame.
        frame: the frame.
        events: what the dialect said. They are given back if the frame cannot be repaired.
    """
    data = repaired(frame.data)
    return events if data is None else dialect.read(frame._replace(data=data))


def error_in_document(document: bytes) -> InBandError | None:
    """The error that a JSON document reports where a stream was to come; None if it reports none."""
    return hidden_error(document) or coded_error(document)


def match_frame(frame: Frame) -> type[Dialect] | None:
    """The dialect of a first frame, for a stream whose request told nothing."""
    return next((dialect for dialect in DIALECTS if dialect.matches_frame(frame)), None)


__all__ = [
    "DIALECTS",
    "RESPONSE_HEADERS",
    "SOCKET_DIALECTS",
    "Ask",
    "ChunkTemplate",
    "Dialect",
    "Generic",
    "Heard",
    "Kind",
    "Lanes",
    "Match",
    "RequestInfo",
    "asks_for_stream",
    "error_in_document",
    "framer_of",
    "lanes_for",
    "match_frame",
    "match_non_streaming",
    "match_request",
    "match_response",
    "repaired",
    "reread",
    "serves_path",
]
