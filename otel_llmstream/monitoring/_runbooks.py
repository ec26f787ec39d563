"""The runbooks: one page for each alert, in Markdown.

This file has the texts. Queries, thresholds and the causes by `error.type` come from the catalogue and from the table
of alerts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from .. import semconv
from ..semconv import Metric
from ._alerts import ALERTS, Alert, Options
from ._annotations import format_limit
from ._expressions import HOUR, NOT_WAITING, PROVIDER_ERRORS, RATE_LIMITED, Expressions, share
from ._names import Matcher
from ._proxy_fixes import BUFFERING, STATUSES, TIMEOUTS, ProxyFix
from ._runbook_page import Cause, Check, Page, WindowQuery
from ._selectors import ABANDONED, FAILED, JOB, JUDGED, TRUNCATED
from ._served_runbooks import SERVED_PAGES
from ._slo import NOW

SECTIONS: Final = ("What it means", "What users notice", "First three checks", "Causes and remedies")
"""The sections of every page."""

_SINCE: Final = 12
"""The long window of a burn rate is twelve times its short one, so this part of it shows a step."""


# --- queries that several pages use ---


def _with(q: Expressions, *labels: str) -> tuple[str, ...]:
    """The labels of the alert and further ones."""
    return tuple(dict.fromkeys((*q.scope(), *labels)))


def _top(metric: Metric, *matchers: Matcher, by: tuple[str, ...]) -> WindowQuery:
    return lambda q, window: f"sort_desc(\n  {q.increase(metric, *matchers, window=window, by=_with(q, *by))} > 0\n)"


def _share_of(*matchers: Matcher, of: tuple[Matcher, ...] = (), by: tuple[str, ...] = ()) -> WindowQuery:
    return lambda q, window: share(
        q.increase(semconv.STREAMS, *matchers, window=window, by=_with(q, *by)),
        q.increase(semconv.STREAMS, *of, window=window, by=_with(q, *by)),
    )


def _per_stream(metric: Metric, *by: str) -> WindowQuery:
    return lambda q, window: share(
        q.increase(metric, window=window, by=_with(q, *by)),
        q.increase(semconv.STREAMS, window=window, by=_with(q, *by)),
    )


def _quantile(quantile: float, metric: Metric, *by: str) -> WindowQuery:
    return lambda q, window: q.quantile(quantile, metric, window, by=_with(q, *by))


def _open(q: Expressions, _window: float) -> str:
    return q.gauge(semconv.ACTIVE)


def _lost(q: Expressions, _window: float) -> str:
    by = q.scope("job")
    began, ended = (q.increase(it, window=HOUR, by=by) for it in (semconv.STARTED, semconv.STREAMS))
    before = q.sum(f"{q.select(semconv.ACTIVE)} offset {q.window(HOUR)}", by)
    return f"{began}\n-\n{ended}\n-\n(\n  {q.gauge(semconv.ACTIVE, by=by)}\n  -\n  ({before} or 0 * {began})\n)"


def _gone(q: Expressions, _window: float) -> str:
    by = q.labels(*q.scope("job"), "instance")
    sent = q.select(semconv.STREAMS)
    return f"count by ({by}) ({sent} offset {q.window(HOUR)})\nunless\ncount by ({by}) ({q.now(sent)})"


_WHAT_FAILS: Final = Check(
    "What fails?",
    "Find the `error.type` of the first result in the table below. Several error types for one server: the server or "
    "the network path to it. One error type for all servers: the application, or its configuration.",
    _top(semconv.STREAMS, FAILED, by=(semconv.ERROR_TYPE,)),
)
_WHERE_IT_FAILS: Final = Check(
    "Where does it fail?",
    "One server of several: a region or a gateway. All servers: look at what they share.",
    _share_of(FAILED, of=(JUDGED,), by=(semconv.SERVER_ADDRESS,)),
)
_SINCE_WHEN: Final = Check(
    "Since when, and is it getting worse?",
    "Draw a graph over the last day. A sudden step means a deployment or an incident. A slope means load.",
    lambda q, window: share(
        q.rate(semconv.STREAMS, FAILED, window=max(NOW, window / _SINCE)),
        q.rate(semconv.STREAMS, JUDGED, window=max(NOW, window / _SINCE)),
    ),
)
_ALL: Final = (*(error.name for error in semconv.ERROR_TYPES), *semconv.PREINITIALIZED_STATUSES)
_FAILURE: Final = Page(
    "Streams of this provider and model are truncated or fail more often than your threshold allows. A truncated "
    "stream (outcome `truncated`) raised no error in the application. A failed stream (`failed`) raised an error, or "
    "reported it in an event. Streams that the application cancelled or dropped are not counted.",
    "Error messages instead of answers. If streams are truncated: half an answer that looks complete.",
    (_WHAT_FAILS, _WHERE_IT_FAILS, _SINCE_WHEN),
    errors=_ALL,
    causes=(
        Cause(
            "A code that is not in the table comes from the provider, inside the stream (`overloaded_error`).",
            "See LLMStreamProviderErrors. The log line has the provider's message and `llmstream.request_id`.",
        ),
        Cause("A deployment happened just before the first failure.", "Roll it back first. Investigate afterwards."),
    ),
    proxy_fixes=TIMEOUTS,
)

# --- the pages ---

PAGES: Final[Mapping[str, Page]] = {
    "LLMStreamErrorBudgetBurn": _FAILURE,
    "LLMStreamProviderBudgetBurn": replace(
        _FAILURE,
        meaning="Streams at this provider are truncated or fail too often, spread over models with few streams each. "
        "Only models that have too few streams for an alert of their own are counted here: LLMStreamErrorBudgetBurn "
        "reports the others.",
    ),
    "LLMStreamFailureRate": _FAILURE,
    "LLMStreamTruncated": Page(
        "Response bodies end cleanly, with status 200, but the answer is not complete: no finish reason and no "
        "terminator came, or the last event is incomplete, or there was no event at all. No error is raised. The "
        "SDK's loop ends in the same way as after a success.",
        "Answers that stop in the middle of a sentence, or are empty. Tool calls whose arguments are not valid JSON. "
        "Half an answer may be stored or sent on as if it were complete.",
        (
            Check(
                "Which error type?",
                "`stream_truncated`: the body was closed between two events, most often by a gateway's time-out. "
                "`stream_incomplete_event`: the body was cut by a size limit or a crash. `stream_empty` and "
                "`not_a_stream`: the response does not come from the provider.",
                _top(semconv.STREAMS, TRUNCATED, by=(semconv.SERVER_ADDRESS, semconv.ERROR_TYPE)),
            ),
            Check(
                "After how many seconds?",
                "A median close to a round number (15, 30, 60, 100, 300) means a time-out on the way. Either a "
                "gateway ends the body cleanly after its time-out, or one of the proxies below has a server that "
                "sends neither a length nor chunks. (If the body is chunked, nginx and HAProxy close the connection "
                "before its end. That is `incomplete_body` or `http2_error`, and not this alert.) The buckets are "
                "coarse, so look for the bucket that contains the round number.",
                lambda q, window: q.quantile(
                    0.5, semconv.DURATION, window, Matcher(semconv.ERROR_TYPE, "=~", "stream_.*")
                ),
            ),
            Check(
                "Were the streams silent before?",
                "Long gaps in this model's streams mean that an idle time-out can end them. If gaps are short, look "
                "for a limit on size or duration, or for servers that are restarted.",
                _quantile(0.95, semconv.MAX_GAP),
            ),
        ),
        errors=tuple(error.name for error in semconv.ERROR_TYPES if error.outcome == "truncated"),
        causes=(
            Cause(
                "Servers behind a gateway are restarted or scaled down without draining.",
                "Let streams finish: set a termination grace period longer than the longest stream, and drain "
                "connections.",
            ),
            Cause(
                "The application does not check whether the answer is complete.",
                "Check the finish reason in your own code too. If it is missing, retry or mark the answer.",
            ),
        ),
        proxy_fixes=TIMEOUTS,
    ),
    "LLMStreamFirstTokenSlow": Page(
        "One stream in twenty takes longer than the threshold from the call's start to the first chunk with output. "
        "The time includes earlier failed attempts and their back-off, because the user waits for them too.",
        "Nothing happens after the question is sent. Users ask again, which adds load.",
        (
            Check(
                "Which server?",
                "One server of several: a region, or the network path to it.",
                _quantile(0.95, semconv.TTFC, semconv.SERVER_ADDRESS),
            ),
            Check(
                "Do retries cause it?",
                "From 0.1 retries per call on, the slow calls may be the retried ones: see LLMStreamRetryStorm.",
                _per_stream(semconv.RETRIES),
            ),
            Check(
                "Does a buffer cause it?",
                "If a large share of the streams came in one burst, the first token was sent in time, but a proxy or "
                "gateway on the way held it back: see LLMStreamBufferedDelivery.",
                _per_stream(semconv.BUFFERED_STREAMS),
            ),
        ),
        errors=("connect_timeout", "pool_timeout", "429", "503", "529"),
        causes=(
            Cause(
                "The provider is slow: all jobs and servers are affected, without retries and buffering.",
                "Compare with its status page; fall back to a smaller model or another region; buy capacity.",
            ),
            Cause("Prompts have grown.", "Check the input tokens; use the provider's prompt cache."),
            Cause(
                "A reasoning model thinks before it writes.",
                "Lower the reasoning effort, or write a separate rule for this job with `--job` and `--ttft-p95`.",
            ),
            Cause(
                "The client's connection pool is full, so calls wait for a connection.",
                "Close streams (see LLMStreamAbandoned); raise `max_connections`.",
            ),
        ),
        proxy_fixes=BUFFERING,
    ),
    "LLMStreamStalls": Page(
        "Streams pause for longer than `Settings.stall_after` (default 10 s) and then continue. Only silence of the "
        "network counts. Time in which the application did not read is hold time, not a stall.",
        "The answer freezes in the middle of a word and continues later. Some users give up and ask again.",
        (
            Check(
                "Which server?",
                "One server of several: a region, or the network path to it.",
                _per_stream(semconv.STALL_COUNT, semconv.SERVER_ADDRESS),
            ),
            Check(
                "How long are the pauses?",
                "If they are close to a time-out on the way (most often 60 s), streams will soon be truncated.",
                _quantile(0.95, semconv.MAX_GAP),
            ),
            Check(
                "Is the application slow as well?",
                "The total hold time of the application per stream. It is not part of stalls, but a user cannot see "
                "the difference.",
                _quantile(0.95, semconv.HOLD_TIME),
            ),
        ),
        errors=("read_timeout", "stream_truncated", "incomplete_body"),
        causes=(
            Cause(
                "The model calls tools on the provider's side, or reasons between two pieces of output.",
                "Nothing is wrong: raise `Settings.stall_after` or `--stalls` for this job.",
            ),
            Cause("The provider is overloaded.", "Compare with its status page; fall back to another model."),
            Cause(
                "Packets are lost: one availability zone, one node, a VPN.",
                "Compare nodes by the label `instance`; look at TCP retransmissions there.",
            ),
        ),
        proxy_fixes=TIMEOUTS,
    ),
    "LLMStreamsHanging": Page(
        "Most of the streams that wait for the network have received nothing for too long: `Settings.stall_after` "
        "(10 s) between two chunks, `Settings.first_chunk_stall_after` (60 s) before the headers and the first chunk. "
        "They have not ended, so no counter of ended streams and no span contains them yet. Streams that the "
        "application holds and calls in back-off do not count.",
        "Requests that never return. Hanging streams use up workers, threads and connections until the service stops "
        "working.",
        (
            Check(
                "How many, where, and in which phase?",
                "A few streams of one server: perhaps one lost connection. All streams: the provider or the network "
                "path to it. Only the phase `first_chunk` of a reasoning model: perhaps it only thinks, see below.",
                lambda q, _: q.gauge(semconv.STALLED, by=_with(q, semconv.SERVER_ADDRESS, semconv.PHASE)) + " > 0",
            ),
            Check(
                "Does anything arrive at all?",
                "The share of the streams that wait for the network and receive nothing. 1 means that no stream "
                "receives anything. (Counters do not show it, because chunks are counted when their stream ends.)",
                lambda q, _: q.hanging(),
            ),
            Check(
                "Does the number of open streams grow?",
                "A line that only rises means that streams never end, because no read time-out is set.",
                lambda q, _: q.gauge(semconv.ACTIVE, NOT_WAITING),
            ),
        ),
        errors=("read_timeout", "connection_reset", "pool_timeout"),
        causes=(
            Cause(
                "No read time-out, or a very long one (600 s is the default of the openai and anthropic SDKs).",
                "Set the client's `timeout` to the time that a user will wait between two tokens. It applies to each "
                "read.",
            ),
            Cause(
                "A reasoning model (o-series, extended thinking, DeepSeek R1) thinks for longer than the bound before "
                "its first chunk.",
                "Nothing is wrong: raise `Settings.first_chunk_stall_after` above its longest thinking time. Or ask "
                "the provider to stream the reasoning.",
            ),
            Cause(
                "A firewall or NAT has removed the connection from its table and drops its packets silently.",
                "Send TCP keep-alives from the client, or heartbeats in the stream, more often than its idle time-out "
                "(350 s at an AWS NAT gateway or NLB).",
            ),
            Cause(
                "The provider hangs.", "Compare with its status page; close the streams; fall back to another model."
            ),
        ),
        proxy_fixes=TIMEOUTS,
    ),
    "LLMStreamRetryStorm": Page(
        "Calls need several attempts. The last attempt may succeed, so failure rates may not show it. By default, SDKs "
        "retry twice, without a message.",
        "Slow first tokens. The retries also add load to the provider and use the quota.",
        (
            Check(
                "Why are calls retried?",
                "The `error.type` of the attempts that failed.",
                _top(semconv.RETRIES, by=(semconv.ERROR_TYPE,)),
            ),
            Check(
                "Do retries help?",
                "The share of calls that fail in spite of retries. If it is near 0, retries help, but they cost time.",
                _share_of(FAILED, of=(JUDGED,)),
            ),
            Check(
                "How much time do retries cost?",
                "Time to the first token, with earlier attempts and back-off included.",
                _quantile(0.95, semconv.TTFC),
            ),
        ),
        errors=semconv.PREINITIALIZED_RETRIES,
        causes=(
            Cause(
                "Several layers retry: the SDK, a decorator, a gateway and a queue. Their retries multiply.",
                "Retry in one layer only, with back-off, jitter and a budget. Set `max_retries=0` in the SDK below it.",
            ),
        ),
    ),
    "LLMStreamRateLimited": Page(
        "The provider, or a gateway in front of it, rejects attempts because there are too many. It answers with "
        "status 429, or with its own code inside the stream. Attempts that were retried count too, so the alert fires "
        "before users see errors.",
        "Slow answers at first (retries with back-off), and later errors.",
        (
            Check(
                "Which model and server?",
                "Most quotas apply per model, account and region.",
                lambda q, window: q.attempts(RATE_LIMITED, window=window, by=_with(q, semconv.SERVER_ADDRESS)),
            ),
            Check(
                "Which job uses the quota?",
                "Attempts by job. One job may use the whole quota, so leave the condition on the job as it is here.",
                lambda q, window: q.attempts(window=window),
            ),
            Check(
                "How many streams are open at once?",
                "Some quotas limit concurrency.",
                _open,
            ),
        ),
        errors=("429",),
        causes=(
            Cause(
                "`rate_limit_exceeded` and `rate_limit_error` are the same error inside the stream.",
                "The same as for 429. The provider's headers (`retry-after`, `x-ratelimit-*`, "
                "`anthropic-ratelimit-*`) show which limit was reached.",
            ),
            Cause("A batch job shares the quota with users.", "Give it a separate key, project or queue."),
            Cause(
                "Retries without jitter arrive all at the same time.",
                "Back off exponentially with jitter; respect Retry-After.",
            ),
            Cause(
                "The account has no credit left: some providers then answer 429 (`insufficient_quota`).",
                "Check billing before you check traffic.",
            ),
        ),
    ),
    "LLMStreamBufferedDelivery": Page(
        "Many streams arrive in one burst after a long wait: their chunks follow each other faster than any model "
        "writes. A proxy or gateway on the way buffers the answer, or large parts of it.",
        "No text for many seconds, and then all text at once. Users get no benefit from streaming.",
        (
            Check(
                "Which server?",
                "Only one server: the proxy or gateway in front of it. If the server is the provider itself, look at "
                "the network between your application and the internet.",
                _per_stream(semconv.BUFFERED_STREAMS, semconv.SERVER_ADDRESS),
            ),
            Check(
                "Which job and operation?",
                "Leave the condition on the job as it is here. Only one job: its own egress proxy, service mesh or "
                "scanner.",
                _per_stream(semconv.BUFFERED_STREAMS, semconv.OPERATION),
            ),
            Check(
                "How late is the first token?",
                "Compare with `time_to_last_chunk`. If the two are close together, the whole answer was held back.",
                _quantile(0.5, semconv.TTFC),
            ),
        ),
        causes=(
            Cause("A proxy buffers responses (nginx does by default).", "Use the configuration below."),
            Cause(
                "A compressor writes only when its window is full.",
                "Do not compress `text/event-stream`. Send `Accept-Encoding: identity` to be sure.",
            ),
            Cause(
                "A content scanner, DLP or guardrail reads whole answers.",
                "Use its streaming mode, or add an exception for the host.",
            ),
            Cause(
                "A function or API gateway sends its answer only when it is complete (AWS Lambda without response "
                "streaming).",
                "Turn on response streaming there, or use another gateway.",
            ),
            Cause("The provider writes in large pieces for this model.", "Raise `--buffered` for this job."),
        ),
        proxy_fixes=BUFFERING,
    ),
    "LLMStreamProviderErrors": Page(
        "Streams end with an error that the provider itself reports: a status of 500 or above, or a code inside a "
        "stream that began with status 200. Rejected requests (4xx, and the statuses of gRPC that say the same), rate "
        "limits and network errors are not counted here.",
        "Error messages, sometimes after half an answer.",
        (
            Check(
                "Which codes?",
                "Numbers are HTTP statuses. Words are codes that came inside the stream.",
                _top(semconv.STREAMS, *PROVIDER_ERRORS, by=(semconv.ERROR_TYPE,)),
            ),
            Check(
                "One model or all?",
                "Leave the condition on the model as it is here. "
                "All models of a provider: an incident. One model: its capacity, or the kind of request.",
                _share_of(*PROVIDER_ERRORS, of=(JUDGED,), by=()),
            ),
            Check(
                "Do retries hide more?",
                "Attempts that were retried, by error type.",
                _top(semconv.RETRIES, by=(semconv.ERROR_TYPE,)),
            ),
        ),
        errors=("500", "502", "503", "504", "529"),
        causes=(
            Cause(
                "`overloaded_error`, `server_error` and `api_error` are the provider's codes for 529 and 500.",
                "Check its status page; back off with jitter; fall back to another model. "
                "`with otel_llmstream.call():` records both attempts in one span.",
            ),
            Cause(
                "Only requests of one kind fail: very long ones, or those with a certain tool.",
                "Send one by hand; report it with `llmstream.request_id` from the log line.",
            ),
        ),
        proxy_fixes=TIMEOUTS[:1] + TIMEOUTS[2:6],
    ),
    "LLMStreamAbandoned": Page(
        "The application opens streams and drops them without reading them to the end and without closing them. The "
        "garbage collector ends them at some later time.",
        "Nothing at first. Later, calls wait for a free connection (`pool_timeout`), memory grows, and the provider "
        "bills for tokens that are never read.",
        (
            Check(
                "Which job?",
                "The job that drops streams, and the operation.",
                _share_of(ABANDONED, by=(semconv.OPERATION,)),
            ),
            Check(
                "Does the number of open streams grow?",
                "If they pile up, the line only rises.",
                _open,
            ),
            Check(
                "Is the connection pool used up?",
                "The number of calls that got no connection.",
                lambda q, window: q.increase(
                    semconv.STREAMS, Matcher(semconv.ERROR_TYPE, "=", semconv.POOL_TIMEOUT), window=window
                ),
            ),
        ),
        errors=("pool_timeout",),
        causes=(
            Cause(
                "`break` or an exception inside the loop over a stream.",
                "Use `with client.chat.completions.create(..., stream=True) as stream:`, which always closes the "
                "stream.",
            ),
            Cause(
                "A generator of the application wraps a stream and is not read to its end.",
                "Use `contextlib.closing(...)`, or `aclosing(...)` for an async generator.",
            ),
            Cause(
                "The web client disconnected, and the framework dropped the response's generator.",
                "Close the stream in `finally`. The example `fastapi_gateway.py` shows it.",
            ),
        ),
    ),
    **SERVED_PAGES,
    "LLMStreamTelemetryAbsent": Page(
        "The store has received no series of streams from this job for the time of the alert. Either streams are not "
        "measured, or the metrics are not collected, or the job has made no call since its start. The series begin "
        "with the first call.",
        "Unknown. Users may notice nothing, or the service may be down: without telemetry you cannot see it.",
        (
            Check(
                "Is the job scraped?",
                "1: yes. 0: the target is down. No result: Prometheus does not know the target. (With OTLP "
                "there is no series `up`. Look at the collector's own metrics.)",
                lambda q, _: q.up(),
            ),
            Check(
                "Are there series with another job name?",
                "If the job was renamed, the new name is in the result. No result: the metric names have another "
                "flavour, or `instrument()` is not called.",
                lambda q, _: f"count by ({q.labels(JOB)}) ({q.flavour.selector(semconv.STREAMS)})",
            ),
            Check(
                "When did the last series arrive?",
                "The number of series in the last hours, by job. Draw a graph over a week.",
                lambda q, _: (
                    f"count by ({q.labels(JOB)}) "
                    f"(last_over_time({q.flavour.selector(semconv.STREAMS)}[{q.window(6 * HOUR)}]))"
                ),
            ),
        ),
        causes=(
            Cause("The service is down, or scaled to 0.", "Look at its own alerts, or leave it out of `--job`."),
            Cause("The service makes few calls, and none since its last restart.", "Raise `--absent-after`."),
            Cause(
                "`instrument()` is no longer called, or it is called in the wrong process of a service that forks.",
                "Check `otel_llmstream.health().instrumented` in the process, and the log lines of the logger "
                "`otel_llmstream`.",
            ),
            Cause(
                "The exporter cannot send: check the endpoint, its certificate, and `OTEL_SDK_DISABLED`.",
                "The SDK logs failed exports. Try `OTEL_METRICS_EXPORTER=console`.",
            ),
            Cause(
                "Names or labels are changed on the way (relabelling, a collector's processor, another flavour).",
                "Compare `/metrics` with the series in the store. Write the rules again with `--flavour`.",
            ),
        ),
    ),
    "LLMStreamInstanceMissing": Page(
        "A scrape target of this job is down, or fewer instances send telemetry than an hour ago. A process that is "
        "killed cannot report the streams that were open in it.",
        "Streams that were open in the missing instance end without an answer. If no other instance takes over, the "
        "service is down.",
        (
            Check(
                "Which targets are down?",
                "No result: no target is down, so an instance has gone away. (With OTLP there is no series `up`.)",
                lambda q, _: f"{q.up()} == 0",
            ),
            Check(
                "Which instances are gone?",
                "Instances that sent telemetry an hour ago and send none now.",
                _gone,
            ),
            Check(
                "How many streams were lost?",
                "Calls that began within the last hour, without those that ended and those that were opened and are "
                "still open. The rest was open in processes that were killed.",
                _lost,
            ),
        ),
        causes=(
            Cause(
                "The process was killed: out of memory, an eviction, a crash.",
                "Look at the exit code and at the last log lines. Set a memory limit above the peak of open streams.",
            ),
            Cause(
                "The service was scaled down on purpose.",
                "Nothing is wrong: the alert ends within two hours. If that happens every day, leave the alert out "
                "with `--without`.",
            ),
            Cause(
                "The target cannot be reached: a network policy, a changed port, an expired certificate.",
                "Open `/metrics` from Prometheus's own machine. Its page *Targets* shows the error.",
            ),
        ),
    ),
    "LLMStreamInternalErrors": Page(
        "An error occurred inside otel-llmstream. It stopped observing the affected stream, and the stream continued. "
        "The application noticed nothing.",
        "Nothing. But such streams are missing from all numbers, so the other alerts count too few streams.",
        (
            Check(
                "Which processes?",
                "All processes: a deployment brought a new version of a dependency (an SDK, httpx, OpenTelemetry). "
                "One process: something in its data or environment.",
                lambda q, window: (
                    q.increase(semconv.INTERNAL_ERRORS, window=window, by=(*q.scope("job"), "instance")) + " > 0"
                ),
            ),
            Check(
                "Since when?",
                "Draw a graph over a week, and compare it with the deployments.",
                lambda q, _: q.sum(q.select(semconv.INTERNAL_ERRORS), q.scope("job")),
            ),
            Check(
                "How many streams are still observed?",
                "Streams that were observed to their end. A step down shows how many are missing.",
                lambda q, window: q.increase(semconv.STREAMS, window=window, by=q.scope("job")),
            ),
        ),
        causes=(
            Cause(
                "A dependency has a version that was not tested with this version of otel-llmstream.",
                'Compare with the table "Tested with" in `tests/README.md`. Pin the dependency, or upgrade '
                "otel-llmstream.",
            ),
            Cause(
                "A stream has contents that otel-llmstream does not expect.",
                "The logger `otel_llmstream` logs the first error of a process with its stack. Please report it.",
            ),
        ),
    ),
}


# --- writing ---


def pages(options: Options) -> dict[str, str]:
    """All runbooks, by file name. An alert that the options leave out still has its page."""
    return {f"{name}.md": "\n".join(_lines(name, page, options)) for name, page in PAGES.items()}


def _lines(name: str, page: Page, options: Options) -> Iterator[str]:
    meaning, impact, checks, causes = SECTIONS
    alerts = [alert for alert in ALERTS if alert.name == name]
    yield f"# {name}\n"
    yield from (f"- {_condition_line(alert, options)}" for alert in alerts)
    yield f"\n## {meaning}\n\n{page.meaning}\n"
    yield f"## {impact}\n\n{page.user_impact}\n"
    yield f"## {checks}\n"
    yield f"{_how_to_narrow(alerts[0], options)}\n"
    for alert in alerts:
        if alert.long:
            yield f"### {options.expressions.range_(alert.long)}\n"
        yield from _checks(page, alert, options)
    yield f"## {causes}\n"
    yield from _causes(page)
    if page.proxy_fixes:
        yield "\n## Proxy configuration\n"
        yield "In these examples, 600 s is the longest silence to allow. Replace it with your own value.\n"
        yield "\n\n".join(map(_proxy_fix, page.proxy_fixes))
    yield ""


def _how_to_narrow(alert: Alert, options: Options) -> str:
    labels = ", ".join(f"`{options.flavour.label_name(it)}`" for it in options.expressions.scope(alert.scope))
    windows = " Use the part whose title is the alert's label `long`." if alert.long else ""
    return f"In each query, replace `.*` by the alert's own value of the label ({labels}).{windows}"


def narrowed(alert: Alert, options: Options) -> Expressions:
    """The builder of a runbook's queries. Each has a condition for each label of the alert, matching all values."""
    q = options.expressions
    open_labels = [label for label in q.scope(alert.scope) if label != JOB or len(q.jobs) != 1]
    return replace(q, fixed=tuple(Matcher(label, "=~", ".*") for label in open_labels))


