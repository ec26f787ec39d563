"""The guide says how soon each alert can fire."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from alert_minutes import INTERVALS, minutes, table
from conditions import PATIENCE
from programs import binary, promtool

from otel_llmstream.cli import main
from otel_llmstream.monitoring._alerts import ALERTS

GUIDE = Path(__file__).parent.parent / "dashboards" / "README.md"


@pytest.mark.external
@pytest.mark.timeout(1200)  # 30 runs of promtool
def test_the_guides_table_is_computed(tmp_path):
    """The minutes of the guide are what promtool computes for a total fault after three hours of health."""
    cases = [(name, interval) for name in dict.fromkeys(alert.name for alert in ALERTS) for interval in INTERVALS]

    def computed(case: tuple[str, float]) -> dict[str, int]:
        folder = tmp_path / f"{case[0]}-{case[1]:g}"
        folder.mkdir()
        return minutes(*case, folder)

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(cases, pool.map(computed, cases), strict=True))

    assert table(found) in GUIDE.read_text(encoding="utf-8"), table(found)


@pytest.mark.external
def test_the_first_alert_of_the_guide(tmp_path, capsys):
    """The seven lines of the guide are a Prometheus configuration that reads what the guide's command writes."""
    guide = GUIDE.read_text(encoding="utf-8")
    (config,) = re.findall(r"<!-- example: first-alert -->\n```yaml\n(.*?)```", guide, re.DOTALL)
    (receiver,) = re.findall(r"<!-- example: first-receiver -->\n```yaml\n(.*?)```", guide, re.DOTALL)
    (command,) = re.findall(r"^otel-llmstream (alerts --only .*) --output alerts$", guide, re.MULTILINE)
    (tmp_path / "prometheus.yml").write_text(config)

    assert main([*command.split(), "--output", str(tmp_path / "alerts")]) == 0
    assert capsys.readouterr().err == ""
    done = promtool("check", "config", "prometheus.yml", cwd=tmp_path)

    (tmp_path / "alertmanager.yml").write_text(receiver)
    checked = subprocess.run(
        [binary("amtool"), "check-config", "alertmanager.yml"], cwd=tmp_path, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert len(config.splitlines()) == 7
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout
    rules = yaml.safe_load((tmp_path / "alerts" / "prometheus" / "otel-llmstream.yaml").read_text())
    assert [rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule] == [
        "LLMStreamTruncated"
    ]
