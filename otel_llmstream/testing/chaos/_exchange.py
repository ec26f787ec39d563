"""Turns a request into a plan, without a socket. In: a `Request`. Out: the actions that answer it, and its `Record`."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from ._actions import Action, Answer
from ._attempts import Attempts, retry_count
from ._endpoints import Endpoint, model_of, wants_stream
from ._errors import Rejection
from ._log import Log, Record
from ._params import Params, read_params, split_model
from ._plans import Plan
from ._providers import provider_of
from ._replies import make_reply
from ._reply import Reply, ReplySpec
from ._request import Request
from ._scenarios import SCENARIOS, Scenario
from ._sse import compact

_JSON = ("content-type", "application/json")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request's record and the plan that answers it."""

    record: Record
    plan: Iterator[Action]


def answer(request: Request, log: Log, attempts: Attempts) -> Exchange:
    """Decide how to answer a request. Every request except ``GET /log`` is added to the log."""
    if request.method == "GET" and request.target.partition("?")[0].endswith("/log"):
        return Exchange(_record(request), _json_answer(200, [entry.as_dict() for entry in log.entries()]))
    record = _record(request)
    log.add(record)
    try:
        plan = _plan(request, record, attempts)
    except Rejection as rejection:
        plan = _rejected(rejection, record)
    return Exchange(record, plan)


def reject(rejection: Rejection, log: Log) -> Exchange:
    """Decide how to answer bytes that are not a valid request."""
    record = Record(_request_id())
    log.add(record)
    return Exchange(record, _rejected(rejection, record))


def _request_id() -> str:
    return f"req_{uuid4().hex[:24]}"


def _record(request: Request) -> Record:
    return Record(
        _request_id(),
        path=request.target,
        endpoint=Endpoint.of(request.target) if request.method == "POST" else None,
        traceparent=request.headers.get("traceparent"),
        retry_count=retry_count(request),
    )


def _json_answer(status: int, value: Any, headers: tuple[tuple[str, str], ...] = ()) -> Iterator[Action]:
    yield Answer(status, (_JSON, *headers), compact(value))


def _rejected(rejection: Rejection, record: Record) -> Iterator[Action]:
    provider = provider_of(record.endpoint)
    envelope = provider.error(rejection.status, rejection.message, rejection.param, record.request_id)
    return _json_answer(rejection.status, envelope, provider.headers(record.request_id))


def _plan(request: Request, record: Record, attempts: Attempts) -> Iterator[Action]:
    endpoint = record.endpoint
    if endpoint is None:
        served = ", ".join(f"POST /{known.value}" for known in Endpoint)
        raise Rejection(404, f"no such path: {request.method} {request.target}; known paths are {served}, GET /log")
    body = _body(request)
    record.model = _model(request.target, body)
    record.stream = wants_stream(endpoint, request.target, request.headers, body)
    name, query = split_model(record.model)
    scenario = _scenario(name, endpoint)
    record.scenario = scenario.name
    params = read_params(query, scenario.defaults)
    reply = _reply(record, body, params, scenario, lambda in_round: attempts.number(request, record.model, in_round))
    plan: Plan = scenario.plan if record.stream else scenario.unstreamed
    return plan(reply, params)


def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(request.body)
    except RecursionError:
        raise Rejection(400, "the body is nested too deep") from None
    except ValueError as error:
        raise Rejection(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Rejection(400, "the body is not a JSON object")
    return body


def _model(target: str, body: dict[str, Any]) -> str:
    model = model_of(target, body)
    if not isinstance(model, str):
        raise Rejection(400, "the request names no model", param="model")
    return model


def _scenario(name: str, endpoint: Endpoint) -> Scenario:
    scenario = SCENARIOS.get(name)
    if scenario is None or endpoint not in scenario.endpoints:
        known = ", ".join(known.name for known in SCENARIOS.values() if endpoint in known.endpoints)
        raise Rejection(404, f"no scenario {name!r} at /{endpoint.value}; known scenarios are: {known}", param="model")
    return scenario


def _reply(
    record: Record, body: dict[str, Any], params: Params, scenario: Scenario, attempt: Callable[[int], int]
) -> Reply:
    assert record.endpoint is not None
    options = body.get("stream_options")
    spec = ReplySpec(
        ident=record.request_id.removeprefix("req_"),
        model=f"chaos-{scenario.name}",
        finish=scenario.finish,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        size=params.size,
        attempt=attempt,
    )
    reply = make_reply(record.endpoint, spec)
    if 0 < params.size < reply.min_frame_size:
        smallest = f"the smallest frame at /{record.endpoint.value} has {reply.min_frame_size} bytes"
        raise Rejection(400, f"bad parameter size={params.size}: {smallest}", param="model")
    return reply
