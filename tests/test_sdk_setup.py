"""Our imports depend on no private name of OpenTelemetry, and what needs one is fenced in."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import otel_llmstream

ROOT = Path(otel_llmstream.__file__).parent

DOCUMENTED = {"opentelemetry._logs", "opentelemetry.sdk._logs", "opentelemetry.sdk._logs.export"}
"""Public modules of the logs API and SDK. They have an underscore as long as they are experimental."""


def private_imports(source: str) -> Iterator[str]:
    """The private names of OpenTelemetry that a module imports when it is imported itself."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("opentelemetry"):
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from (name for name in names if "._" in name and module not in DOCUMENTED)
        elif isinstance(node, ast.Import):
            yield from (it.name for it in node.names if it.name.startswith("opentelemetry") and "._" in it.name)


def test_no_import_depends_on_a_private_name() -> None:
    """A release of OpenTelemetry may rename what is private; an application must still start."""
    found = {str(path): list(private_imports(path.read_text())) for path in ROOT.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}


def test_the_check_itself() -> None:
    """It would be found."""
    assert list(private_imports("from opentelemetry.metrics._internal import X")) == [
        "opentelemetry.metrics._internal.X"
    ]
    assert list(private_imports("from opentelemetry._logs import get_logger")) == []


RENAMED = """
import opentelemetry.metrics._internal as api
import opentelemetry.sdk._configuration as configuration
api._Renamed = api._ProxyMeterProvider
api._Renamed.__name__ = "_Renamed"
del api._ProxyMeterProvider
del configuration._OTelSDKConfigurator
import otel_llmstream
{then}
"""


def run(then: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RENAMED.format(then=then)],
        capture_output=True, text=True, check=False, timeout=50, env={"PYTHONPATH": str(ROOT.parent), **environment},
    )  # fmt: skip


def test_renamed_private_classes_break_nothing() -> None:
    """`instrument()` still finds out that nothing is set up, and says so."""
    done = run("otel_llmstream.instrument()")
    assert done.returncode == 0, done.stderr
    assert "OpenTelemetry is not set up" in done.stderr


def test_a_renamed_configurator_is_told() -> None:
    """What cannot be set up from the environment is a warning, not an exception."""
    done = run("otel_llmstream.instrument()", OTEL_TRACES_EXPORTER="console")
    assert done.returncode == 0, done.stderr
    assert "setting OpenTelemetry up from the environment failed" in done.stderr
