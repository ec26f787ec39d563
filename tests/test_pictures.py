"""The pictures of the dashboards: README shows existing files, and the page draws each panel type that is used."""

import json
import re
from pathlib import Path
from runpy import run_path

import pytest
from grafana import load

import otel_llmstream
from otel_llmstream.monitoring import PROMETHEUS

ROOT = Path(otel_llmstream.__file__).parent.parent
PICTURES = ROOT / "dashboards" / "pictures"
BOARDS = load(PROMETHEUS)
KINDS = json.loads((PICTURES / "panels.json").read_text())
MOST_BYTES = 300_000

SHOWN = [
    (page, page.parent / name)
    for page in (ROOT / "README.md", ROOT / "dashboards" / "README.md")
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())
]

MADE = run_path(str(PICTURES / "make.py"))["PICTURES"]


def every_panel():
    for board in BOARDS.values():
        for panel in board["panels"]:
            yield panel
            yield from panel.get("panels", ())


def words(source, name):
    """The keys of an object literal in a script of the page."""
    found = re.search(rf"^(?:export )?const {name} = \{{(.*?)\}};?$", source, re.MULTILINE | re.DOTALL)
    assert found, f"no {name}"
    return set(re.findall(r"(?:^ {2}|\{ |, |^ )(\w+): ", found[1], re.MULTILINE))


def test_the_pages_show_pictures():
    """README shows the Overview and the demo."""
    names = {path.name for page, path in SHOWN if page.name == "README.md" and page.parent == ROOT}
    assert {"overview.png", "demo-live.svg"} <= names


@pytest.mark.parametrize("path", [path for _, path in SHOWN], ids=lambda it: it.name)
def test_a_picture_that_is_shown_is_there(path):
    """Each picture is a committed file with the right format, and it is small."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if path.suffix == ".png" else b"<svg")
    assert len(content) <= MOST_BYTES


@pytest.mark.parametrize("path", sorted(PICTURES.glob("*.svg")), ids=lambda it: it.name)
def test_terminal_pictures_load_nothing(path):
    """A terminal picture loads no font and nothing else from the network."""
    assert not re.findall(r"url\((?!#)|href|@import", path.read_text())


def test_every_type_of_panel_is_drawn_or_told():
    """`panels.json` lists each panel type that a dashboard uses, as drawn or as a placeholder, and no other type."""
    used = {panel["type"] for panel in every_panel()}
    assert not KINDS["drawn"].keys() & KINDS["placeholders"].keys()
    assert used == KINDS["drawn"].keys() | KINDS["placeholders"].keys()


def test_the_page_has_what_it_says_that_it_draws():
    """Each type that is listed as drawn has a component. The grid itself draws rows."""
    assert words((PICTURES / "src" / "panels.jsx").read_text(), "DRAWN") == KINDS["drawn"].keys() - {"row"}


def test_every_transformation_is_told():
    """`panels.json` lists each transformation that a dashboard uses. The page would skip one that it does not know."""
    used = {it["id"] for panel in every_panel() for it in panel.get("transformations", ())}
    imitated = set(re.findall(r"id: '(\w+)'", (PICTURES / "src" / "transformers.js").read_text()))
    assert used == KINDS["transformations"].keys()
    assert {name for name, by in KINDS["transformations"].items() if by != "@grafana/data"} == imitated


def test_every_other_data_source_is_told():
    """Each data source other than Prometheus is listed as absent, so its panels become placeholders."""
    sources = {panel["datasource"]["type"] for panel in every_panel() if "datasource" in panel}
    assert sources - {"prometheus"} == KINDS["absent"].keys()


@pytest.mark.parametrize(
    ("kind", "table"), [("timeseries", "GRAPH"), ("table", "TABLE"), ("stat", ""), ("bargauge", "")]
)
def test_every_option_of_a_field_is_known(kind, table):
    """The page registers each field option that is used. Grafana silently drops unknown options."""
    source = (PICTURES / "src" / "fields.js").read_text()
    known = words(source, "STANDARD") | ({f"custom.{name}" for name in words(source, table)} if table else set())
    used = set()
    for panel in every_panel():
        if panel["type"] == kind:
            defaults, overrides = panel["fieldConfig"]["defaults"], panel["fieldConfig"]["overrides"]
            used |= defaults.keys() - {"custom"} | {f"custom.{name}" for name in defaults.get("custom", ())}
            used |= {it["id"] for override in overrides for it in override["properties"]}
    assert used
    assert used <= known


@pytest.mark.parametrize("picture", MADE, ids=lambda it: it["file"])
def test_a_picture_is_of_rows_that_there_are(picture):
    """Each picture exists. It begins and ends at rows of its dashboard, in this order."""
    rows = [panel["title"] for panel in BOARDS[picture["board"]]["panels"] if panel["type"] == "row"]
    begin, end = (
        rows.index(picture[key]) if key in picture else other for key, other in (("from", -1), ("to", len(rows)))
    )
    assert begin < end
    assert (PICTURES / picture["file"]).exists()


def test_the_page_s_packages_are_pinned():
    """The page's packages have exact versions. The lock file agrees, and it contains no registry address."""
    wanted = json.loads((PICTURES / "package.json").read_text())["dependencies"]
    locked = json.loads((PICTURES / "package-lock.json").read_text())["packages"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    assert locked[""]["dependencies"] == wanted
    assert not any("resolved" in package for package in locked.values())
    assert all(package["integrity"] for path, package in locked.items() if path)
