"""The checks: one table, and a small function for each. In: a `Study`. Out: findings.

A check answers None if it has nothing to look at. A figure that a busy machine could make is judged over all calls: it
must be bad in each of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Final

from ... import semconv
from ...monitoring._error_causes import explained
from ...monitoring._proxy_fixes import BUFFERING
from ...wire import framer_for
from . import headers
from .apis import MAX_TOKENS
from .findings import Answer, Finding, fail, ok, warn
from .probe import Kind
from .sdks import TIMEOUTS
from .study import STALL_AFTER, Result, Study

Check = Callable[[Study], Answer | None]


def checked(study: Study) -> list[Finding]:
    """The findings of all checks that had something to look at."""
    found = []
    for name, check in CHECKS:
        answer = check(study)
        if answer is not None:
            found.append(Finding(name, *answer))
    return found


# --- words ---


def seconds(value: float) -> str:
    """A duration."""
    return f"{value * 1e3:,.0f} ms" if value < 9.9995 else f"{value:,.1f} s"  # noqa: PLR2004 - 10 s


def _times(number: int, total: int) -> str:
    return f"in {'the only call' if total == 1 else f'{number} of {total} calls'}"


def _words(values: Sequence[str]) -> str:
    """Different values, with how often each came if they differ."""
    counted = Counter(values)
    if len(counted) == 1:
        return values[0]
    return ", ".join(f"{value} ({number} of {len(values)})" for value, number in counted.items())


# --- the answer ---


def _connection(study: Study) -> Answer | None:
    """DNS, TCP, TLS, the proxy; and silence before the headers."""
    lost = [result for result in study.streams if result.head is None]
    if not lost:
        first = study.streams[0].probe.connection
        return ok(f"{first.address}, TLS {first.tls_version}" if first.tls_version else f"{first.address}, no TLS")
    error_type = lost[0].error_type or semconv.CONNECT_ERROR
    cause, remedy = explained(error_type)
    return fail(f"{error_type} {_times(len(lost), len(study.streams))}: {_said(lost[0])}", cause, remedy)


def _said(result: Result) -> str:
    """The exception's words, as they may be told."""
    error, summary = result.probe.error, result.summary
    if summary is not None and summary.message:
        return summary.message
    return type(error).__name__ if error is not None else "no answer"


def _status(study: Study) -> Answer | None:
    answered = study.answered
    if not answered:
        return None
    bad = [result for result in answered if result.head is not None and not result.head.is_success]
    if not bad:
        return ok(_words([str(result.head.status) for result in answered if result.head is not None]))
    status = str(bad[0].head.status) if bad[0].head is not None else ""
    cause, remedy = explained(status)
    if not status.startswith(("4", "5")):
        cause, remedy = "The server sends the client somewhere else.", "Check base URL: http or https, and the path."
    return fail(f"{status} {_times(len(bad), len(answered))}", cause, remedy)


def _content_type(study: Study) -> Answer | None:
    found = [r for r in study.answered if r.head is not None and r.head.is_success]
    if not found:
        return None
    kinds = [r.head.by_name.get("content-type", "none") for r in found if r.head is not None]
    odd = [kind for kind in kinds if framer_for(kind) is None]
    if not odd or (study.streams[0].plan.api.name == "gemini" and odd[0].startswith("application/json")):
        return ok(_words(kinds))
    if any(result.error_type == semconv.NOT_A_STREAM for result in found):
        page = "An HTML page: of a login, a captive portal or a proxy."
        return fail(
            odd[0],
            page if "html" in odd[0] else "The body is a document, and not a stream.",
            "Check base URL, proxy and authentication: see the check of the ending.",
        )
    return warn(
        odd[0],
        "A gateway writes its own content type over that of the stream.",
        "Let it pass text/event-stream on: proxies buffer and compress other types, and some SDKs read them whole.",
    )


