"""Checks that compare the plain stream with another way to ask."""

from __future__ import annotations

from typing import Final

from ... import semconv
from ...monitoring._error_causes import explained
from .findings import Answer, fail, ok
from .probe import Kind
from .study import Result, Study
from .words import buffering_remedy, is_json, seconds, told

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
    if is_held and not any(result.is_own(result.first_chunk or 0.0, spread) for result in others):
        late = min(result.first_chunk or 0.0 for result in others)
        return fail(
            f"{what} the output comes in a burst of {seconds(theirs)} after {seconds(late)}; plain, it comes over "
            f"{seconds(spread)}",
            _BURSTS[kind],
            buffering_remedy(),
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


def gzip(study: Study) -> Answer | None:
    """With compression allowed."""
    return _compared(study, Kind.GZIP, "with compression allowed")


def http2(study: Study) -> Answer | None:
    """Over HTTP/2."""
    return _compared(study, Kind.HTTP2, "over HTTP/2")


def via(study: Study) -> Answer | None:
    """Through the other URL."""
    return _compared(study, Kind.VIA, "through the other URL")


def whole(study: Study) -> Answer | None:
    """The same answer in one piece."""
    found = study.of(Kind.WHOLE)
    if not found:
        return None
    result = found[0]
    head, took = result.head, result.probe.ended_at - result.probe.started
    if head is None or result.probe.error is not None:
        error_type = result.error_type or "no answer"
        return fail(f"{error_type}: {told(result)}", *explained(error_type))
    if not head.is_success:
        return fail(f"{head.status} for the answer in one piece", *explained(str(head.status)))
    if not is_json(result):
        return fail("the answer in one piece is no JSON", *explained(semconv.NOT_A_STREAM))
    return ok(f"the answer in one piece takes {seconds(took)}")
