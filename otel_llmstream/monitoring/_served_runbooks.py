"""The runbooks of the streams that a service serves to its own clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .. import semconv
from ..semconv import Metric
from ._expressions import Expressions, share
from ._names import Matcher
from ._runbook_page import Cause, Check, Page, WindowQuery
from ._selectors import DISCONNECTED, FAILED, JUDGED, OWN, TRUNCATED

_STREAMS: Final = semconv.SERVED_STREAMS


def _with(q: Expressions, *labels: str) -> tuple[str, ...]:
    return (*q.scope("route"), *labels)


def _top(metric: Metric, *matchers: Matcher, by: tuple[str, ...]) -> WindowQuery:
    return lambda q, window: f"sort_desc(\n  {q.increase(metric, *matchers, window=window, by=_with(q, *by))} > 0\n)"


def _share_of(*matchers: Matcher, of: tuple[Matcher, ...] = (), by: tuple[str, ...] = ()) -> WindowQuery:
    return lambda q, window: share(
        q.increase(_STREAMS, *matchers, window=window, by=_with(q, *by)),
        q.increase(_STREAMS, *of, window=window, by=_with(q, *by)),
    )


def _quantile(quantile: float, metric: Metric, *labels: str) -> WindowQuery:
    return lambda q, window: q.quantile(quantile, metric, window, by=_with(q, *labels))


def _upstream(*matchers: Matcher) -> WindowQuery:
    """The share of the job's calls that ended so. A call has no route, so all calls of the job are read."""
    return lambda q, window: share(
        q.increase(semconv.STREAMS, *matchers, window=window), q.increase(semconv.STREAMS, JUDGED, window=window)
    )


_CLEAN_UP: Final = Cause(
    "The application does not close the upstream's stream if its client leaves.",
    "Close it in `finally` or with `async with`, also if the generator is never resumed: `examples/fastapi_gateway.py` "
    "shows a response class that does.",
)