def _framing(study: Study) -> Answer | None:
    if not study.answered:
        return None
    kinds = [result.head.framing for result in study.answered if result.head is not None and result.head.is_success]
    if "close" in kinds:
        return warn(
            "the end of the connection is the end of the body",
            "A server or proxy that speaks HTTP/1.0. A cut looks like an end: no client can tell them apart.",
            "Use HTTP/1.1 with chunks on every hop (nginx: proxy_http_version 1.1).",
        )
    if "length" in kinds and study.well:
        return warn(
            "the headers have the length of the stream",
            "A hop had the whole body before it sent the first byte.",
            _buffering_remedy(),
        )
    return ok(_words(kinds)) if kinds else None


def _compression(study: Study) -> Answer | None:
    found = [r.head.by_name.get("content-encoding", "none") for r in study.answered if r.head is not None]
    if not found:
        return None
    if any(kind not in ("none", "identity") for kind in found):
        return warn(
            f"{_words(found)}, though the request forbids it",
            "A hop compresses whatever it is asked for.",
            "Leave text/event-stream out of what is compressed: compression can hold events back.",
        )
    return ok(_words(found))


# --- the end ---


def _ending(study: Study) -> Answer | None:
    """The verdict of the pipeline: the same that the application's telemetry has."""
    answered = [r for r in study.answered if r.summary is not None and r.head is not None and r.head.is_success]
    stopped = next((result for result in study.answered if result.probe.stopped), None)
    if stopped is not None:
        return fail(
            f"the stream did not end: doctor stopped after {stopped.probe.stopped}",
            f"The server goes on after the limit of {MAX_TOKENS} tokens, or it ignores the limit.",
            "Look at what the server sends; check that gateways pass the limit of tokens on.",
        )
    bad = [result for result in answered if not result.is_well and result.summary is not None]
    if not bad:
        if not answered:
            return None
        return ok("whole " + _times(len(answered), len(answered)))
    summary = bad[0].summary
    assert summary is not None, "only calls with a verdict are here"
    error_type = summary.error_type or summary.outcome.value
    at = f" after {summary.chunks} chunks" if summary.chunks else ""
    message = f": {summary.message}" if summary.message and not error_type.isdecimal() else ""
    seen = f"{summary.outcome}, {error_type} {_times(len(bad), len(answered))}{at}{message}"
    cause, remedy = explained(error_type)
    return fail(seen, cause, remedy + _only_streams(study))


def _only_streams(study: Study) -> str:
    """If the answer in one piece is well, the fault is in the streaming."""
    whole = study.of(Kind.WHOLE)
    is_well = bool(whole) and whole[0].head is not None and whole[0].head.is_success and _is_json(whole[0])
    return " The answer in one piece works, so the fault is where streams are handled." if is_well else ""


def _unknown(study: Study) -> Answer | None:
    """A success of which nothing shows that it is an LLM's."""
    found = [r for r in study.answered if r.summary is None and r.head is not None and r.head.is_success]
    return fail("the body is no LLM stream", *explained(semconv.NOT_A_STREAM)) if found else None


def _terminator(study: Study) -> Answer | None:
    if not study.well:
        return None
    missing = [result for result in study.well if result.summary is not None and not result.summary.terminator]
    if not missing:
        return ok("seen")
    if not study.streams[0].plan.api.has_terminator:
        return ok("this API has none")
    return warn(
        f"not seen {_times(len(missing), len(study.well))}; a finish reason came",
        "A gateway leaves the terminator out, or the body was cut after the finish reason.",
        "Let the gateway pass the last event on: some SDKs and proxies wait for it, and tokens may come with it.",
    )


def _finish(study: Study) -> Answer | None:
    if not study.well:
        return None
    reasons = [", ".join(r.summary.finish_reasons) or "none" for r in study.well if r.summary is not None]
    normal = {r.summary.finish_reason for r in study.well if r.summary is not None}
    if semconv.NO_REASON in normal:
        return warn(
            _words(reasons),
            "The server or a gateway leaves the finish reason out.",
            "Without it, an application cannot tell an answer that is over from one that hit a limit. Report it.",
        )
    if normal & {semconv.CONTENT_FILTER, semconv.REFUSAL}:
        return warn(
            _words(reasons),
            "A filter of the provider or of a gateway stopped an answer that only counts.",
            "Look at the filter's rules and its log.",
        )
    return ok(_words(reasons))


