"""The command ``otel-llmstream doctor``. In: a URL and a model. Out: what is right and wrong with its streams."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from ._urls import web_url

if TYPE_CHECKING:
    from otel_llmstream.debugging.doctor.probe import Plan, Server
    from otel_llmstream.debugging.doctor.study import Result

    from ._doctor_client import Client, Limits

WELL: Final = 0
WRONG: Final = 1
NO_ANSWER: Final = 2

_API_NAMES: Final = ("chat", "completions", "responses", "messages", "gemini", "mistral", "cohere", "ollama")
_MAX_RUNS: Final = 20


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line's parser."""
    parser = subparsers.add_parser(
        "doctor",
        help="call an endpoint, and say what is wrong with its streams",
        description="Make a few small calls to an endpoint, and say what is wrong: the path, the time line of the "
        "reads, the checks with causes and remedies. No prompt, no answer and no key is printed.",
        epilog="Exit status: 0 if all is well, 1 if something is wrong, 2 if no answer came or the input cannot be "
        "used. Example: otel-llmstream doctor http://127.0.0.1:8000/v1 --model my-model",
    )
    add = parser.add_argument
    add("url", metavar="URL", type=_url, help="the endpoint: its base URL, as for the SDK, or the whole URL")
    add("--model", required=True, metavar="M", help="the model to ask for")
    add("--api", choices=_API_NAMES, help="the API (default: the one that the URL names, or chat)")
    add("--api-key-env", metavar="NAME", help="the environment variable that has the key")
    version = parser.add_mutually_exclusive_group()
    version.add_argument("--http1", action="store_true", help="speak HTTP/1.1 only")
    version.add_argument("--http2", action="store_true", help="speak HTTP/2 only")
    add("--via", type=_url, metavar="URL", help="also call this URL, and compare: with and without a gateway")
    add("--runs", type=_runs, default=3, metavar="N", help="streams of each URL (default: %(default)s)")
    add("--whole", action=argparse.BooleanOptionalAction, default=True,
        help="also ask for the answer in one piece, and compare")  # fmt: skip
    add("--timeout", type=_positive, default=30.0, metavar="S",
        help="seconds of silence that are waited for (default: 30); a call may take four times as long")  # fmt: skip
    add("--limit", type=_limits, default={}, metavar="ttft=S,gap=S",
        help="most seconds to the first chunk, and between two chunks")  # fmt: skip
    add("--yes", action="store_true", help="make calls that may cost money: needed if the address is not loopback")
    add("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


# --- the options ---


def _url(text: str) -> Server:
    from otel_llmstream.debugging.doctor.probe import Server

    parts = web_url(text)
    try:
        port = None if parts is None else parts.port
    except ValueError:
        parts = port = None
    if parts is None or not parts.hostname or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError(f"must be a URL such as https://api.openai.com/v1, got {text[:100]!r}")
    default = 443 if parts.scheme == "https" else 80
    return Server(parts.scheme, unquote(parts.hostname), port or default, parts.path, parts.query)


def _runs(text: str) -> int:
    number = int(text)
    if not 1 <= number <= _MAX_RUNS:
        raise argparse.ArgumentTypeError(f"must be from 1 to {_MAX_RUNS}, got {number}")
    return number


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:  # noqa: PLR2004 - an hour
        raise argparse.ArgumentTypeError(f"must be seconds from 0 to 3600, got {text}")
    return value


def _limits(text: str) -> dict[str, float]:
    found = dict(part.partition("=")[::2] for part in text.split(","))
    if not found.keys() <= {"ttft", "gap"}:
        raise argparse.ArgumentTypeError(f"must be like ttft=2,gap=5, got {text!r}")
    return {name: _positive(value) for name, value in found.items()}


# --- the command ---


def run(arguments: argparse.Namespace) -> int:
    """Make the calls and print the report. Returns the exit status."""
    try:
        from ._doctor_client import Limits
        from ._doctor_view import as_dict, show
    except ModuleNotFoundError as error:
        return _fail(f"doctor needs {error.name}: pip install 'otel-llmstream[doctor]'")
    from otel_llmstream.debugging.doctor.checks import checked
    from otel_llmstream.debugging.doctor.sdks import installed
    from otel_llmstream.debugging.doctor.study import Study

    key = os.environ.get(arguments.api_key_env, "") if arguments.api_key_env else ""
    if arguments.api_key_env and not key:
        return _fail(f"the environment variable {arguments.api_key_env} is not set")
    if not (key.isascii() and key.isprintable()):
        return _fail(f"the environment variable {arguments.api_key_env} has characters that no header may have")
    plans = _plans(arguments, key)
    if not arguments.yes and not all(_is_loopback(plan.server.host) for plan in plans):
        return _fail(f"{_cost(plans)} Say --yes to make them.")
    limits = Limits(arguments.timeout, 4 * arguments.timeout)
    results = _results(plans, limits)
    study = Study(results, arguments.limit.get("ttft"), arguments.limit.get("gap"), installed(plans[0].api.name))
    findings = checked(study)
    if arguments.json:
        print(json.dumps(as_dict(study, findings), indent=2))
    else:
        show(study, findings)
    return _status(study.answered, [finding.level for finding in findings])


def _status(answered: list[Result], levels: list[str]) -> int:
    if not answered:
        return NO_ANSWER
    return WRONG if "fail" in levels else WELL


def _fail(message: str) -> int:
    print(f"otel-llmstream doctor: {message}", file=sys.stderr)
    return NO_ANSWER


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _cost(plans: list[Plan]) -> str:
    """What the calls cost at most, as a sentence."""
    from otel_llmstream.debugging.doctor.apis import INPUT_TOKENS, MAX_TOKENS

    hosts = ", ".join(sorted({plan.server.host for plan in plans}))
    number = len(plans)
    return (
        f"{number} calls to {hosts} cost at most {number * INPUT_TOKENS:,} tokens of input and {number * MAX_TOKENS:,} "
        "tokens of output."
    )


def _plans(arguments: argparse.Namespace, key: str) -> list[Plan]:
    """The calls, in their order."""
    from otel_llmstream.debugging.doctor.apis import APIS, guessed
    from otel_llmstream.debugging.doctor.probe import Kind, Plan

    api = APIS[arguments.api or guessed(arguments.url.path)]

    def plan(kind: Kind, server: Server, *, optional: bool = False) -> Plan:
        return Plan(kind, server, api, arguments.model, arguments.http2 or optional, optional, key)

    plans = [plan(Kind.STREAM, arguments.url) for _ in range(arguments.runs)]
    plans.append(plan(Kind.GZIP, arguments.url))
    if arguments.url.scheme == "https" and not arguments.http1 and not arguments.http2:
        plans.append(plan(Kind.HTTP2, arguments.url, optional=True))
    if arguments.via is not None:
        plans += [plan(Kind.VIA, arguments.via) for _ in range(arguments.runs)]
    if arguments.whole:
        plans.append(plan(Kind.WHOLE, arguments.url))
    return plans


def _results(plans: list[Plan], limits: Limits) -> list[Result]:
    from otel_llmstream.debugging.doctor.apis import renamed

    from ._doctor_client import Client

    client, said = Client(limits), ""
    results: list[Result] = []
    try:
        for plan in plans:
            if not _is_worth_it(plan, results):
                continue
            result = _call(client, plan, renamed(plan.body, said))
            if result is not None and said == "" and result.head is not None and result.head.status == _BAD_REQUEST:
                said = result.probe.body[:10_000].decode("utf-8", "replace")
                if renamed(plan.body, said) is not None:
                    result = _call(client, plan, renamed(plan.body, said))
            if result is not None:
                results.append(result)
    finally:
        client.close()
    return results


_BAD_REQUEST: Final = 400


def _call(client: Client, plan: Plan, body: bytes | None) -> Result | None:
    """One call, judged; None if the server does not offer what the call is for."""
    from otel_llmstream.debugging.doctor.study import judged

    from ._doctor_client import NotOfferedError

    try:
        return judged(client.call(plan, body))
    except NotOfferedError:
        return None


def _is_worth_it(plan: Plan, results: list[Result]) -> bool:
    """Whether a call can tell anything new. A server that does not answer, or does not end, is not asked again."""
    from otel_llmstream.debugging.doctor.probe import Kind

    streams = list(_of(results, Kind.STREAM))
    if not streams:
        return True
    if any(result.head is None or result.probe.stopped for result in streams):
        return plan.kind is Kind.VIA and not any(r.head is None for r in _of(results, Kind.VIA))
    if plan.kind in (Kind.GZIP, Kind.HTTP2):
        return any(result.is_well for result in streams)
    return True


def _of(results: list[Result], kind: str) -> Iterator[Result]:
    return (result for result in results if result.plan.kind == kind)
