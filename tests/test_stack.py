"""The docker compose stack, checked without docker: its mounts, its image, its commands and its addresses."""

import argparse
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import promtool

from otel_llmstream.cli import _demo
from otel_llmstream.monitoring import PROMETHEUS, dashboard_files

ROOT = Path(__file__).parent.parent
STACK = ROOT / "dashboards" / "stack"
PROVISIONING = "/otel-lgtm/grafana/conf/provisioning"

COMPOSE = yaml.safe_load((STACK / "compose.yaml").read_text(encoding="utf-8"))
LGTM, DEMO = COMPOSE["services"]["lgtm"], COMPOSE["services"]["demo"]
MOUNTS = {inside: STACK / outside for outside, inside, _ in (it.split(":") for it in LGTM["volumes"])}


def loaded(name: str) -> Any:
    return yaml.safe_load((STACK / name).read_text(encoding="utf-8"))


def sources() -> dict[str, dict[str, Any]]:
    return {source["uid"]: source for source in loaded("datasources.yaml")["datasources"]}


def values(document: Any, key: str) -> list[Any]:
    """All values of a key, at any depth."""
    if isinstance(document, dict):
        return [found for name, it in document.items() for found in ([it] if name == key else values(it, key))]
    return [found for it in document for found in values(it, key)] if isinstance(document, list) else []


# --- compose ----------------------------------------------------------------------------------------------------


def test_the_image_is_pinned():
    """The image has an exact version, so its paths do not change."""
    assert re.fullmatch(r"docker\.io/grafana/otel-lgtm:\d+\.\d+\.\d+", LGTM["image"])
    assert LGTM["image"].rpartition(":")[2] in (STACK / "compose.yaml").read_text().partition("name:")[0]


def test_it_listens_on_this_machine_only():
    """All ports are on 127.0.0.1, because every visitor is an administrator."""
    assert LGTM["ports"]
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in LGTM["ports"])
    assert "ports" not in DEMO


def test_what_is_mounted_exists():
    """Each mounted path exists. Docker silently creates an empty folder for a missing path."""
    assert {path.name for path in MOUNTS.values() if not path.exists()} == set()
    assert all(it.endswith(":ro") for it in LGTM["volumes"])
    assert {path.name for path in STACK.glob("*.yaml")} - {path.name for path in MOUNTS.values()} == {"compose.yaml"}


