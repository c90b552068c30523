"""deploy/loki accepts what the agent sends; deploy/grafana finds the dashboards and data sources."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from deckwatch.config import parse_duration, parse_size
from deckwatch.config.log_settings import FileSettings, LokiSettings

from .shipped import DEPLOY, compose, document

if TYPE_CHECKING:
    from pathlib import Path

LOKIS = [DEPLOY / "loki/loki.yml", DEPLOY / "scale/loki-scalable.yml"]
EVERY_LOKI = pytest.mark.parametrize("file", LOKIS, ids=lambda file: file.name)
SERVICES = compose({"GRAFANA_ADMIN_PASSWORD": "x"})["services"]


def _bytes(text: str) -> int:
    """Parse a size as Loki does: powers of 1024 for all unit names (github.com/c2h5oh/datasize)."""
    return parse_size(re.sub(r"([KMG])B", r"\1iB", text))


@EVERY_LOKI
def test_loki_accepts_the_longest_line_that_the_agent_sends(file: Path) -> None:
    limits = yaml.safe_load(file.read_text())["limits_config"]
    assert _bytes(limits["max_line_size"]) >= FileSettings(path="/x").max_line_bytes
    assert limits["max_line_size_truncate"] is False


@EVERY_LOKI
def test_loki_accepts_the_largest_push(file: Path) -> None:
    limits = yaml.safe_load(file.read_text())["limits_config"]
    push = LokiSettings(url="http://x").batch_bytes
    assert limits["ingestion_burst_size_mb"] * 2**20 >= 2 * push
    assert _bytes(limits["per_stream_rate_limit_burst"]) >= 2 * push


@EVERY_LOKI
def test_loki_accepts_structured_metadata_and_out_of_order_lines(file: Path) -> None:
    loki = yaml.safe_load(file.read_text())
    limits = loki["limits_config"]
    assert limits["allow_structured_metadata"] is True
    assert limits["unordered_writes"] is True
    assert all(one["schema"] == "v13" and one["store"] == "tsdb" for one in loki["schema_config"]["configs"])


@EVERY_LOKI
def test_retention_deletes_old_logs_and_loki_accepts_a_backlog_of_days(file: Path) -> None:
    loki = yaml.safe_load(file.read_text())
    limits = loki["limits_config"]
    assert loki["compactor"]["retention_enabled"] is True
    assert loki["compactor"]["delete_request_store"] == loki["schema_config"]["configs"][-1]["object_store"]
    oldest = parse_duration(limits["reject_old_samples_max_age"])
    assert 7 * 86400 < oldest < parse_duration(limits["retention_period"])
    assert loki["analytics"]["reporting_enabled"] is False


def test_loki_writes_only_to_its_volume() -> None:
    text = LOKIS[0].read_text()
    folders = re.findall(r": (/\S+)", text)
    assert folders
    assert all(folder == "/loki" or folder.startswith("/loki/") for folder in folders)
    assert "loki-data:/loki" in SERVICES["loki"]["volumes"]


def test_the_datasources_have_fixed_uids_and_are_services_of_the_stack() -> None:
    sources = document(DEPLOY / "grafana/provisioning/datasources/deckwatch.yml")["datasources"]
    assert {source["uid"]: source["type"] for source in sources} == {
        "prometheus": "prometheus",
        "loki": "loki",
        "alertmanager": "alertmanager",
    }
    assert [source["name"] for source in sources if source.get("isDefault")] == ["Prometheus"]
    for source in sources:
        host, port = source["url"].removeprefix("http://").split(":")
        assert SERVICES[host]["ports"][0].endswith(f":{port}")
        assert source["editable"] is False


def test_grafana_finds_dashboards_at_their_mount_point() -> None:
    (provider,) = document(DEPLOY / "grafana/provisioning/dashboards/deckwatch.yml")["providers"]
    assert f"./dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def test_grafanas_scrape_interval_matches_prometheus() -> None:
    sources = document(DEPLOY / "grafana/provisioning/datasources/deckwatch.yml")["datasources"]
    (prometheus,) = [source for source in sources if source["type"] == "prometheus"]
    interval = document(DEPLOY / "prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert prometheus["jsonData"]["timeInterval"] == interval
