"""The command ``otel-llmstream dashboards``. In: a folder and a flavour. Out: Grafana dashboards as files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from otel_llmstream.monitoring import FLAVOURS, dashboard_files

from ..monitoring._palette import Goals
from ._alerts import add_flavour, add_threshold
from ._urls import web_url

_DRIFT: Final = 1
_REFUSED: Final = 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line's parser."""
    parser = subparsers.add_parser(
        "dashboards",
        help="write the Grafana dashboards",
        description="Write the Grafana dashboards (classic JSON, Grafana 10.4 and newer) into a folder. With --check, "
        "report the files in it that differ from what would be written.",
        epilog="Example: otel-llmstream dashboards --slo 99.5 --output monitoring/grafana",
    )
    parser.add_argument("--output", type=_folder, required=True, metavar="DIR", help="the folder; created if missing")
    add_flavour(parser)
    for name in ("slo", "ttft_p95"):
        add_threshold(parser, name)
    parser.add_argument("--runbooks", type=_url, metavar="URL", help="where the runbooks are; panels link to them")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with status 1 if a file differs or is missing"
    )
    parser.set_defaults(run=run)


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("must be the name of a folder")
    return Path(text)


def _url(text: str) -> str:
    if web_url(text) is None:
        raise argparse.ArgumentTypeError(f"must be a URL such as https://example.com/runbooks, got {text}")
    return text.rstrip("/")


def run(args: argparse.Namespace) -> int:
    """Write the files, or check them. Returns exit status 1 if a checked file differs, 2 on a file system error."""
    files = dashboard_files(FLAVOURS[args.flavour], args.runbooks, Goals(args.slo, args.ttft_p95))
    try:
        return _check(args.output, files) if args.check else _write(args.output, files)
    except OSError as error:
        name = error.filename or args.output
        print(f"otel-llmstream dashboards: cannot use {name}: {error.strerror or error}", file=sys.stderr)
        return _REFUSED


def _write(folder: Path, files: dict[str, str]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
        print(folder / name)
    return 0


def _check(folder: Path, files: dict[str, str]) -> int:
    differing = [name for name, text in files.items() if _read(folder / name) != text.encode()]
    for name in differing:
        print(f"otel-llmstream dashboards: {folder / name} differs from what would be written", file=sys.stderr)
    return _DRIFT if differing else 0


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
