"""Odd replies to the commands of optional settings and of Sentinel: each affects only its own series."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .changed_server import EVERY, ODD, ODD_ANSWERS, Server, places, replaced
from .stand_in import SECRET, answers_of, stand_in
from .support import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .stand_in import Answer

CLIENT = (
    "id={id} addr=127.0.0.1:6350{id} laddr=127.0.0.1:6379 fd=8 name={name} age=6321 idle=5 flags=N db=0 sub=1 psub=2 "
    "ssub=0 multi=-1 watch=0 qbuf=26 qbuf-free=20448 argv-mem=10 multi-mem=0 rbs=1024 rbp=0 obl=0 oll=0 omem=0 "
    "tot-mem=22298 events=r cmd=client|list user=default redir=-1 resp=2 lib-name= lib-ver="
)
CLIENTS = [CLIENT.format(id=id, name=name) for id, name in ((11, "web"), (12, "worker"), (13, ""))]


@pytest.fixture(scope="module")
def clients() -> Iterator[Server]:
    text = "\n".join(CLIENTS) + "\n"
    found = Server({**answers_of("redis-7.0"), "CLIENT LIST": text}, slowlog={"events": False}, client_list=True)
    # The clock moves on between two runs.
    found.base = {name: it for name, it in found.base.items() if "_timestamp{" not in name}
    yield found
    found.close()


@EVERY
@given(data=st.data())
def test_an_odd_field_of_a_client_affects_only_that_client(clients: Server, data: st.DataObject) -> None:
    assert 'redis_connected_client_channel_subscriptions_count{id="11",name="web"}' in clients.base
    number = data.draw(st.integers(0, 2))
    fields = CLIENTS[number].split(" ")
    place = data.draw(st.integers(0, len(fields) - 1))
    name, odd = fields[place].partition("=")[0], data.draw(st.sampled_from(ODD))
    how = data.draw(st.sampled_from(["value", "field", "drop", "repeat", "new"]))
    fields[place : place + 1] = {
        "value": [f"{name}={odd}"],
        "field": [odd],
        "drop": [],
        "repeat": [fields[place]] * 2,
        "new": ["new=1", fields[place], "new", ""],
    }[how]
    lines = [*CLIENTS[:number], " ".join(fields), *CLIENTS[number + 1 :]]

    found, malformed = clients.collect_all({"CLIENT LIST": "\n".join(lines) + "\n"})

    clients.assert_served(found, lambda series: f'id="{11 + number}"' in series)
    if how == "new":
        clients.assert_served(found, lambda _: False)
    if how == "value" and odd == "(null)" and name in ("age", "idle", "qbuf", "tot-mem"):
        assert malformed == [f"CLIENT LIST: {11 + number}: {name}"]


def test_a_repeated_client_is_counted_and_garbage_costs_no_other_client(clients: Server) -> None:
    found, malformed = clients.collect_all({"CLIENT LIST": "\n".join([*CLIENTS[::-1], CLIENTS[0], "garbage", "id="])})

    clients.assert_served(found, lambda _: False)
    assert malformed[:2] == ["CLIENT LIST", "CLIENT LIST"]
    assert all("collected twice" in it for it in malformed[2:])


_MASTER: dict[str, str] = {
    "ip": "10.0.0.1", "port": "6379", "runid": "abc", "flags": "master", "last-ok-ping-reply": "5",
    "config-epoch": "3", "num-slaves": "1", "quorum": "2", "failover-timeout": "180000", "parallel-syncs": "1",
    "down-after-milliseconds": "5000",
}  # fmt: skip
_SENTINEL = "\r\n".join(
    [
        "# Server", "redis_version:7.0.15", "redis_mode:sentinel", "run_id:f00", "process_id:1", "uptime_in_seconds:5",
        "# Sentinel", "sentinel_masters:2", "sentinel_tilt:0", "sentinel_running_scripts:0",
        "sentinel_scripts_queue_length:0", "sentinel_simulate_failure_flags:0",
        "master0:name=shop,status=ok,address=10.0.0.1:6379,slaves=1,sentinels=3",
        "master1:name=bank,status=odown,address=10.0.0.2:6379,slaves=1,sentinels=3", "",
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def sentinel() -> Iterator[Server]:
    answers: dict[str, Answer] = {
        "INFO ALL": _SENTINEL,
        "CLIENT SETNAME deckwatch": "OK",
        "SENTINEL MASTERS": [{"name": "shop", **_MASTER}, {"name": "bank", **_MASTER, "ip": "10.0.0.2"}],
        "SENTINEL CONFIG GET *": {"resolve-hostnames": "no", "announce-port": "0", "sentinel-pass": SECRET},
    }
    for name in ("shop", "bank"):
        answers |= {
            f"SENTINEL CKQUORUM {name}": "OK 3 usable Sentinels",
            f"SENTINEL SENTINELS {name}": [{"name": "s2", **_MASTER, "flags": "sentinel"}],
            f"SENTINEL SLAVES {name}": [{"name": "r1", **_MASTER, "flags": "slave"}],
        }
    found = Server(answers, slowlog={"events": False}, config_values=True)
    yield found
    found.close()


@EVERY
@given(data=st.data())
def test_an_odd_line_of_sentinels_info_affects_only_its_series(sentinel: Server, data: st.DataObject) -> None:
    lines = _SENTINEL.split("\r\n")
    number = data.draw(st.integers(6, len(lines) - 2))
    name, _, value = lines[number].partition(":")
    parts = value.split(",")
    place = data.draw(st.integers(0, len(parts) - 1))
    parts[place] = parts[place].partition("=")[0] + "=" * data.draw(st.booleans()) + data.draw(st.sampled_from(ODD))
    changed = [*lines[:number], f"{name}:{','.join(parts)}", *lines[number + 1 :]]

    found = sentinel.collect({"INFO ALL": "\r\n".join(changed)})

    own = {"master0": 'master_name="shop"', "master1": 'master_name="bank"'}.get(name, f"redis_{name}")
    sentinel.assert_served(found, lambda series: own in series)


@EVERY
@given(data=st.data())
def test_an_odd_part_of_a_reply_about_a_master_affects_only_that_master(sentinel: Server, data: st.DataObject) -> None:
    assert 'redis_sentinel_master_setting_ckquorum{master_name="bank",master_address="10.0.0.2:6379"}' in sentinel.base
    command = data.draw(
        st.sampled_from(["SENTINEL CKQUORUM", "SENTINEL SENTINELS", "SENTINEL SLAVES", "SENTINEL MASTERS"])
    )
    if command == "SENTINEL MASTERS":
        answer: Any = sentinel.answers[command]
        place: tuple[Any, ...] = (0, *data.draw(st.sampled_from(list(places(answer[0])))))
    else:
        command += " shop"
        answer = sentinel.answers[command]
        place = data.draw(st.sampled_from(list(places(answer))))

    found, malformed = sentinel.collect_all({command: replaced(answer, place, data.draw(ODD_ANSWERS))})

    sentinel.assert_served(found, lambda series: 'master_name="shop"' in series)
    if place == (0,):
        assert malformed


@EVERY
@given(data=st.data())
def test_an_odd_setting_of_sentinel_affects_only_its_series(sentinel: Server, data: st.DataObject) -> None:
    answer = sentinel.answers["SENTINEL CONFIG GET *"]
    place = data.draw(st.sampled_from(list(places(answer))))

    found = sentinel.collect({"SENTINEL CONFIG GET *": replaced(answer, place, data.draw(ODD_ANSWERS))})

    own = "redis_sentinel_config" if not place else f'key="{place[0]}"'
    sentinel.assert_served(found, lambda series: own in series)


_KEYS: dict[str, Answer] = {
    "SELECT 0": "OK", "DBSIZE": 3,
    "SCAN 0 COUNT 1000": ["0", ["user:1", "user:2", "queue"]],
    "SCAN 0 MATCH user:* COUNT 1000": ["0", ["user:1", "user:2"]],
    **{f"TYPE {key}": kind for key, kind in (("user:1", "string"), ("user:2", "hash"), ("queue", "list"))},
    **{f"MEMORY USAGE {key}": 72 for key in ("user:1", "user:2", "queue")},
    **{f"PEXPIRETIME {key}": 1_800_000_000_000 for key in ("user:1", "user:2", "queue")},
    "STRLEN user:1": 4, "GETRANGE user:1 0 3": "17.5", "GETRANGE user:1 0 64": "17.5", "HLEN user:2": 2,
    "LLEN queue": 9,
}  # fmt: skip


@pytest.fixture(scope="module")
def keys() -> Iterator[Server]:
    groups = {"patterns": ["^([a-z]+)"], "databases": [0]}
    settings = {"keys": ["user:*", "queue"], "count_keys": ["user:*"], "key_groups": groups}
    found = Server({**answers_of("redis-7.0"), **_KEYS}, slowlog={"events": False}, **settings)
    yield found
    found.close()


@EVERY
@given(data=st.data())
def test_an_odd_reply_about_a_key_affects_only_that_key(keys: Server, data: st.DataObject) -> None:
    for series in ("redis_key_value", "redis_key_size", "redis_key_expiry_timestamp_seconds", "redis_key_group_count"):
        assert [name for name in keys.base if name.startswith(series)]
    command = data.draw(st.sampled_from([it for it in _KEYS if "user:1" in it.split(" ")]))

    found, malformed = keys.collect_all({command: (odd := data.draw(ODD_ANSWERS))})

    keys.assert_served(found, lambda name: 'key="user:1"' in name or name.startswith("redis_key_group_memory"))
    if odd == "(null)" and command.startswith(("STRLEN", "MEMORY", "PEXPIRETIME")):
        assert len(malformed) == 1 + command.startswith("MEMORY")  # also for the group of the key


@EVERY
@given(data=st.data())
def test_an_odd_reply_to_scan_costs_no_other_figure(keys: Server, data: st.DataObject) -> None:
    command = data.draw(st.sampled_from([it for it in _KEYS if it.startswith(("SCAN", "DBSIZE"))]))
    answer = _KEYS[command]
    place = data.draw(st.sampled_from(list(places(answer))))

    odd = data.draw(ODD_ANSWERS)

    found, malformed = keys.collect_all({command: replaced(answer, place, odd)})

    if not place and (command != "DBSIZE" or odd != 2**63 - 1):
        assert malformed
    own = re.compile(r'redis_key_group_|redis_number_of_distinct|redis_keys_count|redis_key_scan|.*key="user:')
    keys.assert_served(found, lambda name: own.match(name) is not None)


GOOD_ENTRY: list[Answer] = [6, 1795248441, 20090, ["GET", "a"], "127.0.0.1:41234", "web"]


@EVERY
@given(data=st.data())
def test_an_odd_entry_of_the_slow_log_costs_no_other_entry(data: st.DataObject) -> None:
    entry: list[Answer] = [7, 1795248442, 30000, ["SET", "b", "1"], "127.0.0.1:41234", "web"]
    place = data.draw(st.sampled_from(list(places(entry))))
    answers = {**answers_of("redis-7.0"), "SLOWLOG GET 1": [[5, *GOOD_ENTRY[1:]]]}
    with stand_in(answers) as server, Target(server.url) as target:
        assert not target.collect().errors
        odd = replaced(entry, place, data.draw(ODD_ANSWERS))
        entries: list[Answer] = [odd, GOOD_ENTRY, [5, *GOOD_ENTRY[1:]]]
        server.answers |= {f"SLOWLOG GET {count}": entries for count in range(200)}
        collected = target.collect()

    assert not collected.errors
    assert collected.values["redis_up"] == 1
    assert collected.value("redis_slow_command_duration_seconds_count", command="get") >= 1
