"""What a rule must be like: the offline checks of pint (cloudflare/pint), on the tree that PromQL is parsed into.

Each check takes one rule as it stands in a rule file and yields what is wrong with it. `tests/test_alerts_lint.py`
shows for each that it can fail.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import promql_parser as promql

Rule = dict[str, Any]
Check = Callable[[Rule], Iterator[str]]

RECORDED = re.compile(r"llmstream:\w+:\w+")
SUBJECT = {"job", "gen_ai_provider_name", "gen_ai_request_model"}
COMPARISONS = {">", "<", ">=", "<=", "==", "!="}
SETS = {"and", "or", "unless"}
OF_COUNTERS = {"rate", "increase"}
SEVERITIES = ("critical", "warning", "info")


# --- the tree ---


def children(node: Any) -> list[Any]:
    match node:
        case promql.BinaryExpr():
            return [node.lhs, node.rhs]
        case promql.AggregateExpr() | promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return [node.expr]
        case promql.Call():
            return list(node.args)
        case promql.MatrixSelector():
            return [node.vector_selector]
    return []


def walk(node: Any, *above: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every node with those above it, the nearest last."""
    yield node, above
    for child in children(node):
        yield from walk(child, *above, node)


def nodes(rule: Rule, kind: type) -> list[Any]:
    return [node for node, _ in walk(promql.parse(rule["expr"])) if isinstance(node, kind)]


def bare(node: Any) -> Any:
    while isinstance(node, promql.ParenExpr):
        node = node.expr
    return node


def op(node: promql.BinaryExpr) -> str:
    return str(node.op).strip()


def metric(selector: promql.VectorSelector) -> str:
    named = [it.value for it in selector.matchers.matchers if it.name == "__name__"]
    return selector.name or (named[0] if named else "")


def is_number(node: Any) -> bool:
    return isinstance(bare(node), promql.NumberLiteral)


def labels(node: Any) -> set[str] | None:
    """The labels of a result; None where it has those of its series, whatever they are."""
    node = bare(node)
    match node:
        case promql.AggregateExpr():
            return set(node.modifier.labels) if node.modifier and "By" in str(node.modifier.type) else set()
        case promql.Call() if node.func.name.startswith("absent"):
            (selector,) = (it for it, _ in walk(node) if isinstance(it, promql.VectorSelector))
            return {it.name for it in selector.matchers.matchers if str(it.op) == "MatchOp.Equal"} - {"__name__"}
        case promql.Call():
            found = [labels(it) for it in node.args if not isinstance(it, (promql.NumberLiteral, promql.StringLiteral))]
            return found[0] - {"le"} if found and found[0] is not None else None
        case promql.BinaryExpr():
            return labels(node.rhs) if is_number(node.lhs) else labels(node.lhs)
        case promql.VectorSelector() if RECORDED.fullmatch(metric(node)):
            return SUBJECT
    return None


# --- the checks, under pint's names ---


def syntax(rule: Rule) -> Iterator[str]:
    try:
        promql.parse(rule["expr"])
    except ValueError as error:
        yield f"is no PromQL: {error}"


def comparison(rule: Rule) -> Iterator[str]:
    """An alert without a comparison fires as long as there is data."""
    if "alert" not in rule:
        return
    top = bare(promql.parse(rule["expr"]))
    while isinstance(top, promql.BinaryExpr) and op(top) in SETS:
        top = bare(top.lhs)
    compares = isinstance(top, promql.BinaryExpr) and op(top) in COMPARISONS
    if not compares or (top.modifier and top.modifier.return_bool):
        yield "compares with nothing"


def template(rule: Rule) -> Iterator[str]:
    """A text that names a label which the query drops says nothing at its place."""
    has = labels(promql.parse(rule["expr"]))
    for name, text in rule.get("annotations", {}).items():
        for label in re.findall(r"\$labels\.(\w+)", text) + re.findall(r'index \$labels "([^"]+)"', text):
            if has is not None and label not in has:
                yield f"{name} names the label {label}, which the query drops"
        if re.search(r"\$(?!labels\b|value\b)", text):
            yield f"{name} uses something unknown"


def annotation(rule: Rule) -> Iterator[str]:
    if "alert" in rule:
        for name in ("summary", "description", "runbook_url"):
            if not rule.get("annotations", {}).get(name):
                yield f"has no {name}"
        if rule.get("labels", {}).get("severity") not in SEVERITIES:
            yield "has no severity"


def link(rule: Rule) -> Iterator[str]:
    if "alert" in rule and not rule.get("annotations", {}).get("runbook_url", "").endswith(f"/{rule['alert']}.md"):
        yield "does not link to its own runbook"


def name(rule: Rule) -> Iterator[str]:
    if not re.fullmatch(r"LLMStream([A-Z][a-z]+)+|LLMStreams([A-Z][a-z]+)+", rule.get("alert", "LLMStreamIs")):
        yield "is not named as alerts are"
    if not RECORDED.fullmatch(rule.get("record", "llmstream:is:so")):
        yield "is not named as recorded queries are"


def waits(rule: Rule) -> Iterator[str]:
    seconds = duration(rule.get("for", "1m"))
    if not 60 <= seconds <= 4 * 3600:
        yield f"waits for {rule['for']}"


def aggregate(rule: Rule) -> Iterator[str]:
    """Without the job nobody knows whose alert it is, and two services are mixed into one."""
    for node in nodes(rule, promql.AggregateExpr):
        if "job" not in (labels(node) or set()):
            yield f"drops the label job: {node.op}"


