"""Missing Redis permissions: `check`, a metric and the log report each one with its fix."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from databases import RedisServer, redis_server
from deckwatch.exporter import Incomplete
from deckwatch_exporters.redis import EXPORTER
from exporters.redis.support import Target
from server_versions import redis_program
from services import agent, deckwatch_command, free_port, installed, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

PAGE = Path(__file__).parent.parent.parent / "docs" / "redis.md"
PASSWORD = "correct-horse-battery"
USER: dict[str, Any] = {"username": "monitor", "password": PASSWORD}
EVERYTHING: dict[str, Any] = {
    **USER,
    "config_values": True,
    "client_list": True,
    "modules": True,
    "keys": ["text", "number:*", "list", "set", "zset", "hash", "stream", "unique", "missing"],
    "count_keys": ["number:*"],
    "streams": ["stream"],
    "key_groups": {},
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


def _documented() -> dict[str, list[str]]:
    """Return the page's statements by the first word of the comment above each."""
    found = re.findall(r"^# (\w+).*\n(ACL SETUSER .*)$", PAGE.read_text(), re.MULTILINE)
    return {name: shlex.split(statement.replace("PASSWORD", PASSWORD)) for name, statement in found}


def _load(client: redis.Redis) -> None:
    client.set("text", "words")
    client.set("number:1", 5, ex=1000)
    client.rpush("list", 1)
    client.sadd("set", 1)
    client.zadd("zset", {"a": 1})
    client.hset("hash", "a", "1")
    client.pfadd("unique", 1)
    client.xadd("stream", {"a": 1})
    client.xgroup_create("stream", "group", id="0")
    client.xreadgroup("group", "consumer", {"stream": ">"})
    client.xadd("stream", {"a": 2})


@pytest.mark.parametrize("version", ["distribution", "redis-6.2", "valkey-9.1"])
def test_the_documented_privileges_are_enough_for_everything(version: str, tmp_path: Path) -> None:
    program = None if version == "distribution" else redis_program(version)
    if version != "distribution" and program is None:
        pytest.skip(f"{version} is not installed")
    documented = _documented()
    with redis_server(tmp_path, program=program) as server, server.client() as client:
        _load(client)
        client.execute_command(*documented["Everything"])
        client.execute_command(*documented["For"])
        if version.startswith("valkey"):
            client.execute_command(*documented["Valkey"])
        for protocol in (2, 3):
            with Target(server.url, **EVERYTHING, protocol=protocol) as target:
                collected = target.collect()
                assert not collected.errors
                assert collected.malformed == []
                names = {sample.series.name for sample in collected.samples}
                assert "redis_command_refused" not in names
                assert names >= {"redis_key_value", "redis_stream_group_oldest_undelivered_timestamp_seconds"}
                assert [finding.state for finding in EXPORTER.check(target.settings)] == ["ok"]
        assert client.execute_command("ACL", "LOG") == []


