"""The command ``otel-llmstream alerts``. In: thresholds. Out: alert rules and a runbook for each alert."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from .. import semconv
from ..monitoring import FLAVOURS, PROMETHEUS
from ..monitoring._alerts import ALERTS, Options
from ..monitoring._expressions import ALERT_LABELS, LONGEST_INTERVAL, LONGEST_UNFITTED
from ..monitoring._thresholds import (
    PERCENTILES,
    THRESHOLD_SPECS,
    Thresholds,
    ThresholdSpec,
    bounds_around,
    format_seconds,
)
from ._parser import nearest
from ._urls import web_url

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NUMBER: Final = r"-?\d+(?:\.\d+)?"
_FORMATS: Final = ("prometheus", "grafana", "kubernetes")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line's parser."""
    parser = subparsers.add_parser(
        "alerts",
        help="print alert rules, or write them and their runbooks",
        description="Write alert rules for Prometheus (Mimir, Thanos, VictoriaMetrics), for Grafana, or for the "
        "Prometheus operator (a PrometheusRule), and a runbook for each alert. Without --output the rules go to "
        "standard output.",
        epilog="Example: otel-llmstream alerts --job shop --slo 99.5 --output monitoring",
    )
    parser.add_argument(
        "--format", choices=_FORMATS, default="prometheus", help="the system that reads the rules (%(default)s)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write into this folder: prometheus/, grafana-alerting/ or kubernetes/, and runbooks/",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file below --output differs")
    _add_thresholds(parser.add_argument_group("thresholds, each with its default"))
    _add_environment(parser.add_argument_group("what to watch, and where things are"))
    parser.set_defaults(run=lambda args: run(args, parser))


def _add_thresholds(group: argparse._ArgumentGroup) -> None:
    for spec in THRESHOLD_SPECS:
        add_threshold(group, spec.name)


def add_threshold(group: argparse._ActionsContainer, name: str) -> None:
    """Add the option of one threshold."""
    (spec,) = (it for it in THRESHOLD_SPECS if it.name == name)
    default = spec.format_value(spec.default).replace("%", "%%")
    group.add_argument(
        spec.option, type=_reader(spec), default=spec.default, metavar=_METAVARS[spec.kind],
        help=f"{spec.meaning} ({default})",
    )  # fmt: skip


def add_flavour(group: argparse._ActionsContainer) -> None:
    """Add the option that says how the metrics store spells names."""
    group.add_argument(
        "--flavour",
        choices=FLAVOURS,
        default=PROMETHEUS.name,
        help="how the metrics store spells names: prometheus (underscores and units; also Grafana Cloud), mimir (OTLP "
        "into Mimir with its defaults: no units), utf8 (Prometheus 3 configured to keep dots; needs Grafana 12) "
        "(default: %(default)s)",
    )


def _add_environment(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--job", action="append", default=[], type=_name, metavar="NAME",
        help="watch this job only, and alert if its instances or its telemetry are missing; may be repeated (default: "
        "all jobs, without these alerts)",
    )  # fmt: skip
    group.add_argument(
        "--by", action="append", default=[], type=_label, metavar="LABEL",
        help="keep this label in every sum, so that each of its values has its own alerts (cluster, namespace, "
        "server_address); may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--ignore-errors", type=_error_types, default=(), metavar="TYPES",
        help="leave streams with these values of error_type out of every alert; separated by commas, such as "
        "400,404,422",
    )  # fmt: skip
    group.add_argument(
        "--interval", type=_interval, default=Options().interval, metavar="DURATION",
        help=f"the longest scrape or export interval of your services; above {LONGEST_UNFITTED:g}s the windows "
        f"become longer, up to {LONGEST_INTERVAL:g}s is possible ({format_seconds(Options().interval)})",
    )  # fmt: skip
    group.add_argument(
        "--only", action="append", default=[], metavar="ALERT", help="write only this alert; may be repeated"
    )
    group.add_argument(
        "--without", action="append", default=[], metavar="ALERT", help="leave this alert out; may be repeated"
    )
    group.add_argument(
        "--runbooks", type=_address, default=Options().runbooks, metavar="URL",
        help="where you publish the runbooks (%(default)s, next to the rules)",
    )  # fmt: skip
    group.add_argument(
        "--grafana", type=_address, metavar="URL",
        help="where Grafana is; alerts link to its dashboards (default: links without a host)",
    )  # fmt: skip
    add_flavour(group)
    group.add_argument(
        "--datasource-uid", type=_uid, default=Options().datasource, metavar="UID",
        help="Grafana's data source, for --format grafana (%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--label", action="append", default=[], type=_resource_label, metavar="NAME=VALUE",
        help="a label of the PrometheusRule, for --format kubernetes, such as the one that your Prometheus selects "
        "rules by (release=monitoring); may be repeated",
    )  # fmt: skip


# --- reading values ---


def _percent(text: str) -> float:
    if not re.fullmatch(rf"{_NUMBER}%?", text):
        raise argparse.ArgumentTypeError(f"must be a percentage such as 99.5 or 99.5%, got {text!r}")
    return float(text.removesuffix("%"))


def _seconds(text: str) -> float:
    found = re.fullmatch(rf"({_NUMBER})({'|'.join(_UNITS)})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"must be a duration such as 2s, 500ms or 10m, got {text!r}")
    return round(float(found[1]) * _UNITS[found[2]], 3)


def _plain(text: str) -> float:
    if not re.fullmatch(_NUMBER, text):
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}")
    return float(text)


def _count(text: str) -> int:
    if not re.fullmatch(r"-?\d+", text):
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}")
    return int(text)


