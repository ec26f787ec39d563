"""What the two streaming endpoints of Amazon Bedrock share: the path names the model, an exception ends the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, Event, InBandError, Undecodable, Usage
from ..core.summary import LLMRequest
from ..wire import CORRUPT, ERROR, EXCEPTION, LOST, Frame
from ._json import BROKEN, count, entry, text
from ._providers import provider_of
from ._request import Body, RequestInfo, parameters_of

_MODEL: Final = "/model/"


def asks(target: RequestInfo, action: str) -> bool:
    """Whether it is a POST to `/model/{model}{action}`; there is no flag in the body."""
    return target.method == "POST" and target.path.endswith(action) and _MODEL in target.path


def describe_bedrock(name: str, operation: str, action: str, target: RequestInfo) -> LLMRequest:
    """A request to Bedrock.

    Args:
        name: the dialect's.
        operation: `gen_ai.operation.name`.
        action: the last part of the path.
        target: the request.
    """
    # The name of a model, or the whole ARN of an inference profile, whose slashes and colons are escaped.
    model = unquote(target.path.partition(_MODEL)[2].removesuffix(action)) or None
    provider = provider_of(target.host, "aws.bedrock")
    return LLMRequest(name, operation, provider, model, target.host, target.port, 1, _parameters(target))


class _Asked(msgspec.Struct):
    """Where the parameters are, under the models' different names. Claude's are at the top."""

    inferenceConfig: Any = None  # noqa: N815 - Converse, and Nova
    textGenerationConfig: Any = None  # noqa: N815 - Titan
    max_tokens: Any = None
    max_gen_len: Any = None  # Llama
    temperature: Any = None
    top_p: Any = None
    p: Any = None  # Cohere, as the next
    k: Any = None
    top_k: Any = None
    stop: Any = None
    stop_sequences: Any = None


_decode_asked: Final = msgspec.json.Decoder(_Asked).decode

_COMMON: Final[Mapping[str, tuple[str, ...]]] = {
    "max_tokens": ("max_tokens", "maxTokens", "max_new_tokens", "maxTokenCount", "max_gen_len"),
    "temperature": ("temperature",),
    "top_p": ("top_p", "topP", "p"),
    "top_k": ("top_k", "topK", "k"),
    "stop": ("stop", "stop_sequences", "stopSequences"),
}
"""What everybody calls it -> what it may be called here."""


def _parameters(target: RequestInfo) -> tuple[tuple[str, Any], ...]:
    asked = target.read(_decode_asked)
    if asked is None:
        return ()
    given = msgspec.structs.asdict(asked)
    for nested in (asked.inferenceConfig, asked.textGenerationConfig):
        given |= nested if isinstance(nested, dict) else {}
    found = {
        common: next((given[name] for name in names if given.get(name) is not None), None)
        for common, names in _COMMON.items()
    }
    return parameters_of(Body(**found))


# --- what any frame may say -----------------------------------------------------------------------------------------


def trouble(frame: Frame) -> tuple[Event, ...]:
    """What a frame says that is no event of the service's; nothing where it is one."""
    event = frame.event
    if not event.startswith(b":"):
        return NOTHING
    if event == CORRUPT:
        return (MALFORMED,)
    if event == LOST:
        return (Undecodable("a message's length or its checksum is wrong", semconv.INVALID_FRAMING),)
    kind = event.removeprefix(EXCEPTION).removeprefix(ERROR).decode(errors="replace")
    return (InBandError(kind, _message(frame)),)


def _message(frame: Frame) -> str:
    """An exception's message stands in its payload; an error's payload is its message."""
    if frame.event.startswith(ERROR):
        return frame.data.decode(errors="replace")
    try:
        payload = msgspec.json.decode(frame.data)
    except BROKEN:
        return ""
    return text(entry(payload, "message")) or text(entry(payload, "Message"))


def usage(counts: Any, names: tuple[str, str, str, str]) -> Usage:
    """Token counts. What was read from a cache or written to it comes apart from the input and belongs to it.

    Args:
        counts: a JSON object, if it is one.
        names: of the members for input, output, cache read, cache write.
    """
    said, output, read, written = (count(entry(counts, name)) for name in names)
    parts = [part for part in (said, read, written) if part is not None]
    return Usage(sum(parts) if parts else None, output, read, written)
