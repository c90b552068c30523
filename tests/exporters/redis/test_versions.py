"""Every version with a captured INFO: exported metrics, and absent ones that it does not support."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deckwatch.exporter import Sample, Unreachable
from deckwatch.metrics.declaration import Metric
from deckwatch.metrics.encoding import Encoder
from deckwatch_exporters.clients.redis.connection import Connection
from deckwatch_exporters.redis import EXPORTER
from deckwatch_exporters.redis.facts import Facts
from deckwatch_exporters.redis.server import UP, Server
from deckwatch_exporters.redis.settings import RedisSettings

from .stand_in import SECRET, VERSIONS, StandIn, answers_of, info_of, stand_in
from .support import Target, by_series, failed, malformed

if TYPE_CHECKING:
    from deckwatch.collection.run import Snapshot

GOLDEN = Path(__file__).parent.parent / "golden"
NOW = 1795248442.0
#: Every optional feature.
FULL = {"config_values": True, "client_list": True, "modules": True}


def _collect(server: StandIn, runs: int = 1, **settings: Any) -> list[Sample]:
    """Return the samples of the last of several runs, without the exporter's self-metrics."""
    checked = RedisSettings.model_validate({"url": server.url, **settings})
    connection = Connection(checked)
    collector = Server(connection, Facts(), checked, clock=lambda: NOW)
    try:
        for _ in range(runs - 1):
            collector.collect()
        found = list(collector.collect())
        assert malformed(found) == []
        samples = [it for it in found if isinstance(it, Sample)]
        return [UP(1), *(it for it in samples if not it.series.name.startswith("redis_exporter_"))]
    finally:
        connection.close()


@pytest.fixture(scope="module")
def collected() -> dict[str, list[Sample]]:
    found = {}
    for version in VERSIONS:
        with stand_in(answers_of(version)) as server:
            found[version] = _collect(server)
    return found


def _names(samples: list[Sample]) -> set[str]:
    return {it.series.metric.name for it in samples}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_exposition_of_each_version_matches_the_golden_file(
    version: str, collected: dict[str, list[Sample]]
) -> None:
    families = Encoder().families(collected[version])
    found = "".join(f"# TYPE {it.metric.name} {it.metric.type}\n{it.text}" for it in families)
    golden = GOLDEN / f"redis-{version.removeprefix('redis-')}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(found)

    assert found == golden.read_text()
    assert len(list(text_string_to_metric_families(found))) == len(families)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_sample_is_declared_in_the_catalogue_with_its_type_and_labels(
    version: str, collected: dict[str, list[Sample]]
) -> None:
    exact = {it.name: (it.type, it.labels) for it in EXPORTER.metrics if isinstance(it, Metric)}
    patterns = [it for it in EXPORTER.metrics if not isinstance(it, Metric)]
    for sample in collected[version]:
        metric = sample.series.metric
        declared = [exact[metric.name]] if metric.name in exact else []
        declared += [(it.type, it.labels) for it in patterns if it.matches(metric.name)]
        assert (metric.type, metric.labels) in declared, metric.name
        present = {label for label, _ in sample.series.labels} - {"le", "quantile"}
        if metric.name == "redis_instance_info":
            present -= {"valkey_version", "valkey_release_stage"}  # only in Valkey
        assert present == set(metric.labels), sample.series.text


@pytest.mark.parametrize("version", VERSIONS)
def test_no_series_is_repeated(version: str, collected: dict[str, list[Sample]]) -> None:
    texts = [it.series.text for it in collected[version]]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("version", VERSIONS)