def test_the_documented_privileges_are_enough_for_a_cluster_and_a_sentinel(tmp_path: Path) -> None:
    documented = _documented()
    cluster = redis_server(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with cluster as server, server.client() as client:
        client.execute_command(*documented["Everything"])
        with Target(server.url, **USER, client_list=True) as target:
            assert target.values()["redis_cluster_known_nodes"] == 1
            assert [finding.state for finding in EXPORTER.check(target.settings)] == ["ok"]
        assert client.execute_command("ACL", "LOG") == []
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nsentinel monitor mymaster 127.0.0.1 {free_port()} 1\n")
    sentinel = RedisServer([installed("redis-server"), str(config), "--sentinel"], tmp_path, port)
    sentinel.start()
    try:
        with sentinel.client() as client:
            client.execute_command(*documented["A"])
            with Target(sentinel.url, **USER, config_values=True) as target:
                assert target.values()["redis_sentinel_masters"] == 1
                assert not [name for name in target.values() if name.startswith("redis_command_refused")]
                assert [finding.state for finding in EXPORTER.check(target.settings)] == ["ok"]
            assert client.execute_command("ACL", "LOG") == []
    finally:
        sentinel.stop()


def test_a_denied_command_is_exported_and_logged_once_with_the_fix(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", f">{PASSWORD}", "+@all", "-config|get", "~*")
        with Target(server.url, **USER) as target:
            for _ in range(3):
                assert target.values()['redis_command_refused{command="CONFIG GET"}'] == 1
            (line,) = target.logged("redis.command_refused")
            assert line["message"].startswith('redis "cache": the server refuses CONFIG GET (NOPERM')
            assert line["message"].endswith("Run: ACL SETUSER monitor +config|get.")
            lacks = [lack for snapshot in target.cycle().values() for lack in snapshot.lacks]
            assert lacks == [Incomplete("the server refuses CONFIG GET", "ACL SETUSER monitor +config|get")]


@pytest.mark.parametrize(("flags", "name"), [(("",), ""), (("hidden-config",), "hidden-config")])
def test_a_renamed_or_disabled_config_command_is_reported_until_it_is_configured(
    flags: tuple[str], name: str, tmp_path: Path
) -> None:
    with redis_server(tmp_path, "--rename-command", "CONFIG", *flags) as server:
        with Target(server.url) as target:
            assert target.values()['redis_command_refused{command="CONFIG GET"}'] == 1
            assert len(target.logged("redis.command_refused")) == 1
            (finding, *_) = (it for it in EXPORTER.check(target.settings) if it.state == "missing")
            assert "config_command" in finding.remedy
        with Target(server.url, config_command=name or "off") as target:
            values = target.values()
            assert not [series for series in values if series.startswith("redis_command_refused")]
            assert ("redis_config_maxclients" in values) == bool(name)
            assert {finding.state for finding in EXPORTER.check(target.settings)} == {"ok"}


def test_keys_that_an_acl_hides_are_counted_and_logged_once(server: RedisServer) -> None:
    with server.client() as client:
        _load(client)
        client.execute_command("ACL", "SETUSER", "monitor", "on", f">{PASSWORD}", "+@all", "~list")
        with Target(server.url, **USER, keys=["list", "text", "number:*"], streams=["stream"]) as target:
            target.cycle()
            found = target.values("redis.keys")
            assert found["redis_keys_refused"] == 3
            assert found['redis_key_size{db="db0",key="list"}'] == 1
            (line,) = target.logged("redis.command_refused")
            assert "Run: ACL SETUSER monitor ~text" in line["message"]
            lacks = [lack for snapshot in target.cycle().values() for lack in snapshot.lacks]
            assert [lack.what for lack in lacks] == ["the server hides 3 selected keys from the user"]
            remedies = [finding.remedy for finding in EXPORTER.check(target.settings)]
            assert "ACL SETUSER monitor ~text ~stream ~number:*" in remedies
            client.execute_command("ACL", "SETUSER", "monitor", "~*")
            assert target.values("redis.keys")["redis_keys_refused"] == 0


def test_a_scan_that_reaches_a_limit_is_reported_with_the_setting(server: RedisServer) -> None:
    with server.client() as client:
        client.mset({f"k:{number}": number for number in range(500)})
    limited: list[tuple[dict[str, Any], str]] = [
        ({"keys": ["k:*"], "scan": {"max_keys": 10}}, "Increase scan.max_keys or make the pattern narrower"),
        (
            {"count_keys": ["k:*"], "scan": {"count": 1, "iterations": 3}},
            "Increase scan.iterations, scan.count or scan.time",
        ),
    ]
    for settings, advice in limited:
        with Target(server.url, **settings) as target:
            for _ in range(2):
                target.cycle()
            (line,) = target.logged("redis.scan_limited")
            assert line["message"].endswith(f"{advice}.")
            assert advice in " ".join(lack.what for snapshot in target.cycle().values() for lack in snapshot.lacks)
            (finding,) = (it for it in EXPORTER.check(target.settings) if it.state == "missing")
            assert finding.what.endswith(advice)


def test_a_stream_key_of_another_type_is_reported(server: RedisServer) -> None:
    with server.client() as client, Target(server.url, streams=["text", "stream", "missing"]) as target:
        _load(client)
        collected = target.collect()
        assert not collected.errors
        assert collected.malformed == ["XINFO STREAM text"]
        assert collected.value("redis_stream_length", stream="stream") == 2


def test_25000_error_names_do_not_affect_redis_up_or_other_series(server: RedisServer) -> None:
    with server.client() as client:
        sha = client.script_load("return redis.error_reply('last:' .. ARGV[1] .. ', now:x')")
        for start in range(0, 25_000, 1000):
            pipe = client.pipeline(transaction=False)
            for number in range(start, start + 1000):
                pipe.evalsha(sha, 0, number)
            pipe.execute(raise_on_error=False)
        assert len(client.info("errorstats")) > 128
        with Target(server.url) as target:
            collected = target.collect()
            assert not collected.errors
            assert all(snapshot.dropped == 0 for snapshot in collected.snapshots.values())
            assert collected.value("redis_up") == 1
            assert collected.value("redis_memory_used_bytes") > 0
            errors = [name for name in collected.values if name.startswith("redis_errors_total")]
            assert len(errors) <= 129
            total = sum(value for name, value in collected.values.items() if name in errors)
            assert total >= 25_000


def test_check_warns_about_series_over_the_limit(server: RedisServer, tmp_path: Path) -> None:
    config = tmp_path / "deckwatch.yml"
    config.write_text(f"exporters: {{redis: [{{name: cache, url: '{server.url}', max_series: 50}}]}}\n")
    done = subprocess.run(deckwatch_command("check", "--config", str(config)), capture_output=True, text=True)
    (row,) = (
        line for line in done.stdout.splitlines() if line.startswith("redis ") and "series over the limit" in line
    )
    assert " warning " in row
    assert done.returncode == 2
    with agent(tmp_path, config.read_text()) as program:
        until(lambda: 'redis_up{target="cache"} 1' in program.metrics())
        assert re.search(r'deckwatch_series_dropped\{[^}]*collector="redis"[^}]*\} [1-9]', program.metrics())
        lines = re.findall(r'"redis \\"cache\\": [0-9]+ series exceed the limit.* Increase max_series', program.printed)
        assert len(lines) == 1