SERVED_PAGES: Final[Mapping[str, Page]] = {
    "LLMStreamServedFailureRate": Page(
        "Streams that this service sends to its own clients are truncated or fail, although the last call to a "
        "provider that was made for them did not fail. So the service itself breaks them. Failures that it only passes "
        "on are not counted here: the alerts on calls report them. Clients that leave are not counted either.",
        "Error messages, or answers that stop in the middle. The provider and the model are well.",
        (
            Check(
                "What fails?",
                "The name of a class is an exception that the application raised. `incomplete_body`: it never ended "
                "the body. `stream_truncated`: it ended the body without the end that clients expect.",
                _top(_STREAMS, FAILED, OWN, by=(semconv.ERROR_TYPE,)),
            ),
            Check(
                "Is it one model?",
                "One model of several: what the service does with the answers of this model.",
                _share_of(FAILED, OWN, of=(JUDGED,), by=(semconv.REQUEST_MODEL,)),
            ),
            Check(
                "Is the upstream really well?",
                "The share of the job's calls that fail, by provider and model. If it is as high, the service makes "
                "its calls where the middleware cannot join them (a queue, a thread without the context).",
                _upstream(FAILED),
            ),
        ),
        causes=(
            Cause(
                "A deployment happened just before the first failure.", "Roll it back first. Investigate afterwards."
            ),
            Cause(
                "The generator of the response raises after the headers are sent.",
                "The log line `llm_served.failed` has the class and the trace id. Catch the error there, and send the "
                "protocol's own error event.",
            ),
            Cause(
                "A time-out of the application or of a middleware ends the generator.",
                "Raise it above the longest stream, or let it count the silence between two chunks only.",
            ),
        ),
    ),
    "LLMStreamServedTruncated": Page(
        "This service ends response bodies cleanly, with status 200, but without the end of the protocol that it "
        "speaks: no finish reason, no terminator. It may pass on what a provider cut, or cut it itself.",
        "Answers that stop in the middle of a sentence and look complete. The client's SDK raises nothing.",
        (
            Check(
                "Did the upstream cut them?",
                "By the outcome of the upstream's call. `truncated`: the service passes on what it got. `completed`, "
                "or no outcome: the service cuts the answer itself.",
                _top(_STREAMS, TRUNCATED, by=(semconv.SERVED_UPSTREAM_OUTCOME,)),
            ),
            Check(
                "Which model?",
                "One model of several: the provider or the gateway behind it, or the service's code for this model.",
                _share_of(TRUNCATED, of=(JUDGED,), by=(semconv.REQUEST_MODEL,)),
            ),
            Check(
                "Are the provider's streams truncated?",
                "The share of the job's calls, by provider and model. If it is high, see LLMStreamTruncated.",
                _upstream(TRUNCATED),
            ),
        ),
        causes=(
            Cause(
                "The generator ends when the upstream's loop ends, and never asks whether the answer is complete.",
                "Look at the outcome of the call before the end is sent. If it is not `completed`, send the protocol's "
                "error event.",
            ),
            Cause(
                "The service catches an error of the upstream, and ends the body as if nothing had happened.",
                "Send the protocol's error event before the body ends. Status 200 is already sent.",
            ),
            Cause(
                "The service has a limit of its own: of time, of tokens, of size.",
                "Send a finish reason (`length`) with the last chunk.",
            ),
        ),
    ),
    "LLMStreamOrphanedUpstreams": Page(
        "Clients leave, and a second later this service still reads the upstream's stream for them.",
        "Nothing. But the provider bills for tokens that no client gets, and each orphan keeps a connection and a slot "
        "of the quota.",
        (
            Check(
                "Which model?",
                "Orphaned upstream streams by the model that the client asked for.",
                _top(semconv.SERVED_ORPHANS, by=(semconv.REQUEST_MODEL,)),
            ),
            Check(
                "How many clients leave?",
                "The share of served streams whose client left. If it rises too, ask why: see LLMStreamFirstTokenSlow.",
                _share_of(DISCONNECTED),
            ),
            Check(
                "Does the number of open calls grow?",
                "Open upstream streams of the whole job. A line that only rises: orphans are never closed.",
                lambda q, _: q.gauge(semconv.ACTIVE),
            ),
        ),
        causes=(
            _CLEAN_UP,
            Cause(
                "The answer is read in a task of its own, and put into a queue.",
                "Cancel the task when the response is over: in `finally`, or with a task group around both.",
            ),
            Cause(
                "It is on purpose: the answer is stored although its client has left.",
                "Leave the alert out with `--without`, or raise `--orphaned`.",
            ),
        ),
    ),
    "LLMStreamGatewayOverhead": Page(
        "For one stream in twenty, more time than the threshold passes between the upstream's first chunk and the "
        "first chunk that this service sends. The time in which the application let the upstream wait before that is "
        "included. The provider's own time is not.",
        "The answer begins late, although the provider is fast.",
        (
            Check(
                "Which model?",
                "One model: the work that is done for it, such as a guardrail or a conversion of the format.",
                _quantile(0.95, semconv.SERVED_OVERHEAD, semconv.REQUEST_MODEL),
            ),
            Check(
                "Are clients slow?",
                "The longest write of a stream. If it is long, clients or a proxy take the bytes slowly, and the "
                "service waits for them.",
                _quantile(0.95, semconv.SERVED_WRITE_STALL),
            ),
            Check(
                "How large a part of the wait is it?",
                "The time to the first chunk as clients see it. If it is far larger, the provider is slow too.",
                _quantile(0.95, semconv.SERVED_TTFC),
            ),
        ),
        causes=(
            Cause(
                "The service collects chunks before it sends the first one: a guardrail, a buffer, a middleware that "
                "compresses.",
                "Send chunks as they come, or check them in small windows.",
            ),
            Cause(
                "The event loop is blocked: a synchronous call in an async function, too many streams in one process.",
                "Measure the loop's lag; move the call to a thread; add workers.",
            ),
            Cause(
                "Work is done for each stream before the first chunk is sent, such as a query of a database.",
                "Do it before the call to the provider, or beside it.",
            ),
        ),
    ),
}
