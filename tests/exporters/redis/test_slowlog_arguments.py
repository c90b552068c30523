"""Which parts of a slow command may leave the server."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import Context, Malformed
from deckwatch_exporters.clients.redis.connection import Connection
from deckwatch_exporters.clients.redis.resp import Reply
from deckwatch_exporters.redis.facts import Facts
from deckwatch_exporters.redis.settings import RedisSettings
from deckwatch_exporters.redis.slowlog import SlowCommand, SlowLog, parse_slowlog

from .stand_in import Answer, info_of, stand_in
from .support import Target, by_series

SECRET = "hunter2-x"
SETTINGS = [(True, False), (True, True), (False, False), (False, True)]  # redact, first_key


def _slow(*words: str) -> SlowCommand:
    return SlowCommand(7, 1795248440, 0.5, words, "127.0.0.1:1", "shop")


@pytest.mark.parametrize(("redact", "first_key"), SETTINGS)
@pytest.mark.parametrize(
    "words",
    [
        ("AUTH", SECRET),
        ("auth", "me", SECRET),
        ("CONFIG", "SET", "requirepass", SECRET),
        ("config", "set", "maxmemory", "1", "masterauth", SECRET),
        ("CONFIG", "SET", SECRET, SECRET),
        ("ACL", "SETUSER", "me", "on", f">{SECRET}", "+@all"),
        ("ACL", "SETUSER", "me", f"#{SECRET}"),
        ("HELLO", "3", "AUTH", "me", SECRET, "SETNAME", "x"),
        ("MIGRATE", "10.0.0.1", "6379", "key", "0", "5000", "AUTH", SECRET),
        ("MIGRATE", "10.0.0.1", "6379", "", "0", "5000", "COPY", "AUTH2", "me", SECRET, "KEYS", "a"),
        ("SENTINEL", "SET", "mymaster", "auth-pass", SECRET),
        ("sentinel", "CONFIG", "SET", "sentinel-pass", SECRET),
    ],
    ids=" ".join,
)
def test_a_password_is_never_shown_whatever_the_config(words: tuple[str, ...], redact: bool, first_key: bool) -> None:
    entry = _slow(*words)
    assert entry.arguments(redact, first_key) == ["?"] * (len(words) - 1)
    assert SECRET not in entry.command


@pytest.mark.parametrize("first_key", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        ("SET", "user:1", SECRET, "EX", "60"),
        ("set", "user:1", SECRET),
        ("MSET", "user:1", SECRET, "user:2", SECRET),
        ("HSET", "user:1", "card", SECRET),
        ("RPUSH", "user:1", SECRET),
        ("ZADD", "user:1", "1", SECRET),
        ("XADD", "user:1", "*", "card", SECRET),
        ("RESTORE", "user:1", "0", SECRET),
        ("GETSET", "user:1", SECRET),
    ],
    ids=" ".join,
)
def test_values_are_hidden_and_keys_are_shown_only_if_configured(words: tuple[str, ...], first_key: bool) -> None:
    shown = _slow(*words).arguments(redact=True, first_key=first_key)
    assert shown == (["user:1"] if first_key else ["?"]) + ["?"] * (len(words) - 2)


@pytest.mark.parametrize(
    "words",
    [
        ("EVAL", f"return '{SECRET}'", "0"),
        ("EVALSHA", SECRET, "1", "key"),
        ("FUNCTION", "LOAD", SECRET),
        ("PUBLISH", SECRET, "message"),
        ("ECHO", SECRET),
        ("BITOP", SECRET, "a", "b"),
        ("OBJECT", "ENCODING", SECRET),
        ("A.MODULES.OWN", SECRET),
        ("", SECRET),
    ],
    ids=" ".join,
)
def test_a_first_argument_that_is_not_a_key_is_hidden_even_with_first_key(words: tuple[str, ...]) -> None:
    assert SECRET not in _slow(*words).arguments(redact=True, first_key=True)


def test_without_redaction_the_arguments_are_unchanged() -> None:
    assert _slow("SET", "a", "b").arguments(redact=False, first_key=False) == ["a", "b"]
    assert _slow("PING").arguments(redact=False, first_key=False) == []


def test_truncated_arguments_are_reported_with_their_number() -> None:
    entry = _slow("MSET", *["x"] * 30, "... (129 more arguments)")
    assert entry.argument_count == 159
    assert entry.arguments(redact=True, first_key=True) == ["x", *["?"] * 29, "... (129 more arguments)"]
    hidden = _slow("AUTH", SECRET, "... (129 more arguments)").arguments(redact=True, first_key=False)
    assert hidden == ["?", "... (129 more arguments)"]


def test_an_argument_that_only_looks_like_a_truncation_is_hidden() -> None:
    entry = _slow("SET", "a", f"... ({SECRET} more arguments)")
    assert entry.arguments(redact=True, first_key=False) == ["?", "?"]
    assert entry.argument_count == 2


@given(
    name=st.one_of(st.sampled_from(["SET", "get", "CONFIG", "EVAL", "Mset", "AUTH"]), st.text(max_size=8)),
    arguments=st.lists(st.text(max_size=8).map(lambda text: f"§{text}"), max_size=8),
)
def test_the_number_of_arguments_is_kept_and_none_is_shown(name: str, arguments: list[str]) -> None:
    entry = _slow(name, *arguments)
    assert entry.arguments(redact=True, first_key=False) == ["?"] * len(arguments)
    assert entry.argument_count == len(arguments)
    assert entry.arguments(redact=True, first_key=True)[1:] == ["?"] * (len(arguments) - 1)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("GET", "key"), "get"),
        (("CONFIG", "SET", "maxmemory", "1"), "config|set"),
        (("config",), "config"),
        (("XGROUP", "CREATE", "s", "g", "$"), "xgroup|create"),
        (("SET", "xgroup", "1"), "set"),
        ((), ""),
    ],
)
def test_a_command_has_the_same_name_as_in_commandstats(words: tuple[str, ...], command: str) -> None:
    assert _slow(*words).command == command


def test_entries_of_every_server_version_are_parsed() -> None:
    reply: Reply = [
        [9, 1795248440, 20090, [b"SET", b"\xff", b"1"], b"127.0.0.1:1", b"shop"],
        [8, 1795248439, 15, [b"GET", b"a"]],  # before Redis 4
        [7, 1795248438, 15, [], b"127.0.0.1:1", b"", b"new in a version to come"],
    ]
    first, second, third = (it for it in parse_slowlog(reply) if isinstance(it, SlowCommand))
    assert first == SlowCommand(9, 1795248440, 0.02009, ("SET", r"\xff", "1"), "127.0.0.1:1", "shop")
    assert second == SlowCommand(8, 1795248439, 0.000015, ("GET", "a"), "", "")
    assert (third.command, third.argument_count, third.arguments(True, True)) == ("", 0, [])


@pytest.mark.parametrize(
    "entry",
    [
        [], 1, [1, 2, 3], [b"1", 2, 3, [b"GET"]], [1, 2, 3, b"GET"], [None] * 6, [1, 2, -3, [b"GET"]],
        [1, 10**18, 3, [b"GET"]], [1, None, 3, [b"AUTH", SECRET.encode()]],
    ],
    ids=repr,
)  # fmt: skip
def test_a_malformed_entry_affects_only_itself_and_shows_no_argument(entry: Reply) -> None:
    good: Reply = [7, 1795248438, 15, [b"GET", b"a"]]
    odd, read = parse_slowlog([entry, good])
    assert isinstance(odd, Malformed)
    assert odd.what == "SLOWLOG GET"
    assert SECRET not in odd.text
    assert read == SlowCommand(7, 1795248438, 0.000015, ("GET", "a"), "", "")


@pytest.mark.parametrize("reply", [None, b"x", 1, {b"a": 1}], ids=repr)
def test_a_slow_log_that_is_not_a_list_is_malformed(reply: Reply) -> None:
    assert parse_slowlog(reply) == [Malformed("SLOWLOG GET", type(reply).__name__)]


def _event(settings: dict[str, Any], *words: str | bytes) -> dict[str, Any]:
    """Return the event of a command that enters the slow log between two runs."""
    answers: dict[str, Answer] = {"INFO ALL": info_of("redis-7.0"), "SLOWLOG GET 1": []}
    entry: Answer = [0, 1795248440, 20090, words, "127.0.0.1:1", "shop"]
    with stand_in(answers) as server, Target(server.url, slowlog=settings) as target:
        target.cycle()
        server.answers["SLOWLOG GET 1"] = [entry]
        server.answers["SLOWLOG GET 9"] = server.answers["SLOWLOG GET 128"] = [entry]
        snapshots = target.cycle()
        assert not snapshots["redis.slowlog"].error
        (event,) = target.slow_commands
        exposed = "".join(family.text for snapshot in snapshots.values() for family in snapshot.families)
        assert SECRET not in exposed
        return event


def test_neither_events_nor_metrics_contain_a_password() -> None:
    for settings in ({}, {"redact": False, "first_key": True}):
        event = _event(settings, "ACL", "SETUSER", "me", f">{SECRET}")
        assert event["command"] == "acl|setuser"
        assert event["arguments"] == ["?", "?", "?"]
        assert SECRET not in str(event)


def test_unprintable_bytes_do_not_reach_a_terminal() -> None:
    event = _event({"redact": False}, "SET", "a\x1b[2J\n", "Grüße")
    assert event["arguments"] == [r"a\x1b[2J\n", "Grüße"]
    assert event["command"] == "set"


def test_a_duration_equal_to_a_bucket_bound_is_in_that_bucket() -> None:
    settings = RedisSettings.model_validate({"url": "redis://127.0.0.1"})
    log = SlowLog(Connection(settings), Facts(newest_slow_id=-1), settings, Context(logger=logging.getLogger("test")))
    for duration in (0.001, 0.0011, 0.01, 99.0):
        log.count(_slow("GET", "a")._replace(duration=duration))
    samples = by_series(log.collect())
    name = 'redis_slow_command_duration_seconds_bucket{command="get",le='
    assert [samples[f'{name}"{bound}"}}'] for bound in ("0.001", "0.0025", "0.01", "10.0", "+Inf")] == [1, 2, 3, 3, 4]
    assert samples['redis_slow_command_duration_seconds_sum{command="get"}'] == pytest.approx(99.0121)