def regexp(rule: Rule) -> Iterator[str]:
    for selector in nodes(rule, promql.VectorSelector):
        for matcher in selector.matchers.matchers:
            if "Re" in str(matcher.op) or "~" in str(matcher.op):
                if not re.search(r"[.|*+?\[(\\]", matcher.value):
                    yield f"a regular expression that is none: {matcher.value}"
                if matcher.value.startswith("^") or matcher.value.endswith("$"):
                    yield f"anchored by itself: {matcher.value}"
                if re.fullmatch(r"\.[*+]", matcher.value):
                    yield f"matches anything: {matcher.value}"


def fragile(rule: Rule) -> Iterator[str]:
    """What is in the first ten changes all the time, and the alert with it."""
    for node in nodes(rule, promql.AggregateExpr):
        if re.match(r"topk|bottomk|limitk|limit_ratio", str(node.op)):
            yield f"takes some of many: {node.op}"


def nan(rule: Rule) -> Iterator[str]:
    """0 / 0 is not a number, which every comparison swallows; recorded, it is a hole in a graph."""
    for node in nodes(rule, promql.BinaryExpr):
        divisor = bare(node.rhs)
        guarded = isinstance(divisor, promql.BinaryExpr) and op(divisor) == ">" and is_number(divisor.rhs)
        if op(node) == "/" and not is_number(divisor) and not guarded:
            yield "divides by what may be 0"


def impossible(rule: Rule) -> Iterator[str]:
    """Conditions that contradict each other, and labels that are gone where they are asked for."""
    for selector in nodes(rule, promql.VectorSelector):
        equal = [(it.name, it.value) for it in selector.matchers.matchers if str(it.op) == "MatchOp.Equal"]
        if len({first for first, _ in set(equal)}) < len(set(equal)):
            yield f"asks for two values of one label: {metric(selector)}"
    for node in nodes(rule, promql.AggregateExpr):
        within = labels(node.expr)
        if within is not None and not (labels(node) or set()) <= within:
            yield f"asks for labels that are gone: {sorted((labels(node) or set()) - within)}"


def vector_matching(rule: Rule) -> Iterator[str]:
    """Two sides with different labels never meet."""
    for node in nodes(rule, promql.BinaryExpr):
        left, right = labels(node.lhs), labels(node.rhs)
        matched = node.modifier and node.modifier.matching
        if is_number(node.lhs) or is_number(node.rhs) or left is None or right is None or matched:
            continue
        if left != right:
            yield f"two sides that never match: {sorted(left)} {op(node)} {sorted(right)}"


def counter(rule: Rule) -> Iterator[str]:
    """A counter is asked how it grew, and nothing else is; over two scrapes at least."""
    for node, above in walk(promql.parse(rule["expr"])):
        if isinstance(node, promql.Call) and node.func.name in OF_COUNTERS:
            (matrix,) = node.args
            if not re.search(r"_(total|bucket|count|sum)$", metric(matrix.vector_selector)):
                yield f"{node.func.name} of what is no counter: {metric(matrix.vector_selector)}"
            if matrix.range.total_seconds() < 120:
                yield f"a range of two scrapes at most: {matrix.range}"
        if isinstance(node, promql.VectorSelector) and re.search(r"_(total|bucket|count|sum)$", metric(node)):
            around = {it.func.name for it in above if isinstance(it, promql.Call)}
            if not around & (OF_COUNTERS | {"absent_over_time"}):
                yield f"a counter by itself: {metric(node)}"


CHECKS: dict[str, Check] = {
    "promql/syntax": syntax,
    "alerts/comparison": comparison,
    "alerts/template": template,
    "alerts/annotation": annotation,
    "rule/link": link,
    "rule/name": name,
    "alerts/for": waits,
    "promql/aggregate": aggregate,
    "promql/regexp": regexp,
    "promql/fragile": fragile,
    "promql/nan": nan,
    "promql/impossible": impossible,
    "promql/vector_matching": vector_matching,
    "promql/counter": counter,
}


# --- of whole groups ---


def duplicates(groups: list[dict[str, Any]]) -> Iterator[str]:
    seen = set()
    for rule in (rule for group in groups for rule in group["rules"]):
        key = rule.get("alert"), rule.get("record"), rule["expr"], tuple(sorted(rule.get("labels", {}).items()))
        if key in seen:
            yield f"twice: {rule.get('alert') or rule.get('record')}"
        seen.add(key)


def dependencies(groups: list[dict[str, Any]]) -> Iterator[str]:
    """A recorded query that is asked for is recorded, and one that is recorded is asked for."""
    rules = [rule for group in groups for rule in group["rules"]]
    made = {rule["record"] for rule in rules if "record" in rule}
    asked = {found for rule in rules for found in RECORDED.findall(rule["expr"])}
    yield from (f"asked for and not recorded: {it}" for it in sorted(asked - made))
    yield from (f"recorded and not asked for: {it}" for it in sorted(made - asked))


def intervals(groups: list[dict[str, Any]]) -> Iterator[str]:
    """Past five minutes Prometheus forgets the last value before the next one comes."""
    for group in groups:
        if not 0 < duration(group.get("interval", "1m")) <= 300:
            yield f"is evaluated every {group['interval']}: {group['name']}"


def duration(text: str) -> int:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))