def test_both_protocols_and_a_second_run_give_the_same_samples(
    version: str, collected: dict[str, list[Sample]]
) -> None:
    with stand_in(answers_of(version)) as server:
        by_protocol = [by_series(_collect(server, protocol=protocol)) for protocol in (2, 3)]
        second = by_series(_collect(server, runs=2))
    assert by_protocol == [by_series(collected[version])] * 2
    assert second == by_protocol[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_exposition_contains_no_password_from_the_config(version: str) -> None:
    answers = answers_of(version)
    answers["INFO EVERYTHING"] = answers["INFO ALL"]
    with stand_in(answers) as server:
        samples = _collect(server, **FULL)
    shown = by_series(samples)
    assert shown['redis_config_key_value{key="maxmemory-policy",value="allkeys-lru"}'] == 1
    assert shown['redis_config_value{key="databases"}'] == 4
    assert SECRET not in str(list(shown))
    assert "requirepass" not in str(list(shown))


#: By the first version with them. Valkey 8.1 has all metrics of Redis 7.2, and more.
SINCE = {
    (7, 0): {
        "redis_latency_percentiles_usec", "redis_memory_used_scripts_eval_bytes", "redis_evicted_clients_total",
        "redis_mem_cluster_links_bytes", "redis_async_loading", "redis_pubsubshard_channels",
        "redis_mem_total_replication_buffers_bytes", "redis_memory_used_vm_total", "redis_number_of_functions",
        "redis_number_of_libraries",
    },
    (7, 2): {
        "redis_total_blocking_keys", "redis_eventloop_cycles_total", "redis_eventloop_duration_sum_usec_total",
        "redis_instantaneous_eventloop_cycles_per_sec",
    },
}  # fmt: skip
ONLY = {
    "redis-8.0": {"redis_expired_subkeys_total", "redis_db_keys_subexpiry", "redis_module_info"},
    "valkey-8.1": {
        "redis_commandlog_slow_length", "redis_commandlog_large_request_length", "redis_commandlog_large_reply_length",
        "redis_commandlog_execution_slower_than", "redis_commandlog_request_larger_than",
    },
}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_metrics_that_a_version_does_not_support_are_absent(version: str, collected: dict[str, list[Sample]]) -> None:
    found = _names(collected[version])
    for since, names in SINCE.items():
        assert found & names == (names if VERSIONS[version] >= since else set()), since
    for owner, names in ONLY.items():
        assert found & names == (names if version == owner else set()), owner


def test_a_replica_exports_its_master_and_a_master_its_replica(collected: dict[str, list[Sample]]) -> None:
    replica, master = by_series(collected["redis-7.0-replica"]), by_series(collected["redis-8.0"])
    link = '{master_host="127.0.0.1",master_port="16401"}'
    assert replica[f"redis_master_link_up{link}"] == 1
    assert replica[f"redis_slave_repl_offset{link}"] == 655
    assert replica['redis_slave_info{master_host="127.0.0.1",master_port="16401",read_only="1"}'] == 1
    of_the_replica = '{slave_ip="127.0.0.1",slave_port="16402",slave_state="online"}'
    assert master[f"redis_connected_slave_offset_bytes{of_the_replica}"] == 655
    assert master[f"redis_connected_slave_lag_seconds{of_the_replica}"] == 0
    about_masters = ("redis_master_link_up", "redis_slave_info", "redis_master_last_io_seconds_ago")
    assert not [text for text in master if text.startswith(about_masters)]


def test_valkey_exports_its_own_version_and_mode_in_addition_to_those_of_redis(
    collected: dict[str, list[Sample]],
) -> None:
    (labels,) = (dict(it.series.labels) for it in collected["valkey-8.1"] if it.series.name == "redis_instance_info")
    assert labels["redis_version"] == "7.2.4"
    assert labels["valkey_version"] == "8.1.1"
    assert labels["valkey_release_stage"] == "ga"
    assert labels["redis_mode"] == "standalone"


def test_the_sum_of_a_command_histogram_is_that_of_commandstats(collected: dict[str, list[Sample]]) -> None:
    found = by_series(collected["redis-7.0"])
    name = "redis_commands_latencies_usec"
    buckets = [found[f'{name}_bucket{{cmd="get",le="{bound}"}}'] for bound in ("1.0", "4.0", "+Inf")]
    assert buckets == [1, 2, 2]
    assert found[f'{name}_sum{{cmd="get"}}'] == found['redis_commands_duration_seconds_total{cmd="get"}'] * 1e6
    assert found[f'{name}_sum{{cmd="config"}}'] == 8  # the sum of its subcommands
    assert "never-heard-of" not in str(list(found))


def test_empty_databases_are_exported_up_to_the_configured_number(
    collected: dict[str, list[Sample]],
) -> None:
    found = by_series(collected["redis-8.0"])
    keys = {text: value for text, value in found.items() if text.startswith("redis_db_keys{")}
    assert keys == {f'redis_db_keys{{db="db{number}"}}': value for number, value in enumerate((6, 0, 0, 1))}
    with stand_in({"INFO ALL": info_of("redis-8.0")}) as server:
        without_config = by_series(_collect(server))
    assert [text for text in without_config if text.startswith("redis_db_keys{")] == [
        'redis_db_keys{db="db0"}',
        'redis_db_keys{db="db3"}',
    ]


def test_a_server_that_supports_only_info_exports_the_metrics_of_info(collected: dict[str, list[Sample]]) -> None:
    with stand_in({"INFO ALL": info_of("redis-6.2")}) as server:
        found = _names(_collect(server))
    missing = _names(collected["redis-6.2"]) - found
    assert {name for name in missing if not name.startswith("redis_config_")} == {
        "redis_latency_spike_last", "redis_latency_spike_duration_seconds", "redis_slowlog_length",
        "redis_slowlog_last_id", "redis_last_slow_execution_duration_seconds",
    }  # fmt: skip


def test_only_commands_that_the_version_supports_are_sent() -> None:
    asked = {}
    for version in VERSIONS:
        with stand_in(answers_of(version)) as server:
            _collect(server)
            asked[version] = [it for it in server.commands if not it.startswith(("HELLO", "CLIENT SETNAME"))]
    everywhere = ["INFO ALL", "LATENCY LATEST", "SLOWLOG LEN", "SLOWLOG GET 1"]
    assert asked["redis-6.2"] == [*everywhere, "CONFIG GET *"]
    assert asked["redis-7.0"] == [*everywhere, "LATENCY HISTOGRAM", "CONFIG GET *"]
    assert asked["redis-8.0"] == asked["redis-7.0-replica"] == asked["redis-7.0"]
    assert asked["valkey-8.1"] == [
        *asked["redis-7.0"],
        *(f"COMMANDLOG LEN {kind}" for kind in ("slow", "large-request", "large-reply")),
    ]


def test_a_server_that_requires_a_password_is_down() -> None:
    refusal = ValueError("NOAUTH Authentication required.")
    with stand_in({"INFO ALL": refusal}) as server, pytest.raises(Unreachable, match="NOAUTH"):
        _collect(server)


def test_a_server_that_supports_info_only_without_a_section_is_monitored() -> None:
    refusal = ValueError("ERR wrong number of arguments for 'info' command")
    with stand_in({"INFO ALL": refusal, "INFO": info_of("redis-6.2")}) as server, Target(server.url) as target:
        for _ in range(2):
            assert target.values()["redis_memory_used_bytes"] > 0
        assert server.commands.count("INFO ALL") == 1


TRANSIENT = ("BUSY", "LOADING", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN")


@pytest.mark.parametrize("code", TRANSIENT)
def test_a_temporary_failure_of_info_is_down_for_that_run(code: str) -> None:
    answers = answers_of("redis-7.0")
    with stand_in(answers) as server, Target(server.url) as target:
        assert target.values()["redis_up"] == 1
        server.answers = dict.fromkeys(answers, ValueError(f"{code} for a moment"))
        snapshot = target.run()
        assert failed(snapshot)["redis_up"] == 0
        assert f"INFO failed ({code} for a moment)" in snapshot.error
        server.answers = answers
        assert target.values()["redis_memory_used_bytes"] > 0


@pytest.mark.parametrize("code", TRANSIENT)
def test_a_command_that_fails_temporarily_is_retried_at_the_next_run(code: str) -> None:
    answers = answers_of("redis-7.0")
    answers["SLOWLOG GET 128"] = answers["SLOWLOG GET 1"]
    with stand_in(answers) as server, Target(server.url) as target:
        whole = target.cycle()
    failing = {**dict.fromkeys(answers, ValueError(f"{code} for a moment")), "INFO ALL": answers["INFO ALL"]}
    with stand_in(failing) as server, Target(server.url) as target:
        assert target.values()["redis_up"] == 1
        assert code in target.run("redis.slowlog").error
        server.answers = answers
        for name, snapshot in target.cycle().items():
            assert not snapshot.error
            assert _families(snapshot) == _families(whole[name])


def _families(snapshot: Snapshot) -> set[str]:
    return {family.metric.name for family in snapshot.families}


@pytest.mark.parametrize("code", TRANSIENT)
def test_a_temporary_failure_to_read_keys_fails_the_run(code: str) -> None:
    scan = ValueError(f"{code} for a moment")
    answers = {**answers_of("redis-7.0"), "SELECT 0": "OK", "SCAN 0 MATCH a* COUNT 1000": scan}
    with stand_in(answers) as server, Target(server.url, count_keys=["a*"]) as target:
        assert target.values()["redis_up"] == 1
        assert f"{code} for a moment" in target.run("redis.keys").error