_READERS: Final[Mapping[str, Callable[[str], float]]] = {
    "percent": _percent, "seconds": _seconds, "times": _plain, "count": _count,
}  # fmt: skip
_METAVARS: Final = {"percent": "PERCENT", "seconds": "DURATION", "times": "NUMBER", "count": "COUNT"}


def _reader(spec: ThresholdSpec) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = _READERS[spec.kind](text)
        problem = spec.problem(value) if math.isfinite(value) else f"must be finite, got {text}"
        if problem:
            raise argparse.ArgumentTypeError(problem)
        return value

    return read


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("must be a value of the label 'job': printable and not blank")
    return text


_TAKEN: Final = frozenset(
    {"alertname", "alertstate", "severity", "long", "short", "instance", "le", "__name__"}
    | {semconv.OUTCOME, semconv.ERROR_TYPE, semconv.FINISH_REASON, semconv.PHASE}
)
"""Labels that no alert can keep: they are the alert's own, or their values are parts of one sum."""


def _label(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"must be the name of a label such as cluster, got {text!r}")
    if text in {spelling for it in (*_TAKEN, *ALERT_LABELS) for spelling in (it, it.replace(".", "_"))}:
        raise argparse.ArgumentTypeError(f"cannot keep the label {text}")
    return text


def _error_types(text: str) -> tuple[str, ...]:
    values = tuple(dict.fromkeys(it.strip() for it in text.split(",")))
    if not all(re.fullmatch(r"[\w.-]+", it, re.ASCII) for it in values):
        raise argparse.ArgumentTypeError(f"must be values of error_type such as 400,404,422, got {text!r}")
    return values


def _interval(text: str) -> float:
    seconds = _seconds(text)
    if not 1 <= seconds <= LONGEST_INTERVAL:
        raise argparse.ArgumentTypeError(f"must be from 1s to {LONGEST_INTERVAL:g}s, got {text}")
    return seconds


