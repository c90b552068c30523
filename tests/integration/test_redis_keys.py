"""Keys, streams and key groups of a real server, within their limits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from databases import RedisServer, redis_server
from exporters.redis.support import Target
from services import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

KEYS = "redis.keys"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as connected:
        yield connected


def test_keys_of_every_type_have_a_size(server: RedisServer, client: redis.Redis) -> None:
    client.set("string", "four")
    client.rpush("list", 1, 2, 3)
    client.sadd("set", 1, 2)
    client.zadd("zset", {"a": 1})
    client.hset("hash", mapping={"a": "1", "b": "2"})
    client.xadd("stream", {"a": 1})
    client.pfadd("visitors", *range(50))
    sizes = {"string": 4, "list": 3, "set": 2, "zset": 1, "hash": 2, "stream": 1, "visitors": 50}
    with Target(server.url, keys=[*sizes, "missing"]) as target:
        values = target.values(KEYS)
    for name, size in sizes.items():
        assert values[f'redis_key_size{{db="db0",key="{name}"}}'] == size
        assert values[f'redis_key_memory_usage_bytes{{db="db0",key="{name}"}}'] > 0
    assert not [name for name in values if "missing" in name]


@pytest.mark.parametrize(
    ("text", "number"),
    [("42", 42), ("-1.5", -1.5), ("1e3", 1000), ("", None), ("abc", None), ("1_000", None), ("infinity", None),
     ("nan", None), (" 7", None), ("9" * 100, None)],
)  # fmt: skip
def test_the_value_of_a_numeric_string_is_exported(
    server: RedisServer, client: redis.Redis, text: str, number: float | None
) -> None:
    client.set("a", text)
    with Target(server.url, keys=["a"]) as target:
        assert target.values(KEYS).get('redis_key_value{db="db0",key="a"}') == number


def test_the_expiry_time_of_a_key_is_exported(server: RedisServer, client: redis.Redis) -> None:
    client.set("a", 1, ex=1000)
    client.set("b", 1)
    with Target(server.url, keys=["a", "b"]) as target:
        moments = []
        for _ in range(2):  # with PTTL until the version is known, then with PEXPIRETIME
            values = target.values(KEYS)
            moments.append(values['redis_key_expiry_timestamp_seconds{db="db0",key="a"}'])
            assert 'redis_key_expiry_timestamp_seconds{db="db0",key="b"}' not in values
            target.run()
    assert moments[0] == pytest.approx(time.time() + 1000, abs=5)
    assert moments[1] == pytest.approx(moments[0], abs=0.5)


def test_a_pattern_finds_each_key_of_its_database_once(server: RedisServer, client: redis.Redis) -> None:
    client.set("session:1", 1)
    with server.client(db=3) as third:
        third.mset({"session:2": 1, "session:3": 1, "other": 1})
    keys = ["db3=session:*", {"pattern": "session:?", "db": 3}, {"key": "session:2", "db": 3}]
    with Target(server.url, keys=keys) as target:
        values = target.values(KEYS)
    assert sorted(name for name in values if name.startswith("redis_key_size")) == [
        'redis_key_size{db="db3",key="session:2"}',
        'redis_key_size{db="db3",key="session:3"}',
    ]
    assert values['redis_key_scan_exhausted{db="db3",pattern="session:*"}'] == 0
    assert values['redis_key_scan_dropped_keys{db="db3",pattern="session:*"}'] == 0


def test_keys_are_read_from_the_database_in_the_url(server: RedisServer) -> None:
    with server.client(db=5) as fifth:
        fifth.set("a", 7)
    with Target(server.url.replace("/0", "/5"), keys=["a"]) as target:
        assert target.values(KEYS)['redis_key_value{db="db5",key="a"}'] == 7


def test_a_nonexistent_database_does_not_affect_the_others(server: RedisServer, client: redis.Redis) -> None:
    client.set("a", 7)
    with Target(server.url, keys=["a", "db99=a", "db99=b*"], streams=["db99=s"]) as target:
        assert target.values(KEYS)['redis_key_value{db="db0",key="a"}'] == 7


def test_keys_that_are_not_utf8_stay_distinct(server: RedisServer, client: redis.Redis) -> None:
    client.set(b"k\xff", 1)
    client.set(b"k\xfe", 2)
    client.set('k"\n\\', 3)
    with Target(server.url, keys=["k*"]) as target:
        values = target.values(KEYS)
    assert sorted(value for name, value in values.items() if name.startswith("redis_key_value")) == [1, 2, 3]


def test_a_scan_stops_at_its_budget_and_reports_it(server: RedisServer, client: redis.Redis) -> None:
    client.mset({f"a:{number}": 1 for number in range(5000)})
    scan = {"count": 100, "iterations": 3, "max_keys": 20}
    with Target(server.url, keys=["a:*"], count_keys=["a:*"], scan=scan) as target:
        before = client.info("commandstats").get("cmdstat_scan", {"calls": 0})["calls"]
        values = target.values(KEYS)
        assert client.info("commandstats")["cmdstat_scan"]["calls"] - before == 3
        assert "cmdstat_keys" not in client.info("commandstats")
    assert values['redis_key_scan_exhausted{db="db0",pattern="a:*"}'] == 1
    assert sum(name.startswith("redis_key_size") for name in values) == 20
    assert values['redis_key_scan_dropped_keys{db="db0",pattern="a:*"}'] > 200
    # The total is unknown, so the number of keys seen is not exported as the total.
    assert not [name for name in values if name.startswith("redis_keys_count")]


def test_a_scan_stops_at_its_time_limit(server: RedisServer, client: redis.Redis) -> None:
    client.mset({f"a:{number}": 1 for number in range(20_000)})
    with Target(server.url, keys=["b:*"], scan={"count": 1, "iterations": 1_000_000, "time": "50ms"}) as target:
        values = target.values(KEYS)
    # It did not see all 20 000 keys, and only the time limit can have stopped it.
    assert values['redis_key_scan_exhausted{db="db0",pattern="b:*"}'] == 1


def test_matching_keys_are_counted_if_the_scan_was_complete(server: RedisServer, client: redis.Redis) -> None:
    client.mset({f"a:{number}": 1 for number in range(2500)})
    with Target(server.url, count_keys=["a:*", "b:*"]) as target:
        values = target.values(KEYS)
    assert values['redis_keys_count{db="db0",key="a:*"}'] == 2500
    assert values['redis_keys_count{db="db0",key="b:*"}'] == 0


def test_a_key_with_wildcards_in_its_name_is_counted_alone(server: RedisServer, client: redis.Redis) -> None:
    client.mset({"a[1]*": 1, "a1": 1, "a[1]b": 1})
    with Target(server.url, count_keys=[{"key": "a[1]*"}]) as target:
        values = target.values(KEYS)
    assert values['redis_keys_count{db="db0",key="a[1]*"}'] == 1


def test_a_stream_exports_its_groups_with_pending_entries_and_their_age(
    server: RedisServer, client: redis.Redis
) -> None:
    ids = [client.xadd("orders", {"n": number}) for number in range(5)]
    client.xgroup_create("orders", "billing", id="0")
    client.xreadgroup("billing", "worker", {"orders": ">"}, count=2)
    client.xack("orders", "billing", ids[0])
    with Target(server.url, streams=["orders"]) as target:
        values = target.values(KEYS)
    group = '{db="db0",stream="orders",group="billing"}'
    assert values['redis_stream_length{db="db0",stream="orders"}'] == 5
    assert values[f"redis_stream_group_messages_pending{group}"] == 1
    assert values[f"redis_stream_group_lag{group}"] == 3
    assert values[f"redis_stream_group_consumers{group}"] == 1
    assert values[f"redis_stream_group_oldest_pending_timestamp_seconds{group}"] == _moment(ids[1])
    assert values[f"redis_stream_group_oldest_undelivered_timestamp_seconds{group}"] == _moment(ids[2])
    consumer = '{db="db0",stream="orders",group="billing",consumer="worker"}'
    assert values[f"redis_stream_group_consumer_messages_pending{consumer}"] == 1
    assert 0 <= values[f"redis_stream_group_consumer_idle_seconds{consumer}"] < 30


def _moment(id: str | bytes) -> float:
    return int((id.decode() if isinstance(id, bytes) else id).partition("-")[0]) / 1000


def test_an_unknown_stream_lag_is_absent(server: RedisServer, client: redis.Redis) -> None:
    ids = [client.xadd("s", {"n": number}) for number in range(5)]
    client.xgroup_create("s", "g", id=ids[1])
    client.xdel("s", ids[3])
    with Target(server.url, streams=["s"]) as target:
        values = target.values(KEYS)
    assert client.xinfo_groups("s")[0]["lag"] is None
    assert not [name for name in values if name.startswith(("redis_stream_group_lag", "redis_stream_group_entries"))]
    assert values['redis_stream_group_messages_pending{db="db0",stream="s",group="g"}'] == 0


def test_stream_ids_that_are_not_timestamps_have_no_age(server: RedisServer, client: redis.Redis) -> None:
    client.xadd("s", {"a": 1}, id="5-1")
    client.xgroup_create("s", "g", id="0")
    with Target(server.url, streams=["s"]) as target:
        values = target.values(KEYS)
    assert values['redis_stream_last_entry_id{db="db0",stream="s"}'] == 5
    assert not [name for name in values if "timestamp" in name]


def test_an_empty_stream_has_no_first_entry(server: RedisServer, client: redis.Redis) -> None:
    client.xadd("s", {"a": 1})
    client.xtrim("s", maxlen=0, approximate=False)
    with Target(server.url, streams=["s", "missing"]) as target:
        values = target.values(KEYS)
    assert values['redis_stream_length{db="db0",stream="s"}'] == 0
    assert 'redis_stream_first_entry_id{db="db0",stream="s"}' not in values


def test_stream_patterns_skip_other_types_and_consumers_can_be_disabled(
    server: RedisServer, client: redis.Redis
) -> None:
    for name in ("s:1", "s:2"):
        client.xadd(name, {"a": 1})
        client.xgroup_create(name, "g", id="0")
        client.xreadgroup("g", "c", {name: ">"})
    client.set("s:3", 1)
    with Target(server.url, streams=[{"pattern": "s:*", "consumers": False}]) as target:
        values = target.values(KEYS)
    assert sum(name.startswith("redis_stream_length") for name in values) == 2
    assert not [name for name in values if "consumer=" in name or "s:3" in name]


def test_key_groups_have_a_count_and_memory_usage(server: RedisServer, client: redis.Redis) -> None:
    client.mset({f"user:{number}": "x" * 100 for number in range(300)})
    client.mset({f"cart:{number}": 1 for number in range(40)})
    client.set("lonely", 1)
    with Target(server.url, key_groups={}) as target:
        target.run()
        values = target.values(KEYS)
        exact = sum(client.memory_usage(f"user:{number}") or 0 for number in range(300))
    assert values['redis_key_group_count{db="db0",key_group="user"}'] == 300
    assert values['redis_key_group_count{db="db0",key_group="cart"}'] == 40
    assert values['redis_key_group_count{db="db0",key_group="unclassified"}'] == 1
    assert values['redis_key_group_memory_usage_bytes{db="db0",key_group="user"}'] == pytest.approx(exact, rel=0.05)
    assert values['redis_number_of_distinct_key_groups{db="db0"}'] == 3
    assert values['redis_key_group_scanned_ratio{db="db0"}'] == 1
    assert values["redis_last_key_groups_scrape_duration_milliseconds"] > 0


def test_key_groups_beyond_the_limit_are_combined(server: RedisServer, client: redis.Redis) -> None:
    client.mset({f"g{number}:{key}": "x" * number for number in range(10) for key in range(5)})
    with Target(server.url, key_groups={"max_groups": 3}) as target:
        values = target.values(KEYS)
    counts = {name: value for name, value in values.items() if name.startswith("redis_key_group_count")}
    assert len(counts) == 4
    assert counts['redis_key_group_count{db="db0",key_group="overflow"}'] == 35
    assert values['redis_number_of_distinct_key_groups{db="db0"}'] == 10


def test_key_groups_are_estimated_from_an_incomplete_scan(server: RedisServer, client: redis.Redis) -> None:
    client.mset({f"user:{number}": 1 for number in range(20_000)})
    client.mset({f"cart:{number}": 1 for number in range(10_000)})
    scan = {"count": 500, "iterations": 6}
    with Target(server.url, key_groups={"memory_samples": 200}, scan=scan) as target:
        values = target.values(KEYS)
    assert values['redis_key_group_scanned_ratio{db="db0"}'] == pytest.approx(0.1, abs=0.05)
    assert values['redis_key_group_count{db="db0",key_group="user"}'] == pytest.approx(20_000, rel=0.15)
    assert values['redis_key_group_count{db="db0",key_group="cart"}'] == pytest.approx(10_000, rel=0.15)


def test_key_groups_are_searched_for_in_every_database_with_keys(server: RedisServer, client: redis.Redis) -> None:
    client.set("a:1", 1)
    with server.client(db=7) as seventh:
        seventh.set("b:1", 1)
    with Target(server.url, key_groups={}) as target:
        target.run()
        values = target.values(KEYS)
        assert 'redis_key_group_count{db="db7",key_group="b"}' in values
    with Target(server.url, key_groups={"databases": [0]}) as target:
        target.run()
        assert not [name for name in target.values(KEYS) if 'db="db7"' in name]


def test_a_cluster_node_exports_only_the_keys_in_its_own_slots(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as node:
        with node.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)  # `b` lives in one of these, `a` does not
            client.config_set("cluster-require-full-coverage", "no")
            until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
            client.set("b", 1)
        with Target(node.url, keys=["a", "b"]) as target:
            values = target.values(KEYS)
    assert [name for name in values if name.startswith("redis_key_size")] == ['redis_key_size{db="db0",key="b"}']
