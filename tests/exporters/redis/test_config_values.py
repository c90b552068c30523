"""CONFIG GET, CLIENT LIST and Sentinel replies: parsed values, and secrets among them."""

from __future__ import annotations

import pytest

from deckwatch_exporters.clients.redis.resp import Reply, ReplyError
from deckwatch_exporters.redis.clients import client_samples
from deckwatch_exporters.redis.config import config_samples, database_count, parse_config
from deckwatch_exporters.redis.sentinel import info_samples, master_samples, parse_masters

from .support import by_series, malformed

SECRET = "hunter2-x"


@pytest.mark.parametrize(
    "key",
    [
        "requirepass", "masterauth", "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass", "sentinel-pass",
        "REQUIREPASS", "some-module.password", "some-module.secret",
    ],
)  # fmt: skip
def test_password_settings_are_exported_neither_as_text_nor_as_numbers(key: str) -> None:
    for value in (SECRET, "12345", ""):
        assert list(config_samples({key: value}, with_values=True)) == []


def test_settings_are_exported_as_text_and_numeric_ones_also_as_numbers() -> None:
    config = {"hz": "10", "save": "3600 1", "appendonly": "no", "infinite": "inf", "odd": "nan", "tcp-keepalive": "-1"}
    found = by_series(config_samples(config, with_values=True))
    assert {text for text in found if text.startswith("redis_config_key_value")} == {
        f'redis_config_key_value{{key="{key}",value="{value}"}}' for key, value in config.items()
    }
    assert {text: value for text, value in found.items() if text.startswith("redis_config_value")} == {
        'redis_config_value{key="hz"}': 10,
        'redis_config_value{key="tcp-keepalive"}': -1,
    }


def test_by_default_only_settings_with_a_dedicated_metric_are_exported() -> None:
    config = {"hz": "10", "maxclients": "100", "maxmemory": "x", "requirepass": SECRET}
    assert by_series(config_samples(config, with_values=False)) == {"redis_config_maxclients": 100}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("normal 0 0 0 replica 256 64 60", 6),
        ("normal 0 0 0 replica 256", 3),
        ("normal 1 x 3", 2),
        ("normal", 0),
        ("", 0),
    ],
)
def test_output_buffer_limits_are_parsed_by_class(text: str, count: int) -> None:
    found = by_series(config_samples({"client-output-buffer-limit": text}, with_values=False))
    assert len(found) == count
    if count == 6:
        assert found['redis_config_client_output_buffer_limit_bytes{class="replica",limit="hard"}'] == 256
        assert found['redis_config_client_output_buffer_limit_bytes{class="replica",limit="soft"}'] == 64
        assert found['redis_config_client_output_buffer_limit_overcome_seconds{class="replica",limit="soft"}'] == 60


@pytest.mark.parametrize(
    ("text", "count"),
    [("16", 16), ("1", 1), ("", 1), ("-1", 1), ("²", 1), ("1.5", 1), ("9" * 5000, 1)],
    ids=lambda it: str(it)[:9],
)
def test_with_an_invalid_number_of_databases_only_the_first_is_exported(text: str, count: int) -> None:
    assert database_count({"databases": text}) == count
    assert database_count({}) == 1


def test_a_config_is_parsed_from_pairs_and_an_error_gives_no_config() -> None:
    assert parse_config([b"hz", b"10", b"odd", None]) == {"hz": "10", "odd": ""}
    assert parse_config(ReplyError("ERR")) == {}


CLIENTS = (
    "id=11 addr=127.0.0.1:63508 laddr=127.0.0.1:6379 fd=8 name=shop age=100 idle=7 flags=N db=2 sub=1 psub=2 ssub=3"
    " multi=-1 watch=4 qbuf=5 qbuf-free=6 argv-mem=10 obl=7 oll=8 omem=9 tot-mem=10 events=r cmd=get user=me resp=3\n"
    "id=12 addr=[::1]:41000 name= age=1 idle=0 flags=S db=0\n"
    "id=13 addr=/run/redis.sock:0 name=deckwatch age=1 idle=0 flags=N db=0\n"
    "no client at all\n"
    "\n"
)


def test_every_client_except_the_agent_is_exported() -> None:
    found = by_series(client_samples(CLIENTS, 1000.9))
    info = "redis_connected_client_info"
    assert [text for text in found if text.startswith(info)] == [
        f'{info}{{id="11",name="shop",flags="N",db="2",host="127.0.0.1",user="me",resp="3"}}',
        f'{info}{{id="12",name="",flags="S",db="0",host="[::1]",user="",resp=""}}',
    ]
    shop = '{id="11",name="shop"}'
    assert found[f"redis_connected_client_created_at_timestamp{shop}"] == 900
    assert found[f"redis_connected_client_idle_since_timestamp{shop}"] == 993
    fields = {
        "channel_subscriptions_count": 1, "pattern_matching_subscriptions_count": 2,
        "shard_channel_subscriptions_count": 3, "shard_channel_watched_keys": 4, "query_buffer_length_bytes": 5,
        "query_buffer_free_space_bytes": 6, "output_buffer_length_bytes": 7, "output_list_length": 8,
        "output_buffer_memory_usage_bytes": 9, "total_memory_consumed_bytes": 10,
    }  # fmt: skip
    assert {name: found[f"redis_connected_client_{name}{shop}"] for name in fields} == fields
    assert len([text for text in found if 'id="12"' in text]) == 3  # fields missing from the line are absent


