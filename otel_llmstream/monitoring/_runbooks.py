"""The runbooks: one page for each alert, in Markdown.

The texts stand here; queries, thresholds and the causes by `error.type` come from the catalogue and the alerts' table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .. import semconv
from ..semconv import Metric
from ._alerts import ALERTS, Alert, Options, Query
from ._annotations import limit_in_words
from ._expressions import MINUTE, RATE_LIMITED, REPORTED, SUBJECT, USUAL, Expressions, share
from ._names import Matcher
from ._proxy_fixes import BUFFERING, STATUSES, TIMEOUTS, Remedy
from ._selectors import ABANDONED, FAILED, JOB, JUDGED, TRUNCATED

SECTIONS: Final = ("What it means", "What users feel", "First three checks", "Causes and remedies")
"""What every page has."""

_WHERE: Final = (*SUBJECT, semconv.SERVER_ADDRESS)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Attributes:
        question: what it answers.
        answer: how to read the result.
        query: PromQL.
    """

    question: str
    answer: str
    query: Query


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause that no `error.type` tells.

    Attributes:
        cause: what has happened.
        remedy: what helps.
    """

    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Page:
    """One runbook.

    Attributes:
        means: what is so when the alert fires.
        feels: what the application's users notice.
        checks: the first three.
        errors: values of `error.type` that play a part, or HTTP statuses.
        causes: others.
        remedies: configuration on the way.
    """

    means: str
    feels: str
    checks: tuple[Check, Check, Check]
    errors: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    remedies: tuple[Remedy, ...] = ()


# --- queries that several pages ask ---


def _ranked(metric: Metric, *matchers: Matcher, by: tuple[str, ...]) -> Query:
    return lambda q: f"sort_desc(\n  {q.counted(metric, *matchers, window=USUAL, by=by)} > 0\n)"


def _share_of(*matchers: Matcher, of: tuple[Matcher, ...] = (), by: tuple[str, ...] = SUBJECT) -> Query:
    return lambda q: share(
        q.counted(semconv.STREAMS, *matchers, window=USUAL, by=by), q.counted(semconv.STREAMS, *of, window=USUAL, by=by)
    )


def _per_stream(metric: Metric, *by: str) -> Query:
    return lambda q: share(q.counted(metric, window=USUAL, by=by), q.counted(semconv.STREAMS, window=USUAL, by=by))


def _quantile(quantile: float, metric: Metric, *by: str) -> Query:
    return lambda q: q.quantile(quantile, metric, USUAL, by=by)


_WHAT_FAILS: Final = Check(
    "What fails?",
    "The `error.type` at the top decides which row below is yours. Several at once, for one server: the server or the "
    "way to it. One of them, for all servers: the application, or its configuration.",
    _ranked(semconv.STREAMS, FAILED, by=(*SUBJECT, semconv.ERROR_TYPE)),
)
_WHERE_IT_FAILS: Final = Check(
    "Where?",
    "One server of several: a region or a gateway. All of them: look at what they share.",
    _share_of(FAILED, of=(JUDGED,), by=_WHERE),
)
_SINCE_WHEN: Final = Check(
    "Since when, and is it getting worse?",
    "Draw it over the last day. A step has a deployment or an incident at its foot; a slope is load.",
    lambda q: share(
        q.rate(semconv.STREAMS, FAILED, window=5 * MINUTE), q.rate(semconv.STREAMS, JUDGED, window=5 * MINUTE)
    ),
)
_ALL: Final = (*(error.name for error in semconv.ERROR_TYPES), *semconv.PREINITIALIZED_STATUSES)
_FAILURE: Final = Page(
    "Streams of this provider and model are cut or fail more often than you allow. A stream that was cut (outcome "
    "`truncated`) raised nothing in the application; one that failed (`failed`) raised, or told of its error in an "
    "event. Streams that the application itself cancelled or dropped are not counted.",
    "Error messages in the place of answers; and, where streams are cut, half an answer that looks whole.",
    (_WHAT_FAILS, _WHERE_IT_FAILS, _SINCE_WHEN),
    errors=_ALL,
    causes=(
        Cause(
            "A code that is in no row: the provider's own, from inside the stream (`overloaded_error`).",
            "See LLMStreamProviderErrors; the log line has the provider's message and `llmstream.request_id`.",
        ),
        Cause("A deployment just before the first failure.", "Roll it back first, and look afterwards."),
    ),
    remedies=TIMEOUTS,
)

# --- the pages ---

PAGES: Final[Mapping[str, Page]] = {
    "LLMStreamErrorBudgetBurn": _FAILURE,
    "LLMStreamFailureRate": _FAILURE,
    "LLMStreamTruncated": Page(
        "Response bodies end cleanly, with status 200, and without the end of the answer: no finish reason and no "
        "terminator came, or the last event is half an event, or there was no event at all. Nothing is raised: the "
        "SDK's loop ends as after a success.",
        "Answers that stop in the middle of a sentence, or are empty. Tool calls whose arguments are no JSON. Half an "
        "answer may be stored or sent on as if it were whole.",
        (
            Check(
                "Which kind?",
                "`stream_truncated` is a body that was closed between two events, most often by a gateway's time-out; "
                "`stream_incomplete_event` one that was cut by size or a crash; `stream_empty` and `not_a_stream` are "
                "answers of something that is not the provider.",
                _ranked(semconv.STREAMS, TRUNCATED, by=(*_WHERE, semconv.ERROR_TYPE)),
            ),
            Check(
                "After which time?",
                "A median close to a round number of seconds (15, 30, 60, 100, 300) is a time-out on the way: of a "
                "gateway that ends the body in order all the same, or of a proxy below whose server writes neither a "
                "length nor chunks. (nginx and HAProxy break off a chunked body: that is `incomplete_body`, or "
                "`http2_error`, and not this alert.) The buckets are coarse: look for the bucket.",
                lambda q: q.quantile(
                    0.5, semconv.DURATION, USUAL, Matcher(semconv.ERROR_TYPE, "=~", "stream_.*"), by=SUBJECT
                ),
            ),
            Check(
                "Was it silent before?",
                "Long gaps in this model's streams mean that an idle time-out can strike. Short ones: look for a limit "
                "on size or duration, or for servers that are restarted.",
                _quantile(0.95, semconv.MAX_GAP, *SUBJECT),
            ),
        ),
        errors=tuple(error.name for error in semconv.ERROR_TYPES if error.outcome == "truncated"),
        causes=(
            Cause(
                "Servers behind a gateway are restarted or scaled down without draining.",
                "Let them finish: a termination grace period longer than the longest stream, connection draining.",
            ),
            Cause(
                "The application cannot tell.",
                "Ask for the finish reason in your own code too, and retry or mark the answer where it is missing.",
            ),
        ),
        remedies=TIMEOUTS,
    ),
    "LLMStreamFirstTokenSlow": Page(
        "One stream in twenty takes longer than the threshold from the call's start to the first chunk that carries "
        "output. Attempts that failed before, and their back-off, are part of it: this is what a user waits.",
        "Nothing happens after the question is sent. People ask again, which makes it worse.",
        (
            Check(
                "Where?",
                "One server of several: a region, or the way to it.",
                _quantile(0.95, semconv.TTFC, *_WHERE),
            ),
            Check(
                "Is it the attempts before?",
                "From 0.1 retries per call on, the slow ones may be those that were retried: see LLMStreamRetryStorm.",
                _per_stream(semconv.RETRIES, *SUBJECT),
            ),
            Check(
                "Is it a buffer?",
                "Where a large share of the streams came in one burst, the first token was there in time, and "
                "something on the way kept it: see LLMStreamBufferedDelivery.",
                _per_stream(semconv.BUFFERED_STREAMS, *SUBJECT),
            ),
        ),
        errors=("connect_timeout", "pool_timeout", "429", "503", "529"),
        causes=(
            Cause(
                "The provider is slow: all jobs and servers at once, no retries, no buffer.",
                "Compare with its status page; fall back to a smaller model or another region; buy capacity.",
            ),
            Cause("Prompts have grown.", "Look at the input tokens; use the provider's prompt cache."),
            Cause(
                "A reasoning model thinks before it writes.",
                "Lower the effort, or set a threshold of its own for this job: `--job`, `--ttft-p95`.",
            ),
            Cause(
                "The client's connection pool is full, so that calls wait for a connection.",
                "Close streams (see LLMStreamAbandoned); raise `max_connections`.",
            ),
        ),
        remedies=BUFFERING,
    ),
    "LLMStreamStalls": Page(
        "Streams that have begun stop for longer than `Settings.stall_after` (10 s unless set) and then go on. Only "
        "silence of the network counts: time in which the application did not read is hold, not a stall.",
        "The answer freezes in the middle of a word and goes on later. Some give up and ask again.",
        (
            Check(
                "Where?",
                "One server of several: a region, or the way to it.",
                _per_stream(semconv.STALL_COUNT, *_WHERE),
            ),
            Check(
                "For how long?",
                "Close to a time-out on the way (60 s above all), the next step is that streams are cut.",
                _quantile(0.95, semconv.MAX_GAP, *SUBJECT),
            ),
            Check(
                "Is it the application after all?",
                "The time that the application kept streams waiting, in sum per "
                "stream. Stalls are not made of it, but a user cannot tell the two apart.",
                _quantile(0.95, semconv.HOLD_TIME, *SUBJECT),
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
        remedies=TIMEOUTS,
    ),
    "LLMStreamsHanging": Page(
        "Of the streams that are open at this moment, most have had nothing from the network for longer than "
        "`Settings.stall_after`. They have not ended, so they are in no counter and no span yet.",
        "Requests that never come back. Workers, threads and connections are used up until nothing works any more.",
        (
            Check(
                "How many, and where?",
                "A few streams of one server may be one lost connection; all of them are the "
                "provider or the way to it.",
                lambda q: f"sum by ({q.labels(*_WHERE)}) ({q.select(semconv.STALLED)}) > 0",
            ),
            Check(
                "Does anything arrive at all?",
                "The share of this model's open streams that hear nothing. 1: nobody gets anything. (No counter tells: "
                "chunks are counted when their stream ends.)",
                lambda q: f"{q.now(semconv.STALLED)}\n/\n({q.now(semconv.ACTIVE)} > 0)",
            ),
            Check(
                "Does it pile up?",
                "A line that only rises is streams that nothing ends: no read time-out is set.",
                lambda q: q.now(semconv.ACTIVE),
            ),
        ),
        errors=("read_timeout", "connection_reset", "pool_timeout"),
        causes=(
            Cause(
                "No read time-out, or a very long one (600 s is the default of the openai and anthropic SDKs).",
                "Set the client's `timeout` to what a user will wait between two tokens: it is counted per read.",
            ),
            Cause(
                "A firewall or NAT forgot the connection and drops its packets without a word.",
                "TCP keep-alive on the client, or heartbeats in the stream, more often than its idle time-out (350 s "
                "at an AWS NAT gateway or NLB).",
            ),
            Cause("The provider hangs.", "Compare with its status page; end the streams, fall back."),
        ),
        remedies=TIMEOUTS,
    ),
    "LLMStreamRetryStorm": Page(
        "Calls need several attempts. The last one may succeed, so no failure need show; the SDKs retry by themselves, "
        "silently, twice unless told otherwise.",
        "Slow first tokens. And the retries are load that the provider, or the quota, does not need now.",
        (
            Check(
                "Why are they retried?",
                "The `error.type` of the attempts that failed.",
                _ranked(semconv.RETRIES, by=(*SUBJECT, semconv.ERROR_TYPE)),
            ),
            Check(
                "Do they help?",
                "The share of calls that fail all the same. Near 0: they do, at the price of time.",
                _share_of(FAILED, of=(JUDGED,)),
            ),
            Check(
                "What do they cost?",
                "Time to the first token, attempts and back-off included.",
                _quantile(0.95, semconv.TTFC, *SUBJECT),
            ),
        ),
        errors=semconv.PREINITIALIZED_RETRIES,
        causes=(
            Cause(
                "Retries upon retries: the SDK's, a decorator's, a gateway's and a queue's multiply.",
                "Leave one layer to retry, with back-off, jitter and a budget; `max_retries=0` for the SDK below it.",
            ),
        ),
    ),
    "LLMStreamRateLimited": Page(
        "The provider, or a gateway before it, refuses attempts because there are too many: status 429, or its own "
        "code inside the stream. Attempts that were retried count too, so it fires before users see errors.",
        "First slow answers (retries with back-off), then errors.",
        (
            Check(
                "Which model and server?",
                "A quota is most often per model, account and region.",
                lambda q: q.attempts(RATE_LIMITED, window=USUAL, by=_WHERE),
            ),
            Check(
                "Who uses it up?",
                "Attempts by job: one of them may take it all.",
                lambda q: q.attempts(window=USUAL, by=(JOB, semconv.REQUEST_MODEL)),
            ),
            Check(
                "How many at once?", "Open streams. Some quotas are on concurrency.", lambda q: q.now(semconv.ACTIVE)
            ),
        ),
        errors=("429",),
        causes=(
            Cause(
                "`rate_limit_exceeded`, `rate_limit_error`: the same inside the stream.",
                "As for 429. The provider's headers (`retry-after`, `x-ratelimit-*`, `anthropic-ratelimit-*`) say "
                "which of its limits it was.",
            ),
            Cause("A batch job shares the quota with people.", "A key, a project or a queue of its own for it."),
            Cause(
                "Retries without jitter come back all at once.",
                "Back off exponentially with jitter; honour Retry-After.",
            ),
            Cause(
                "Money: some providers answer 429 (`insufficient_quota`) when the balance is used up.",
                "Look at billing before you look at traffic.",
            ),
        ),
    ),
    "LLMStreamBufferedDelivery": Page(
        "Many streams come as one burst after a long wait: their chunks follow each other faster than any model "
        "writes. Something on the way collects the answer, or large parts of it.",
        "No text for many seconds, then all of it. Streaming is paid for and not had.",
        (
            Check(
                "Which server?",
                "Only one: the proxy or gateway before it. The provider's own name: your own way out.",
                _per_stream(semconv.BUFFERED_STREAMS, *_WHERE),
            ),
            Check(
                "Which job?",
                "Only one: the proxy, service mesh or scanner on its own way out.",
                _per_stream(semconv.BUFFERED_STREAMS, JOB),
            ),
            Check(
                "How late is the first token?",
                "Compare with `time_to_last_chunk`: close together, all was held.",
                _quantile(0.5, semconv.TTFC, *SUBJECT),
            ),
        ),
        causes=(
            Cause("A proxy buffers responses (nginx does, unless told otherwise).", "The configuration below."),
            Cause(
                "Compression: a compressor writes when its window is full.",
                "No compression of `text/event-stream`; send `Accept-Encoding: identity` to make sure.",
            ),
            Cause(
                "A content scanner, DLP or guardrail reads whole answers.",
                "Its streaming mode, or an exception for the host.",
            ),
            Cause(
                "A function or API gateway that answers only when it is done (AWS Lambda without response streaming).",
                "Response streaming there, or another front.",
            ),
            Cause("The provider writes in large pieces for this model.", "Raise `--buffered` for this job."),
        ),
        remedies=BUFFERING,
    ),
    "LLMStreamProviderErrors": Page(
        "Streams end with an error that the provider itself reports: a status from 500, or a code inside a stream that "
        "had begun with status 200. Refusals of the request (4xx) and of the quota are not counted here, nor is "
        "anything that the network did.",
        "Error messages; half an answer, and then one.",
        (
            Check(
                "Which codes?",
                "Codes in words came inside the stream, numbers are HTTP statuses.",
                _ranked(semconv.STREAMS, *REPORTED, by=(*SUBJECT, semconv.ERROR_TYPE)),
            ),
            Check(
                "One model or all?",
                "All models of a provider: an incident. One: its capacity, or this request.",
                _share_of(*REPORTED, of=(JUDGED,), by=(semconv.PROVIDER, semconv.REQUEST_MODEL)),
            ),
            Check(
                "Do retries hide more?",
                "Attempts that were tried again, by why.",
                _ranked(semconv.RETRIES, by=(*SUBJECT, semconv.ERROR_TYPE)),
            ),
        ),
        errors=("500", "502", "503", "504", "529"),
        causes=(
            Cause(
                "`overloaded_error`, `server_error`, `api_error`: the provider's own words for 529 and 500.",
                "Its status page; back off with jitter; fall back to another model: "
                "`with otel_llmstream.call():` keeps both in one span.",
            ),
            Cause(
                "Only requests of one kind: very long, or with a certain tool.",
                "Try one by hand; report it with `llmstream.request_id` from the log line.",
            ),
        ),
        remedies=TIMEOUTS[:1] + TIMEOUTS[2:6],
    ),
    "LLMStreamAbandoned": Page(
        "The application takes streams and drops them without reading to the end and without closing them. The "
        "garbage collector ends them, at some time.",
        "Nothing at first. Then calls wait for a free connection (`pool_timeout`), memory grows, and the provider "
        "bills for tokens that nobody reads.",
        (
            Check(
                "Which job?",
                "The one that drops them, and for which operation.",
                _share_of(ABANDONED, by=(JOB, semconv.OPERATION)),
            ),
            Check("Do open streams pile up?", "A line that only rises.", lambda q: q.now(semconv.ACTIVE)),
            Check(
                "Is the pool used up already?",
                "Calls that got no connection.",
                lambda q: q.counted(
                    semconv.STREAMS, Matcher(semconv.ERROR_TYPE, "=", semconv.POOL_TIMEOUT), window=USUAL
                ),
            ),
        ),
        errors=("pool_timeout",),
        causes=(
            Cause(
                "`break` or an exception inside the loop over a stream.",
                "`with client.chat.completions.create(..., stream=True) as stream:` closes it however the block ends.",
            ),
            Cause(
                "A generator of your own that wraps a stream is not read to its end.",
                "`contextlib.closing(...)`, or `aclosing(...)` for an async one.",
            ),
            Cause(
                "The web client went away, and the framework dropped the response's generator.",
                "Close the stream in `finally`; the example `fastapi_gateway.py` shows it.",
            ),
        ),
    ),
    "LLMStreamTelemetryAbsent": Page(
        "No series of streams has come from this job for as long as the alert waits. Either nothing is measured, or "
        "nothing is collected, or the job made no call since it was started: series begin with the first one.",
        "Nothing, or everything: nobody can tell.",
        (
            Check(
                "Is it scraped?",
                "1: yes. 0: the target is down. Nothing: Prometheus does not know of it (with OTLP "
                "there is no `up`: look at the collector's own metrics).",
                Expressions.up,
            ),
            Check(
                "Is anything of ours there, under another name?",
                "A job that was renamed shows here. Nothing at all: "
                "another flavour of names, or `instrument()` is not called.",
                lambda q: f"count by ({q.labels(JOB)}) ({q.flavour.selector(semconv.STREAMS)})",
            ),
            Check(
                "When was it last there?",
                "The number of series a few hours ago, by job; draw it over a week.",
                lambda q: (
                    f"count by ({q.labels(JOB)}) "
                    f"(last_over_time({q.flavour.selector(semconv.STREAMS)}[{q.window(6 * 60 * MINUTE)}]))"
                ),
            ),
        ),
        causes=(
            Cause("The service is down, or scaled to 0.", "Its own alerts; or leave it out of `--job`."),
            Cause("It makes calls so seldom that none came since its last restart.", "Raise `--absent-after`."),
            Cause(
                "`instrument()` is not called any more, or after a fork in the wrong process.",
                "`otel_llmstream.health().instrumented` in the process; the log lines of the logger `otel_llmstream`.",
            ),
            Cause(
                "The exporter cannot send: the endpoint, its certificate, `OTEL_SDK_DISABLED`.",
                "The SDK logs failing exports; try `OTEL_METRICS_EXPORTER=console`.",
            ),
            Cause(
                "Names or labels were changed on the way (relabelling, a collector's processor, another flavour).",
                "Compare `/metrics` with what the store has; write the rules again with `--flavour`.",
            ),
        ),
    ),
    "LLMStreamInternalErrors": Page(
        "otel-llmstream met an error of its own. It left the stream concerned alone, which went on as if it were not "
        "observed; the application noticed nothing.",
        "Nothing. But such streams are in no number, and the other alerts see less than there is.",
        (
            Check(
                "Which processes?",
                "All: a new version of something (an SDK, httpx, OpenTelemetry) came with a "
                "deployment. One: something in its data or environment.",
                lambda q: q.counted(semconv.INTERNAL_ERRORS, window=USUAL, by=(JOB, "instance")) + " > 0",
            ),
            Check(
                "Since when?",
                "Draw it over a week, beside the deployments.",
                lambda q: f"sum by ({q.labels(JOB)}) ({q.select(semconv.INTERNAL_ERRORS)})",
            ),
            Check(
                "What is still seen?",
                "Streams that were observed to their end. A step down is what is missing.",
                lambda q: q.counted(semconv.STREAMS, window=USUAL, by=(JOB,)),
            ),
        ),
        causes=(
            Cause(
                "A version that this one was not tested with.",
                'Compare with the table "Tested with" in README; pin, or upgrade otel-llmstream.',
            ),
            Cause(
                "A stream unlike any that was seen before.",
                "The first error of a process is logged with its stack by the logger `otel_llmstream`: report it.",
            ),
        ),
    ),
}


# --- writing ---


def pages(options: Options) -> dict[str, str]:
    """All runbooks, by file name. One that is left out of the rules has its page all the same."""
    return {f"{name}.md": "\n".join(_lines(name, page, options)) for name, page in PAGES.items()}


def _lines(name: str, page: Page, options: Options) -> Iterator[str]:
    means, feels, checks, causes = SECTIONS
    yield f"# {name}\n"
    yield from _when(name, options)
    yield f"\n## {means}\n\n{page.means}\n"
    yield f"## {feels}\n\n{page.feels}\n"
    yield f"## {checks}\n"
    yield from _checks(page, options.expressions)
    yield f"## {causes}\n"
    yield from _causes(page)
    if page.remedies:
        yield "\n## Configuration on the way\n"
        yield "In time-outs, 600 s stands for the longest silence that you mean to allow.\n"
        yield "\n\n".join(map(_remedy, page.remedies))
    yield ""


def _when(name: str, options: Options) -> Iterator[str]:
    for alert in ALERTS:
        if alert.name == name:
            yield f"- {_condition(alert, options)}"


def _condition(alert: Alert, options: Options) -> str:
    q = options.expressions
    windows = f" over {q.window(alert.long)} and over {q.window(alert.short)}" if alert.long and alert.short else ""
    wait = f" for {q.window(alert.hold)}" if alert.hold else ", at once"
    if alert.needs_jobs:
        silence = q.window(q.thresholds.absent_after)
        return f"`{alert.severity}`: nothing heard for {silence} and another {q.window(alert.hold)}"
    return f"`{alert.severity}`: above {limit_in_words(alert, options)}{windows}{wait}"


def _checks(page: Page, q: Expressions) -> Iterator[str]:
    for number, check in enumerate(page.checks, 1):
        yield f"{number}. **{check.question}** {check.answer}\n"
        yield _indented(f"```promql\n{check.query(q)}\n```") + "\n"


def _causes(page: Page) -> Iterator[str]:
    known = {error.name: (error.cause, error.remedy) for error in semconv.ERROR_TYPES} | STATUSES
    if page.errors:
        yield "| error.type | cause | remedy |\n| --- | --- | --- |"
        yield from (f"| `{name}` | {' | '.join(known[name])} |" for name in page.errors)
        yield ""
    yield from (f"- {it.cause} **Remedy:** {it.remedy}" for it in page.causes)


def _remedy(remedy: Remedy) -> str:
    return f"### {remedy.where}\n\n{remedy.text}\n\n```{remedy.language}\n{remedy.lines}\n```"


def _indented(text: str) -> str:
    return "\n".join(f"   {line}" if line else line for line in text.splitlines())
