"""Compares two files of golden telemetry, and says in a few lines what differs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

SHOWN = 3
"""Cases that are named for each difference. The count says how many there are."""

MISSING = "-"


class Difference(NamedTuple):
    """One difference.

    Attributes:
        kind: what kind of thing differs, such as `span attribute` or `metric series`.
        name: its name.
        change: `added`, `removed`, or `changed`.
        before: the value before, or "-".
        after: the value after, or "-".
        place: the case, or the series.
    """

    kind: str
    name: str
    change: str
    before: str
    after: str
    place: str


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    """All differences of two collections."""
    return [*_cases(before["cases"], after["cases"]), *_metrics(before["metrics"], after["metrics"]),
            *_members("health", before["health"], after["health"], "all phases"),
            *_lists("message", before["messages"], after["messages"], "all phases")]  # fmt: skip


def report(found: list[Difference]) -> str:
    """Differences, those that are alike on one line, the most frequent ones first within their kind."""
    grouped: dict[str, dict[tuple[str, str, str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for item in found:
        grouped[item.kind][item.name, item.change, item.before, item.after].append(item.place)
    lines = []
    for kind, group in sorted(grouped.items()):
        lines.append(f"{kind}: {sum(map(len, group.values()))} differences")
        for (name, change, before, after), places in sorted(
            group.items(), key=lambda entry: (entry[0][0], -len(entry[1]))
        ):
            values = {"added": after, "removed": before}.get(change, f"{before} -> {after}")
            more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
            lines.append(f"  {change:<8}{name}: {values}   ({len(places)}x: {'; '.join(places[:SHOWN])}{more})")
    return "\n".join(lines)


def _cases(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Difference]:
    yield from _keys("case", before, after, "")
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        yield from _members("application", {"raised": old["raised"]}, {"raised": new["raised"]}, name)
        yield from _members("summary", old["summary"] or {}, new["summary"] or {}, name)
        yield from _rows("span", "name", old["spans"], new["spans"], name)
        yield from _rows("log line", "event", old["logs"], new["logs"], name)
        yield from _rows("exception event", "event", old["events"], new["events"], name)


def _rows(kind: str, key: str, before: list[Any], after: list[Any], place: str) -> Iterator[Difference]:
    """Rows that come in an order. Rows of the same name are compared one by one."""
    if [row[key] for row in before] != [row[key] for row in after]:
        yield from _lists(f"{kind}s of a case", [row[key] for row in before], [row[key] for row in after], place)
    rest = list(after)
    for old in before:
        new = next((row for row in rest if row[key] == old[key]), None)
        if new is not None:
            rest.remove(new)
            yield from _members(kind, _facts(old), _facts(new), f"{place}: {old[key]}")
            yield from _members(f"{kind} attribute", _attributes(old), _attributes(new), f"{place}: {old[key]}")
            yield from _rows(
                f"{kind} event", "name", old.get("events", []), new.get("events", []), f"{place}: {old[key]}"
            )


def _attributes(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = row.get("attributes", row.get("keys", {}))
    return found


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("attributes", "keys", "events")}


def _metrics(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Difference]:
    yield from _keys("metric", before, after, "")
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        yield from _members("metric", _head(old), _head(new), name)
        yield from _members(f"metric series of {name}", _series(old), _series(new), name)


def _head(metric: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metric.items() if key != "series"}


def _series(metric: dict[str, Any]) -> dict[str, Any]:
    return {_label(row): _values(row) for row in metric["series"]}


def _label(row: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in row["attributes"].items())


def _values(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "attributes"}


def _members(kind: str, before: Any, after: Any, place: str) -> Iterator[Difference]:
    before, after = ((it if isinstance(it, dict) else {"": it}) for it in (before, after))
    yield from _keys(kind, before, after, place)
    for name in before.keys() & after.keys():
        if before[name] != after[name]:
            yield Difference(kind, name, "changed", str(before[name]), str(after[name]), place)


def _keys(kind: str, before: dict[str, Any], after: dict[str, Any], place: str) -> Iterator[Difference]:
    for name in before.keys() - after.keys():
        yield Difference(kind, name, "removed", _short(before[name]), MISSING, place or name)
    for name in after.keys() - before.keys():
        yield Difference(kind, name, "added", MISSING, _short(after[name]), place or name)


def _lists(kind: str, before: list[Any], after: list[Any], place: str) -> Iterator[Difference]:
    if before != after:
        yield Difference(kind, "", "changed", str(before), str(after), place)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
