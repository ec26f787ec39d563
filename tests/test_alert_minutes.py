"""The guide says how soon each alert can fire."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alert_minutes import INTERVALS, minutes, table

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
