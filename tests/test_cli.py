"""The command line: its output, its error messages and its exit status."""

import os
import re
import signal
import subprocess
import sys

import httpx2
import pytest

from otel_llmstream import __version__
from otel_llmstream.cli import main
from otel_llmstream.testing import SCENARIOS

COMMAND = (sys.executable, "-c", "import sys; from otel_llmstream.cli import main; sys.exit(main(sys.argv[1:]))")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the name and the version."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"otel-llmstream {__version__}\n"


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` names every command."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"\n    {command}\s", printed) for command in ("demo", "chaos", "dashboards", "hops"))


@pytest.mark.parametrize("arguments", [[], ["dance"], *(["chaos", "--port", port] for port in ("x", "-3", "70000"))])
def test_nonsense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A missing or unknown command, or a bad option, gives an error message and status 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_chaos_list(capsys: pytest.CaptureFixture[str]) -> None:
    """`chaos --list` names every scenario, in order."""
    status = main(["chaos", "--list"])

    assert status == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(SCENARIOS)


def test_chaos_serves_until_interrupted() -> None:
    """`chaos` serves streams in its own process. Ctrl-C ends it with status 0 and without output on stderr."""
    with subprocess.Popen(
        [*COMMAND, "chaos", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[3]
            body = {"model": "no-finish?chunks=4&delay=0", "stream": True}
            answer = httpx2.post(f"{url}/v1/chat/completions", json=body)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()

    assert answer.text.count('"content":" ') == 2
    assert "[DONE]" not in answer.text
    assert process.returncode == 0
    assert out.endswith("stopped\n")
    assert err == ""


def test_a_reader_that_has_read_enough() -> None:
    """If the reader of the output closes the pipe, as `head` does, the command exits with status 141 and no message."""
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as pipe:
        done = subprocess.run(
            [*COMMAND, "chaos", "--list"], stdout=pipe, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")
