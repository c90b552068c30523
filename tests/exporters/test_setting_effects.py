"""Every exporter has a test that shows the effect of each setting: a new exporter needs a line here."""

from __future__ import annotations

import pytest

from deckwatch_exporters import EXPORTERS
from services import ROOT

#: For each exporter, the file that compares the names of its settings with those that it shows.
TESTS = {
    "apps": "exporters/apps/test_settings.py",
    "business": "exporters/business/test_settings.py",
    "http_probe": "exporters/http_probe/test_settings.py",
    "pgbouncer": "exporters/postgres/test_settings.py",
    "postgres": "exporters/postgres/test_settings.py",
    "queues": "integration/test_queues_settings.py",
    "redis": "exporters/redis/test_settings.py",
    "system": "exporters/system/test_settings.py",
}


@pytest.mark.parametrize("exporter", sorted(EXPORTERS))
def test_every_exporter_has_a_test_of_its_settings(exporter: str) -> None:
    assert "def test_every_setting_" in (ROOT / "tests" / TESTS[exporter]).read_text()
