"""INFO: parsing of replies, including malformed ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import Sample
from deckwatch_exporters.redis.info import (
    MAX_ERROR_NAMES,
    ErrorCounts,
    Info,
    cluster_samples,
    keyspace_samples,
    parse_info,
    plain_samples,
    started,
    version_of,
)
from deckwatch_exporters.redis.replication import replication_samples
from deckwatch_exporters.redis.values import figure

from .stand_in import VERSIONS, Answer, info_of, stand_in
from .support import Target, by_series, malformed

if TYPE_CHECKING:
    from deckwatch.exporter import Samples


def _with(**fields: str) -> Info:
    return Info(fields=fields)


def _plain(text: str) -> dict[str, float]:
    return by_series(plain_samples(parse_info(text)))


@pytest.mark.parametrize("version", VERSIONS)
def test_both_kinds_of_line_endings_give_the_same_result(version: str) -> None:
    text = info_of(version)
    assert parse_info(text) == parse_info(text.replace("\r\n", "\n"))
    assert parse_info(text).fields["redis_mode" if "redis" in version else "server_mode"] == "standalone"


def test_sections_are_kept_apart() -> None:
    found = parse_info(info_of("redis-8.0"))
    assert found.version == (8, 0, 1)
    assert {"Server", "Commandstats", "Keyspace", "Keysizes"} <= found.sections
    assert found.commands["config|set"] == "calls=1,usec=8,usec_per_call=8.00,rejected_calls=0,failed_calls=0"
    assert found.percentiles["config|set"] == "p50=8.031,p99=8.031,p99.9=8.031"
    assert found.errors == {"ERR": "count=1", "WRONGTYPE": "count=1"}
    assert list(found.keyspace) == ["0", "3"]
    assert len(found.modules) == 3
    assert not [name for name in found.fields if name.startswith(("cmdstat_", "errorstat_", "latency_percentiles"))]
    assert (found.is_sentinel, found.is_cluster) == (False, False)


def test_a_reply_with_one_section_or_without_headings_is_parsed() -> None:
    assert parse_info("# Memory\r\nused_memory:5\r\n").fields == {"used_memory": "5"}
    assert parse_info("used_memory:5\r\nmaxmemory:7\r\n").fields == {"used_memory": "5", "maxmemory": "7"}


@pytest.mark.parametrize("text", ["", "\r\n", "# ", "# Server", "\x00\x01�", "no colon at all", "# Keyspace\r\ndb"])
def test_a_reply_without_fields_gives_no_values(text: str) -> None:
    found = parse_info(text)
    assert found.fields == {}
    assert found.keyspace == {}
    assert list(plain_samples(found)) == []


def test_values_and_command_names_can_contain_colons() -> None:
    found = parse_info("# Server\r\nexecutable:/opt/a:b\r\n# Commandstats\r\ncmdstat_a:b:calls=1,usec=2\r\n")
    assert found.fields["executable"] == "/opt/a:b"
    assert found.commands == {"a:b": "calls=1,usec=2"}


def test_an_unknown_field_is_ignored() -> None:
    assert _plain("# Server\r\nused_memory:1\r\nnew_in_redis_99:12\r\n") == {"redis_memory_used_bytes": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0.0),
        ("12.50", 12.5),
        ("-1", -1.0),
        ("1e3", 1000.0),
        ("18446744073709551616", None),
        ("9" * 400, None),
        ("inf", None),
        ("18446744073709551615", None),
        ("9223372036854775807", 2.0**63),
        ("1_000", None),
        ("ok", 1.0),
        ("true", 1.0),
        ("err", 0.0),
        ("fail", 0.0),
        ("false", 0.0),
        ("nan", None),
        ("-nan", None),
        ("", None),
        ("1.27M", None),
        ("95.36%", None),
        ("OK", None),
        (None, None),
    ],
    ids=lambda it: str(it)[:12],
)
def test_only_numbers_and_booleans_are_values(text: str | None, value: float | None) -> None:
    assert figure(text) == value


@pytest.mark.parametrize("odd", ["", "nan", "-nan", "1.27M", "0x10", "�"])
def test_a_field_that_is_not_a_number_is_absent_rather_than_0(odd: str) -> None:
    text = f"# Memory\r\nused_memory:{odd}\r\nmaxmemory:7\r\nlatest_fork_usec:{odd}\r\ncluster_odd:{odd}\r\n"
    assert _plain(text) == {"redis_memory_max_bytes": 7}


def test_microseconds_are_converted_to_seconds_without_rounding_errors() -> None:
    assert _plain("# Stats\r\nlatest_fork_usec:324\r\n") == {"redis_latest_fork_seconds": 0.000324}


def test_valkey_io_threads_are_exported_by_thread() -> None:
    text = "# CPU\r\nused_active_time_main_thread:1.5\r\nused_active_time_io_thread_1:2.5\r\n"
    text += "used_active_time_io_thread_x:3\r\nused_active_time_io_thread_2:nan\r\n"
    assert _plain(text) == {
        "redis_active_time_main_thread_seconds_total": 1.5,
        'redis_active_time_io_thread_seconds_total{thread="1"}': 2.5,
    }


def test_cluster_info_is_exported_by_field_with_its_state_as_a_boolean() -> None:
    text = "cluster_enabled:1\r\ncluster_state:ok\r\ncluster_slots_fail:2\r\ncluster_stats_messages_sent:9\r\n"
    text += "cluster_odd:?\r\nother:1\r\nno colon\r\n"
    assert by_series(cluster_samples(text)) == {
        "redis_cluster_enabled": 1,
        "redis_cluster_state": 1,
        "redis_cluster_slots_fail": 2,
        "redis_cluster_messages_sent_total": 9,
    }
    assert by_series(cluster_samples("cluster_state:fail\r\n")) == {"redis_cluster_state": 0}


def test_errors_are_counted_by_their_first_word() -> None:
    errors = {"ERR": "count=3", "WRONG:TYPE": "count=1", "odd": "count=x", "none": "", "new": "times=1"}
    found = list(ErrorCounts().samples(errors))
    assert by_series(found) == {
        'redis_errors_total{err="ERR"}': 3,
        'redis_errors_total{err="WRONG:TYPE"}': 1,
        "redis_error_names_merged": 0,
    }
    assert malformed(found) == [
        ("INFO errorstats: odd", "count=x"),
        ("INFO errorstats: none", ""),
        ("INFO errorstats: new", "times=1"),
    ]


def test_the_most_frequent_errors_keep_their_series_and_the_others_are_combined() -> None:
    counts = ErrorCounts()
    names = {f"last:{n},": f"count={n}" for n in range(1, 25_001)}
    found = by_series(counts.samples(names))
    series = {name: value for name, value in found.items() if name.startswith("redis_errors_total")}
    assert len(series) == MAX_ERROR_NAMES + 1
    assert series['redis_errors_total{err="last:25000,"}'] == 25_000
    assert sum(series.values()) == sum(range(1, 25_001))
    assert found["redis_error_names_merged"] == 25_000 - MAX_ERROR_NAMES

    # Counters never decrease, whichever errors become frequent later.
    names["last:1,"] = "count=1000000"
    after = by_series(counts.samples(names))
    assert all(after[name] >= value for name, value in found.items())

    few = by_series(counts.samples({"last:1,": "count=1"}))  # after CONFIG RESETSTAT
    assert few == {'redis_errors_total{err="last:1,"}': 1, "redis_error_names_merged": 0}


def test_a_database_exports_the_fields_of_its_server_version() -> None:
    keyspace = {"0": "keys=6,expires=1,avg_ttl=4500,subexpiry=2", "1": "keys=1,expires=0", "2": "keys=4"}
    keyspace |= {"9": "keys=5,expires=4,avg_ttl=0,cached_keys=3"}
    assert by_series(keyspace_samples(keyspace, 2)) == {
        'redis_db_keys{db="db0"}': 6,
        'redis_db_keys_expiring{db="db0"}': 1,
        'redis_db_avg_ttl_seconds{db="db0"}': 4.5,
        'redis_db_keys_subexpiry{db="db0"}': 2,
        'redis_db_keys{db="db1"}': 1,
        'redis_db_keys_expiring{db="db1"}': 0,
        'redis_db_keys{db="db2"}': 4,
        'redis_db_keys{db="db9"}': 5,
        'redis_db_keys_expiring{db="db9"}': 4,
        'redis_db_avg_ttl_seconds{db="db9"}': 0,
        'redis_db_keys_cached{db="db9"}': 3,
    }


def test_at_most_1024_empty_databases_are_exported() -> None:
    assert len(list(keyspace_samples({}, 1_000_000_000))) == 2 * 1024


@pytest.mark.parametrize(
    ("text", "version"),
    [("7.0.15", (7, 0, 15)), ("8.0-m01", (8, 0, 1)), ("255.255.255", (255,) * 3), ("", ()), ("unstable", ())],
)
def test_versions_of_every_server_are_parsed(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version


def test_the_start_time_uses_the_servers_clock_if_it_is_known() -> None:
    assert started(_with(uptime_in_seconds="2", server_time_usec="1795248441895791"), 5.0) == 1795248439
    assert started(_with(uptime_in_seconds="2"), 1795248441.9) == 1795248439
    assert started(_with(server_time_usec="1795248441895791"), 5.0) is None


@pytest.mark.parametrize("odd", ["inf", "-inf", "1e999", "9" * 400, "nan", "?"])
def test_an_invalid_clock_or_uptime_does_not_fail_the_run(odd: str) -> None:
    assert started(_with(uptime_in_seconds=odd), 5.0) is None
    assert started(_with(uptime_in_seconds="2", server_time_usec=odd), 5.0) == 3


def test_a_replica_listed_twice_is_exported_once_with_its_newer_link() -> None:
    fields = {
        "slave0": "ip=10.0.0.1,port=6379,state=online,offset=100,lag=70",
        "slave1": "ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0",
        "slave2": "ip=10.0.0.1,port=6379,state=online,offset=900,lag=0",
        "slave3": "ip=10.0.0.3,port=6379,state=online,offset=?,lag=0",
        "slave_count": "4",
    }
    found = list(replication_samples(fields))
    assert len(by_series(found)) == len([item for item in found if isinstance(item, Sample)])
    assert malformed(found) == [("INFO: slave3: offset", "?")]
    first = '{slave_ip="10.0.0.1",slave_port="6379",slave_state="online"}'
    assert by_series(found) == {
        f"redis_connected_slave_offset_bytes{first}": 900,
        f"redis_connected_slave_lag_seconds{first}": 0,
        'redis_connected_slave_offset_bytes{slave_ip="10.0.0.2",slave_port="6379",slave_state="wait_bgsave"}': 0,
        'redis_connected_slave_lag_seconds{slave_ip="10.0.0.3",slave_port="6379",slave_state="online"}': 0,
    }


def test_every_master_of_a_keydb_replica_is_exported() -> None:
    text = "# Replication\r\nrole:active-replica\r\n"
    for number, (host, status) in enumerate((("a", "up"), ("b", "down"))):
        prefix = f"master_{number}" if number else "master"
        text += f"{prefix}_host:{host}\r\n{prefix}_port:6379\r\n{prefix}_link_status:{status}\r\n"
        text += f"{prefix}_last_io_seconds_ago:{number}\r\n{prefix}_sync_in_progress:0\r\n"
    found = by_series(replication_samples(parse_info(text).fields))
    assert found['redis_master_link_up{master_host="a",master_port="6379"}'] == 1
    assert found['redis_master_link_up{master_host="b",master_port="6379"}'] == 0
    assert found['redis_master_last_io_seconds_ago{master_host="b",master_port="6379"}'] == 1
    assert len(found) == 6


_LINES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(info_of("valkey-8.1").splitlines()),
    st.builds(
        "{}:{}".format,
        st.sampled_from(["uptime_in_seconds", "server_time_usec", "slave0", "db0", "cluster_x", "master_host"]),
        st.one_of(
            st.sampled_from(["nan", "inf", "1e999", "9" * 5000, "keys=1,expires=inf", "²"]), st.text(max_size=20)
        ),
    ),
    st.builds("cmdstat_{}:calls={},usec={}".format, st.text(max_size=5), st.text(max_size=5), st.integers()),
    st.sampled_from(["# Keyspace", "# Commandstats", "# Latencystats", "# Modules", "# Errorstats", "# Sentinel"]),
)


def _every_sample(text: str) -> Samples:
    found = parse_info(text)
    yield from plain_samples(found)
    yield from replication_samples(found.fields)
    yield from ErrorCounts().samples(found.errors)
    yield from keyspace_samples(found.keyspace, 4)


@given(st.lists(_LINES, max_size=30).map("\r\n".join))
def test_any_info_text_gives_numbers_or_nothing(text: str) -> None:
    assert all(math.isfinite(value) for value in by_series(_every_sample(text)).values())
    started(parse_info(text), 0.0)


@pytest.mark.parametrize(
    "info",
    [
        b"",
        None,
        ["not", "a", "string"],
        b"\xff\xfe\x00",
        b"# Server\r\nredis_version:\xff\r\nuptime_in_seconds:1e999\r\nserver_time_usec:1e999\r\n",
        b"# Keyspace\r\ndb%b:keys=1,expires=0\r\n" % (b"9" * 5000),
        "# Keyspace\r\ndb²:keys=1,expires=0\r\n".encode(),
        b"# Replication\r\n" + b"".join(b"slave%d:ip=,port=0,state=online,offset=0\r\n" % n for n in range(2)),
        b"# Sentinel\r\nmaster0:name=,status=,address=,slaves=x,sentinels=\r\n",
        b"# Cluster\r\ncluster_enabled:1\r\ncluster_:1\r\n",
    ],
    ids=lambda it: repr(it)[:40],
)
def test_a_server_with_malformed_info_is_still_up(info: Answer) -> None:
    answers: dict[str, Answer] = {
        "INFO ALL": info,
        "CONFIG GET *": {"databases": "²", "maxclients": "nan", "client-output-buffer-limit": "normal x"},
        "LATENCY LATEST": [["x"], 1, [None, None, None]],
        "LATENCY HISTOGRAM": ["get", None, "set", {"calls": None}],
        "SLOWLOG LEN": None,
        "SLOWLOG GET 1": [["x"]],
    }
    with stand_in(answers) as server, Target(server.url, protocol=2, slowlog={"events": False}) as target:
        assert target.values()["redis_up"] == 1
        assert target.values()["redis_up"] == 1