def _usage(study: Study) -> Answer | None:
    if not study.well:
        return None
    absent = [r for r in study.well if r.summary is not None and r.summary.usage == semconv.USAGE_ABSENT]
    if not absent:
        first = study.well[0].summary
        assert first is not None, "a call that is well has a summary"
        return ok(f"{first.input_tokens or 0} tokens in, {first.output_tokens or 0} out")
    return warn(
        f"no tokens were counted {_times(len(absent), len(study.well))}",
        "The server does not count, or a gateway drops stream_options.include_usage or the last event.",
        "Let gateways pass both on. Panels of tokens and cost stay empty otherwise.",
    )


def _malformed(study: Study) -> Answer | None:
    answered = [r for r in study.answered if r.summary is not None and r.summary.frames]
    if not answered:
        return None
    most = max((r.summary.malformed_events for r in answered if r.summary is not None), default=0)
    if most:
        seen = f"{most} malformed event{'s' * (most > 1)} in a call"
        return fail(seen, *explained(semconv.MALFORMED_EVENT))
    return ok("each one parses")


def _after_end(study: Study) -> Answer | None:
    late = [result.after_end for result in study.well if result.after_end is not None]
    if not late:
        return None
    shortest = min(late)
    if shortest > STALL_AFTER:
        return warn(
            f"the body ends {seconds(shortest)} after the last event",
            "The server or a proxy holds the response open.",
            "Close the response after the last event: until then the connection is busy, and clients that read to the "
            "end wait.",
        )
    return ok("the body ends with the last event")


def _kept(study: Study) -> Answer | None:
    known = [result.probe.is_kept for result in study.well if result.probe.is_kept is not None]
    if not known:
        return None
    if not all(known):
        return warn(
            "the server closes it after the stream",
            "Keep-alive is off on the server or on a proxy, or the connection ends the body.",
            "Switch it on: otherwise each call pays for a new connection and its TLS handshake.",
        )
    return ok("kept for the next call")


# --- the rhythm ---


def _buffering_remedy() -> str:
    nginx, gateway = BUFFERING[0], BUFFERING[-1]
    return (
        f"{nginx.proxy}: proxy_buffering off, gzip off for text/event-stream. {gateway.proxy}: flush each event, and "
        "send X-Accel-Buffering: no. `otel-llmstream alerts` has runbooks for other proxies."
    )


def _buffered(study: Study) -> Answer | None:
    """Whether all output came in one burst, in every call."""
    well = [result for result in study.well if result.summary is not None and result.summary.buffered is not None]
    if not well:
        return None
    quickest = min(well, key=lambda result: result.first_chunk or 0.0)
    if all(r.summary is not None and r.summary.buffered and not _was_away(r, r.first_chunk or 0.0) for r in well):
        assert quickest.summary is not None, "see above"
        chunks, first, spread = quickest.summary.chunks, quickest.first_chunk or 0.0, quickest.spread
        seen = f"{chunks} chunks in one burst of {seconds(spread)}, after {seconds(first)} of nothing"
        return fail(seen + _named(quickest), "A hop holds the body back until it has all of it.", _buffering_remedy())
    return ok(f"output comes over {seconds(study.typical('spread'))}")


def _named(result: Result) -> str:
    found = headers.hops(result.head.by_name) if result.head is not None else []
    return f"; hops that say so: {', '.join(found)}" if found else ""


def _was_away(result: Result, limit: float) -> bool:
    """Whether this program itself may have made a burst that follows such a time: it could not run for most of it."""
    return result.probe.was_late > limit / 2


_SMALL: Final = 64  # bytes: less than any event has


