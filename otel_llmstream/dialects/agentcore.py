"""Amazon Bedrock AgentCore: what an agent sends (`InvokeAgentRuntime`), and the events of a harness (`InvokeHarness`).

The answer of an agent is the agent's own: server-sent events of any shape, or A2A, AG-UI or another dialect, which the
first frame tells. AgentCore's toolkit writes each value as `data: JSON`, and marks no end. Its errors are
`{"error", "error_type", "message"}`. An answer in one piece is no stream, and is not recorded.

A harness sends the events of Bedrock's Converse. It may send several messages, one after the other.
"""

from __future__ import annotations

from typing import ClassVar

from .. import semconv
from ..core.events import NEXT_RUN, NO_TERMINATOR, NOTHING
from ..wire import Frame
from ._base import Events, Handler
from ._bedrock import PROVIDER
from ._json import entry
from ._matching import StreamFlag
from ._request import RequestInfo
from .bedrock_converse import FINISH_WORDS, BedrockConverse, ConversePayload
from .generic import Generic


class AgentCore(Generic):
    """One answer of an agent, in frames of any shape. The protocol names no model."""

    __slots__ = ()

    name = "agentcore.runtime"
    paths = ("/runtimes/{...}/invocations",)
    stream_flag = StreamFlag.IGNORED
    operation = "invoke_agent"
    provider = PROVIDER
    carries_others = True
    preface = (NO_TERMINATOR,)

    @classmethod
    def is_confirmed(cls, request: RequestInfo) -> bool:  # noqa: ARG003
        """An agent may answer in one piece."""
        return False

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:  # noqa: ARG003
        """Only the path tells these frames."""
        return False

    def understands(self, frame: Frame) -> bool:
        """Anything but the answers of an MCP server."""
        return Generic.matches_frame(frame)


class Harness(BedrockConverse):
    """One answer of a harness."""

    __slots__ = ("_ended",)

    name = "agentcore.harness"
    paths = ("/harnesses/invoke",)
    non_streaming_paths = {}
    operation = "invoke_agent"
    first_events = ()
    finish_words = {
        **FINISH_WORDS,
        "max_output_tokens_exceeded": semconv.LENGTH,
        "max_iterations_exceeded": semconv.LENGTH,
    }

    def __init__(self) -> None:
        super().__init__()
        self._ended = False  # whether a message has ended, so that another one may begin

    @classmethod
    def model_of(cls, request: RequestInfo) -> str | None:
        """The model that takes the place of the harness's own."""
        model = entry(entry(request.parsed_as(cls.body).model, "bedrockModelConfig"), "modelId")
        return model if isinstance(model, str) else None

    def _message_start(self, _payload: ConversePayload) -> Events:
        again, self._ended = self._ended, False
        return (NEXT_RUN,) if again else NOTHING

    def _message_stop(self, payload: ConversePayload) -> Events:
        self._ended = True
        return super()._message_stop(payload)

    handlers: ClassVar[dict[str, Handler]] = {
        **BedrockConverse.handlers,
        "messageStart": _message_start,
        "messageStop": _message_stop,
    }
