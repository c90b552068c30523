"""Selection of keys by name, pattern and group, and their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from databases import redis_server
from deckwatch.exporter import Pattern
from deckwatch_exporters.redis.key_groups import Group, group_name
from deckwatch_exporters.redis.keyspace import label_of
from deckwatch_exporters.redis.settings import KeyGroupSettings, KeySelection, RedisSettings
from deckwatch_exporters.redis.streams import milliseconds_of

from .support import Target

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2-x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("queue", {"key": "queue"}),
        ("session:*", {"pattern": "session:*"}),
        ("user:?", {"pattern": "user:?"}),
        ("shard[0-9]", {"pattern": "shard[0-9]"}),
        ("db3=queue", {"key": "queue", "db": 3}),
        ("db3=session:*", {"pattern": "session:*", "db": 3}),
        ("db3=db4=x", {"key": "db4=x", "db": 3}),
        ("dbx=queue", {"key": "dbx=queue"}),
        ("a=b", {"key": "a=b"}),
        ("two\nlines", {"key": "two\nlines"}),
    ],
)
def test_a_selection_is_a_name_or_a_pattern_with_an_optional_database(text: str, expected: dict[str, Any]) -> None:
    assert KeySelection.model_validate(text) == KeySelection.model_validate(expected)


def test_a_key_with_pattern_characters_in_its_name_can_be_selected_by_name() -> None:
    selection = KeySelection.model_validate({"key": "what?*"})
    assert (selection.key, selection.pattern) == ("what?*", "")


@pytest.mark.parametrize("wrong", ["", {}, {"key": "a", "pattern": "b*"}, {"db": 1}, {"key": "a", "db": -1}])
def test_a_selection_has_exactly_one_kind(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        KeySelection.model_validate(wrong)


def _settings(*patterns: str) -> KeyGroupSettings:
    return KeyGroupSettings(patterns=tuple(map(Pattern, patterns)))


@pytest.mark.parametrize(
    ("key", "patterns", "group"),
    [
        ("user:1:cart", [r"^([^:]+):"], "user"),
        ("plain", [r"^([^:]+):"], "unclassified"),
        ("", [r"^([^:]+):"], "unclassified"),
        ("user:1:cart", [r"^(\w+):\d+:(\w+)$"], "usercart"),  # the concatenated groups, as in redis_exporter
        ("user:1", [r"^(\w+):\d+(:\w+)?$"], "user"),
        ("user:1", [r"^nothing", r"(\d)"], "1"),
        ("user:1", [r"^(user)", r"(\d)"], "user"),  # the first matching pattern
        ("user:1", [r"user"], ""),  # no group: all keys in one unnamed group
        ("x\nuser:1", [r"(user)"], "user"),
    ],
)
def test_a_key_belongs_to_the_group_captured_by_its_first_matching_pattern(
    key: str, patterns: list[str], group: str
) -> None:
    assert group_name(key, _settings(*patterns)) == group


def test_the_default_group_is_the_part_before_the_colon() -> None:
    assert group_name("session:42:token", KeyGroupSettings()) == "session"
    assert group_name(":odd", KeyGroupSettings()) == "unclassified"


def test_an_invalid_pattern_is_rejected() -> None:
    with pytest.raises(ValidationError):
        KeyGroupSettings.model_validate({"patterns": ["(unclosed"]})


def test_the_sample_kept_of_a_group_has_a_bounded_size() -> None:
    group = Group()
    keys = [b"key:%d" % number for number in range(5000)]
    for key in keys:
        group.add(key)
    assert group.count == 5000
    assert len(group.sample) == len(set(group.sample)) == 200
    assert set(group.sample) <= set(keys)
    assert set(group.sample) - set(keys[:1000])  # not only the first ones


@given(st.text())
def test_the_label_of_a_text_key_is_the_key(text: str) -> None:
    assert label_of(text.encode()) == text


def test_the_label_of_a_binary_key_has_its_bytes_escaped() -> None:
    assert label_of(b"session:\xff\x00") == "session:\\xff\x00"


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("1526919030474-55", 1526919030474),
        ("1526919030474", 1526919030474),
        ("0-0", 0),
        ("", None),
        ("-", None),
        ("-1", None),
        ("x-1", None),
        ("1-x", None),
        ("1.5-0", None),
        ("²-0", None),
    ],
)
def test_the_time_in_a_stream_id_is_read_if_it_is_plausible(id: str, expected: int | None) -> None:
    assert milliseconds_of(id) == expected


def test_groups_and_consumers_with_equal_labels_are_exported_once(tmp_path: Path) -> None:
    names = (b"\xff", rb"\xff")  # both have the label \xff
    with redis_server(tmp_path) as server, server.client() as client:
        for group in names:
            client.xgroup_create("s", group, id="0", mkstream=True)
            for consumer in names:
                client.execute_command("XGROUP", "CREATECONSUMER", "s", group, consumer)
        with Target(server.url, streams=["s"]) as target:
            target.run()
            found = target.values("redis.keys")
    assert [text for text in found if text.startswith("redis_stream_group_consumer_idle")] == [
        r'redis_stream_group_consumer_idle_seconds{db="db0",stream="s",group="\\xff",consumer="\\xff"}'
    ]
    assert len([text for text in found if text.startswith("redis_stream_group_messages_pending")]) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"url": f"redis://:{SECRET}@cache:port"},
        {"url": f"redis://:12?{SECRET}@cache"},
        {"url": f"http://:{SECRET}@cache"},
        {"url": "redis://cache", "password": SECRET, "protocol": 4},
        {"url": f"redis://:{SECRET}@cache", "timeout": "never"},
    ],
    ids=str,
)
def test_invalid_settings_are_reported_without_the_password(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as failure:
        RedisSettings.model_validate(settings)
    told = [(error["loc"], error["msg"]) for error in failure.value.errors(include_input=False, include_context=False)]
    assert told
    assert SECRET not in str(told)


def test_settings_do_not_show_their_passwords() -> None:
    settings = RedisSettings.model_validate(
        {"url": "redis://me@cache", "password": SECRET, "sentinel_password": "third-4"}
    )
    assert settings.credentials == ("me", SECRET)
    for secret in (SECRET, "third-4"):
        assert secret not in repr(settings)
        assert secret not in str(settings)


@pytest.mark.parametrize(("written", "meant"), [(False, "off"), ("-", "off"), ("off", "off"), ("x-config", "x-config")])
def test_the_config_command_can_be_renamed_or_disabled(written: Any, meant: str) -> None:
    assert RedisSettings.model_validate({"url": "redis://cache", "config_command": written}).config_command == meant
