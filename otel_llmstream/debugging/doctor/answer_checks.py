"""Checks of the answer: the connection, the status, and what the headers promise."""

from __future__ import annotations

from ... import semconv
from ...core.summary import Outcome
from ...monitoring._error_causes import explained
from ...wire import framer_for
from .findings import Answer, fail, ok, warn
from .study import Result, Study
from .words import buffering_remedy, listed, times, told


def connection(study: Study) -> Answer | None:
    """DNS, TCP, TLS, the proxy; and silence before the headers."""
    lost = [result for result in study.streams if result.head is None]
    if not lost:
        first = study.streams[0].probe.connection
        return ok(f"{first.address}, TLS {first.tls_version}" if first.tls_version else f"{first.address}, no TLS")
    error_type = lost[0].error_type or semconv.CONNECT_ERROR
    cause, remedy = explained(error_type)
    return fail(f"{error_type} {times(len(lost), len(study.streams))}: {told(lost[0])}", cause, remedy)


def status(study: Study) -> Answer | None:
    """The HTTP status."""
    answered = study.answered
    if not answered:
        return None
    bad = [result for result in answered if result.head is not None and not result.head.is_success]
    if not bad:
        return ok(listed([str(result.head.status) for result in answered if result.head is not None]))
    status = str(bad[0].head.status) if bad[0].head is not None else ""
    cause, remedy = explained(status)
    if not status.startswith(("4", "5")):
        cause, remedy = "The server sends the client somewhere else.", "Check base URL: http or https, and the path."
    return fail(f"{status} {times(len(bad), len(answered))}", cause, remedy)


def content_type(study: Study) -> Answer | None:
    """The media type of the answer."""
    found = [r for r in study.answered if r.head is not None and r.head.is_success and not _is_error_document(r)]
    if not found:
        return None
    kinds = [r.head.by_name.get("content-type", "none") for r in found if r.head is not None]
    odd = [kind for kind in kinds if framer_for(kind) is None]
    if not odd or (study.streams[0].plan.api.name == "gemini" and odd[0].startswith("application/json")):
        return ok(listed(kinds))
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


def _is_error_document(result: Result) -> bool:
    """Whether the whole answer is a JSON document that reports an error. Its type is right."""
    summary = result.summary
    return summary is not None and summary.outcome is Outcome.FAILED and not summary.frames


def framing(study: Study) -> Answer | None:
    """How the end of the body is known."""
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
            buffering_remedy(),
        )
    return ok(listed(kinds)) if kinds else None


def compression(study: Study) -> Answer | None:
    """The content coding, though none was asked for."""
    found = [r.head.by_name.get("content-encoding", "none") for r in study.answered if r.head is not None]
    if not found:
        return None
    if any(kind not in ("none", "identity") for kind in found):
        return warn(
            f"{listed(found)}, though the request forbids it",
            "A hop compresses whatever it is asked for.",
            "Leave text/event-stream out of what is compressed: compression can hold events back.",
        )
    return ok(listed(found))
