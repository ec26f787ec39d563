"""Finds another instrumentation's GenAI span of the same call, and which metrics that instrumentation emits.

There are two signs. OpenTelemetry's own instrumentations put a key into the context (`opentelemetry-util-genai`). An
inner layer that finds the key makes no span and no metric of its own, and may write into the value. All other
instrumentations are known by the span that is current while they send: by the attribute of the conventions, or by that
of OpenInference.
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
"""`CLIENT_INFERENCE_CONTEXT_KEY` of opentelemetry-util-genai. The package need not be installed here."""

OPENINFERENCE_KIND: Final = "openinference.span.kind"

INFERENCES: Final = frozenset({"chat", "text_completion", "generate_content"})
"""Values of `gen_ai.operation.name` that mean one call of a model. The span of an agent or a tool is around calls, and
is not the span of one."""

_ALL: Final = frozenset(metric.name for metric in semconv.STANDARD)

MEASURED: Final[Mapping[str, frozenset[str]]] = {
    "opentelemetry.instrumentation.openai_v2": frozenset({semconv.DURATION.name, semconv.TOKEN_USAGE.name}),
    "opentelemetry.instrumentation.openai": frozenset({semconv.DURATION.name, semconv.TOKEN_USAGE.name}),
    "opentelemetry.instrumentation.anthropic": frozenset({semconv.DURATION.name, semconv.TOKEN_USAGE.name}),
}
"""Standard metrics that an instrumentation emits itself, by its scope: OpenLLMetry's and the older official one. The
anthropic SDK's own spans, OpenInference and logfire have no such metrics."""
NEVER_ENDING: Final = ("openlit", "opentelemetry.instrumentation.openai_v2", "opentelemetry.instrumentation.botocore")
"""Beginnings of scopes whose spans do not end if a stream breaks, is closed or is dropped. Such spans are never
exported. Seen with openlit 1.45 (resets, time-outs, errors in the stream), openai-v2 2.4b0 (dropped, cancelled) and
botocore 0.66b2 (cut short). Our facts would be lost on such a span, so that ours is a plain span below it."""


@dataclass(frozen=True, slots=True)
class InferenceSpan:
    """Another instrumentation's span of this call.

    Attributes:
        span: the span; None if its owner does not make it the current one, or may never end it.
        is_genai: whether it follows the GenAI conventions, so that their attributes belong on it.
        measures: names of the standard metrics that its owner emits.
        labels: attributes that its owner adds to those metrics at the end. We may write into them. None if there are
            none.
    """

    span: Span | None
    is_genai: bool
    measures: frozenset[str]
    labels: dict[str, Any] | None = None


def find_inference_span(where: Context | None = None) -> InferenceSpan | None:
    """Another instrumentation's span of the call, if there is one.

    Args:
        where: the context to look in; the current one unless given.
    """
    contract = otel.get_value(CONTEXT_KEY, where)
    span = trace.get_current_span(where)
    is_recording = span.is_recording()
    if contract is None and not is_recording:
        return None
    scope = _scope(span)
    marks = _marks(span) if is_recording and scope != semconv.SCOPE else {}  # ours belongs to a call around this one
    is_genai = marks.get(semconv.OPERATION) in INFERENCES
    visible = span if is_genai or marks.get(OPENINFERENCE_KIND) == "LLM" else None
    if visible is not None and scope.startswith(NEVER_ENDING):
        return InferenceSpan(None, is_genai, _measured(scope))
    if contract is not None:
        return InferenceSpan(visible, is_genai=True, measures=_ALL, labels=getattr(contract, "metric_attributes", None))
    return InferenceSpan(visible, is_genai, _measured(scope)) if visible is not None else None


def _marks(span: Span) -> Mapping[str, Any]:
    """A span's attributes; none if they cannot be read."""
    return getattr(span, "attributes", None) or {}


def _scope(span: Span) -> str:
    return getattr(getattr(span, "instrumentation_scope", None), "name", None) or ""


def _measured(scope: str) -> frozenset[str]:
    """By the scope's name, or by that of the package that it is a module of (`….openai.v1`)."""
    return MEASURED.get(scope) or MEASURED.get(scope.rpartition(".")[0], frozenset())
