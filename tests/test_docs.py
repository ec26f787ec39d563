"""What the documentation says is so: its tables, links, names, code and queries."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import readme_tables
from conditions import PATIENCE

import otel_llmstream
from otel_llmstream import Outcome, Settings, semconv, testing

ROOT = Path(__file__).parent.parent
PAGES = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in readme_tables.PAGES}
README = PAGES["README.md"]
REFERENCE = PAGES["otel_llmstream/README.md"]
TELEMETRY = PAGES["dashboards/TELEMETRY.md"]
LINKED = [*PAGES, "CHANGELOG.md"]
RUN = [name for name in PAGES if name not in ("CONTRIBUTING.md", "dashboards/README.md")]
"""Pages whose Python is run here. `test_new_dialect.py` and `test_guide.py` run that of the other two."""
MOST_LINES = 200
STAND_INS = {'"gpt-5"': '"no-finish"', '"gpt-5-mini"': '"ok"'}
"""What the pages call by a provider's name is asked of the chaos server under the scenario's."""


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The addresses that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run(*command: str | Path, cwd: Path, **extra: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENAI_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, *command], env=kept | extra, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_code(page):
    """The tables are what `python tests/readme_tables.py --write` makes of the code."""
    assert readme_tables.filled(PAGES[page]) == PAGES[page]


def test_every_table_has_its_place():
    """Each table stands on one page, once, so that none is forgotten. README has none of them."""
    assert sorted(readme_tables.names("".join(PAGES.values()))) == sorted(readme_tables.TABLES)
    assert not readme_tables.names(README)


def test_readme_is_short():
    """The first page can be read in some minutes."""
    assert len(README.splitlines()) <= MOST_LINES


def test_nothing_is_said_twice():
    """No paragraph of two lines or more stands on two pages, or twice on one."""
    paragraphs = [part.strip() for page in PAGES.values() for part in re.split(r"\n{2,}", prose(page))]
    long = [part for part in paragraphs if "\n" in part and not part.startswith(("|", "<!--"))]
    assert {part for part in long if long.count(part) > 1} == set()


def test_a_table_that_is_out_of_date_is_noticed():
    """The comparison sees a changed cell, a missing row and an empty table."""
    for page, stale in (
        (REFERENCE, REFERENCE.replace("| `stall_after` |", "| `stall_before` |")),
        (TELEMETRY, re.sub(r"^\| `not_a_stream` .*\n", "", TELEMETRY, flags=re.MULTILINE)),
        (REFERENCE, re.sub(r"(<!-- table: health -->\n).*?(<!-- end -->)", r"\1\2", REFERENCE, flags=re.DOTALL)),
    ):
        assert stale != page
        assert readme_tables.filled(stale) == page


def test_every_folder_has_its_row():
    """The table of the architecture has each folder of the package."""
    package = ROOT / "otel_llmstream"
    assert set(readme_tables.FOLDERS) == {path.parent.name for path in package.glob("*/__init__.py")}


@pytest.mark.parametrize(
    "name", [*Outcome, semconv.EVENT_FIRST_CHUNK, semconv.EVENT_STALL, semconv.EVENT_ATTEMPT_FAILED]
)
def test_tables_by_hand_are_whole(name):
    """Every outcome and every span event has a row."""
    assert re.search(rf"^\| `{re.escape(name)}` \|", TELEMETRY, re.MULTILINE)


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*otel_llmstream.__all__, *testing.__all__} - {"__version__"}))
def test_public_names_are_documented(name):
    """What can be imported is on a page by its name."""
    assert re.search(rf"`(?:otel_llmstream\.)?(?:testing\.)?{name}\b", "".join(PAGES.values()))


@pytest.mark.parametrize("field", [field.name for field in fields(Settings)])
def test_settings_are_documented(field):
    """Each setting is in the reference with its environment variable."""
    assert f"| `{field}` | `OTEL_LLMSTREAM_{field.upper()}` |" in REFERENCE


def test_extras_are_documented():
    """Each extra that a user installs is named."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (section,) = re.findall(r"^### Extras\n\n(.*?)\n\n", REFERENCE, re.MULTILINE | re.DOTALL)
    named = {name for row in section.splitlines()[2:] for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}
    assert named == set(extras) - {"instruments-any", "dev"}


