"""The request body as far as telemetry may know it: parameters, never content.

`RequestBody` has the fields that most dialects share. `BodyLayout` says what one dialect calls them and where it keeps
them, and turns them into the common names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from .. import semconv
from ._json import entry

MAX_INTEGER: Final = 2**63 - 1
"""The largest integer that an exporter can send. One larger integer would cost the whole batch that it is in."""

MAX_CHOICES: Final = 128
"""Choices of one stream, as in OpenAI's limit on `n`. State is kept for each choice, also for one that never comes."""


class RequestBody(msgspec.Struct):
    """The fields of a request body that most dialects share."""

    model: Any = None
    stream: Any = None
    n: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    seed: Any = None
    stop: Any = None
    stop_sequences: Any = None
    reasoning_effort: Any = None
    reasoning: Any = None
    response_format: Any = None
    previous_response_id: Any = None

    @property
    def model_name(self) -> str | None:
        """The model that was asked for, or None."""
        return self.model if isinstance(self.model, str) and self.model else None

    @property
    def choices(self) -> int:
        """How many choices were asked for, 1 to `MAX_CHOICES`."""
        return min(self.n, MAX_CHOICES) if isinstance(self.n, int) and self.n > 1 else 1

    def attributes(self) -> tuple[tuple[str, Any], ...]:
        """The parameters as (attribute name, value). A value of a wrong type is left out."""
        tokens = first_given(self.max_completion_tokens, self.max_output_tokens, self.max_tokens)
        effort = first_given(self.reasoning_effort, entry(self.reasoning, "effort"))
        output_type = _OUTPUT_TYPES.get(str(entry(self.response_format, "type")))
        wanted = (
            (semconv.REQUEST_CHOICES, self.choices if self.choices > 1 else None, int),
            (semconv.REQUEST_MAX_TOKENS, tokens, int),
            (semconv.REQUEST_TEMPERATURE, self.temperature, float),
            (semconv.REQUEST_TOP_P, self.top_p, float),
            (semconv.REQUEST_TOP_K, self.top_k, int),
            (semconv.REQUEST_FREQUENCY_PENALTY, self.frequency_penalty, float),
            (semconv.REQUEST_PRESENCE_PENALTY, self.presence_penalty, float),
            (semconv.REQUEST_SEED, self.seed, int),
            (semconv.REQUEST_STOP_SEQUENCES, _strings(first_given(self.stop, self.stop_sequences)), tuple),
            (semconv.REQUEST_REASONING_LEVEL, effort, str),
            (semconv.REQUEST_PREVIOUS_RESPONSE, self.previous_response_id, str),
            (semconv.OUTPUT_TYPE, output_type, str),
        )
        given = [(name, _as(kind, raw)) for name, raw, kind in wanted if raw is not None]
        return tuple([(name, value) for name, value in given if value is not None])


class BodyLayout:
    """Where the request bodies of one dialect keep their parameters, and what the vendor calls them.

    Args:
        names: vendor's name -> field of `RequestBody`. A common name that is present wins.
        within: the members that hold the parameters. The first one that has a parameter wins. `""` is the body itself.
        more: further members that the dialect reads itself, as attributes of the struct.
        content: members whose presence tells something. They hold content and are never decoded: the attribute is a
            `msgspec.Raw`, which is empty if the member is absent.
    """

    def __init__(
        self,
        names: Mapping[str, str] | None = None,
        within: tuple[str, ...] = ("",),
        more: Iterable[str] = (),
        content: Iterable[str] = (),
    ) -> None:
        self._names = dict(names or {})
        self._within = within
        added = dict.fromkeys([*self._names, *(name for name in within if name), *more])
        fields = [(name, Any, None) for name in added if name not in RequestBody.__struct_fields__]
        self._inner_type = msgspec.defstruct("InnerBody", fields, bases=(RequestBody,))
        raw = [(name, msgspec.Raw, msgspec.Raw()) for name in content]
        self._type = msgspec.defstruct("LaidOutBody", raw, bases=(self._inner_type,))
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(self._type).decode

    def decode(self, content: bytes) -> Any:
        """Decode a body.

        Returns:
            A `RequestBody` that also has the vendor's members.

        Raises:
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: see `_json.BROKEN`.
        """
        return self._with_common_names(self._decode(content))

    def build(self, **fields: Any) -> Any:
        """A body that has only these fields."""
        return self._type(**fields)

    def parameters(self, body: Any) -> Any:
        """The parameters of a decoded body, all under the common names."""
        if self._within == ("",):
            return body
        found = self._inner_type()
        for place in self._within:
            inner = getattr(body, place) if place else body
            if isinstance(inner, dict):
                inner = self._with_common_names(msgspec.convert(inner, self._inner_type))
            if isinstance(inner, RequestBody):
                _fill(found, inner, RequestBody.__struct_fields__)
        return found

    def _with_common_names(self, body: Any) -> Any:
        for vendor, common in self._names.items():
            if getattr(body, common) is None:
                setattr(body, common, getattr(body, vendor))
        return body


COMMON: Final = BodyLayout()
"""The layout of a body that has the common fields, under their common names."""


def first_given(*values: Any) -> Any:
    """The first value that is not None."""
    for value in values:
        if value is not None:
            return value
    return None


def _fill(target: Any, source: Any, names: Iterable[str]) -> None:
    for name in names:
        if getattr(target, name) is None:
            setattr(target, name, getattr(source, name))


_OUTPUT_TYPES: Final = {"text": "text", "json_object": "json", "json_schema": "json"}


def _strings(value: Any) -> tuple[str, ...] | None:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        return None
    return tuple(values) or None


def _as(kind: type, value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER):
        return None
    if kind is float:
        return float(value) if isinstance(value, (int, float)) else None
    return value if isinstance(value, kind) else None