def _uid(text: str) -> str:
    if not re.fullmatch(r"[\w-]{1,40}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"must be a uid of at most 40 letters, digits, '-' and '_', got {text!r}")
    return text


def _resource_label(text: str) -> tuple[str, str]:
    """A label of a Kubernetes resource, by the rules of Kubernetes."""
    name, _, value = text.partition("=")
    word = r"[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?"
    if not re.fullmatch(rf"(?:[a-z0-9.-]{{1,253}}/)?{word}", name, re.ASCII) or not (
        "=" in text and re.fullmatch(rf"(?:{word})?", value, re.ASCII)
    ):
        raise argparse.ArgumentTypeError(f"must be a label of Kubernetes such as release=monitoring, got {text!r}")
    return name, value


def _address(text: str) -> str:
    if not text.rstrip("/") or re.search(r"\s", text) or ("://" in text and web_url(text) is None):
        raise argparse.ArgumentTypeError(f"must be a URL such as https://wiki.example/folder, got {text!r}")
    return text.rstrip("/")


# --- running ---


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Write, print or check the files. Returns exit status 0; 1 if files differ; 2 on an error."""
    for option, chosen in (("--only", args.only), ("--without", args.without)):
        unknown = sorted(set(chosen) - {alert.name for alert in ALERTS})
        if unknown:
            names = dict.fromkeys(alert.name for alert in ALERTS)
            parser.error(f"argument {option}: no alert is called {unknown[0]!r}{nearest(unknown[0], names)}")
    if args.label and args.format != "kubernetes":
        parser.error("argument --label: needs --format kubernetes")
    if args.check and args.output is None:
        parser.error("argument --check: needs --output")
    if args.output is not None and args.output.exists() and not args.output.is_dir():
        parser.error(f"argument --output: {args.output} is not a directory")
    try:
        from ..monitoring._files import alert_files, rules
    except ModuleNotFoundError as error:
        return _fail(str(error))
    options = _options(args)
    _note(options)
    if args.output is None:
        print(rules(options, args.format)[1], end="")
        return 0
    files = alert_files(options, args.format)
    return _check(args.output, files) if args.check else _write(args.output, files)


def _options(args: argparse.Namespace) -> Options:
    return Options(
        Thresholds(**{spec.name: getattr(args, spec.name) for spec in THRESHOLD_SPECS}),
        FLAVOURS[args.flavour],
        tuple(dict.fromkeys(args.job)),
        frozenset(args.without),
        args.runbooks,
        args.datasource_uid,
        by=tuple(dict.fromkeys(args.by)),
        ignore_errors=args.ignore_errors,
        interval=args.interval,
        only=frozenset(args.only),
        grafana=args.grafana or Options().grafana,
        resource_labels=tuple(args.label),
    )


def _note(options: Options) -> None:
    for spec in THRESHOLD_SPECS:
        value = getattr(options.thresholds, spec.name)
        around = bounds_around(value, PERCENTILES[spec.name]) if spec.name in PERCENTILES else None
        if around:
            low, high = around
            _say(
                f"{spec.option} {value:g}s lies between the histogram's bounds {low:g}s and {high:g}s: "
                "between bounds the percentile is interpolated; at a bound it is exact"
            )
    needing = {alert.name for alert in ALERTS if alert.needs_jobs and (not options.only or alert.name in options.only)}
    if needing and not options.jobs:
        _say(f"{' and '.join(sorted(needing))} need --job: name the jobs that must run and send telemetry")


def _write(directory: Path, files: Mapping[str, str]) -> int:
    try:
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        return _fail(f"cannot write {error.filename or directory}: {error.strerror or error}")
    pages = sum(name.startswith("runbooks/") for name in files)
    print(f"wrote {directory / next(iter(files))}, and {pages} runbooks to {directory / 'runbooks'}")
    return 0


def _check(directory: Path, files: Mapping[str, str]) -> int:
    stale = [name for name, text in files.items() if _read(directory / name) != text]
    for name in stale:
        _say(f"{directory / name} is not what these options give")
    return 1 if stale else 0


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _say(message: str) -> None:
    print(f"otel-llmstream alerts: {message}", file=sys.stderr)


def _fail(message: str) -> int:
    _say(message)
    return 2
