"""Real servers of Redis 6.2 and Valkey 9, each a master with a replica, and an agent that monitors both."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from databases import RedisServer, redis_server
from golden_names import Families, assert_golden, families, undeclared
from server_versions import REDIS, redis_program
from services import deckwatch_command, fetch, until
from watching import Watch, watching

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "never-to-be-seen"
MASTER, REPLICA = "cache", "copy"


@dataclass
class Monitored:
    """The servers of one version, and the agent."""

    version: str
    master: RedisServer
    watch: Watch

    def scrape(self, target: str) -> Families:
        """The metrics of the server, without the exporter's self-metrics."""
        found = families(fetch(f"{self.watch.program.url}/metrics?target={target}")[1], "redis_")
        return {name: family for name, family in found.items() if not name.startswith("redis_exporter_")}


@pytest.fixture(scope="module", params=REDIS)
def monitored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    program = redis_program(request.param)
    if program is None:
        pytest.skip(f"{request.param} is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    flags = ("--slowlog-log-slower-than", "0", "--maxmemory", "100mb")
    with redis_server(folder, *flags, password=PASSWORD, program=program) as master:
        link = ("--replicaof", "127.0.0.1", str(master.port), "--masterauth", PASSWORD)
        with redis_server(folder, *flags, *link, password=PASSWORD, program=program) as replica:
            with replica.client() as client:
                until(lambda: client.info("replication")["master_link_status"] == "up", what="the link to the master")
            _load(master)
            everything = {"client_list": True, "config_values": True, "modules": True, "keys_interval": "1s"}
            keys = {"keys": ["counter", "session:*"], "count_keys": ["session:*"], "streams": ["orders"]}
            targets = [
                {"name": MASTER, "url": master.url, "password": PASSWORD, **everything, **keys},
                {"name": REPLICA, "url": replica.url, "password": PASSWORD, **everything},
            ]
            settings = json.dumps({"interval": "1s", "exporters": {"redis": targets}})
            with watching(folder, settings) as watch:
                for target in (MASTER, REPLICA):
                    until(lambda name=target: (_scrapes(watch, name)) >= 2, what=f"two runs of {target}")  # type: ignore[misc]
                until(lambda: watch.series("redis_stream_length", target=MASTER), what="the streams")
                yield Monitored(request.param, master, watch)


def _scrapes(watch: Watch, target: str) -> float:
    return watch.value("redis_exporter_scrapes_total", target=target) or 0.0


def _load(server: RedisServer) -> None:
    with server.client() as client:
        client.mset({"counter": 12, "session:1": "a", "session:2": "b"})
        client.expire("session:1", 10_000)
        client.hset("fields", "a", "1")
        for number in range(5):
            client.xadd("orders", {"n": number})
        client.xgroup_create("orders", "billing", id="0")
        client.xreadgroup("billing", "worker", {"orders": ">"}, count=2)
        client.eval("return redis.call('ping')", 0)


def test_every_collector_succeeds_and_check_finds_nothing(monitored: Monitored) -> None:
    watch = monitored.watch
    assert watch.value("redis_up", target=MASTER) == watch.value("redis_up", target=REPLICA) == 1
    until(lambda: watch.failing(MASTER) | watch.failing(REPLICA) == set())
    result = subprocess.run(
        deckwatch_command("check"), cwd=watch.folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert PASSWORD not in result.stdout + watch.program.printed + watch.program.metrics()


def test_values_match_those_reported_by_the_server(monitored: Monitored) -> None:
    value = monitored.watch.value
    with monitored.master.client() as client:
        sections = [client.info(section) for section in ("server", "replication", "keyspace")]
    server, replication, keyspace = sections
    name = monitored.version.partition("-")[0]
    (instance,) = monitored.watch.series("redis_instance_info", target=MASTER)
    assert instance.labels[f"{name}_version"] == server[f"{name}_version"]
    assert instance.labels["redis_mode"] == "standalone"
    assert value("redis_connected_slaves", target=MASTER) == replication["connected_slaves"] == 1
    assert value("redis_db_keys", target=MASTER, db="db0") == keyspace["db0"]["keys"]
    assert value("redis_db_keys_expiring", target=MASTER, db="db0") == keyspace["db0"]["expires"] == 1
    assert value("redis_memory_max_bytes", target=MASTER) == 100 * 1024 * 1024
    assert value("redis_key_value", target=MASTER, key="counter") == 12
    assert value("redis_stream_length", target=MASTER, stream="orders") == 5
    link = {"master_host": "127.0.0.1", "master_port": str(monitored.master.port)}
    assert value("redis_master_link_up", target=REPLICA, **link) == 1


def test_a_slow_command_is_reported_without_its_arguments(monitored: Monitored) -> None:
    with monitored.master.client() as client:
        client.set("invoice", "hunter2")
    (event,) = until(lambda: monitored.watch.events("redis.slow_command", target=MASTER, command="set"))
    assert event["duration_seconds"] >= 0
    assert "hunter2" not in monitored.watch.program.printed


@pytest.mark.parametrize("target", [MASTER, REPLICA])
def test_names_types_and_labels_match_the_golden_file(monitored: Monitored, target: str) -> None:
    # Here the slow log records every command, also on a replica. Wait for its first entry.
    with monitored.master.client() as client:
        client.set("invoice", "paid")
    until(lambda: "redis_slow_command_duration_seconds" in monitored.scrape(target))
    assert_golden(f"{monitored.version}-{'master' if target == MASTER else 'replica'}", monitored.scrape(target))


def test_every_exposed_metric_is_in_the_catalogue(monitored: Monitored) -> None:
    for target in (MASTER, REPLICA):
        found = monitored.scrape(target)
        if monitored.version.startswith("valkey"):  # two more labels than Redis
            kind, labels = found["redis_instance_info"]
            assert {"valkey_version", "valkey_release_stage"} <= labels
            found["redis_instance_info"] = kind, labels - {"valkey_version", "valkey_release_stage"}
        assert undeclared(found) == []
