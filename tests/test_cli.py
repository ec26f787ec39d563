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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dance"], "otel-llmstream: unknown command 'dance' (there is demo, chaos, "),
        (["dmo"], "otel-llmstream: unknown command 'dmo': did you mean 'demo'? See otel-llmstream --help."),
        (["--vrsion"], "otel-llmstream: unknown argument '--vrsion': did you mean '--version'? "),
        (
            ["demo", "--no-promethus=1"],
            "otel-llmstream demo: unknown argument '--no-promethus': did you mean ",
        ),
        (
            ["alerts", "--format", "grafna"],
            "otel-llmstream alerts: unknown value for --format: 'grafna': did ",
        ),
        (["inspect"], "otel-llmstream inspect: missing: FILE. See otel-llmstream inspect --help."),
        *((["chaos", "--port", it], "otel-llmstream chaos: argument --port: ") for it in ("x", "-3", "70000")),
    ],
)
def test_nonsense_is_refused(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error is one line that names the nearest valid word, without the usage. The status is 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(sentence)
    assert printed.count("\n") == 1


def test_without_arguments_it_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """The command alone names the first commands. Each of them exists."""
    assert main([]) == 0

    named = re.findall(r"^  otel-llmstream (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert named[0] == "demo"
    for command in named:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0


def test_the_module_is_the_command() -> None:
    """`python -m otel_llmstream` works."""
    command = (sys.executable, "-m", "otel_llmstream", "--version")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1] == __version__


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