def _pieces(study: Study) -> Answer | None:
    """Events per read."""
    well = [result for result in study.well if result.reads and result.summary is not None]
    if not well:
        return None
    rates = [r.summary.frames / len(r.reads) for r in well if r.summary is not None]
    sizes = sorted(read.size for read in well[0].reads)
    if max(rates) < 0.5 and sizes[len(sizes) // 2] < _SMALL:  # noqa: PLR2004 - an event in two or more reads
        return warn(
            f"{1 / max(rates):.0f} reads for each event, of {sizes[len(sizes) // 2]} bytes",
            "A hop cuts events into small pieces: it writes through a tiny buffer.",
            "Nothing breaks. Each piece costs a packet and a wake-up: let the hop write whole events.",
        )
    return ok(f"{median(rates):.1f} events per read")


def _first(study: Study) -> Answer | None:
    firsts = [result.first_chunk for result in study.well if result.first_chunk is not None]
    if not firsts:
        return None
    quickest = min(firsts)
    if study.ttft is not None and quickest > study.ttft:
        return fail(
            f"{seconds(quickest)} to the first chunk, and {seconds(study.ttft)} are allowed (--slo)",
            _where_time_went(study),
            "Shorten the prompt, take a smaller model or a nearer region; look at the queue of the server.",
        )
    return ok(f"{seconds(quickest)} to the first chunk")


def _where_time_went(study: Study) -> str:
    result = min(study.well, key=lambda each: each.first_chunk or 0.0)
    told = headers.provider_time(result.head.by_name) if result.head is not None else None
    at = 0.0 if result.stream is None else result.stream.headers_at or 0.0
    own = f" The server says that {seconds(told[1])} of it were its own." if told else ""
    return f"The headers came after {seconds(at)}, the first chunk after {seconds(result.first_chunk or 0.0)}.{own}"


def _gap(study: Study) -> Answer | None:
    """The longest pause between two chunks that all calls have."""
    well = [result for result in study.well if result.gaps]
    if not well:
        return None
    longest = min(0.0 if _was_away(result, max(result.gaps)) else max(result.gaps) for result in well)
    limit = STALL_AFTER if study.gap is None else study.gap
    if longest > limit:
        allowed = "" if study.gap is None else f", and {seconds(study.gap)} are allowed (--slo)"
        answer = warn if study.gap is None else fail
        return answer(
            f"a pause of {seconds(longest)} between two chunks{allowed}",
            "The model or the server stalls, or a hop passes data on in portions.",
            "Compare with --via or with the server itself; look at its load and its batch size.",
        )
    return ok(f"at most {seconds(longest)} between two chunks")


def _silence(study: Study) -> Answer | None:
    """The longest silence, compared with the time-outs of clients and proxies."""
    if not study.well:
        return None
    longest = max(result.silence for result in study.well)
    broken = [name for name, limit in TIMEOUTS if limit <= longest]
    if broken:
        return warn(
            f"{seconds(longest)} without a byte",
            f"Longer than the time-out of: {'; '.join(broken)}.",
            "Raise these read time-outs, or let the server send a comment every 15 seconds.",
        )
    name, limit = TIMEOUTS[0]
    return ok(f"{seconds(longest)} without a byte; {name}: {limit:.0f} s")


def _comments(study: Study) -> Answer | None:
    answered = [result for result in study.answered if result.head is not None and result.head.is_success]
    if not answered:
        return None
    most = max(result.comments for result in answered)
    return ok(f"{most} in a call" if most else "none")


# --- the comparisons ---


_LEAST_SPREAD: Final = 0.1  # seconds: a shorter answer has no rhythm to compare
_COLLAPSED: Final = 0.1  # the part of the spread that a burst may have


def _compared(study: Study, kind: Kind, what: str) -> Answer | None:
    """Another way to ask, compared with the plain one."""
    others, plain = study.of(kind), study.well
    if not others or not plain:
        return None
    bad = next((result for result in others if not result.is_well), None)
    if bad is not None:
        error_type = bad.error_type or "no answer"
        return fail(f"{error_type} {what}, and the plain stream is well", *explained(error_type))
    spread, theirs = study.typical("spread"), max(result.spread for result in others)
    is_held = spread >= _LEAST_SPREAD and theirs < spread * _COLLAPSED
    if is_held and not any(_was_away(result, spread) for result in others):
        late = min(result.first_chunk or 0.0 for result in others)
        return fail(
            f"{what} the output comes in a burst of {seconds(theirs)} after {seconds(late)}; plain, it comes over "
            f"{seconds(spread)}",
            _BURSTS[kind],
            _buffering_remedy(),
        )
    first = min(result.first_chunk or 0.0 for result in others)
    return ok(f"first chunk after {seconds(first)}, output over {seconds(theirs)}{_noted(others[0])}")


def _noted(result: Result) -> str:
    coding = result.head.by_name.get("content-encoding") if result.head is not None else None
    return f", {coding}" if coding else ""


_BURSTS: Final = {
    Kind.GZIP: "A hop that compresses holds the body back until it is whole. SDKs allow compression by default.",
    Kind.HTTP2: "The hop that speaks HTTP/2 holds the body back.",
    Kind.VIA: "The other URL's hops hold the body back.",
}


def _gzip(study: Study) -> Answer | None:
    return _compared(study, Kind.GZIP, "with compression allowed")


def _http2(study: Study) -> Answer | None:
    return _compared(study, Kind.HTTP2, "over HTTP/2")


def _via(study: Study) -> Answer | None:
    return _compared(study, Kind.VIA, "through the other URL")


def _whole(study: Study) -> Answer | None:
    """The same answer in one piece."""
    found = study.of(Kind.WHOLE)
    if not found:
        return None
    result = found[0]
    head, took = result.head, result.probe.ended_at - result.probe.started
    if head is None or result.probe.error is not None:
        error_type = result.error_type or "no answer"
        return fail(f"{error_type}: {_said(result)}", *explained(error_type))
    if not head.is_success:
        return fail(f"{head.status} for the answer in one piece", *explained(str(head.status)))
    if not _is_json(result):
        return fail("the answer in one piece is no JSON", *explained(semconv.NOT_A_STREAM))
    return ok(f"the answer in one piece takes {seconds(took)}")


def _is_json(result: Result) -> bool:
    try:
        found = json.loads(result.probe.body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and not found.get("error")


# --- around it ---


_MAX_SKEW: Final = 60.0  # seconds: signed requests and tokens fail after a few minutes


def _clock(study: Study) -> Answer | None:
    head = study.answered[0] if study.answered else None
    if head is None or head.head is None or not head.probe.answered_at:
        return None
    skew = headers.skew(head.head.by_name, datetime.fromtimestamp(head.probe.answered_at, UTC))
    if skew is None:
        return None
    if abs(skew) > _MAX_SKEW:
        return warn(
            f"ours is {seconds(abs(skew))} {'ahead' if skew > 0 else 'behind'}",
            "This machine or the server does not keep its time.",
            "Switch NTP on: signed requests, tokens and traces need the time.",
        )
    return ok("as the server's, to a minute")


def _limits(study: Study) -> Answer | None:
    left = next((found for r in study.answered if r.head is not None and (found := headers.limits(r.head.by_name))), [])
    if not left:
        return None
    seen = ", ".join(f"{name}: {value}" for name, value in left)
    if any(value.strip() == "0" for _, value in left):
        return warn(seen, *explained("429"))
    return ok(seen)


def _sdks(study: Study) -> Answer | None:
    if not study.sdks:
        return None
    return ok("; ".join(f"{name} {found} (tested up to {newest})" for name, found, newest in study.sdks))


CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("connection", _connection),
    ("status", _status),
    ("content type", _content_type),
    ("framing", _framing),
    ("compression", _compression),
    ("answer", _unknown),
    ("ending", _ending),
    ("events", _malformed),
    ("terminator", _terminator),
    ("finish reason", _finish),
    ("usage", _usage),
    ("end of body", _after_end),
    ("connection kept", _kept),
    ("buffering", _buffered),
    ("pieces", _pieces),
    ("first chunk", _first),
    ("gaps", _gap),
    ("time-outs", _silence),
    ("keep-alive comments", _comments),
    ("compressed", _gzip),
    ("HTTP/2", _http2),
    ("via", _via),
    ("not streamed", _whole),
    ("rate limits", _limits),
    ("clock", _clock),
    ("SDKs", _sdks),
)
"""Name -> check, in the order of the report."""
