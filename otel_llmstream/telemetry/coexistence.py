"""Other instrumentations' GenAI spans: whether one stands for this call already, and what its owner measures.

Two marks tell. OpenTelemetry's own instrumentations leave a key in the context (`opentelemetry-util-genai`: whoever
finds it makes no span and no metric of its own, and may write into what it finds there). All others are known by the
span that is current while they send: by the conventions' attribute, or by OpenInference's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

from .. import semconv

CONTEXT_KEY: Final = "opentelemetry.genai.client.inference.context"
"""`CLIENT_INFERENCE_CONTEXT_KEY` of opentelemetry-util-genai, which need not be installed here."""

OPENINFERENCE_KIND: Final = "openinference.span.kind"

INFERENCES: Final = frozenset({"chat", "text_completion", "generate_content"})
"""Values of `gen_ai.operation.name` that mean one call of a model. An agent's or a tool's span is around calls, and
does not stand for one."""

_ALL: Final = frozenset(metric.name for metric in semconv.STANDARD)

MEASURED: Final[Mapping[str, frozenset[str]]] = {
    "opentelemetry.instrumentation.openai_v2": frozenset({semconv.DURATION.name, semconv.TOKEN_USAGE.name}),
    "opentelemetry.instrumentation.openai": frozenset({semconv.DURATION.name, semconv.TOKEN_USAGE.name}),
    "opentelemetry.instrumentation.anthropic": frozenset({semconv.DURATION.name, semconv.TOKEN_USAGE.name}),
}
"""Standard metrics that an instrumentation emits itself, by its scope: OpenLLMetry's and the older official one.
The anthropic SDK's own spans, OpenInference and logfire come without any."""


NEVER_ENDING: Final = ("openlit", "opentelemetry.instrumentation.openai_v2", "opentelemetry.instrumentation.botocore")
"""Beginnings of scopes whose spans do not end where a stream breaks, is closed or dropped, and so are never exported:
seen with openlit 1.45 (resets, time-outs, errors in the stream), openai-v2 2.4b0 (dropped, cancelled) and botocore
0.66b2 (cut short). What is written on such a span may be lost; ours is a plain one below it."""


@dataclass(frozen=True, slots=True)
class InferenceSpan:
    """Another instrumentation's span of this call.

    Attributes:
        span: the span; None where its owner keeps it out of sight, or may never end it.
        is_genai: whether it follows the GenAI conventions, so that their attributes belong on it.
        measures: names of the standard metrics that its owner emits.
        labels: attributes that its owner adds to those metrics at the end; ours to write into, where there are any.
    """

    span: Span | None
    is_genai: bool
    measures: frozenset[str]
    labels: dict[str, Any] | None = None


def find_inference_span(where: Context | None = None) -> InferenceSpan | None:
    """The span that stands for the call, if there is one.

    Args:
        where: the context to look in; the current one unless given.
    """
    contract = otel.get_value(CONTEXT_KEY, where)
    span = trace.get_current_span(where)
    scope = _scope(span)
    marks = _marks(span) if span.is_recording() and scope != semconv.SCOPE else {}  # ours is of a call around this one
    is_genai = marks.get(semconv.OPERATION) in INFERENCES
    visible = span if is_genai or marks.get(OPENINFERENCE_KIND) == "LLM" else None
    if visible is not None and scope.startswith(NEVER_ENDING):
        return InferenceSpan(None, is_genai, _measured(scope))
    if contract is not None:
        return InferenceSpan(visible, is_genai=True, measures=_ALL, labels=getattr(contract, "metric_attributes", None))
    return InferenceSpan(visible, is_genai, _measured(scope)) if visible is not None else None


def _marks(span: Span) -> Mapping[str, Any]:
    """A span's attributes; none where they cannot be read."""
    return getattr(span, "attributes", None) or {}


def _scope(span: Span) -> str:
    return getattr(getattr(span, "instrumentation_scope", None), "name", None) or ""


def _measured(scope: str) -> frozenset[str]:
    """By the scope's name, or the package's that it is a module of (`….openai.v1`)."""
    return MEASURED.get(scope) or MEASURED.get(scope.rpartition(".")[0], frozenset())
