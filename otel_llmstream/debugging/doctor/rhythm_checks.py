"""Checks of the rhythm: buffering, pauses, and pieces.

A figure that a busy machine could make is judged over all calls: it must be bad in each of them.
"""

from __future__ import annotations

from statistics import median
from typing import Final

from . import headers
from .findings import Answer, fail, ok, warn
from .sdks import TIMEOUTS
from .study import STALL_AFTER, Result, Study
from .words import buffering_remedy, seconds


def buffered(study: Study) -> Answer | None:
    """Whether all output came in one burst, in every call."""
    well = [result for result in study.well if result.is_burst is not None]
    if not well:
        return None
    quickest = min(well, key=lambda result: result.first_chunk or 0.0)
    if all(result.is_burst for result in well):
        if any(result.is_own(result.first_chunk or 0.0, result.first_chunk or 0.0) for result in well):
            return ok("not judged: this machine was too busy to tell")
        assert quickest.summary is not None, "see above"
        chunks, first, spread = quickest.summary.chunks, quickest.first_chunk or 0.0, quickest.spread
        seen = f"{chunks} chunks in one burst of {seconds(spread)}, after {seconds(first)} of nothing"
        return fail(seen + _named(quickest), "A hop holds the body back until it has all of it.", buffering_remedy())
    return ok(f"output comes over {seconds(study.typical('spread'))}")


def _named(result: Result) -> str:
    found = headers.hops(result.head.by_name) if result.head is not None else []
    return f"; hops that say so: {', '.join(found)}" if found else ""


_SMALL: Final = 64  # bytes: less than any event has


def pieces(study: Study) -> Answer | None:
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


def first(study: Study) -> Answer | None:
    """The time to the first chunk."""
    firsts = [result.first_chunk for result in study.well if result.first_chunk is not None]
    if not firsts:
        return None
    quickest = min(firsts)
    if study.ttft is not None and quickest > study.ttft:
        return fail(
            f"{seconds(quickest)} to the first chunk, and {seconds(study.ttft)} are allowed (--limit)",
            _where_time_went(study),
            "Shorten the prompt, take a smaller model or a nearer region; look at the queue of the server.",
        )
    return ok(f"{seconds(quickest)} to the first chunk")


def _where_time_went(study: Study) -> str:
    result = min(study.well, key=lambda each: each.first_chunk or 0.0)
    own_time = headers.provider_time(result.head.by_name) if result.head is not None else None
    at = 0.0 if result.stream is None else result.stream.headers_at or 0.0
    own = f" The server says that {seconds(own_time[1])} of it were its own." if own_time else ""
    return f"The headers came after {seconds(at)}, the first chunk after {seconds(result.first_chunk or 0.0)}.{own}"


def gap(study: Study) -> Answer | None:
    """The longest pause between two chunks that all calls have."""
    well = [result for result in study.well if result.gaps]
    if not well:
        return None
    longest = min(result.pause for result in well)
    limit = STALL_AFTER if study.gap is None else study.gap
    if longest > limit:
        allowed = "" if study.gap is None else f", and {seconds(study.gap)} are allowed (--limit)"
        answer = warn if study.gap is None else fail
        return answer(
            f"a pause of {seconds(longest)} between two chunks{allowed}",
            "The model or the server stalls, or a hop passes data on in portions.",
            "Compare with --via or with the server itself; look at its load and its batch size.",
        )
    return ok(f"at most {seconds(longest)} between two chunks")


def silence(study: Study) -> Answer | None:
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


def comments(study: Study) -> Answer | None:
    """Comments, which keep connections alive."""
    answered = [result for result in study.answered if result.head is not None and result.head.is_success]
    if not answered:
        return None
    most = max(result.comments for result in answered)
    return ok(f"{most} in a call" if most else "none")
