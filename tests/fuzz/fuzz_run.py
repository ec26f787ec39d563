"""Sends inputs through the whole pipeline, each one whole and split, and keeps account.

Nothing may raise, not even inside the guard. What is said of a stream may not depend on how its bytes were split.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from fuzz_mutations import CODINGS, mutated, pieces
from fuzz_seeds import SEEDS, Seed

from otel_llmstream import semconv
from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.core.summary import Summary
from otel_llmstream.dialects import RequestInfo
from otel_llmstream.engine.engine import Engine
from otel_llmstream.testing import FakeClock
from otel_llmstream.testing._replay import NullRecorder

COMPARED: Final = (
    "outcome", "error_type", "stage", "chunks", "frames", "bytes", "malformed_events", "terminator", "finish_reasons",
    "finish_reason", "usage", "incomplete_tool_calls", "input_tokens", "output_tokens", "cache_read_tokens",
    "cache_write_tokens", "reasoning_tokens", "response_id", "response_model", "extra", "message", "unexamined",
)  # fmt: skip
"""Fields of a `Summary` that may not depend on the split. The times and the number of reads do."""

TYPES: Final = ("", "text/plain", "application/json", "text/html", "text/event-stream, text/event-stream")
"""Media types that leave it to the bytes."""

SHORT: Final = 256
"""Bytes that a shorter input counts as, where its time for each byte is asked for: a call costs something by itself."""

KEPT: Final = 20
"""Problems that a report keeps in words."""


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        number: which one it is; all follows from it.
        seed: the stream that it was made of, with changed bytes.
        coding: content coding of the body; empty if there is none.
        pieces: the body, as the network splits it.
        waits: seconds before each piece.
        end: what ends it.
    """

    number: int
    seed: Seed
    coding: str
    pieces: Sequence[bytes]
    waits: float
    end: End

    @classmethod
    def make(cls, number: int) -> Case:
        """The input of a number."""
        rng = Random(number)
        seed, other = rng.choice(SEEDS), rng.choice(SEEDS)
        request = mutated(rng, seed.request, other.request) if rng.random() < 0.1 else seed.request
        body, coding = mutated(rng, seed.body, other.body), ""
        if rng.random() < 0.1:
            coding = rng.choice([*CODINGS])
            body = CODINGS[coding](body)
            if rng.random() < 0.3:
                body = mutated(rng, body, other.body)
        content_type = rng.choice(TYPES) if rng.random() < 0.1 else seed.content_type
        changed = Seed(seed.name, seed.path, request, body, content_type, seed.host, seed.method)
        end = rng.choice([*End]) if rng.random() < 0.1 else End.EOF
        return cls(number, changed, coding, pieces(rng, body), rng.choice((0.0001, 0.0001, 0.06)), end)


@dataclass
class Report:
    """What a run found.

    Attributes:
        inputs: how many.
        bytes: of all bodies together.
        outcomes: how the streams ended, by outcome.
        exceptions: inputs at which something raised.
        internal_errors: inputs at which the guard caught something.
        differences: inputs of which whole and split say different things.
        explained: differences with a known reason, by the reason.
        slowest: CPU microseconds for each byte, and the input's number.
        problems: the first ones, in words.
    """

    inputs: int = 0
    bytes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    exceptions: int = 0
    internal_errors: int = 0
    differences: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    problems: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.exceptions or self.internal_errors or self.differences)

    def add(self, other: Report) -> None:
        """Take another part of the run."""
        self.inputs += other.inputs
        self.bytes += other.bytes
        self.outcomes += other.outcomes
        self.exceptions += other.exceptions
        self.internal_errors += other.internal_errors
        self.differences += other.differences
        self.explained += other.explained
        self.slowest = max(self.slowest, other.slowest)
        self.problems = (self.problems + other.problems)[:KEPT]

    def problem(self, case: Case, words: str) -> None:
        """Keep a problem in words."""
        if len(self.problems) < KEPT:
            self.problems.append(f"input {case.number} ({case.seed.name}): {words}")

    def lines(self) -> list[str]:
        """The report as a table."""
        speed, number = self.slowest
        rows = {
            "inputs": f"{self.inputs:,}",
            "bytes": f"{self.bytes:,}",
            "outcomes": ", ".join(f"{name} {count:,}" for name, count in self.outcomes.most_common()),
            "exceptions": f"{self.exceptions:,}",
            "internal errors": f"{self.internal_errors:,}",
            "differences between whole and split": f"{self.differences:,}",
            "differences that are explained": ", ".join(f"{it} {n:,}" for it, n in self.explained.items()) or "0",
            "slowest, µs of CPU per byte": f"{speed:.3f} (input {number})",
        }
        return [f"{name:<36} {value}" for name, value in rows.items()] + self.problems


