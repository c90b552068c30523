"""Slow commands of a real server are logged and counted in a histogram, each once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import redis

from databases import RedisServer, redis_server
from deckwatch_exporters.redis.slowlog import SlowCommand, SlowLog
from exporters.redis.support import Target
from services import agent, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HISTOGRAM = "redis_slow_command_duration_seconds"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that logs no slow commands until a test lowers the threshold."""
    with redis_server(tmp_path, "--slowlog-log-slower-than", "-1", "--enable-debug-command", "yes") as running:
        yield running


def _slow(client: redis.Redis, *commands: tuple[Any, ...]) -> None:
    """Run only these commands with a threshold that makes every command slow."""
    client.config_set("slowlog-log-slower-than", 0)
    for command in commands:
        client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py
    client.config_set("slowlog-log-slower-than", -1)


def _commands(target: Target) -> list[str]:
    return [event["command"] for event in target.slow_commands if event["command"] != "config|set"]


def test_slow_log_entries_from_before_the_start_are_not_reported(server: RedisServer) -> None:
    with server.client() as client, Target(server.url) as target:
        _slow(client, ("SET", "a", 1))
        target.cycle()
        target.cycle()
        assert target.slow_commands == []
        _slow(client, ("SET", "b", 1))
        target.cycle()
        assert _commands(target) == ["set"]
        target.cycle()
        assert _commands(target) == ["set"]


def test_an_event_has_the_command_the_client_and_the_time(server: RedisServer) -> None:
    with server.client(client_name="shop") as client, Target(server.url) as target:
        target.cycle()
        client.config_set("slowlog-log-slower-than", 10_000)
        client.execute_command("DEBUG", "SLEEP", "0.03")
        target.cycle()
        (event,) = target.slow_commands
    assert event["event"] == "redis.slow_command"
    assert event["target"] == "cache"
    assert event["command"] == "debug|sleep"
    assert 0.03 <= event["duration_seconds"] < 30  # seconds, and not 30 milliseconds
    assert event["argument_count"] == 2
    assert event["arguments"] == ["?", "?"]
    assert event["client_name"] == "shop"
    assert event["client_address"].startswith("127.0.0.1:")
    moment = datetime.fromisoformat(event["server_time"])
    assert abs(moment - datetime.now(UTC)) < timedelta(seconds=30)
    assert event["message"].startswith(f"debug|sleep took {event['duration_seconds']:.6f} s")


def test_arguments_are_redacted_by_default(server: RedisServer) -> None:
    with (
        server.client() as client,
        Target(server.url, "hidden") as hidden,
        Target(server.url, "key", slowlog={"first_key": True}) as key,
        Target(server.url, "shown", slowlog={"redact": False}) as shown,
    ):
        for target in (hidden, key, shown):
            target.cycle()
        _slow(client, ("SET", "user:1", "secret"), ("EVAL", "return 'secret'", "0"), ("MSET", *range(80)))
        _slow(client, ("CONFIG", "SET", "masterauth", "secret"), ("ACL", "SETUSER", "x", ">secret"))
        for target in (hidden, key, shown):
            target.cycle()
        by_command = [
            {event["command"]: event["arguments"] for event in one.slow_commands} for one in (hidden, key, shown)
        ]
    assert by_command[0]["set"] == ["?", "?"]
    assert by_command[1]["set"] == ["user:1", "?"]
    assert by_command[1]["eval"] == ["?", "?"]  # its first argument is the script
    assert by_command[2]["set"] == ["user:1", "secret"]
    assert by_command[2]["eval"] == ["return 'secret'", "0"]
    assert "secret" not in str(by_command[2]["acl|setuser"])  # regardless of the config
    assert "secret" not in str([hidden.slow_commands, key.slow_commands])
    assert len(by_command[0]["mset"]) == 31  # 30 words and the number of further ones
    assert next(event for event in hidden.slow_commands if event["command"] == "mset")["argument_count"] == 80


def test_the_histogram_counts_by_command(server: RedisServer) -> None:
    with server.client() as client, Target(server.url) as target:
        target.cycle()
        _slow(client, ("SET", "a", 1), ("SET", "b", 1), ("GET", "a"))
        client.config_set("slowlog-log-slower-than", 10_000)
        client.execute_command("DEBUG", "SLEEP", "0.03")
        target.run()
        values = target.values("redis.slowlog")
        again = target.values("redis.slowlog")
    assert values[f'{HISTOGRAM}_count{{command="set"}}'] == 2
    assert values[f'{HISTOGRAM}_count{{command="get"}}'] == 1
    assert values[f'{HISTOGRAM}_bucket{{command="get",le="0.001"}}'] == 1
    assert values[f'{HISTOGRAM}_bucket{{command="debug|sleep",le="0.025"}}'] == 0
    assert values[f'{HISTOGRAM}_bucket{{command="debug|sleep",le="+Inf"}}'] == 1
    assert values[f'{HISTOGRAM}_sum{{command="debug|sleep"}}'] >= 0.03
    assert again == values


