"""Every setting of a Redis target has an effect on a real server, or is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from databases import RedisServer, redis_server
from deckwatch_exporters.redis.settings import RedisSettings
from exporters.setting_names import setting_names, shown_by_test

from .stand_in import answers_of, stand_in
from .support import Target

if TYPE_CHECKING:
    from collections.abc import Iterator


class Change(NamedTuple):
    """Settings with which other series are exported than with `given` ones."""

    settings: dict[str, Any]
    given: dict[str, Any]


def _with(name: str, changed: Any, given: Any, **beside: Any) -> Change:
    return Change({name: changed, **beside}, {name: given, **beside})


_GROUPS = {"patterns": ["^([a-z]+):"]}
_ALL = {"keys": ["user:*"]}

#: The change that shows the effect of each setting, or the test that does.
EFFECTS: dict[str, Change | str] = {
    "url": "test_redis_keys.py::test_keys_are_read_from_the_database_in_the_url",
    "username": "test_redis_connections.py::test_a_login_with_user_and_password_works",
    "password": "test_redis_connections.py::test_a_login_with_only_a_password_works",
    "sentinel_username": "redis/test_settings.py::test_a_sentinel_can_have_its_own_user",
    "sentinel_password": "test_redis_connections.py::test_a_sentinel_can_have_its_own_password",
    "tls.ca_file": "test_redis_connections.py::test_a_certificate_from_an_unknown_authority_is_rejected",
    "tls.cert_file": "test_redis_connections.py::test_the_run_fails_without_a_required_client_certificate",
    "tls.key_file": "test_redis_connections.py::test_the_run_fails_without_a_required_client_certificate",
    "tls.verify": (
        "test_redis_connections.py::test_a_certificate_for_another_name_is_rejected_unless_verification_is_off"
    ),
    "timeout": "test_redis_faults.py::test_all_collectors_of_a_frozen_server_share_one_timeout",
    "protocol": "redis/test_settings.py::test_protocol_2_is_spoken_if_set",
    "config_command": Change({"config_command": "off"}, {}),
    "config_values": Change({"config_values": True}, {}),
    "client_list": Change({"client_list": True}, {}),
    "modules": "redis/test_settings.py::test_sections_of_modules_are_read_only_if_set",
    "slowlog.events": Change({"slowlog": {"events": False}}, {}),
    "slowlog.redact": "redis/test_slowlog_arguments.py::test_without_redaction_the_arguments_are_unchanged",
    "slowlog.first_key": (
        "redis/test_slowlog_arguments.py::test_values_are_hidden_and_keys_are_shown_only_if_configured"
    ),
    "slowlog.fetch": "test_redis_slowlog.py::test_more_entries_than_are_fetched_are_counted_as_missed",
    "keys.key": _with("keys", [{"key": "user:1"}], [{"key": "user:2"}]),
    "keys.pattern": _with("keys", [{"pattern": "user:*"}], [{"pattern": "mail:*"}]),
    "keys.db": _with("keys", [{"key": "user:1", "db": 1}], [{"key": "user:1"}]),
    "count_keys.key": _with("count_keys", [{"key": "user:1"}], [{"key": "mail:1"}]),
    "count_keys.pattern": _with("count_keys", [{"pattern": "user:*"}], [{"pattern": "mail:*"}]),
    "count_keys.db": _with("count_keys", [{"pattern": "*", "db": 1}], [{"pattern": "*"}]),
    "streams.key": _with("streams", [{"key": "s1"}], [{"key": "s2"}]),
    "streams.pattern": _with("streams", [{"pattern": "s?"}], [{"pattern": "s1*"}]),
    "streams.db": _with("streams", [{"key": "s1", "db": 1}], [{"key": "s1"}]),
    "streams.consumers": _with("streams", [{"key": "s1", "consumers": False}], [{"key": "s1"}]),
    "key_groups.patterns": _with("key_groups", _GROUPS, {"patterns": ["(1)"]}),
    "key_groups.databases": _with("key_groups", {**_GROUPS, "databases": [1]}, _GROUPS),
    "key_groups.max_groups": _with("key_groups", {**_GROUPS, "max_groups": 1}, _GROUPS),
    "key_groups.memory_samples": _with("key_groups", {**_GROUPS, "memory_samples": 0}, _GROUPS),
    "scan.count": _with("scan", {"iterations": 1, "count": 1}, {"iterations": 1}, **_ALL),
    "scan.iterations": _with("scan", {"iterations": 1, "count": 1}, {"count": 1}, **_ALL),
    "scan.max_keys": _with("scan", {"max_keys": 1}, {}, **_ALL),
    "scan.time": "test_redis_keys.py::test_a_scan_stops_at_its_time_limit",
    "keys_interval": "redis/test_settings.py::test_keys_have_their_own_interval",
}


def test_every_setting_has_a_change_that_shows_its_effect() -> None:
    assert setting_names(RedisSettings) == EFFECTS.keys()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        for db in (0, 1):
            with running.client(db=db) as client:
                for number in range(20 + db):
                    client.set(f"user:{number}", "x" * number)
                client.set("mail:1", "x" * (db + 1))
                for stream in ("s1", "s2"):
                    client.xadd(stream, {"a": 1}, id=f"{1_700_000_000_000 + db}-1")
                    client.xgroup_create(stream, "g", id="0")
                    client.xreadgroup("g", "c", {stream: ">"})
        with running.client(single_connection_client=True) as idle:
            idle.ping()
            yield running


#: The figures that depend on settings, and those of them that differ from run to run.
_CHOSEN = ("redis_key", "redis_stream", "redis_number_of_distinct", "redis_config", "redis_connected_client_info",
           "redis_slow_command")  # fmt: skip
_CHANGING = re.compile(r".*(seconds|duration|keyspace)|redis_connected_client_info|redis_config_last")


def _series(server: RedisServer, settings: dict[str, Any]) -> dict[str, float]:
    """Return the values that depend on settings; 0 for those that change with time."""
    with Target(server.url, **settings) as target:
        collected = target.collect()
    assert not collected.errors
    return {
        re.sub(r'id="[0-9]+"|addr="[^"]*"', "", name): 0.0 if _CHANGING.match(name) else value
        for name, value in collected.values.items()
        if name.startswith(_CHOSEN)
    }


@pytest.mark.parametrize("setting", EFFECTS)
def test_each_setting_has_an_effect(server: RedisServer, setting: str) -> None:
    change = EFFECTS[setting]
    if isinstance(change, str):
        assert shown_by_test(change)
        return

    assert _series(server, change.given) == _series(server, change.given), "the values of other runs are equal"
    assert _series(server, change.settings) != _series(server, change.given)


def test_protocol_2_is_spoken_if_set() -> None:
    for protocol, greeting in ((2, []), (3, ["HELLO 3 SETNAME deckwatch"])):
        with stand_in(answers_of("redis-7.0")) as server, Target(server.url, protocol=protocol) as target:
            target.collect()
        assert [it for it in server.commands if it.startswith("HELLO")] == greeting


def test_sections_of_modules_are_read_only_if_set() -> None:
    for modules, command in ((False, "INFO ALL"), (True, "INFO EVERYTHING")):
        with stand_in(answers_of("redis-7.0")) as server, Target(server.url, modules=modules) as target:
            target.collect()
        assert command in server.commands


def test_a_sentinel_can_have_its_own_user() -> None:
    given: dict[str, Any] = {"sentinel_username": "guard", "sentinel_password": "secret", "protocol": 2}
    with stand_in({"SENTINEL GET-MASTER-ADDR-BY-NAME shop": None}) as server:
        port = server.url.rpartition(":")[2]
        with Target(f"redis+sentinel://127.0.0.1:{port}/shop", **given) as target:
            target.collect()
    assert "AUTH guard secret" in server.commands


def test_keys_have_their_own_interval(server: RedisServer) -> None:
    with Target(server.url, keys=["user:1"], keys_interval="7m") as target:
        assert target.collectors["redis.keys"].interval == 420
