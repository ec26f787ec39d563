"""Checks of alert rules: the offline checks of pint (cloudflare/pint), on the parsed PromQL.

Each check takes one rule of a rule file and yields its problems. `tests/test_alerts_lint.py` shows that each check can
fail.
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
    """Every node with its ancestors. The parent is the last of them."""
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
    """The labels of a result. None if it has all labels of its series."""
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
        yield f"is not valid PromQL: {error}"


def comparison(rule: Rule) -> Iterator[str]:
    """An alert needs a comparison. Without one it fires as long as there is data."""
    if "alert" not in rule:
        return
    top = bare(promql.parse(rule["expr"]))
    while isinstance(top, promql.BinaryExpr) and op(top) in SETS:
        top = bare(top.lhs)
    compares = isinstance(top, promql.BinaryExpr) and op(top) in COMPARISONS
    if not compares or (top.modifier and top.modifier.return_bool):
        yield "has no comparison"


def template(rule: Rule) -> Iterator[str]:
    """Texts may use only labels that the query keeps. Other labels are empty in the text."""
    has = labels(promql.parse(rule["expr"]))
    for name, text in rule.get("annotations", {}).items():
        for label in re.findall(r"\$labels\.(\w+)", text) + re.findall(r'index \$labels "([^"]+)"', text):
            if has is not None and label not in has:
                yield f"{name} names the label {label}, which the query drops"
        if re.search(r"\$(?!labels\b|value\b)", text):
            yield f"{name} uses something unknown"


def annotation(rule: Rule) -> Iterator[str]:
    if "alert" in rule:
        for name in ("summary", "description", "runbook_url", "dashboard_url"):
            if not rule.get("annotations", {}).get(name):
                yield f"has no {name}"
        if rule.get("labels", {}).get("severity") not in SEVERITIES:
            yield "has no severity"


def link(rule: Rule) -> Iterator[str]:
    if "alert" not in rule:
        return
    address = rule.get("annotations", {}).get("runbook_url", "")
    part = f"#{rule['labels']['long']}" if "long" in rule["labels"] else ""
    if not address.endswith(f"/{rule['alert']}.md{part}"):
        yield "does not link to its own runbook"


def name(rule: Rule) -> Iterator[str]:
    if not re.fullmatch(r"LLMStream([A-Z][a-z]+)+|LLMStreams([A-Z][a-z]+)+", rule.get("alert", "LLMStreamIs")):
        yield "has no valid alert name"
    if not RECORDED.fullmatch(rule.get("record", "llmstream:is:so")):
        yield "has no valid name of a recording rule"


def waits(rule: Rule) -> Iterator[str]:
    seconds = duration(rule.get("for", "1m"))
    if not 60 <= seconds <= 4 * 3600:
        yield f"has an unusual `for`: {rule['for']}"


def aggregate(rule: Rule) -> Iterator[str]:
    """Aggregations keep the label `job`. Without it, an alert would mix two services."""
    for node in nodes(rule, promql.AggregateExpr):
        if "job" not in (labels(node) or set()):
            yield f"drops the label job: {node.op}"


def regexp(rule: Rule) -> Iterator[str]:
    for selector in nodes(rule, promql.VectorSelector):
        for matcher in selector.matchers.matchers:
            if "Re" in str(matcher.op) or "~" in str(matcher.op):
                if not re.search(r"[.|*+?\[(\\]", matcher.value):
                    yield f"needs no regular expression: {matcher.value}"
                if matcher.value.startswith("^") or matcher.value.endswith("$"):
                    yield f"has a redundant anchor: {matcher.value}"
                if re.fullmatch(r"\.[*+]", matcher.value):
                    yield f"matches anything: {matcher.value}"


def fragile(rule: Rule) -> Iterator[str]:
    """No topk or limitk. Their selection changes all the time, and so would the alert."""
    for node in nodes(rule, promql.AggregateExpr):
        if re.match(r"topk|bottomk|limitk|limit_ratio", str(node.op)):
            yield f"selects a changing subset: {node.op}"


def nan(rule: Rule) -> Iterator[str]:
    """A divisor must not be 0. Comparisons drop NaN, and a recording rule with NaN leaves a gap in graphs."""
    for node in nodes(rule, promql.BinaryExpr):
        divisor = bare(node.rhs)
        compared = isinstance(divisor, promql.BinaryExpr) and is_number(divisor.rhs)
        guarded = compared and (op(divisor) == ">" or (op(divisor) == ">=" and bare(divisor.rhs).val > 0))
        if op(node) == "/" and not is_number(divisor) and not guarded:
            yield "divides by a value that may be 0"


def impossible(rule: Rule) -> Iterator[str]:
    """Matchers must not contradict each other, and an aggregation may use only labels that still exist."""
    for selector in nodes(rule, promql.VectorSelector):
        equal = [(it.name, it.value) for it in selector.matchers.matchers if str(it.op) == "MatchOp.Equal"]
        if len({first for first, _ in set(equal)}) < len(set(equal)):
            yield f"requires two values of one label: {metric(selector)}"
    for node in nodes(rule, promql.AggregateExpr):
        within = labels(node.expr)
        if within is not None and not (labels(node) or set()) <= within:
            yield f"uses labels that do not exist: {sorted((labels(node) or set()) - within)}"


def vector_matching(rule: Rule) -> Iterator[str]:
    """Both operands need the same labels. Otherwise they never match."""
    for node in nodes(rule, promql.BinaryExpr):
        left, right = labels(node.lhs), labels(node.rhs)
        matched = node.modifier and node.modifier.matching
        if is_number(node.lhs) or is_number(node.rhs) or left is None or right is None or matched:
            continue
        if left != right:
            yield f"operands never match: {sorted(left)} {op(node)} {sorted(right)}"


def counter(rule: Rule) -> Iterator[str]:
    """Counters are read with rate or increase, other metrics are not. The range holds at least two scrapes."""
    for node, above in walk(promql.parse(rule["expr"])):
        if isinstance(node, promql.Call) and node.func.name in OF_COUNTERS:
            (matrix,) = node.args
            if not re.search(r"_(total|bucket|count|sum)$", metric(matrix.vector_selector)):
                yield f"{node.func.name} of a metric that is no counter: {metric(matrix.vector_selector)}"
            if matrix.range.total_seconds() < 120:
                yield f"the range is too short: {matrix.range}"
        if isinstance(node, promql.VectorSelector) and re.search(r"_(total|bucket|count|sum)$", metric(node)):
            around = {it.func.name for it in above if isinstance(it, promql.Call)}
            counts = any(isinstance(it, promql.AggregateExpr) and str(it.op) == "count" for it in above)
            if not counts and not around & (OF_COUNTERS | {"absent_over_time"}):
                yield f"reads a counter without rate or increase: {metric(node)}"


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
            yield f"duplicate rule: {rule.get('alert') or rule.get('record')}"
        seen.add(key)


def dependencies(groups: list[dict[str, Any]]) -> Iterator[str]:
    """Each recording rule that is used exists, and each existing one is used."""
    rules = [rule for group in groups for rule in group["rules"]]
    made = {rule["record"] for rule in rules if "record" in rule}
    asked = {found for rule in rules for found in RECORDED.findall(rule["expr"])}
    yield from (f"recording rule is used but missing: {it}" for it in sorted(asked - made))
    yield from (f"recording rule is never used: {it}" for it in sorted(made - asked))


def intervals(groups: list[dict[str, Any]]) -> Iterator[str]:
    """Groups are evaluated at least every five minutes. Prometheus drops older values."""
    for group in groups:
        if not 0 < duration(group.get("interval", "1m")) <= 300:
            yield f"is evaluated every {group['interval']}: {group['name']}"


def duration(text: str) -> int:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))
