"""deploy/prometheus and deploy/scale, tested with a real Prometheus, a live agent and a real VictoriaMetrics."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from databases import redis_server
from services import ROOT, Program, agent, fetch, free_port, installed, running, until

from .shipped import DEPLOY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = DEPLOY / "prometheus/prometheus.yml"
SCALE = sorted((DEPLOY / "scale").glob("prometheus-*.yml"))


def _promtool(*arguments: str) -> str:
    checked = subprocess.run([installed("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return checked.stdout


def test_promtool_accepts_the_config_and_its_rules(tmp_path: Path) -> None:
    shutil.copy(CONFIG, tmp_path)
    rules = sorted((ROOT / "alerts").glob("*.rules.yml"))
    (tmp_path / "alerts").mkdir()
    for file in rules:
        shutil.copy(file, tmp_path / "alerts")
    printed = _promtool("check", "config", str(tmp_path / CONFIG.name))
    assert all(f"alerts/{file.name}" in printed for file in rules)


@pytest.mark.parametrize("file", SCALE, ids=lambda file: file.stem)
def test_promtool_accepts_the_agent_mode_configs(file: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path)
    (tmp_path / "hosts").mkdir()
    shutil.copy(DEPLOY / "scale/hosts-example.yml", tmp_path / "hosts")
    printed = _promtool("check", "config", "--agent", str(tmp_path / file.name))
    assert "WARNING" not in printed


def _agent_of(folder: Path, redis: int) -> contextlib.AbstractContextManager[Program]:
    targets = [{"name": name, "url": f"redis://127.0.0.1:{redis}/0"} for name in ("cache", "queue")]
    return agent(folder, json.dumps({"interval": "1s", "exporters": {"system": {}, "redis": targets}}))


def _adapted(file: Path, addresses: dict[str, str]) -> dict[str, Any]:
    """Return the shipped config with other addresses and with intervals of seconds instead of minutes."""
    text = file.read_text()
    for shipped, here in addresses.items():
        assert shipped in text
        text = text.replace(shipped, here)
    config: dict[str, Any] = yaml.safe_load(text)
    config["global"]["scrape_interval"] = "1s"
    for job in config["scrape_configs"]:
        for discovery in job.get("http_sd_configs", []):
            discovery["refresh_interval"] = "1s"
    return config


@contextlib.contextmanager
def _prometheus(folder: Path, config: dict[str, Any], *flags: str) -> Iterator[Program]:
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    port = free_port()
    command = [installed("prometheus"), f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}", *flags]
    with running(command, f"http://127.0.0.1:{port}", "/-/ready", folder / "prometheus.log") as program:
        yield program


def _query(url: str, query: str) -> list[dict[str, Any]]:
    status, body = fetch(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    assert status == 200, body
    found: list[dict[str, Any]] = json.loads(body)["data"]["result"]
    return found


def test_each_target_of_a_live_agent_is_up_and_has_its_own_instance(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, _agent_of(tmp_path, redis.port) as watched:
        address = watched.url.removeprefix("http://")
        config = _adapted(CONFIG, {"deckwatch:9797": address})
        config["rule_files"] = []
        config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] == "deckwatch"]
        with _prometheus(tmp_path, config, f"--storage.tsdb.path={tmp_path / 'tsdb'}") as prometheus:
            up = until(lambda: it if len(it := _query(prometheus.url, "up == 1")) == 3 else [], what="three targets up")
            assert {it["metric"]["instance"] for it in up} == {address, "cache", "queue"}
            assert all(it["metric"]["job"] == "deckwatch" and it["metric"]["agent"] == address for it in up)

            keys = until(lambda: _query(prometheus.url, "redis_up"), what="figures of Redis")
            assert {it["metric"]["instance"] for it in keys} == {"cache", "queue"}
            assert all("target" not in it["metric"] for it in keys)
            (host,) = until(lambda: _query(prometheus.url, "node_load1"), what="figures of the host")
            assert host["metric"]["instance"] == address
            assert not _query(prometheus.url, f'{{__name__=~"redis_.+", instance="{address}"}}'), "they come twice"

            # Prometheus discovers new targets without a change to its config.
            file = tmp_path / "deckwatch.yml"
            watched_config = json.loads(file.read_text())
            watched_config["exporters"]["redis"].append({"name": "late", "url": f"redis://127.0.0.1:{redis.port}/0"})
            file.write_text(json.dumps(watched_config))
            watched.process.send_signal(signal.SIGHUP)
            until(lambda: _query(prometheus.url, 'up{instance="late"} == 1'), what="the new target")


@pytest.mark.skipif(not shutil.which("victoria-metrics"), reason="victoria-metrics is not installed (Debian package)")
def test_a_real_victoria_metrics_gets_every_target_through_remote_write(tmp_path: Path) -> None:
    port = free_port()
    command = [
        installed("victoria-metrics"),
        f"-storageDataPath={tmp_path / 'victoria'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=0s",  # make the newest samples visible to queries immediately
        "-memory.allowedBytes=256MB",
    ]
    (tmp_path / "hosts").mkdir()
    with (
        redis_server(tmp_path) as redis,
        _agent_of(tmp_path, redis.port) as watched,
        running(command, f"http://127.0.0.1:{port}", "/health", tmp_path / "victoria.log") as victoria,
    ):
        address = watched.url.removeprefix("http://")
        config = _adapted(
            DEPLOY / "scale/prometheus-victoria-metrics.yml",
            {"deckwatch-a:9797": address, "http://victoria-metrics:8428": victoria.url},
        )
        # Only one of the two agents is running.
        (job,) = config["scrape_configs"]
        job["http_sd_configs"] = [it for it in job["http_sd_configs"] if address in it["url"]]
        version = subprocess.run([installed("prometheus"), "--version"], capture_output=True, text=True, check=True)
        agent_mode = "--enable-feature=agent" if "version 2." in version.stdout + version.stderr else "--agent"
        storage = f"--storage.agent.path={tmp_path / 'wal'}"
        with _prometheus(tmp_path, config, agent_mode, storage):
            up = until(lambda: it if len(it := _query(victoria.url, "up == 1")) == 3 else [], what="three targets")
            assert {it["metric"]["instance"] for it in up} == {address, "cache", "queue"}
            assert all(it["metric"]["cluster"] == "site-1" and it["metric"]["agent"] == address for it in up)
            until(lambda: len(_query(victoria.url, "redis_up == 1")) == 2, what="figures of Redis")
            until(lambda: _query(victoria.url, 'node_cpu_seconds_total{mode="idle"}'), what="figures of the host")
