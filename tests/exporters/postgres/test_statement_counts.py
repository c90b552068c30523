"""Increases of statement counters between two readings of pg_stat_statements: never negative, never counted twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.postgres.statement_counts import NOTHING, Figures, Readings, extension, parse

_FIGURES = len(Figures._fields)


def entry(calls: float, seconds: float = 0.0, longest: float = 0.0, since: str = "0") -> bytes:
    """The values of a row as the server sends them."""
    figures = (calls, seconds, *[0] * (_FIGURES - 2))
    return " ".join([*(f"{figure:g}" for figure in figures), f"{longest:g}", since]).encode()


def read(
    readings: Readings, entries: dict[bytes, bytes], identity: object = 1, reset: bool = False
) -> dict[bytes, float]:
    """The calls since the last reading, by key."""
    changes = readings.changes(entries, identity, reset)
    readings.take(entries, identity)
    return {key: figures.calls for key, (figures, _) in changes.items()}


def test_entries_in_the_first_reading_are_counted_from_that_reading_on() -> None:
    readings = Readings()

    assert read(readings, {b"a": entry(1000)}) == {}
    assert read(readings, {b"a": entry(1003), b"b": entry(2)}) == {b"a": 3, b"b": 2}
    assert read(readings, {b"a": entry(1003), b"b": entry(2)}) == {}


def test_after_a_reset_every_entry_is_counted_from_0() -> None:
    readings = Readings()
    read(readings, {b"a": entry(10), b"b": entry(10)})

    assert read(readings, {b"a": entry(12), b"b": entry(3)}, reset=True) == {b"a": 12, b"b": 3}


def test_an_evicted_entry_that_returns_is_counted_from_0() -> None:
    readings = Readings()
    read(readings, {b"a": entry(10), b"b": entry(1)})

    assert read(readings, {b"b": entry(1)}) == {}
    assert read(readings, {b"a": entry(11), b"b": entry(1)}) == {b"a": 11}


def test_an_entry_evicted_and_recreated_between_two_readings_is_counted_from_0() -> None:
    readings = Readings()
    read(readings, {b"a": entry(10, 5.0)})

    assert read(readings, {b"a": entry(4, 1.0)}) == {b"a": 4}
    assert read(readings, {b"a": entry(5, 0.5)}) == {b"a": 5}
    assert read(readings, {b"a": entry(50, 9.0, since="17")}) == {b"a": 50}


def test_a_different_server_starts_with_a_first_reading() -> None:
    readings = Readings()
    read(readings, {b"a": entry(10)})

    assert read(readings, {b"a": entry(5000)}, identity=2) == {}
    assert read(readings, {b"a": entry(5001)}, identity=2) == {b"a": 1}


def test_changes_in_a_discarded_reading_are_counted_in_the_next_one() -> None:
    readings = Readings()
    read(readings, {b"a": entry(10)})
    readings.changes({b"a": entry(12)}, 1, reset=False)

    assert read(readings, {b"a": entry(13)}) == {b"a": 3}


def test_changes_that_are_taken_back_are_counted_in_the_next_reading() -> None:
    readings = Readings()
    before = {b"a": entry(10)}
    read(readings, before)
    read(readings, {b"a": entry(12), b"b": entry(1)})
    readings.forget(b"a", before)
    readings.forget(b"b", before)

    assert read(readings, {b"a": entry(13), b"b": entry(2)}) == {b"a": 3, b"b": 2}


def test_the_longest_execution_is_reported_if_it_is_the_longest_so_far() -> None:
    readings = Readings()
    readings.take({b"a": entry(1, 1.0, longest=1.0)}, 1)

    changes = readings.changes({b"a": entry(2, 1.5, longest=1.0), b"b": entry(1, 2.0, longest=2.0)}, 1, reset=False)
    slower = readings.changes({b"a": entry(2, 4.0, longest=3.0)}, 1, reset=False)

    assert {key: longest for key, (_, longest) in changes.items()} == {b"a": None, b"b": 2.0}
    assert slower[b"a"][1] == 3.0


_keys = st.sampled_from([b"a", b"b", b"c"])
_happenings = st.one_of(
    st.tuples(st.just("run"), _keys, st.integers(1, 100)),
    st.tuples(st.just("evict"), _keys, st.just(0)),
    st.tuples(st.sampled_from(["read", "reset", "failover", "fail"]), st.just(b""), st.just(0)),
)


@given(st.lists(_happenings, max_size=40))
def test_increases_are_never_negative_and_never_exceed_the_actual_work(
    happenings: list[tuple[str, bytes, int]],
) -> None:
    readings, server, identity = Readings(), dict[bytes, int](), 0
    done, counted, was_reset = 0, 0.0, False
    for what, key, calls in [*happenings, ("read", b"", 0)]:
        if what == "run":
            server[key] = server.get(key, 0) + calls
            done += calls
        elif what == "evict":
            server.pop(key, None)
        elif what == "reset":
            server.clear()
            was_reset = True
        elif what == "failover":
            server, identity = {b"a": 10_000}, identity + 1
        else:
            entries = {key: entry(calls) for key, calls in server.items()}
            changes = readings.changes(entries, identity, was_reset)
            if what == "fail":
                continue
            readings.take(entries, identity)
            was_reset = False
            assert all(min(figures) >= 0 for figures, _ in changes.values())
            counted += sum(figures.calls for figures, _ in changes.values())

    assert counted <= done


@given(st.lists(st.tuples(_keys, st.integers(0, 100)), max_size=30))
def test_without_evictions_everything_is_counted_once(runs: list[tuple[bytes, int]]) -> None:
    readings, server = Readings(), {b"a": 7}
    read(readings, {b"a": entry(7)})
    counted = 0.0
    for key, calls in runs:
        server[key] = server.get(key, 0) + calls
        counted += sum(read(readings, {key: entry(calls) for key, calls in server.items()}).values())

    assert counted == sum(calls for _, calls in runs)


@given(st.lists(st.floats(0, 1e15), min_size=_FIGURES, max_size=_FIGURES), st.floats(0, 1e9))
def test_a_written_entry_parses_back(figures: list[float], longest: float) -> None:
    reading = parse(" ".join(map(repr, [*figures, longest, 1.5])).encode())

    assert reading.figures == Figures(*figures)
    assert (reading.longest, reading.since) == (longest, b"1.5")


@pytest.mark.parametrize(
    ("version", "columns", "expected"),
    [
        ("1.7", "userid dbid queryid query calls total_time max_time rows shared_blks_hit shared_blks_read"
         " temp_blks_written blk_read_time blk_write_time",
         ("calls", "total_time/1000", "rows", "blk_read_time/1000", "blk_write_time/1000", "shared_blks_hit",
          "shared_blks_read", "temp_blks_written", "0")),
        ("1.10", "userid dbid toplevel queryid query calls total_exec_time max_exec_time rows shared_blks_hit"
         " shared_blks_read temp_blks_written blk_read_time blk_write_time wal_bytes",
         ("calls", "total_exec_time/1000", "rows", "blk_read_time/1000", "blk_write_time/1000", "shared_blks_hit",
          "shared_blks_read", "temp_blks_written", "wal_bytes")),
        ("1.12", "userid dbid toplevel queryid query calls total_exec_time max_exec_time rows shared_blks_hit"
         " shared_blks_read temp_blks_written shared_blk_read_time shared_blk_write_time wal_bytes stats_since",
         ("calls", "total_exec_time/1000", "rows", "shared_blk_read_time/1000", "shared_blk_write_time/1000",
          "shared_blks_hit", "shared_blks_read", "temp_blks_written", "wal_bytes")),
    ],
)  # fmt: skip
def test_columns_are_selected_by_the_names_of_the_server_version(
    version: str, columns: str, expected: tuple[str, ...]
) -> None:
    found = extension(version, "public", columns.split())

    assert found.figures == expected
    assert found.has_toplevel == ("toplevel" in columns.split())
    assert found.has_info == (version != "1.7")
    assert ("stats_since" in found.counts_query) == (version == "1.12")


def test_statement_values_can_be_added() -> None:
    some = Figures(*map(float, range(_FIGURES)))

    assert some.plus(NOTHING) == some
    assert some.plus(some) == Figures(*[2.0 * n for n in range(_FIGURES)])
