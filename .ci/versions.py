# ruff: noqa: INP001, T201 - a script
"""What depends on the interpreter, tested under every other CPython from 3.11 on that is on the PATH.

Each one has an environment of its own.

Run as `python .ci/versions.py FOLDER` by a Python that has uv; the environments are made in FOLDER. The exit status is
1 if an environment cannot be made or a test fails. If there is no other version, it says so, and that is no failure.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
OLDEST, NEWEST_TRIED = 11, 30

CORE: Final = (
    "content_encoding", "sse", "json_array", "sniffing",  # codecs, bytes and decoding, which are the interpreter's
    "dialect_samples",  # one stream of each dialect, through msgspec's C code
    "stream", "observer", "settings",  # the state tables, generated classes, annotations
    "calls",  # context variables
    "close_reason",  # tracebacks, generators and the garbage collector, below sync and async SDKs
    "interruptions",  # the frames of signal handlers
    "deferred",  # finalisers, threads and forks
)  # fmt: skip
"""What depends on the interpreter: what the versions of Python differ in. Rules in plain Python are left out, such as
what each dialect's payloads mean or which path belongs to which dialect: they are the same under every version."""

NEEDED: Final = (
    "pytest", "pytest-timeout", "pytest-xdist", "hypothesis",
    "httpx", "aiohttp", "boto3", "brotli", "zstandard", "backports.zstd", "trio",
)  # fmt: skip
"""Of the extra `dev`, beside `testing` and the demo's SDKs."""


def main(folder: Path) -> int:
    """Run all; the exit status."""
    pythons = others()
    if not pythons:
        print(f"no CPython beside {sys.version.partition(' ')[0]} is on the PATH: nothing to do")
        return 0
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda version: run(version, pythons[version], folder / version), pythons))
    return 0 if all(done) else 1


def others() -> dict[str, str]:
    """Version and program of every other CPython that runs."""
    found = {f"3.{minor}": runnable(f"3.{minor}") for minor in range(OLDEST, NEWEST_TRIED)}
    own = f"3.{sys.version_info.minor}"
    return {version: program for version, program in found.items() if program is not None and version != own}


def runnable(version: str) -> str | None:
    """The program of a version. None if it is not on the PATH. pyenv has a shim for each version, but not all run."""
    name = f"python{version}"
    candidates = [shutil.which(name)]
    if candidates[0] and shutil.which("pyenv"):
        candidates += output(["pyenv", "whence", "--path", name]).split()
    ask = "import platform, ssl; print(platform.python_implementation(), platform.python_version())"
    for program in filter(None, candidates):
        if output([program, "-c", ask]).startswith(f"CPython {version}."):
            return program
    return None


def output(command: list[str]) -> str:
    """What a command prints. Empty if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout if done.returncode == 0 else ""


def run(version: str, program: str, folder: Path) -> bool:
    """Make the environment of a version and run the core in it; print what came of it."""
    uv = (sys.executable, "-m", "uv")
    python = str(folder / "bin" / "python")
    tests = [f"tests/test_{name}.py" for name in CORE]
    output = ""
    for command in (
        (*uv, "venv", "--quiet", "--python", program, str(folder)),
        (*uv, "pip", "install", "--quiet", "--python", python, "-e", f"{ROOT}[demo]", *pins()),
        (python, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-n", "0", *tests),
    ):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
        output = done.stdout + done.stderr
        if done.returncode:
            print(f"CPython {version} ({program}): failed\n{output}")
            return False
    print(f"CPython {version} ({program}): {output.strip().splitlines()[-1]}")
    return True


def pins() -> list[str]:
    """The versions that the extra `dev` names."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        dev = tomllib.load(file)["project"]["optional-dependencies"]["dev"]
    return [pin for pin in dev if pin.partition("==")[0] in NEEDED]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
