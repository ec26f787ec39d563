"""Selects the class that writes an endpoint's frames. In: an endpoint and a `ReplySpec`. Out: a new `Reply`."""

from ._bedrock import Converse, Invoke
from ._chat import Chat, ChatTools
from ._cohere import CohereMessage, CohereTools
from ._completions import Completion
from ._dashscope import DashScope, DashScopeParts
from ._endpoints import Endpoint
from ._gemini import Gemini, GeminiTools
from ._messages import Message, MessageTools
from ._mistral import Mistral
from ._ollama import OllamaChat, OllamaGenerate, OllamaTools
from ._reply import Finish, Reply, ReplySpec
from ._responses import Response, ResponseTools

_TEXT: dict[Endpoint, type[Reply]] = {
    Endpoint.CHAT: Chat,
    Endpoint.COMPLETIONS: Completion,
    Endpoint.RESPONSES: Response,
    Endpoint.MESSAGES: Message,
    Endpoint.GEMINI: Gemini,
    Endpoint.MISTRAL: Mistral,
    Endpoint.COHERE: CohereMessage,
    Endpoint.OLLAMA_CHAT: OllamaChat,
    Endpoint.OLLAMA_GENERATE: OllamaGenerate,
    Endpoint.CONVERSE: Converse,
    Endpoint.INVOKE: Invoke,
    Endpoint.DASHSCOPE: DashScope,
    Endpoint.DASHSCOPE_PARTS: DashScopeParts,
}
_TOOLS: dict[Endpoint, type[Reply]] = {
    Endpoint.CHAT: ChatTools,
    Endpoint.RESPONSES: ResponseTools,
    Endpoint.MESSAGES: MessageTools,
    Endpoint.GEMINI: GeminiTools,
    Endpoint.COHERE: CohereTools,
    Endpoint.OLLAMA_CHAT: OllamaTools,
}


def make_reply(endpoint: Endpoint, spec: ReplySpec) -> Reply:
    """A reply in the format of the endpoint."""
    return (_TOOLS if spec.finish is Finish.TOOLS else _TEXT)[endpoint](spec)
