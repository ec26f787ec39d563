"""Test every SDK in its environment: `python tests/sdks/run.py [--write] [ENVIRONMENT ...]`.

Each environment of `environments.py` is created with uv, and `check_sdks.py` runs in it. The results must be those in
`seen.jsonl`, from which README's table is generated. `--write` replaces them. The exit status is 1 if a test fails or
the results differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from environments import ENVIRONMENTS

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent
SEEN: Final = HERE / "seen.jsonl"
CHECKS: Final = HERE / "check_sdks.py"
TOOLS: Final = ("pytest==9.2.0", "pytest-timeout==2.4.0", "hypothesis==6.170.15")
AT_ONCE: Final = 2  # environments in parallel; a small machine can run two

# Hugging Face's client sends a request about the running program to the Hub. No server listens on the discard port.
SETTINGS: Final = {
    "HF_HUB_OFFLINE": "0",
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


@dataclass(frozen=True)
class Result:
    """The result of one environment.

    Attributes:
        name: the environment's name.
        passed: whether it could be created and all its tests passed.
        output: the output of the commands.
        rows: the results, one row per driver and case.
    """

    name: str
    passed: bool
    output: str
    rows: list[dict[str, Any]]


def main(arguments: list[str]) -> int:
    """Run the requested environments. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="store the results in seen.jsonl")
    parser.add_argument("environments", nargs="*", metavar="ENVIRONMENT", help=", ".join(ENVIRONMENTS))
    options = parser.parse_args(arguments)
    names = options.environments or list(ENVIRONMENTS)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(lambda name: run(name, Path(folder) / name), names))
    for result in results:
        last = result.output.strip().splitlines()[-1:] or ["nothing was printed"]
        print(f"{result.name}: {last[0] if result.passed else result.output}")
    passed = all(result.passed for result in results)
    return 0 if passed and kept(results, write=options.write) else 1


def run(name: str, folder: Path) -> Result:
    """Create an environment and run the tests in it."""
    uv = (sys.executable, "-m", "uv")
    python = folder / "bin" / "python"
    seen = folder / "seen.json"
    packages = ("-e", f"{ROOT}[testing]", *TOOLS, *ENVIRONMENTS[name].requirements)
    # The project's options need plug-ins that are not installed here. Warnings of the SDKs are not errors here.
    ours = ("-o", "addopts=", "-p", "no:cacheprovider", "-W", "default", "--disable-warnings")
    pytest = ("-m", "pytest", "-q", "--tb=short", *ours)
    environment = os.environ | SETTINGS | {"OTEL_LLMSTREAM_SDKS": name, "OTEL_LLMSTREAM_SEEN": str(seen)}
    output = ""
    for command in (
        (*uv, "venv", "--quiet", "--python", sys.executable, str(folder)),
        (*uv, "pip", "install", "--quiet", "--python", str(python), *packages),
        (str(python), *pytest, str(CHECKS)),
    ):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        output += done.stdout + done.stderr
        if done.returncode:
            return Result(name, passed=False, output=output, rows=[])
    rows = [{"environment": name, **row} for row in json.loads(seen.read_text(encoding="utf-8"))]
    return Result(name, passed=True, output=output, rows=rows)


def kept(results: list[Result], *, write: bool) -> bool:
    """Whether the results are those in `seen.jsonl`. With `write`, the file is replaced and the answer is True."""
    names = {result.name for result in results}
    rows = [row for result in results for row in result.rows]
    others = [row for row in _kept() if row["environment"] in ENVIRONMENTS.keys() - names]
    wanted = "".join(sorted(f"{json.dumps(row)}\n" for row in (*others, *rows)))
    if write:
        SEEN.write_text(wanted, encoding="utf-8")
        return True
    new = set(wanted.splitlines()).symmetric_difference(json.dumps(row) for row in _kept())
    for line in sorted(new):
        print("differs from seen.jsonl:", line)
    return not new


def _kept() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SEEN.read_text(encoding="utf-8").splitlines()] if SEEN.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
