"""The golden telemetry: all that the scenarios leave in spans, metrics and logs, in one file.

    python tests/golden/collect.py --write         collect, and write tests/golden/telemetry.json
    python tests/golden/collect.py --output FILE   collect, and write FILE
    python tests/golden/collect.py                 collect, and compare with tests/golden/telemetry.json
    python tests/golden/collect.py --diff A B      say what differs between two files

The scenarios are played by real SDKs against the chaos server, with `otel_llmstream.instrument()` and nothing else of
this package. So the program also runs with another version of the package: set PYTHONPATH to its checkout.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from differences import differences, report

GOLDEN = Path(__file__).parent / "telemetry.json"

DEEP = 4
"""Levels of the file that are indented: file, cases, case, spans. A span is one line."""


def load(path: Path) -> dict[str, Any]:
    """Read a file of golden telemetry."""
    found: dict[str, Any] = json.loads(path.read_text())
    cases = found["cases"]
    found["cases"] = {name: cases[case] if isinstance(case, str) else case for name, case in cases.items()}
    return found


def collected() -> dict[str, Any]:
    """Collect, and return it as it comes back from a file."""
    from collection import collect  # with the SDKs and the package, which a comparison of two files does not need

    found: dict[str, Any] = json.loads(json.dumps(collect()))
    return found


def write(path: Path, found: dict[str, Any]) -> None:
    """Write a file of golden telemetry: one span, log line or metric series on a line.

    A case that left the same as an earlier one is written as the name of that one.
    """
    path.write_text(as_text({**found, "cases": without_repetitions(found["cases"])}) + "\n")


def without_repetitions(cases: dict[str, Any]) -> dict[str, Any]:
    """The cases, in which a case that equals an earlier one is that one's name."""
    first: dict[str, str] = {}
    return {
        name: case if (earlier := first.setdefault(json.dumps(case, sort_keys=True), name)) == name else earlier
        for name, case in sorted(cases.items())
    }


def as_text(value: Any, depth: int = 0) -> str:
    """JSON, indented down to `DEEP` levels."""
    if isinstance(value, (dict, list)) and value and depth < DEEP:
        inner = [
            json.dumps(key) + ": " + as_text(value[key], depth + 1)
            if isinstance(value, dict)
            else as_text(key, depth + 1)
            for key in (sorted(value) if isinstance(value, dict) else value)
        ]
        left, right = "{}" if isinstance(value, dict) else "[]"
        indent = " " * depth
        return f"{left}\n{indent} " + f",\n{indent} ".join(inner) + f"\n{indent}{right}"
    return json.dumps(value, sort_keys=True)


def main() -> int:
    """Do what the command line says. The exit status is 1 if something differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help=f"write {GOLDEN.name} beside this program")
    action.add_argument("--output", type=Path, metavar="FILE")
    action.add_argument("--diff", type=Path, nargs=2, metavar=("A", "B"))
    options = parser.parse_args()
    if options.write or options.output:
        write(options.output or GOLDEN, collected())
        return 0
    before, after = map(load, options.diff) if options.diff else (load(GOLDEN), collected())
    found = differences(before, after)
    print(report(found) or "no difference")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
