"""Comparison with the real redis_exporter: the same names, types, labels and values."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest
import redis

import comparison
from comparison import Exposed, exposed, filled_by_the_peer_alone, missing_series, named, selectors
from databases import RedisServer, redis_exporter, redis_server
from peers.refresh import table
from services import Program, agent, fetch, free_port, installed, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAIN = table("redis_exporter")

#: About the peer's own program, not about the server.
OF_THE_PEER = ("go_", "process_", "promhttp_", "redis_exporter_build_info")
#: redis_exporter puts the value of a non-numeric string into a label, which would be unbounded.
LEFT_OUT = ("redis_key_value_as_string",)
#: A Sentinel has no keys and no databases; the peer exports sixteen empty ones.
LEFT_OUT_OF_SENTINELS = ("redis_db_keys", "redis_db_keys_expiring", "redis_last_key_groups_scrape")
#: These depend on each exporter's own runs, connections or commands.
OWN = ("redis_exporter_", "redis_start_time_seconds", "redis_slowlog_", "redis_last_slow_", "redis_latest_fork")

#: Commands that neither exporter runs.
OF_THE_LOAD = ("hset", "pfadd", "rpush", "sadd", "set", "xadd", "zadd")

KEYS = "db0=counter,db3=session:*,db0=unique,db0=tasks,db0=text"
STREAMS = "db0=orders,db0=trimmed"


def _load(server: RedisServer) -> None:
    """Run successful, failing and slow commands on several databases, every key type, expiring keys and streams."""
    with server.client() as client:
        client.set("counter", 42)
        client.set("text", "no number")
        client.rpush("tasks", *range(5))
        client.sadd("members", "a", "b")
        client.zadd("ranks", {"a": 1, "b": 2})
        client.hset("hash", mapping={"a": "1", "b": "2"})
        client.pfadd("unique", *range(100))
        client.set("soon", 1, px=1)
        client.get("counter")
        client.get("missing")
        for name in ("orders", "trimmed"):
            for number in range(10):
                client.xadd(name, {"n": number})
        client.xgroup_create("orders", "billing", id="0")
        client.xreadgroup("billing", "worker-1", {"orders": ">"}, count=3)
        client.xgroup_create("trimmed", "group", id="0")
        client.xtrim("trimmed", maxlen=4, approximate=False)
        with contextlib.suppress(redis.ResponseError):
            client.lpush("counter", 1)
        with contextlib.suppress(redis.ResponseError):
            client.execute_command("nonsense")
        client.execute_command("DEBUG", "SLEEP", "0.02")
    with server.client(db=3) as client:
        client.set("session:1", "12.5", ex=10_000)
        client.set("session:2", "-3", ex=10_000)


FLAGS = (
    "--enable-debug-command", "yes", "--slowlog-log-slower-than", "10000", "--latency-monitor-threshold", "5",
    "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--repl-diskless-sync-delay", "0",
)  # fmt: skip

CONFIG = """
interval: 1s
exporters:
  redis:
    - name: cache
      url: {url}
      keys: [counter, "db3=session:*", unique, tasks, text]
      streams: [orders, trimmed]
      keys_interval: 1s
"""


@contextlib.contextmanager
def _side_by_side(folder: Path, url: str, config: str = CONFIG, *flags: str) -> Iterator[tuple[Program, Program]]:
    with redis_exporter(folder, url, *flags) as peer, agent(folder, config.format(url=url)) as ours:
        until(lambda: "redis_up" in _ours(ours), what="a first run")
        yield peer, ours


def _ours(program: Program, peer: Exposed | None = None) -> Exposed:
    """Scrape one target, without the `target` label, and give the names of the peer's release."""
    families = exposed(fetch(program.url + "/metrics?target=cache")[1])
    return comparison.as_release(families, peer or {}, MAIN)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, RedisServer, Program, Program]]:
    """A master under load with a replica, and both exporters connected to the master."""
    folder = tmp_path_factory.mktemp("master")
    with (
        redis_server(folder, *FLAGS) as server,
        redis_server(folder, "--replicaof", "127.0.0.1", str(server.port)) as replica,
    ):
        _load(server)
        with replica.client() as client:
            until(lambda: client.info("replication")["master_link_status"] == "up", what="the link to the master")
        with _side_by_side(folder, server.url, CONFIG, "-check-keys", KEYS, "-check-streams", STREAMS,
                           "-include-system-metrics") as (peer, ours):  # fmt: skip
            until(lambda: "redis_stream_length" in _ours(ours), what="figures of keys")
            yield server, replica, peer, ours


def _of_the_server(*left_out: str) -> Callable[[str], bool]:
    return named("", (*OF_THE_PEER, *LEFT_OUT, *left_out))


def _differences(peer: Exposed, ours: Program, *left_out: str) -> list[str]:
    return comparison.differences(peer, _ours(ours, peer), _of_the_server(*left_out))


def _different_values(peer: Program, ours: Program, *left_out: str) -> tuple[int, str]:
    """Compare values that did not change at the peer around our run: return how many, and the differences."""
    before = exposed(peer.metrics())
    mine = comparison.collected_since(time.time(), lambda: _ours(ours, before))
    after = exposed(peer.metrics())
    # Percentiles of commands that both exporters keep running fluctuate.
    kind, percentiles = before.get("redis_latency_percentiles_usec", ("", {}))
    before["redis_latency_percentiles_usec"] = (
        kind,
        {key: value for key, value in percentiles.items() if dict(key[1])["cmd"] in OF_THE_LOAD},
    )
    interesting = _of_the_server(*OWN, *RESTLESS, *left_out)
    compared, different = comparison.different_values(before, after, mine, interesting, {})
    steady = {
        name: (kind, {key: value for key, value in series.items() if after.get(name, ("", {}))[1].get(key) == value})
        for name, (kind, series) in before.items()
    }
    # A lag that Redis does not know is 0 there and absent here.
    missing = [
        line
        for line in missing_series(steady, mine, interesting)
        if not (line.startswith("redis_stream_group_lag") and "trimmed" in line)
    ]
    return compared, "\n".join([*different.values(), *missing])


