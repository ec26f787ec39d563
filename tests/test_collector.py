"""The Collector's configurations: structure, names and addresses. The tests need no Collector.

The names of the settings come from the sources of version 0.159.0 (README and config.go of each component).
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

FOLDER = Path(__file__).parent.parent / "dashboards" / "collector"
CONFIGS = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.yaml")}
GATEWAY, AGENT = CONFIGS["otelcol.yaml"], CONFIGS["agent.yaml"]

KINDS = ("receivers", "processors", "exporters")
SIGNALS = {"metrics", "traces", "logs"}

CLIENT = {"endpoint", "tls", "headers", "sending_queue", "retry_on_failure", "timeout"}
SETTINGS = {
    "health_check": {"endpoint"},
    "otlp": {"protocols"},
    "memory_limiter": {"check_interval", "limit_percentage", "spike_limit_percentage", "limit_mib", "spike_limit_mib"},
    "resource": {"attributes"},
    "resource_detection": {"detectors", "override"},
    "batch": {"send_batch_size", "send_batch_max_size", "timeout"},
    "otlp_http": CLIENT,
    "otlp_grpc": CLIENT,
    # It has its own queue instead of `sending_queue`.
    "prometheus_remote_write": CLIENT - {"sending_queue"} | {"add_metric_suffixes", "target_info"},
}
"""Components under their newest names, and the settings of each that the files may use."""

each = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def kind(component: str) -> str:
    return component.partition("/")[0]


def address(text: str) -> str:
    """An endpoint with the defaults of its environment variables."""
    return re.sub(r"\$\{env:[A-Z_]+:-(.*?)\}", r"\1", text)


def endpoints(config: Any) -> dict[str, str]:
    return {name: address(it["endpoint"]) for name, it in config["exporters"].items()}


def test_both_are_there():
    """There is one file for the gateway and one for the agent."""
    assert set(CONFIGS) == {"otelcol.yaml", "agent.yaml"}


@each
def test_only_sections_that_the_collector_knows(config):
    """The file has only known keys at the top level and in `service`. A Collector does not start with others."""
    assert set(config) == {*KINDS, "extensions", "service"}
    assert set(config["service"]) == {"extensions", "pipelines"}


@each
def test_only_components_and_settings_that_are_known(config):
    """Components and settings have names from the sources. A Collector does not start with an unknown name."""
    for section in (*KINDS, "extensions"):
        for name, settings in config[section].items():
            assert set(settings) <= SETTINGS[kind(name)], name


@each
def test_pipelines_are_made_of_what_is_defined(config):
    """Each signal has a pipeline of defined components. Only the alternative exporter is defined but not used."""
    pipelines = config["service"]["pipelines"]
    used = {kind: {name for it in pipelines.values() for name in it[kind]} for kind in KINDS}
    unused = {kind: set(config[kind]) - used[kind] for kind in KINDS}

    assert set(pipelines) == SIGNALS
    assert all(set(it) == set(KINDS) and all(it.values()) for it in pipelines.values())
    assert all(used[kind] <= set(config[kind]) for kind in KINDS)
    alternative = {"otlp_http/metrics"} if config is GATEWAY else set()
    assert unused == {"receivers": set(), "processors": set(), "exporters": alternative}
    assert set(config["service"]["extensions"]) == set(config["extensions"])


@each
def test_memory_first_and_batches_last(config):
    """The memory limiter is the first processor of each pipeline, and the batch processor is the last."""
    for pipeline in config["service"]["pipelines"].values():
        assert (pipeline["processors"][0], pipeline["processors"][-1]) == ("memory_limiter", "batch")
    batch, limiter = config["processors"]["batch"], config["processors"]["memory_limiter"]
    assert batch["send_batch_max_size"] >= batch["send_batch_size"]
    assert limiter.get("limit_mib", 100) > limiter.get("spike_limit_mib", 0)
    assert limiter.get("limit_percentage", 100) > limiter.get("spike_limit_percentage", 0)


def test_where_the_gateway_sends():
    """Each store has its own path or port, and each environment variable has an address as default."""
    assert endpoints(GATEWAY) == {
        "prometheus_remote_write": "http://prometheus:9090/api/v1/write",
        "otlp_http/metrics": "http://mimir:8080/otlp",
        "otlp_grpc/tempo": "tempo:4317",
        "otlp_http/loki": "http://loki:3100/otlp",
    }
    for name, endpoint in endpoints(GATEWAY).items():
        assert bool(urlsplit(endpoint).scheme in ("http", "https")) == (not name.startswith("otlp_grpc")), name


def test_the_agent_sends_to_the_gateway():
    """The agent sends by OTLP to a port of the gateway. The agent itself listens only on 127.0.0.1."""
    (endpoint,) = endpoints(AGENT).values()
    ports = {it["endpoint"].rpartition(":")[2] for it in GATEWAY["receivers"]["otlp"]["protocols"].values()}

    assert endpoint.rpartition(":")[2] in ports
    listening = [it["endpoint"] for it in AGENT["receivers"]["otlp"]["protocols"].values()]
    assert all(it.startswith("127.0.0.1:") for it in [*listening, AGENT["extensions"]["health_check"]["endpoint"]])


def test_names_come_out_as_dashboards_ask_for_them():
    """Remote write appends unit and suffix to names, and adds no prefix."""
    exporter = GATEWAY["exporters"]["prometheus_remote_write"]

    assert exporter["add_metric_suffixes"] is True
    assert "namespace" not in exporter


@each
def test_what_services_say_of_themselves_stays(config):
    """A Collector adds only missing resource attributes. A changed service.name or instance id would change the job."""
    processors = config["processors"]
    assert all(it["action"] == "insert" for it in processors.get("resource", {"attributes": ()})["attributes"])
    assert processors.get("resource_detection", {"override": False})["override"] is False
