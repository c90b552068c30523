"""Replies with one malformed line or field: only its own series are affected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.redis.fields import FIELDS

from .changed_server import EVERY, ODD, ODD_ANSWERS, Server, places, replaced
from .stand_in import VERSIONS, Answer, answers_of, info_of

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Fields that determine which commands are sent, or the kind of server.
IDENTITY = ("redis_version", "valkey_version", "cluster_enabled", "redis_mode")


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    found = Server(answers_of(request.param), slowlog={"events": False})
    yield found
    found.close()


def _lines(server: Server) -> list[str]:
    info = server.answers["INFO ALL"]
    assert isinstance(info, str)
    return info.split("\r\n")


def _owned(server: Server, lines: list[str], number: int) -> set[str]:
    """Return the series that depend on this line."""
    without = server.collect({"INFO ALL": "\r\n".join(lines[:number] + lines[number + 1 :])})
    return {name for name in server.base.keys() | without.keys() if server.base.get(name) != without.get(name)}


@EVERY
@given(data=st.data())
def test_a_malformed_info_value_affects_only_its_series(server: Server, data: st.DataObject) -> None:
    lines = _lines(server)
    candidates = [n for n, line in enumerate(lines) if ":" in line and not line.startswith(IDENTITY)]
    number = data.draw(st.sampled_from(candidates))
    name, _, value = lines[number].partition(":")
    # One of several numbers, or the whole value.
    parts = value.split(",")
    place = data.draw(st.integers(0, len(parts) - 1))
    odd = data.draw(st.sampled_from(ODD))
    parts[place] = (
        f"{parts[place].partition('=')[0]}={odd}" if "=" in parts[place] and data.draw(st.booleans()) else odd
    )
    changed = [*lines[:number], f"{name}:{','.join(parts)}", *lines[number + 1 :]]
    found, malformed = server.collect_all({"INFO ALL": "\r\n".join(changed)})
    owned = _owned(server, lines, number)
    server.assert_served(found, owned.__contains__)
    if name in FIELDS and odd == "(null)":
        assert malformed == [f"INFO: {name}"]
        assert FIELDS[name].name not in found


@EVERY
@given(data=st.data())
def test_a_missing_info_line_affects_only_its_series(server: Server, data: st.DataObject) -> None:
    lines = _lines(server)
    number = data.draw(st.integers(0, len(lines) - 1))
    found = server.collect({"INFO ALL": "\r\n".join(lines[:number] + lines[number + 1 :])})
    name = lines[number].partition(":")[0]
    (instance,) = (series for series in server.base if series.startswith("redis_instance_info"))
    if not lines[number] or name.startswith("# "):  # a heading has no value
        assert found == server.base
    elif name in FIELDS:
        server.assert_served(found, lambda series: series in (FIELDS[name].name, instance))


@EVERY
@given(data=st.data())
def test_repeated_reordered_or_unknown_info_lines_change_nothing(server: Server, data: st.DataObject) -> None:
    sections = [part.split("\r\n") for part in ("\r\n" + "\r\n".join(_lines(server))).split("\r\n# ")[1:]]
    heading, *lines = data.draw(st.sampled_from(sections))
    # master_host and master_port are labels of the lines after them, so their order is kept.
    changed = lines if any(line.startswith("master_host") for line in lines) else data.draw(st.permutations(lines))
    repeated = data.draw(st.lists(st.sampled_from(lines), max_size=3))
    new = data.draw(st.lists(st.sampled_from(["new_in_99:12", "new:", "no colon", "x_y:a=1,b=2", "new:(null)"])))
    text = "\r\n".join(
        "\r\n".join([f"# {name}", *([*new, *changed, *repeated] if name == heading else rest)])
        for name, *rest in sections
    )
    assert server.collect({"INFO ALL": text}) == server.base


@EVERY
@given(data=st.data())
def test_a_malformed_part_of_another_reply_does_not_affect_other_series(server: Server, data: st.DataObject) -> None:
    commands = sorted(server.answers.keys() - {"INFO ALL", "CLIENT SETNAME deckwatch"})
    command = data.draw(st.sampled_from(commands))
    answer = server.answers[command]
    place = data.draw(st.sampled_from(list(places(answer))))
    found = server.collect({command: replaced(answer, place, data.draw(ODD_ANSWERS))})
    without = server.collect({command: ValueError("ERR unknown command")})
    server.assert_served(found, lambda name: name not in without or without[name] != server.base[name])


def _stream(offset: int) -> dict[str, Answer]:
    name = f"s{offset}"
    id = f"{1795248440000 + offset}-0"
    return {
        f"XINFO STREAM {name}": {
            "length": 5, "radix-tree-keys": 1, "radix-tree-nodes": 2, "groups": 1, "last-generated-id": id,
            "max-deleted-entry-id": "0-0", "entries-added": 5, "first-entry": [id, ["a", "1"]],
            "last-entry": [id, ["a", "1"]],
        },
        f"XINFO GROUPS {name}": [
            {"name": "g", "consumers": 1, "pending": 1, "last-delivered-id": id, "entries-read": 1, "lag": 4},
            {"name": "h", "consumers": 0, "pending": 0, "last-delivered-id": id, "entries-read": None, "lag": None},
        ],
        f"XPENDING {name} g": [1, id, id, [["c", "1"]]],
        f"XPENDING {name} h": [0, None, None, None],
        f"XRANGE {name} {id[:-1]}1 + COUNT 1": [[id, ["a", "1"]]],
        f"XINFO CONSUMERS {name} g": [{"name": "c", "pending": 1, "idle": 5, "inactive": 5}],
        f"XINFO CONSUMERS {name} h": [],
    }  # fmt: skip


@pytest.fixture(scope="module")
def streams() -> Iterator[Server]:
    answers: dict[str, Answer] = {"INFO ALL": info_of("redis-7.0"), "SELECT 0": "OK", **_stream(1), **_stream(2)}
    found = Server(answers, slowlog={"events": False}, streams=["s1", "s2"])
    yield found
    found.close()


@EVERY
@given(data=st.data())
def test_a_malformed_stream_reply_does_not_affect_other_streams(streams: Server, data: st.DataObject) -> None:
    assert 'redis_stream_group_consumer_idle_seconds{db="db0",stream="s1",group="g",consumer="c"}' in streams.base
    command = data.draw(st.sampled_from(sorted(_stream(1))))
    answer = streams.answers[command]
    place = data.draw(st.sampled_from(list(places(answer))))
    found = streams.collect({command: replaced(answer, place, data.draw(ODD_ANSWERS))})
    streams.assert_served(found, lambda name: 'stream="s1"' in name)