def test_the_demo_is_built_of_what_is_here():
    """The Dockerfile copies existing files, copies everything that the build needs, and installs an existing extra."""
    context = (STACK / DEMO["build"]["context"]).resolve()
    recipe = (context / DEMO["build"]["dockerfile"]).read_text(encoding="utf-8")
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE) for name in line.split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert context == ROOT
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    assert copied >= {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    assert copied >= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    (extra,) = re.findall(r"pip install .*\[(\w+)\]", recipe)
    assert extra in project["project"]["optional-dependencies"]
    (version,) = re.findall(r"^FROM \S+python:(\d+\.\d+)-slim$", recipe, re.MULTILINE)
    assert tuple(map(int, version.split("."))) >= (3, 11)


def test_the_demo_is_asked_for_what_it_can():
    """The demo's options are those of the command, and it sends to the stack's OTLP receiver."""
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", (STACK / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    parser = argparse.ArgumentParser()
    _demo.add_parser(parser.add_subparsers())
    options = parser.parse_args(DEMO["command"])

    assert json.loads(entry) == ["otel-llmstream"]
    assert options.otlp_endpoint == "http://lgtm:4318"
    assert DEMO["depends_on"] == ["lgtm"]
    assert "127.0.0.1:4318:4318" in LGTM["ports"]
    assert options.no_prometheus


# --- Grafana ----------------------------------------------------------------------------------------------------


def test_dashboards_are_found():
    """The dashboard provider reads the folder where the dashboards are mounted, and the home page is one of them."""
    (provider,) = loaded("dashboards.yaml")["providers"]
    folder = provider["options"]["path"]
    home = LGTM["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert {path.name for path in MOUNTS[folder].iterdir()} == set(dashboard_files(PROMETHEUS))
    assert Path(home).parent == Path(folder)
    assert (MOUNTS[folder] / Path(home).name).exists()
    assert provider["folder"] == "LLM streams"


@pytest.mark.parametrize("kind", ["datasources", "dashboards", "alerting"])
def test_provisioning_is_where_grafana_looks(kind):
    """Each kind of provisioning has one file in Grafana's folder for it."""
    (path,) = (path for inside, path in MOUNTS.items() if inside.startswith(f"{PROVISIONING}/{kind}/"))
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["apiVersion"] == 1


def test_data_sources_lead_to_each_other():
    """Each uid in a data source or an alert is that of a data source, and each type that dashboards need exists."""
    found = sources()
    named = set(values(list(found.values()), "datasourceUid"))
    rules = yaml.safe_load((ROOT / "dashboards/grafana-alerting/otel-llmstream.yaml").read_text(encoding="utf-8"))

    assert named == {"prometheus", "tempo", "loki"}
    assert named <= set(found)
    assert set(values(rules, "datasourceUid")) - {"__expr__"} == {"prometheus"}
    assert [source["uid"] for source in found.values() if source.get("isDefault")] == ["prometheus"]
    needed = {variable["query"] for text in dashboard_files().values()
              for variable in json.loads(text)["templating"]["list"] if variable["type"] == "datasource"}  # fmt: skip
    assert needed == {source["type"] for source in found.values()}


def test_from_a_dot_to_the_trace_to_its_lines_and_back():
    """Exemplars link to Tempo by their trace id, spans to Loki, and log lines to Tempo. Dollar signs are escaped."""
    found = {uid: source["jsonData"] for uid, source in sources().items()}

    (exemplar,) = found["prometheus"]["exemplarTraceIdDestinations"]
    assert (exemplar["name"], exemplar["datasourceUid"]) == ("trace_id", "tempo")
    assert found["tempo"]["tracesToLogsV2"]["datasourceUid"] == "loki"
    (field,) = found["loki"]["derivedFields"]
    assert (field["datasourceUid"], field["matcherType"], field["matcherRegex"]) == ("tempo", "label", "trace_id")
    assert re.findall(r"(?<!\$)\$(?!\$)", str(found)) == []


def test_metrics_of_a_span_ask_for_what_there_is():
    """The metrics query of a span uses names and labels of the catalogue, in the store's flavour."""
    metrics = sources()["tempo"]["jsonData"]["tracesToMetrics"]
    (query,) = (it["query"] for it in metrics["queries"])

    assert "llmstream_streams_total{$$__tags}" in query
    for tag in metrics["tags"]:
        assert PROMETHEUS.label_name(tag["key"]) == tag["value"]


# --- Prometheus -------------------------------------------------------------------------------------------------

CONFIG = loaded("prometheus.yaml")


@pytest.mark.external
def test_prometheus_takes_the_configuration(tmp_path):
    """Promtool accepts the file with our rules. The section `otlp` is left out: Debian's promtool is too old for it."""
    known = {name: part for name, part in CONFIG.items() if name != "otlp"}
    (pattern,) = known["rule_files"]
    rules = MOUNTS[str(Path(pattern).parent)] / Path(pattern).name
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump({**known, "rule_files": [str(rules)]}))

    done = promtool("check", "config", "prometheus.yaml", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "SUCCESS: 1 rule files found" in done.stdout
    assert MOUNTS["/otel-lgtm/prometheus.yaml"] == STACK / "prometheus.yaml"


def test_names_are_those_that_dashboards_ask_for():
    """The store uses the same flavour of names as the committed dashboards and rules."""
    assert set(CONFIG["otlp"]) == {"translation_strategy", "promote_resource_attributes"}
    assert CONFIG["otlp"]["translation_strategy"] == "UnderscoreEscapingWithSuffixes"


def test_prometheus_options_can_be_read():
    """Each word of PROMETHEUS_EXTRA_ARGS is an option, because the image splits it at spaces."""
    assert all(it.startswith("--") for it in shlex.split(LGTM["environment"]["PROMETHEUS_EXTRA_ARGS"]))
