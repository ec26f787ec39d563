# ruff: noqa: INP001, T201 - a script
"""Smoke test of the installed wheel: imports, the command, and one observed call of the openai SDK."""

from __future__ import annotations

import subprocess
import sysconfig
from importlib.metadata import entry_points, version
from pathlib import Path

from openai import OpenAI

import otel_llmstream
from otel_llmstream.testing import SCENARIOS, ChaosServer, capture


def command(*arguments: str) -> str:
    """The output of the installed command."""
    path = Path(sysconfig.get_path("scripts")) / "otel-llmstream"
    return subprocess.run([path, *arguments], check=True, capture_output=True, text=True).stdout  # noqa: S603 - the package's own command


def _name(path: Path) -> str:
    return path.name


def check(what: str, *, holds: bool) -> None:
    """Print a passed check, or exit with an error."""
    if not holds:
        raise SystemExit(f"smoke test failed: {what}")
    print(f"ok: {what}")


def main() -> None:
    """Run all checks."""
    package = Path(otel_llmstream.__file__)
    check("the package comes from the wheel", holds=package.is_relative_to(sysconfig.get_path("purelib")))
    check("the package contains py.typed", holds=(package.parent / "py.typed").exists())
    page = package.parent / "status" / "page"
    check(
        "the package contains the live page",
        holds={"index.html", "page.css", "page.js"} <= set(map(_name, page.iterdir())),
    )
    check(
        "the command, the module and the metadata have the same version",
        holds=command("--version").split()[1] == otel_llmstream.__version__ == version("otel-llmstream"),
    )
    check("the command lists the scenarios", holds=len(command("chaos", "--list").splitlines()) == len(SCENARIOS) > 0)
    check("the command writes alert rules", holds="alert: LLMStreamTruncated" in command("alerts"))
    check("the command writes dashboards", holds=len(command("dashboards", "--output", "dashboards").splitlines()) > 0)
    (point,) = entry_points(group="opentelemetry_instrumentor", name="llmstream")
    check("the entry point of OpenTelemetry is registered", holds=point.load() is otel_llmstream.LLMStreamInstrumentor)
    with capture() as captured, ChaosServer() as server:
        with (
            OpenAI(base_url=server.openai_url, api_key="any") as client,
            client.chat.completions.create(model="no-finish", messages=[], stream=True) as stream,
        ):
            chunks = sum(1 for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
        attributes = dict(captured.span.attributes or {})
    check("the application received its chunks", holds=chunks == attributes["llmstream.chunks"] > 0)
    check("a truncated stream is reported", holds=attributes["error.type"] == "stream_truncated")


if __name__ == "__main__":
    main()
