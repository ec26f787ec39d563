"""The files of alert rules and runbooks. In: options, a format. Out: texts by relative path."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ._alerts import Options
from ._grafana_rules import alerting_file
from ._names import PROMETHEUS
from ._rules import prometheus_rule, rule_groups
from ._runbooks import pages
from ._thresholds import format_seconds
from ._yaml import dump

RULES: Final = "otel-llmstream.yaml"

_FORMATS: Final[Mapping[str, tuple[str, Callable[[Options], Any]]]] = {
    "prometheus": (f"prometheus/{RULES}", lambda options: {"groups": rule_groups(options)}),
    "grafana": (f"grafana-alerting/{RULES}", alerting_file),
    "kubernetes": (f"kubernetes/{RULES}", prometheus_rule),
}
FORMATS: Final = tuple(_FORMATS)


def rules(options: Options, form: str) -> tuple[str, str]:
    """The path and the text of a rule file.

    Args:
        options: the options of the rule file.
        form: one of `FORMATS`.
    """
    path, document = _FORMATS[form]
    return path, dump(
        document(options),
        f"Written by: {command(options, form)}",
        "Change the options, not this file.",
    )


def alert_files(options: Options, form: str) -> dict[str, str]:
    """The rule file and all runbooks, by relative path."""
    return dict([rules(options, form)]) | {f"runbooks/{name}": text for name, text in pages(options).items()}


def command(options: Options, form: str) -> str:
    """The command that writes this rule file."""
    return shlex.join(["otel-llmstream", "alerts", "--format", form, *_changed_options(options, form)])


def _lists(options: Options, form: str) -> Iterator[str]:
    """The options that can be given more than once."""
    chosen = {
        "--job": options.jobs,
        "--by": options.by,
        "--ignore-errors": (",".join(options.ignore_errors),) if options.ignore_errors else (),
        "--only": sorted(options.only),
        "--without": sorted(options.without),
        "--label": [f"{name}={value}" for name, value in options.resource_labels] if form == "kubernetes" else (),
    }
    for option, values in chosen.items():
        for value in values:
            yield from (option, value)


def _changed_options(options: Options, form: str) -> Iterator[str]:
    for spec, value in options.thresholds.changed():
        yield from (spec.option, spec.format_value(value))
    plain = Options()
    if options.interval != plain.interval:
        yield from ("--interval", format_seconds(options.interval))
    yield from _lists(options, form)
    if options.runbooks != plain.runbooks:
        yield from ("--runbooks", options.runbooks)
    if options.grafana != plain.grafana:
        yield from ("--grafana", options.grafana)
    if options.flavour != PROMETHEUS:
        yield from ("--flavour", options.flavour.name)
    if form == "grafana" and options.datasource != plain.datasource:
        yield from ("--datasource-uid", options.datasource)
