# ruff: noqa: INP001, T201 - a script
"""The wheel as a user gets it: imports, the command, and one observed call of the openai SDK."""

from __future__ import annotations

import subprocess
import sysconfig
from importlib.metadata import entry_points, version
from pathlib import Path

from openai import OpenAI

import otel_llmstream
from otel_llmstream.testing import SCENARIOS, ChaosServer, capture


def command(*arguments: str) -> str:
    """What the installed command prints."""
    path = Path(sysconfig.get_path("scripts")) / "otel-llmstream"
    return subprocess.run([path, *arguments], check=True, capture_output=True, text=True).stdout  # noqa: S603 - ours


def check(what: str, *, holds: bool) -> None:
    """Say it, or end with it."""
    if not holds:
        raise SystemExit(f"smoke test: not so: {what}")
    print(f"ok: {what}")


def main() -> None:
    """Check one thing after the other."""
    package = Path(otel_llmstream.__file__)
    check("the package comes from the wheel", holds=package.is_relative_to(sysconfig.get_path("purelib")))
    check("the package says that it is typed", holds=(package.parent / "py.typed").exists())
    check(
        "one version", holds=command("--version").split()[1] == otel_llmstream.__version__ == version("otel-llmstream")
    )
    check("the command lists the scenarios", holds=len(command("chaos", "--list").splitlines()) == len(SCENARIOS) > 0)
    check("the command writes alert rules", holds="alert: LLMStreamTruncated" in command("alerts"))
    check("the command writes dashboards", holds=len(command("dashboards", "--output", "dashboards").splitlines()) > 0)
    (point,) = entry_points(group="opentelemetry_instrumentor", name="llmstream")
    check("OpenTelemetry finds it", holds=point.load() is otel_llmstream.LLMStreamInstrumentor)
    with capture() as captured, ChaosServer() as server:
        with (
            OpenAI(base_url=server.openai_url, api_key="any") as client,
            client.chat.completions.create(model="no-finish", messages=[], stream=True) as stream,
        ):
            chunks = sum(1 for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
        attributes = dict(captured.span.attributes or {})
    check("the application has its chunks", holds=chunks == attributes["llmstream.chunks"] > 0)
    check("a stream that was cut is seen", holds=attributes["error.type"] == "stream_truncated")


if __name__ == "__main__":
    main()
