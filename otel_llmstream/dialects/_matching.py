"""The request's side of every dialect: which requests it answers, and what telemetry may know of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, unquote

import msgspec

from .. import semconv
from ..core.summary import LLMRequest
from ..wire import Frame, Framer
from ._lanes import Lanes
from ._providers import provider_of
from ._request import RequestInfo
from ._request_body import COMMON, BodyLayout

_PLACEHOLDER: Final = re.compile(r"\\\{(model)?(\\\.\\\.\\\.)?\\\}")


class StreamFlag(Enum):
    """What the member `stream` of a request body means."""

    REQUIRED = auto()
    """The answer streams if the body says `"stream": true`."""
    DEFAULT = auto()
    """The answer streams unless the body says otherwise."""
    IGNORED = auto()
    """The path says that the answer streams."""


class RequestMatcher:
    """Matches and describes requests by what a dialect states as class attributes.

    Attributes:
        name: as in `llmstream.dialect`.
        transports: the transports (`RequestInfo.transport`) that carry the dialect.
        paths: the ends of the paths that the dialect serves. `{}` stands for one segment of any name, `{model}` for the
            segment that names the model. `{...}` and `{model...}` are the same for one or more segments.
        resume_paths: the ends of the paths where a GET with `stream=true` in its query resumes a stream.
        non_streaming_paths: end of a path that answers in one piece -> the end of its streaming counterpart. Only
            needed if the two differ.
        own_path: whether the path shows that the answer is an LLM's. It does not if any application may have such a
            path: then the host or the body must show it, or the answer itself.
        own_fields: members of the body that show it, if the body also says `"stream": true`. A model always does.
        only_at: the one provider (`gen_ai.provider.name`) whose hosts the dialect is asked at. Empty means any host.
        stream_flag: what the member `stream` of the body means.
        operation: `gen_ai.operation.name`.
        provider: `gen_ai.provider.name` if the host does not tell it: who made the dialect.
        body: where the request body keeps the parameters.
        several_choices: whether one request may ask for several choices.
        framers: media type -> framer, for a framing that is a stream in this dialect alone.
        counts_in_every_frame: whether every frame has the tokens so far. Of a run of output, the last frame is then
            read for its counts.
        carries_others: whether its frames may be those of another dialect. The others are asked first about the first
            frame. A frame that none of them knows is its own.
        must_be_asked: whether the first frame tells the dialect only if the request asked for a stream. An application
            may write such lines in a form of its own.
        lanes: which response a message of a WebSocket belongs to; None if no WebSocket carries the dialect.
        response_header: the response header, in lower case, that only streams of this dialect have. Empty if none has.
        first_events: how the names of events begin that only this dialect has.
        first_payload: patterns that the first payload of a stream has, one after the other.
    """

    __slots__ = ()

    name: ClassVar[str]
    transports: ClassVar[tuple[str, ...]] = (semconv.HTTP,)
    paths: ClassVar[tuple[str, ...]] = ()
    resume_paths: ClassVar[tuple[str, ...]] = ()
    non_streaming_paths: ClassVar[Mapping[str, str]] = {}
    own_path: ClassVar[bool] = True
    own_fields: ClassVar[tuple[str, ...]] = ()
    only_at: ClassVar[str] = ""
    stream_flag: ClassVar[StreamFlag] = StreamFlag.REQUIRED
    operation: ClassVar[str] = "chat"
    provider: ClassVar[str] = "unknown"
    body: ClassVar[BodyLayout] = COMMON
    several_choices: ClassVar[bool] = False
    framers: ClassVar[Mapping[str, Callable[[], Framer]]] = {}
    counts_in_every_frame: ClassVar[bool] = False
    carries_others: ClassVar[bool] = False
    must_be_asked: ClassVar[bool] = False
    lanes: ClassVar[type[Lanes] | None] = None
    response_header: ClassVar[str] = ""
    first_events: ClassVar[tuple[bytes, ...]] = ()
    first_payload: ClassVar[tuple[re.Pattern[bytes], ...]] = ()

    _served: ClassVar[re.Pattern[str]]
    _resumed: ClassVar[re.Pattern[str]]

    def __init_subclass__(cls) -> None:
        """Compile the paths."""
        super().__init_subclass__()
        cls._served = _compile(cls.paths)
        cls._resumed = _compile(cls.resume_paths)

    # --- which requests -----------------------------------------------------------------------------------------

    @classmethod
    def matches_request(cls, request: RequestInfo) -> LLMRequest | None:
        """The request as this dialect reads it. None if no stream of this dialect will answer it."""
        return cls.parse_request(request) if cls.answers(request) else None

    @classmethod
    def is_confirmed(cls, request: RequestInfo) -> bool:
        """Whether a request that this dialect answers shows by itself that the answer is an LLM's."""
        if cls.own_path or request.transport != semconv.HTTP or provider_of(request.host, ""):
            return True
        body = request.parsed_as(cls.body)
        if body.stream is not True:
            return False
        return cls.model_of(request) is not None or any(_is_given(getattr(body, name)) for name in cls.own_fields)

    @classmethod
    def answers(cls, request: RequestInfo) -> bool:
        """Whether a stream of this dialect will answer the request. The body is looked at last.

        A transport other than HTTP has no method, and its answers always come in pieces.
        """
        if request.transport not in cls.transports:
            return False
        if request.transport != semconv.HTTP:
            return cls.serves_path(request.path)
        if cls.only_at and provider_of(request.host, "") != cls.only_at:
            return False
        if request.method == "GET":
            resumed = cls._resumed.search(request.path) is not None
            return resumed and parse_qs(request.query).get("stream") == ["true"]
        served = request.method == "POST" and cls._served.search(request.path) is not None
        return served and cls.streams(request)

    @classmethod
    def serves_path(cls, path: str) -> bool:
        """Whether the dialect serves this path."""
        return cls._served.search(path) is not None

    @classmethod
    def asked_for_by(cls, request: RequestInfo) -> bool:  # noqa: ARG003 - for protocols without a path of their own
        """Whether the request's body alone shows that an event stream that answers it is of this dialect."""
        return False

    @classmethod
    def has_members(cls, request: RequestInfo, *names: str) -> bool:
        """Whether the body has all these members. The layout names them."""
        body = request.parsed_as(cls.body)
        return all(_is_given(getattr(body, name)) for name in names)

    @classmethod
    def streams(cls, request: RequestInfo) -> bool:
        """Whether the request asks for a stream."""
        if cls.stream_flag is StreamFlag.IGNORED:
            return True
        flag = request.parsed_as(cls.body).stream
        return flag is True or (flag is None and cls.stream_flag is StreamFlag.DEFAULT)

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """Whether a stream that answers an unknown request begins with this frame if it is of this dialect."""
        return frame.event.startswith(cls.first_events) or _contains_in_order(frame.data, cls.first_payload)

    # --- what of them -------------------------------------------------------------------------------------------

    @classmethod
    def parse_request(cls, request: RequestInfo) -> LLMRequest:
        """The request as this dialect reads it, whatever its path is."""
        parameters = cls.parameters(request)
        return LLMRequest(
            dialect=cls.name,
            operation=cls.operation_of(request),
            provider=cls.provider_of(request),
            model=cls.model_of(request),
            server_address=request.host,
            server_port=request.port,
            choices=parameters.choices if cls.several_choices else 1,
            parameters=(*parameters.attributes(), *cls.extra_attributes(request)),
            transport=request.transport,
        )

    @classmethod
    def parameters(cls, request: RequestInfo) -> Any:
        """The parameters, as a `RequestBody`."""
        return cls.body.parameters(request.parsed_as(cls.body))

    @classmethod
    def operation_of(cls, request: RequestInfo) -> str:  # noqa: ARG003 - for dialects that have several
        """`gen_ai.operation.name`."""
        return cls.operation

    @classmethod
    def provider_of(cls, request: RequestInfo) -> str:
        """`gen_ai.provider.name`."""
        return provider_of(request.host, cls.provider)

    @classmethod
    def model_of(cls, request: RequestInfo) -> str | None:
        """The model that is asked for: the path names it, or the body does."""
        found: str | None = request.parsed_as(cls.body).model_name
        return cls.model_in_path(request.path) or found

    @classmethod
    def model_in_path(cls, path: str) -> str | None:
        """The model that a path names, or None."""
        found = cls._served.search(path)
        # Its slashes and colons may be escaped.
        return next((unquote(model) for model in found.groups() if model), None) if found else None

    @classmethod
    def extra_attributes(cls, request: RequestInfo) -> tuple[tuple[str, Any], ...]:  # noqa: ARG003 - for OpenAI
        """Further span attributes, as (name, value)."""
        return ()


def _is_given(value: Any) -> bool:
    return memoryview(value).nbytes > 0 if isinstance(value, msgspec.Raw) else value is not None


def _compile(paths: tuple[str, ...]) -> re.Pattern[str]:
    if not paths:
        return re.compile(r"(?!)")
    return re.compile("(?:" + "|".join(_PLACEHOLDER.sub(_group, re.escape(path)) for path in paths) + r")\Z")


def _group(placeholder: re.Match[str]) -> str:
    segments = ".+" if placeholder[2] else "[^/]+"
    return f"({segments})" if placeholder[1] else segments


def _contains_in_order(data: bytes, patterns: tuple[re.Pattern[bytes], ...]) -> bool:
    end = 0
    for pattern in patterns:
        found = pattern.search(data, end)
        if found is None:
            return False
        end = found.end()
    return bool(patterns)
