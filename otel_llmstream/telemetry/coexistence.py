"""Finds another instrumentation's GenAI span of the same call, and which metrics that instrumentation emits.

There are three kinds.

- OpenTelemetry's own instrumentations leave a key in the context (`opentelemetry-util-genai`). An inner layer that
  finds the key makes no span and no metric of its own. It may write into the key's value.
- Other instrumentations are known by the span that is current while they send. It has the attribute of the GenAI
  conventions, or that of OpenInference.
- Some make spans that are never current. Of these we only know whether they are on, see `detached`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
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
DURATION_AND_TOKENS: Final = frozenset({semconv.DURATION.name, semconv.TOKEN_USAGE.name})
NONE: Final[frozenset[str]] = frozenset()

MEASURED: Final[Mapping[str, frozenset[str]]] = {
    "opentelemetry.instrumentation.openai_v2": DURATION_AND_TOKENS,
    "opentelemetry.instrumentation.openai": DURATION_AND_TOKENS,
    "opentelemetry.instrumentation.anthropic": DURATION_AND_TOKENS,
    "pydantic-ai": frozenset({semconv.TOKEN_USAGE.name, semconv.TTFC.name}),
    "agent_framework": DURATION_AND_TOKENS,
    "gcp.vertex.agent": DURATION_AND_TOKENS,
}
"""Standard metrics that an instrumentation emits itself, by its scope: OpenLLMetry's, the older official one, and those
of pydantic-ai, Microsoft's agent-framework and google-adk. The anthropic SDK's own spans, OpenInference and logfire
come without any."""

SINCE: Final[Mapping[tuple[str, str], tuple[int, int]]] = {("pydantic-ai", semconv.TTFC.name): (2, 6)}
"""The first version that emits a metric, by scope and metric, if earlier versions make the spans without it."""

NEVER_ENDING: Final = ("openlit", "opentelemetry.instrumentation.openai_v2", "opentelemetry.instrumentation.botocore")
"""Beginnings of scopes whose spans do not end if a stream breaks, is closed or is dropped. Such spans are never
exported. Seen with openlit 1.45 (resets, time-outs, errors in the stream), openai-v2 2.4b0 (dropped, cancelled) and
botocore 0.66b2 (cut short). Our facts would be lost on such a span, so that ours is a plain span below it."""


@dataclass(frozen=True, slots=True)
class InferenceSpan:
    """Another instrumentation's span of this call.

    Attributes:
        span: the span. None if its owner keeps it out of sight, or may never end it.
        is_genai: whether it follows the GenAI conventions, so that their attributes belong on it.
        measures: names of the standard metrics that its owner emits.
        labels: attributes that its owner adds to those metrics at the end. We may write into them, if there are any.
        is_detached: whether it is never the current span. Its owner measures completed calls only.
    """

    span: Span | None
    is_genai: bool
    measures: frozenset[str]
    labels: dict[str, Any] | None = None
    is_detached: bool = False


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
        return InferenceSpan(None, is_genai, _measured(span))
    if contract is not None:
        return InferenceSpan(visible, is_genai=True, measures=_ALL, labels=getattr(contract, "metric_attributes", None))
    return InferenceSpan(visible, is_genai, _measured(span)) if visible is not None else None


def _marks(span: Span) -> Mapping[str, Any]:
    """A span's attributes; none if they cannot be read."""
    return getattr(span, "attributes", None) or {}


def _scope(span: Span) -> str:
    return getattr(getattr(span, "instrumentation_scope", None), "name", None) or ""


def _measured(span: Span) -> frozenset[str]:
    scope = getattr(span, "instrumentation_scope", None)
    return _measured_by(getattr(scope, "name", None) or "", getattr(scope, "version", None) or "")


@lru_cache(maxsize=64)  # a process has few other instrumentations
def _measured_by(scope: str, version: str) -> frozenset[str]:
    """By the scope's name, or by that of the package that it is a module of (`….openai.v1`)."""
    package = scope if scope in MEASURED else scope.rpartition(".")[0]
    return frozenset(it for it in MEASURED.get(package, NONE) if _is_from(version, SINCE.get((package, it), (0, 0))))


def _is_from(version: str, first: tuple[int, int]) -> bool:
    """Whether a version is this one or a later one. A version without numbers is taken for the newest."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is None or (int(found[1]), int(found[2])) >= first
