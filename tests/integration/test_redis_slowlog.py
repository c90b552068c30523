"""Slow commands of a real server become events and a histogram, each once."""

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
    """Everything is slow that takes a microsecond, until the test says otherwise."""
    with redis_server(tmp_path, "--slowlog-log-slower-than", "-1", "--enable-debug-command", "yes") as running:
        yield running


def _slow(client: redis.Redis, *commands: tuple[Any, ...]) -> None:
    """Run these, and these alone, with everything counting as slow."""
    client.config_set("slowlog-log-slower-than", 0)
    for command in commands:
        client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py
    client.config_set("slowlog-log-slower-than", -1)


def _commands(target: Target) -> list[str]:
    return [event["command"] for event in target.slow_commands if event["command"] != "config|set"]


def test_what_is_in_the_slow_log_when_the_agent_starts_is_history(server: RedisServer) -> None:
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


def test_an_event_tells_what_was_slow_where_it_came_from_and_when(server: RedisServer) -> None:
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


def test_arguments_are_hidden_unless_they_are_asked_for(server: RedisServer) -> None:
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
    assert "secret" not in str(by_command[2]["acl|setuser"])  # whatever the config says
    assert "secret" not in str([hidden.slow_commands, key.slow_commands])
    assert len(by_command[0]["mset"]) == 31  # 30 words and how many there are more
    assert next(event for event in hidden.slow_commands if event["command"] == "mset")["argument_count"] == 80


def test_a_histogram_counts_by_command(server: RedisServer) -> None:
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


def test_after_a_reset_of_the_slow_log_new_entries_are_told_once(server: RedisServer) -> None:
    with server.client() as client, Target(server.url) as target:
        target.cycle()
        _slow(client, ("SET", "a", 1))
        target.cycle()
        client.slowlog_reset()
        target.cycle()
        _slow(client, ("GET", "a"))
        assert target.cycle()["redis.slowlog"].error == ""
        assert _commands(target) == ["set", "get"]


def test_entries_that_a_reset_took_away_unread_are_counted_when_the_next_one_comes(server: RedisServer) -> None:
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


def test_a_restart_of_the_server_whose_ids_begin_anew_loses_and_repeats_nothing(server: RedisServer) -> None:
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


def test_the_agents_own_commands_are_no_slow_commands(server: RedisServer) -> None:
    with server.client() as client, Target(server.url) as target:
        target.cycle()
        client.config_set("slowlog-log-slower-than", 0)
        for _ in range(3):
            target.cycle()
        client.config_set("slowlog-log-slower-than", -1)
        target.cycle()
        assert {event["command"] for event in target.slow_commands} <= {"config|set"}


def test_a_quiet_slow_log_costs_no_command_of_its_own(server: RedisServer) -> None:
    with server.client() as client, Target(server.url) as target:
        target.cycle()
        before = client.info("commandstats")["cmdstat_slowlog|get"]["calls"]
        for _ in range(5):
            target.cycle()
        assert client.info("commandstats")["cmdstat_slowlog|get"]["calls"] == before + 5  # that of the probe redis


def test_commands_beyond_the_limit_on_names_are_counted_as_other(server: RedisServer) -> None:
    names = [f"CMD{number}" for number in range(70)]
    with server.client() as client, Target(server.url) as target:
        target.cycle()
        # A module or a fork may have any number of commands; entries of the log are what they say.
        log = target.collectors["redis.slowlog"].collector
        assert isinstance(log, SlowLog)
        for number, name in enumerate(names):
            log.count(SlowCommand(number, 0, 0.02, (name,), "", ""))
        values = target.values("redis.slowlog")
        assert client.ping()
    assert values[f'{HISTOGRAM}_count{{command="other"}}'] == 6
    assert values["redis_slow_commands_other_total"] == 6
    assert sum(name.startswith(f"{HISTOGRAM}_count") for name in values) == 65


def test_slow_commands_reach_the_agents_log_as_json(server: RedisServer, tmp_path: Path) -> None:
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


def test_without_events_there_is_no_such_collector(server: RedisServer) -> None:
    with Target(server.url, slowlog={"events": False}) as target:
        assert list(target.collectors) == ["redis"]
        assert "redis_slowlog_length" in target.values()