def run(numbers: Iterable[int]) -> Report:
    """Send the inputs of these numbers."""
    report = Report()
    for number in numbers:
        _judge(Case.make(number), report)
    return report


def _judge(case: Case, report: Report) -> None:
    report.inputs += 1
    report.bytes += len(case.seed.body)
    try:
        whole, seconds = _timed(case, report)
        split = _observe(case, case.pieces, report)
    except BaseException as exc:
        report.exceptions += 1
        report.problem(case, f"{type(exc).__name__}: {exc}")
        if not isinstance(exc, Exception):
            raise
        return
    report.outcomes[str(whole.outcome) if whole is not None else "not ours"] += 1
    report.slowest = max(report.slowest, (seconds * 1e6 / max(len(case.seed.body), SHORT), case.number))
    if case.end is End.EOF:
        _compare(case, whole, split, report)


def _timed(case: Case, report: Report) -> tuple[Summary | None, float]:
    """The summary of the whole body, and its CPU seconds. A slow one is measured again: the machine has other work."""
    limit = report.slowest[0] * 1e-6 * max(len(case.seed.body), SHORT)
    body = [case.seed.body] if case.seed.body else []
    best = float("inf")
    for _ in range(4):
        before = time.process_time()
        summary = _observe(case, body, report)
        best = min(best, time.process_time() - before)
        if best <= limit:
            break
    return summary, best


def _observe(case: Case, body: Iterable[bytes], report: Report) -> Summary | None:
    """What is said of a stream; None if it is not an LLM's."""
    seed, clock = case.seed, FakeClock()
    engine = Engine(NullRecorder(), None, clock)
    request = RequestInfo(method=seed.method, host=seed.host, port=443, path=seed.path, body=seed.request)
    response = ResponseInfo(200, seed.content_type, case.coding, marks=seed.marks)
    observer = engine.begin(request)
    if observer is None:
        observer = engine.sniff(request, response, clock.now())
    else:
        observer.responded(response)
    for piece in body:
        observer.asked_at = clock.now()
        clock.advance(case.waits)
        observer.feed(piece)
    observer.asked_at = clock.now()
    observer.end(case.end)
    if engine.internal_errors:
        report.internal_errors += 1
        report.problem(case, "an internal error was caught")
    return observer.call.summary if observer.call is not None else None


def _compare(case: Case, whole: Summary | None, split: Summary | None, report: Report) -> None:
    said = [_said(it) for it in (whole, split)]
    if said[0] == said[1]:
        return
    reason = _explanation(case, whole, split)
    if reason:
        report.explained[reason] += 1
        return
    report.differences += 1
    both = [(name, value, said[1].get(name)) for name, value in said[0].items()]
    fields = [f"{name} {one!r} {two!r}" for name, one, two in both if one != two]
    report.problem(case, "; ".join(fields)[:300] or "only one of them is ours")


def _said(summary: Summary | None) -> dict[str, Any]:
    if summary is None:
        return {}
    return {name: getattr(summary, name) for name in COMPARED} | {"dialect": summary.request.dialect}


def _explanation(case: Case, *summaries: Summary | None) -> str:
    """A codec that meets broken data does not give what it decoded in the same call."""
    broken = any(it is not None and it.error_type == semconv.CONTENT_DECODING for it in summaries)
    return "broken content coding" if case.coding and (broken or None in summaries) else ""