# --- links ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page):
    """A link to a file of ours, or to a heading of a page, has its target."""
    path = ROOT / page
    text = prose(path.read_text(encoding="utf-8"))
    targets = [it for it in re.findall(r"\]\(([^)\s]+)\)", text) if not it.startswith(("https://", "mailto:"))]

    assert [target for target in targets if not leads_somewhere(path, target)] == []
    assert targets or page == "CHANGELOG.md"


def leads_somewhere(page, target):
    file, _, heading = target.partition("#")
    there = page.parent / file if file else page
    if not there.exists():
        return False
    return not heading or heading in anchors(there.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", LINKED)
def test_files_in_backticks_exist(page):
    """A path of ours that is named is there, from the root or from the package."""
    named = re.findall(r"`((?:[\w.]+/)+[\w.]*\w\.py)`", prose((ROOT / page).read_text(encoding="utf-8")))

    assert [path for path in named if not any((base / path).exists() for base in (ROOT, ROOT / "otel_llmstream"))] == []


# --- code -------------------------------------------------------------------------------------------------------

PLUGIN = "pytest_plugins ="
"""What the page's block for `conftest.py` has."""

PYTHON = [
    pytest.param(block, id=f"{name}-{at}") for name in RUN for at, block in enumerate(blocks("python", PAGES[name]))
]


@pytest.mark.parametrize("source", PYTHON)
def test_python_blocks_run(source, chaos_server, tmp_path):
    """The pages' Python does what it says, as a script or, where it is a test, under pytest."""
    for theirs, ours in STAND_INS.items():
        source = source.replace(theirs, ours)
    path = tmp_path / "test_block.py"
    path.write_text(source)
    where = {"OPENAI_BASE_URL": chaos_server.openai_url, "OPENAI_API_KEY": "any"}
    is_test = "def test_" in source
    if is_test:
        (conftest,) = (
            block for block in blocks("python", PAGES["otel_llmstream/testing/README.md"]) if PLUGIN in block
        )
        (tmp_path / "conftest.py").write_text(conftest)
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", path) if is_test else (path,)
    printed = run(*command, cwd=tmp_path, **where)

    expected = re.findall(r"^ *print\(.*\)  # ([\w ]+)", source, re.MULTILINE)
    assert printed.splitlines() == [line.partition(",")[0] for line in expected] or "1 passed" in printed


def test_queries_ask_for_what_is_served(chaos_server, tmp_path):
    """Every name in the PromQL of README and of the telemetry's page is a series or a label of /metrics."""
    queries = "\n".join(blocks("promql") + blocks("promql", TELEMETRY))
    script = tmp_path / "scrape.py"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    script.write_text(
        "import otel_llmstream, openai, httpx2\n"
        f"otel_llmstream.instrument(prometheus_port={port})\n"
        "with openai.OpenAI() as client:\n"
        "    for model in ('ok', 'empty'):\n"
        "        with client.chat.completions.create(model=model, messages=[], stream=True) as stream:\n"
        "            list(stream)\n"
        f"print(httpx2.get('http://127.0.0.1:{port}/metrics').text)\n"
    )
    served = run(script, cwd=tmp_path, OPENAI_BASE_URL=chaos_server.openai_url, OPENAI_API_KEY="any")

    series = set(re.findall(r"^(\w+)\{", served, re.MULTILINE))
    labels = set(re.findall(r'[{,](\w+)="', served))
    asked = set(re.findall(r"\b(?:llmstream|gen_ai_client)_\w+", queries)) - labels
    assert len(asked) >= 3
    assert asked <= series
    by = {label.strip() for group in re.findall(r"by \(([^)]*)\)", queries) for label in group.split(",")}
    assert by | set(re.findall(r"[{,](\w+)[!=]", queries)) <= labels


def test_the_two_commands_name_extras_that_exist():
    """The commands on README's first screen install what pyproject.toml has, and run what is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    commands = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("pip install -e")]

    assert commands == ['pip install -e ".[demo]" && otel-llmstream demo', 'pip install -e ".[dev]" && pytest']
    assert {"demo", "dev"} <= set(project["optional-dependencies"])
    assert "otel-llmstream" in project["scripts"]
    assert 'pip install -e ".[dev]"' in (ROOT / ".ci" / "run").read_text()


def test_changelog_knows_this_version():
    """What is being worked on, or the version as it is, has its section, and something in it."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## \[([^\]]+)\][^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    here = [sections[name] for name in ("Unreleased", otel_llmstream.__version__) if name in sections]

    assert any(
        re.search(r"^### (Added|Changed|Fixed|Removed|Deprecated|Security)\n\n- ", text, re.MULTILINE) for text in here
    )