#: Fluctuating values: being equal before and after does not mean equal in between.
RESTLESS = (
    "redis_connected_clients", "redis_memory_", "redis_mem_", "redis_allocator_", "redis_client_recent_",
    "redis_connected_slave", "redis_master_last_io", "redis_stream_group_consumer_idle",
)  # fmt: skip


def test_every_metric_of_redis_exporter_is_exported_with_its_type_and_label_names(
    master: tuple[RedisServer, RedisServer, Program, Program],
) -> None:
    *_, peer, ours = master
    theirs = exposed(peer.metrics())
    differences = _differences(theirs, ours)
    print(f"{len(theirs)} names of redis_exporter; more here:", *sorted(_ours(ours).keys() - theirs.keys()))
    assert sum(name.startswith("redis_") for name in theirs) > 130
    assert not differences, "\n".join(differences)


def test_every_series_of_redis_exporter_is_exported(master: tuple[RedisServer, RedisServer, Program, Program]) -> None:
    *_, peer, ours = master
    theirs = exposed(peer.metrics())
    mine = comparison.collected_since(time.time(), lambda: _ours(ours, theirs))
    interesting = _of_the_server("redis_exporter_last_scrape_error", "redis_connected_slave")
    missing = missing_series(theirs, mine, interesting)
    # A lag that Redis does not know is 0 there and absent here.
    unknown = [line for line in missing if "redis_stream_group_lag" in line and "trimmed" in line]
    assert [line for line in missing if line not in unknown] == []


def test_stable_series_have_the_same_values_as_in_redis_exporter(
    master: tuple[RedisServer, RedisServer, Program, Program],
) -> None:
    *_, peer, ours = master
    compared, different = _different_values(peer, ours)
    print(f"{compared} values compared")
    assert compared > 250
    assert not different


def test_the_total_memory_of_the_host_is_exported_without_a_flag(
    master: tuple[RedisServer, RedisServer, Program, Program],
) -> None:
    *_, ours = master
    assert _ours(ours)["redis_total_system_memory_bytes"][1]["redis_total_system_memory_bytes", ()] > 0


def test_dashboard_queries_have_data_wherever_redis_exporter_has_data(
    master: tuple[RedisServer, RedisServer, Program, Program], tmp_path: Path
) -> None:
    *_, peer, ours = master
    filled, missing = filled_by_the_peer_alone(tmp_path, peer, ours, selectors("redis.txt"))

    assert len(filled) > 40, "the peer itself fills hardly any: the comparison says nothing"
    assert not missing, "\n".join(missing)


PLAIN = "interval: 1s\nexporters: {{redis: [{{name: cache, url: {url}}}]}}\n"


def test_a_replica_exports_the_same_metrics_as_redis_exporter(
    master: tuple[RedisServer, RedisServer, Program, Program], tmp_path: Path
) -> None:
    _, replica, *_ = master
    with _side_by_side(tmp_path, replica.url, PLAIN) as (peer, ours):
        theirs = exposed(peer.metrics())
        assert "redis_master_link_up" in theirs
        differences = _differences(theirs, ours)
        compared, different = _different_values(peer, ours, "redis_slave_repl_offset")
    assert not differences, "\n".join(differences)
    assert compared > 150
    assert not different


def test_a_sentinel_exports_the_same_metrics_as_redis_exporter(
    master: tuple[RedisServer, RedisServer, Program, Program], tmp_path: Path
) -> None:
    server, *_ = master
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nsentinel monitor mymaster 127.0.0.1 {server.port} 1\n")
    sentinel = RedisServer([installed("redis-server"), str(config), "--sentinel"], tmp_path, port)
    sentinel.start()
    try:
        with _side_by_side(tmp_path, sentinel.url, PLAIN) as (peer, ours):
            with sentinel.client() as client:
                until(lambda: client.sentinel_master("mymaster")["num-slaves"] == 1, what="the replica being found")
            until(
                lambda: _ours(ours).get("redis_sentinel_master_ok_slaves", ("", {}))[1], what="figures of the replica"
            )
            theirs = exposed(peer.metrics())
            assert "redis_sentinel_master_status" in theirs
            differences = _differences(theirs, ours, *LEFT_OUT_OF_SENTINELS)
            moving = ("redis_sentinel_master_last_ok_ping", *LEFT_OUT_OF_SENTINELS)
            compared, different = _different_values(peer, ours, *moving)
    finally:
        sentinel.stop()
    assert not differences, "\n".join(differences)
    assert compared > 40
    assert not different


def test_a_cluster_node_exports_the_same_metrics_as_redis_exporter(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), what="the cluster")
        with _side_by_side(tmp_path, server.url, PLAIN) as (peer, ours):
            theirs = exposed(peer.metrics())
            assert theirs["redis_cluster_state"][1]["redis_cluster_state", ()] == 1
            differences = _differences(theirs, ours)
            compared, different = _different_values(peer, ours)
    assert not differences, "\n".join(differences)
    assert compared > 100
    assert not different
