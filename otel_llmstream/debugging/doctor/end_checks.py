"""Checks of the end: whether the stream is whole, and whether it ends as it should."""

from __future__ import annotations

from ... import semconv
from ...monitoring._error_causes import explained
from .apis import MAX_TOKENS
from .findings import Answer, fail, ok, warn
from .probe import Kind
from .study import STALL_AFTER, Study
from .words import is_json, listed, seconds, times


def ending(study: Study) -> Answer | None:
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
        return ok("whole " + times(len(answered), len(answered)))
    summary = bad[0].summary
    assert summary is not None, "only calls with a verdict are here"
    error_type = summary.error_type or summary.outcome.value
    at = f" after {summary.chunks} chunks" if summary.chunks else ""
    message = f": {summary.message}" if summary.message and not error_type.isdecimal() else ""
    seen = f"{summary.outcome}, {error_type} {times(len(bad), len(answered))}{at}{message}"
    cause, remedy = explained(error_type)
    return fail(seen, cause, remedy + _only_streams(study))


def _only_streams(study: Study) -> str:
    """If the answer in one piece is well, the fault is in the streaming."""
    whole = study.of(Kind.WHOLE)
    is_well = bool(whole) and whole[0].head is not None and whole[0].head.is_success and is_json(whole[0])
    return " The answer in one piece works, so the fault is where streams are handled." if is_well else ""


def unknown(study: Study) -> Answer | None:
    """A success of which nothing shows that it is an LLM's."""
    found = [r for r in study.answered if r.summary is None and r.head is not None and r.head.is_success]
    return fail("the body is no LLM stream", *explained(semconv.NOT_A_STREAM)) if found else None


def terminator(study: Study) -> Answer | None:
    """The API's own mark of the end."""
    if not study.well:
        return None
    missing = [result for result in study.well if result.summary is not None and not result.summary.terminator]
    if not missing:
        return ok("seen")
    if not study.streams[0].plan.api.has_terminator:
        return ok("this API has none")
    return warn(
        f"not seen {times(len(missing), len(study.well))}; a finish reason came",
        "A gateway leaves the terminator out, or the body was cut after the finish reason.",
        "Let the gateway pass the last event on: some SDKs and proxies wait for it, and tokens may come with it.",
    )


def finish(study: Study) -> Answer | None:
    """Why the model stopped."""
    if not study.well:
        return None
    reasons = [", ".join(r.summary.finish_reasons) or "none" for r in study.well if r.summary is not None]
    normal = {r.summary.finish_reason for r in study.well if r.summary is not None}
    if semconv.NO_REASON in normal:
        return warn(
            listed(reasons),
            "The server or a gateway leaves the finish reason out.",
            "Without it, an application cannot tell an answer that is over from one that hit a limit. Report it.",
        )
    if normal & {semconv.CONTENT_FILTER, semconv.REFUSAL}:
        return warn(
            listed(reasons),
            "A filter of the provider or of a gateway stopped an answer that only counts.",
            "Look at the filter's rules and its log.",
        )
    return ok(listed(reasons))


def usage(study: Study) -> Answer | None:
    """Whether the tokens are counted."""
    if not study.well:
        return None
    absent = [r for r in study.well if r.summary is not None and r.summary.usage == semconv.USAGE_ABSENT]
    if not absent:
        first = study.well[0].summary
        assert first is not None, "a call that is well has a summary"
        return ok(f"{first.input_tokens or 0} tokens in, {first.output_tokens or 0} out")
    return warn(
        f"no tokens were counted {times(len(absent), len(study.well))}",
        "The server does not count, or a gateway drops stream_options.include_usage or the last event.",
        "Let gateways pass both on. Panels of tokens and cost stay empty otherwise.",
    )


def malformed(study: Study) -> Answer | None:
    """Events that do not parse."""
    answered = [r for r in study.answered if r.summary is not None and r.summary.frames]
    if not answered:
        return None
    most = max((r.summary.malformed_events for r in answered if r.summary is not None), default=0)
    if most:
        seen = f"{most} malformed event{'s' * (most > 1)} in a call"
        return fail(seen, *explained(semconv.MALFORMED_EVENT))
    return ok("each one parses")


def after_end(study: Study) -> Answer | None:
    """How long the body goes on after its last event."""
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


def kept(study: Study) -> Answer | None:
    """Whether the connection can take another call."""
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