def test_after_a_slow_log_reset_new_entries_are_reported_once(server: RedisServer) -> None:
    with server.client() as client, Target(server.url) as target:
        target.cycle()
        _slow(client, ("SET", "a", 1))
        target.cycle()
        client.slowlog_reset()
        target.cycle()
        _slow(client, ("GET", "a"))
        assert target.cycle()["redis.slowlog"].error == ""
        assert _commands(target) == ["set", "get"]


def test_unread_entries_removed_by_a_reset_are_counted_as_missed_with_the_next_entry(server: RedisServer) -> None:
    with server.client() as client, Target(server.url) as target:
        _slow(client, ("SET", "a", 1))
        target.cycle()
        _slow(client, ("SET", "a", 1), ("SET", "b", 1))  # and CONFIG SET itself, when it set the threshold back
        client.slowlog_reset()
        _slow(client, ("GET", "a"))
        target.run()
        values = target.values("redis.slowlog")
        assert values["redis_slow_commands_missed_total"] == 3
        assert _commands(target) == ["get"]


def test_a_server_restart_that_resets_the_ids_loses_and_repeats_no_entries(server: RedisServer) -> None:
    with Target(server.url) as target:
        with server.client() as client:
            _slow(client, *[("SET", "a", 1)] * 5)
            target.cycle()
        server.stop()
        server.start()
        with server.client() as client:
            _slow(client, ("GET", "a"))
            target.cycle()
            target.cycle()
            _slow(client, ("GET", "b"))
            target.cycle()
        assert _commands(target) == ["get", "get"]


def test_more_entries_than_are_fetched_are_counted_as_missed(server: RedisServer) -> None:
    with server.client() as client, Target(server.url, slowlog={"fetch": 10}) as target:
        _slow(client, ("SET", "a", 1))
        target.cycle()
        _slow(client, *[("SET", "a", 1)] * 25)
        target.run()
        values = target.values("redis.slowlog")
        assert len(target.slow_commands) == 10
        assert values["redis_slow_commands_missed_total"] == 25 + 1 - 10  # with CONFIG SET
        assert (
            values["redis_slow_commands_missed_total"]
            == target.values("redis.slowlog")["redis_slow_commands_missed_total"]
        )


def test_the_agents_own_commands_are_not_reported_as_slow(server: RedisServer) -> None:
    with server.client() as client, Target(server.url) as target:
        target.cycle()
        client.config_set("slowlog-log-slower-than", 0)
        for _ in range(3):
            target.cycle()
        client.config_set("slowlog-log-slower-than", -1)
        target.cycle()
        assert {event["command"] for event in target.slow_commands} <= {"config|set"}


def test_an_unchanged_slow_log_needs_no_extra_command(server: RedisServer) -> None:
    with server.client() as client, Target(server.url) as target:
        target.cycle()
        before = client.info("commandstats")["cmdstat_slowlog|get"]["calls"]
        for _ in range(5):
            target.cycle()
        assert client.info("commandstats")["cmdstat_slowlog|get"]["calls"] == before + 5  # by collector `redis`


def test_commands_beyond_the_limit_of_names_are_counted_as_other(server: RedisServer) -> None:
    names = [f"CMD{number}" for number in range(70)]
    with server.client() as client, Target(server.url) as target:
        target.cycle()
        # A module or a fork can add any number of commands, so made-up names are counted.
        log = target.collectors["redis.slowlog"].collector
        assert isinstance(log, SlowLog)
        for number, name in enumerate(names):
            log.count(SlowCommand(number, 0, 0.02, (name,), "", ""))
        values = target.values("redis.slowlog")
        assert client.ping()
    assert values[f'{HISTOGRAM}_count{{command="other"}}'] == 6
    assert values["redis_slow_commands_other_total"] == 6
    assert sum(name.startswith(f"{HISTOGRAM}_count") for name in values) == 65


def test_slow_commands_are_written_to_the_agents_log_as_json(server: RedisServer, tmp_path: Path) -> None:
    config = f"interval: 500ms\nexporters: {{redis: [{{name: cache, url: '{server.url}'}}]}}\n"
    with server.client() as client, agent(tmp_path, config) as program:
        until(lambda: "redis_slow_commands_missed_total" in program.metrics())
        client.config_set("slowlog-log-slower-than", 10_000)
        client.execute_command("DEBUG", "SLEEP", "0.02")
        line = until(lambda: next((one for one in program.printed.splitlines() if "redis.slow_command" in one), ""))
        event = json.loads(line)
        assert event["command"] == "debug|sleep"
        assert event["target"] == "cache"
        until(lambda: f'{HISTOGRAM}_count{{target="cache",command="debug|sleep"}} 1' in program.metrics())


def test_the_slow_log_collector_can_be_disabled(server: RedisServer) -> None:
    with Target(server.url, slowlog={"events": False}) as target:
        assert list(target.collectors) == ["redis"]
        assert "redis_slowlog_length" in target.values()
