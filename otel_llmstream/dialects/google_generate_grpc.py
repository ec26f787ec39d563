"""Google's generateContent over gRPC, which the SDK of Vertex AI speaks: `PredictionService/StreamGenerateContent`.

The messages have the members of the JSON payloads, and mean the same; see `google_generate`. Legal end: as there, then
the status OK.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from ..wire import ProtobufReader
from ._protobuf import Kind, Message, ProtobufDialect, content, decimal, integer, text
from ._providers import provider_of
from ._request import RequestInfo
from ._request_body import RequestBody
from .google_generate import OUTPUT_TYPES, GoogleGenerate, GooglePayload

_FINISH_REASONS: Final = {
    1: "STOP",
    2: "MAX_TOKENS",
    3: "SAFETY",
    4: "RECITATION",
    5: "OTHER",
    6: "BLOCKLIST",
    7: "PROHIBITED_CONTENT",
    8: "SPII",
    9: "MALFORMED_FUNCTION_CALL",
    10: "MODEL_ARMOR",
}
_BLOCK_REASONS: Final = {
    1: "SAFETY",
    2: "OTHER",
    3: "BLOCKLIST",
    4: "PROHIBITED_CONTENT",
    5: "MODEL_ARMOR",
    6: "JAILBREAK",
}
_LEVELS: Final = {1: "low", 2: "medium", 3: "high", 4: "minimal"}


def _word(words: dict[int, str]) -> Kind:
    """The word that a number stands for. A number that is newer than the table is a word of its own."""

    def read(reader: ProtobufReader, value: int | bytes) -> str:
        number = integer(reader, value) or 0
        return words.get(number, f"REASON_{number}") if number else ""

    return read


_PART: Final = Message(
    {
        1: ("text", content),
        2: ("inlineData", content),
        3: ("fileData", content),
        5: ("functionCall", content),
        6: ("functionResponse", content),
        8: ("executableCode", content),
        9: ("codeExecutionResult", content),
        10: ("thought", integer),
        11: ("thoughtSignature", content),
        4: ("videoMetadata", content),
        12: ("mediaResolution", content),
    },
    unlisted="toolCall",  # as another kind of output than text
)
_CONTENT: Final = Message({2: ("parts", _PART)}, lists=("parts",))
_CANDIDATE: Final = Message(
    {1: ("index", integer), 2: ("content", _CONTENT), 3: ("finishReason", _word(_FINISH_REASONS))}
)
_FEEDBACK: Final = Message({1: ("blockReason", _word(_BLOCK_REASONS))})
_USAGE: Final = Message(
    {
        1: ("promptTokenCount", integer),
        2: ("candidatesTokenCount", integer),
        5: ("cachedContentTokenCount", integer),
        14: ("thoughtsTokenCount", integer),
    }
)
_THINKING: Final = Message({4: ("level", integer)})
_CONFIG: Final = Message(
    {
        1: ("temperature", decimal),
        2: ("top_p", decimal),
        3: ("top_k", decimal),
        4: ("n", integer),
        5: ("max_tokens", integer),
        6: ("stop", text),
        8: ("presence_penalty", decimal),
        9: ("frequency_penalty", decimal),
        12: ("seed", integer),
        13: ("response_format", text),
        25: ("reasoning", _THINKING),
    },
    lists=("stop",),
)


class GoogleGenerateGRPC(ProtobufDialect, GoogleGenerate):
    """One response in growing pieces. The fields have the numbers of `google.cloud.aiplatform`, v1 and v1beta1."""

    __slots__ = ()

    paths = tuple(
        f"/google.cloud.aiplatform.{version}.PredictionService/StreamGenerateContent" for version in ("v1", "v1beta1")
    )
    non_streaming_paths: ClassVar = {}
    provider = "gcp.vertex_ai"
    counts_in_every_frame = False  # each message is read for itself
    delta: ClassVar[tuple[str, ...]] = ()  # the table has the place of what is not listed
    asked = Message({4: ("config", _CONFIG), 5: ("model", text)})
    answered = Message(
        {
            2: ("candidates", _CANDIDATE),
            3: ("promptFeedback", _FEEDBACK),
            4: ("usageMetadata", _USAGE),
            11: ("modelVersion", text),
            13: ("responseId", text),
        },
        lists=("candidates",),
    )

    @classmethod
    def provider_of(cls, request: RequestInfo) -> str:
        """See `RequestMatcher`."""
        return provider_of(request.host, cls.provider)

    @classmethod
    def model_of(cls, request: RequestInfo) -> str | None:
        """The last word of the model's resource name, as in the paths over HTTP."""
        return (super().model_of(request) or "").rpartition("/")[2] or None

    @classmethod
    def parameters(cls, request: RequestInfo) -> Any:
        """Two of them have a shape of their own."""
        found = RequestBody(**(cls.request_fields(request).get("config") or {}))
        found.reasoning_effort = _LEVELS.get((found.reasoning or {}).get("level", 0))
        found.reasoning = None
        found.response_format = {"type": OUTPUT_TYPES.get(found.response_format)}
        return found

    def decode(self, data: bytes) -> Any:
        """The payload that the same answer has over HTTP."""
        return msgspec.convert(super().decode(data), GooglePayload)
