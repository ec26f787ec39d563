"""Compares plain and direct records under the OpenTelemetry SDK that is on the path. To be run, not imported.

    python -S tests/sdk_versions.py otel_llmstream/telemetry/fast_path.py

`fast_path` is loaded by its path: the package around it may need a newer OpenTelemetry than the one that is checked.
"""

import importlib.util
import sys
from importlib.metadata import version
from types import ModuleType

import metric_pairs


def load(path: str) -> ModuleType:
    """A module by its file."""
    spec = importlib.util.spec_from_file_location("fast_path", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Fail if the two differ. Print what was compared."""
    fast_path = load(sys.argv[1])
    print("opentelemetry-sdk", version("opentelemetry-sdk"))  # noqa: T201
    assert fast_path.fast_path_supported(), "the self-check found a difference"
    fast_path.Series.record_plainly = None  # from here on, nothing may fall back
    metric_pairs.check_all(fast_path, print)


if __name__ == "__main__":
    main()