def _condition_line(alert: Alert, options: Options) -> str:
    q = options.expressions
    windows = f" over {q.range_(alert.long)} and over {q.range_(alert.short)}" if alert.long and alert.short else ""
    wait = f" for {q.window(alert.pending)}" if alert.pending else ", at once"
    if alert.name == "LLMStreamTelemetryAbsent":
        silence = q.range_(q.thresholds.absent_after)
        return f"`{alert.severity}`: no telemetry for {silence} and another {q.window(alert.pending)}"
    return f"`{alert.severity}`: above {format_limit(alert, options)}{windows}{wait}"


def _checks(page: Page, alert: Alert, options: Options) -> Iterator[str]:
    q = narrowed(alert, options)
    for number, check in enumerate(page.checks, 1):
        yield f"{number}. **{check.question}** {check.answer}\n"
        yield _indented(f"```promql\n{check.query(q, alert.window)}\n```") + "\n"


def _causes(page: Page) -> Iterator[str]:
    known = {error.name: (error.cause, error.remedy) for error in semconv.ERROR_TYPES} | STATUSES
    if page.errors:
        yield "| error.type | cause | remedy |\n| --- | --- | --- |"
        yield from (f"| `{name}` | {' | '.join(known[name])} |" for name in page.errors)
        yield ""
    yield from (f"- {it.cause} **Remedy:** {it.remedy}" for it in page.causes)


def _proxy_fix(fix: ProxyFix) -> str:
    return f"### {fix.proxy}\n\n{fix.text}\n\n```{fix.language}\n{fix.snippet}\n```"


def _indented(text: str) -> str:
    return "\n".join(f"   {line}" if line else line for line in text.splitlines())