@pytest.mark.parametrize("text", ["id=", "addr=1 name=2", "�", "id"])
def test_a_line_without_an_id_affects_only_that_client(text: str) -> None:
    found = list(client_samples(f"{text}\n{CLIENTS}\n", 1000.9))
    assert malformed(found)[0] == ("CLIENT LIST", text)
    assert by_series(found) == by_series(client_samples(CLIENTS, 1000.9))


def test_a_client_field_that_is_not_a_number_affects_only_its_series() -> None:
    found = list(client_samples("id=1 name=a age=-5 idle=(null) omem=x tot-mem=18446744073709551615 sub=2\n", 1000))
    assert by_series(found) == {
        'redis_connected_client_info{id="1",name="a",flags="",db="",host="",user="",resp=""}': 1,
        'redis_connected_client_channel_subscriptions_count{id="1",name="a"}': 2,
    }
    assert [what.rpartition(" ")[2] for what, _ in malformed(found)] == ["age", "idle", "omem", "tot-mem"]


def test_a_sentinel_exports_the_state_of_its_masters() -> None:
    fields = {
        "sentinel_masters": "2",
        "sentinel_tilt": "0",
        "sentinel_running_scripts": "x",
        "master0": "name=a,status=ok,address=10.0.0.1:6379,slaves=1,sentinels=3",
        "master1": "name=b,status=sdown,address=10.0.0.2:6379,slaves=0,sentinels=1",
        "master2": "name=c,status=ok,address=10.0.0.3:6379,slaves=,sentinels=1",
        "master_odd": "name=d",
    }
    items = list(info_samples(fields))
    assert malformed(items) == [("INFO: sentinel_running_scripts", "x"), ("INFO: master2: slaves", "")]
    found = by_series(items)
    assert found["redis_sentinel_masters"] == 2
    assert found["redis_sentinel_tilt"] == 0
    status = "redis_sentinel_master_status"
    assert {text: value for text, value in found.items() if text.startswith(status)} == {
        f'{status}{{master_name="a",master_address="10.0.0.1:6379",master_status="ok"}}': 1,
        f'{status}{{master_name="b",master_address="10.0.0.2:6379",master_status="sdown"}}': 0,
        f'{status}{{master_name="c",master_address="10.0.0.3:6379",master_status="ok"}}': 1,
    }
    assert "redis_sentinel_running_scripts" not in found


def test_a_sentinel_counts_itself_and_the_other_healthy_sentinels() -> None:
    masters = parse_masters([[b"name", b"a", b"ip", b"10.0.0.1", b"port", b"6379", b"quorum", b"2"], [b"ip", b"x"]])
    peers: Reply = [
        [b"name", b"s1", b"ip", b"10.0.0.8", b"port", b"26379", b"runid", b"r1", b"flags", b"sentinel"],
        [b"name", b"s2", b"ip", b"10.0.0.9", b"port", b"26379", b"runid", b"r2", b"flags", b"sentinel,s_down"],
    ]
    replicas: Reply = [[b"name", b"r", b"flags", b"slave"], [b"name", b"q", b"flags", b"slave,o_down"]]
    found = by_series(master_samples(masters, [b"OK 2 usable Sentinels", peers, replicas]))
    labels = '{master_name="a",master_address="10.0.0.1:6379"}'
    assert found[f"redis_sentinel_master_ok_sentinels{labels}"] == 2
    assert found[f"redis_sentinel_master_ok_slaves{labels}"] == 1
    assert found[f"redis_sentinel_master_setting_ckquorum{labels}"] == 2
    assert found['redis_sentinel_master_ckquorum_status{master_name="a",message="OK 2 usable Sentinels"}'] == 1
    assert len([text for text in found if text.startswith("redis_sentinel_peer_info")]) == 2


def test_a_missing_quorum_is_exported_with_its_reason_and_a_denied_command_is_absent() -> None:
    masters = [{"name": "a"}]
    answers: list[Reply] = [ReplyError("NOQUORUM 1 usable Sentinels"), ReplyError("ERR"), None]
    assert by_series(master_samples(masters, answers)) == {
        'redis_sentinel_master_ckquorum_status{master_name="a",message="NOQUORUM 1 usable Sentinels"}': 0
    }
    assert list(master_samples(masters, [ReplyError("NOPERM no"), None, None])) == []
