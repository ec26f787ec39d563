"""What README says of the SDKs is what was seen with just the versions that are driven."""

import json
import sys
from pathlib import Path

import pytest

SDKS = Path(__file__).parent / "sdks"
sys.path.insert(0, str(SDKS))

from drivers import DRIVERS  # noqa: E402
from environments import ENVIRONMENTS  # noqa: E402

ROWS = [json.loads(line) for line in (SDKS / "seen.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_was_seen_is_of_these_versions(name):
    """Every SDK of the table was seen in the version that the table says, and no other."""
    environment = ENVIRONMENTS[name]
    versions = dict(requirement.split("==") for requirement in environment.requirements)
    versions = {requirement.partition("[")[0]: version for requirement, version in versions.items()}
    seen = {(row["sdk"], row["version"]) for row in ROWS if row["environment"] == name}
    assert seen == {(sdk, versions[sdk]) for sdk in environment.drivers}


def test_every_driver_was_seen_in_every_case():
    """No way to call an SDK is left out, and none was tried in some cases only."""
    cases = {row["case"] for row in ROWS}
    assert len(cases) == 6
    ways: dict[tuple[str, ...], set[str]] = {}
    for row in ROWS:
        ways.setdefault((row["environment"], row["sdk"], row["api"], row["how"]), set()).add(row["case"])
    assert all(seen == cases for seen in ways.values())
    assert {way[1:] for way in ways} == {(driver.sdk, driver.api, driver.how) for driver in DRIVERS}
