"""A malformed value in a server reply affects only its own series: all collectors succeed and serve the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from databases import PostgresServer, postgres_server
from deckwatch.exporter import Malformed, Sample
from deckwatch.testing import opened
from deckwatch_exporters.clients.libpq import Result, Session
from deckwatch_exporters.clients.samples import Once, sample
from deckwatch_exporters.postgres import EXPORTER
from deckwatch_exporters.postgres import server as server_module
from deckwatch_exporters.postgres.database import STATISTICS
from deckwatch_exporters.postgres.statement_counts import Readings
from deckwatch_exporters.postgres.tables import SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch.exporter import Samples
    from deckwatch.testing import Collected

ODD = [None, b"", b"-5", b"(null)", b"\xff\xfe", b"18446744073709551616", b"1e999", b"NaN", b"2026-11-26 01:00:00+00"]
#: The largest number of series from one row: a table with 19 values, 16 block counters and 3 sizes.
MOST_OF_A_ROW = 60


# Privileges and versions determine what is read and are not exported.
_OF_THE_CONNECTION = ("pg_postmaster_start_time", "pg_backend_pid(), 'deckwatch'", "pg_catalog.pg_extension")


class OddSession(Session):
    """Counts the replies, and changes one field of one of them."""

    answers = 0
    #: The number of the reply, and the position in it as fractions of its rows and columns.
    where: tuple[int, float, float] | None = None
    odd: bytes | None = None
    how = "replace"
    #: The value that was changed last.
    changed = ""

    def queries(self, statements: Sequence[str]) -> list[Result]:
        found = super().queries(statements)
        for index, (statement, result) in enumerate(zip(statements, found, strict=True)):
            if any(part in statement for part in _OF_THE_CONNECTION):
                continue
            OddSession.answers += 1
            if self.where is not None and OddSession.answers == self.where[0] and result.rows and result.columns:
                row, column = (
                    int(part * len(it)) for part, it in zip(self.where[1:], (result.rows, result.columns), strict=True)
                )
                found[index] = self._changed(result, row, column)
                OddSession.changed = f"{self.how} {result.columns[column]} of {statement[:80]}"
        return found

    def _changed(self, result: Result, row: int, column: int) -> Result:
        rows = list(result.rows)
        match self.how:
            case "replace":
                rows[row] = (*rows[row][:column], self.odd, *rows[row][column + 1 :])
            case "drop":
                del rows[row]
            case "repeat" if len(rows) > 1:  # a query for one row returns one
                rows.insert(row, rows[row])
            case "reverse":
                rows.reverse()
        return Result(result.columns, rows)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        server.execute(
            "CREATE EXTENSION pg_stat_statements",
            "CREATE TABLE orders (id serial PRIMARY KEY, note text)",
            "CREATE INDEX orders_again ON orders (id)",
            "INSERT INTO orders (note) SELECT 'x' FROM generate_series(1, 100)",
            "SELECT pg_create_physical_replication_slot('standby', true)",
            "ALTER ROLE postgres CONNECTION LIMIT 50",
        )
        yield server


def _second_cycle(
    server: PostgresServer,
    where: tuple[int, float, float] | None = None,
    odd: bytes | None = None,
    how: str = "replace",
) -> Collected:
    """The series of a target's first two cycles; the changed field may be in both."""
    OddSession.answers, OddSession.where, OddSession.odd, OddSession.changed = 0, where, odd, ""
    OddSession.how = how
    with pytest.MonkeyPatch.context() as patch, server.connect(application_name="idle") as idle:
        idle.execute("SELECT 1")
        patch.setattr(server_module, "Session", OddSession)
        with opened(EXPORTER, {"dsn": server.dsn(), "detailed_activity": True}) as target:
            first = target.collect()
            assert first.errors == {}, OddSession.changed
            idle.execute("SELECT count(*) FROM orders")
            second = target.collect()
            assert second.errors == {}, OddSession.changed
            first.snapshots.update({name: it for name, it in second.snapshots.items() if it.families})
            return second


@pytest.fixture(scope="module")
def whole(server: PostgresServer) -> tuple[int, set[str]]:
    """Return the number of replies in two cycles, and the series of the second."""
    _second_cycle(server)
    collected = _second_cycle(server)
    return OddSession.answers, set(collected.values)


@given(data=st.data())
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_malformed_field_affects_at_most_the_series_of_its_row(
    data: st.DataObject, server: PostgresServer, whole: tuple[int, set[str]]
) -> None:
    answers, expected = whole
    fraction = st.floats(0, 1, exclude_max=True)
    where = data.draw(st.integers(1, answers)), data.draw(fraction), data.draw(fraction)

    found = _second_cycle(server, where, data.draw(st.sampled_from(ODD)))

    assert len(expected - set(found.values)) <= MOST_OF_A_ROW, OddSession.changed
    assert found.values["pg_up"] == 1


@given(data=st.data())
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("how", ["drop", "repeat", "reverse"])
def test_missing_repeated_and_reordered_rows_affect_at_most_the_series_of_a_row(
    data: st.DataObject, server: PostgresServer, whole: tuple[int, set[str]], how: str
) -> None:
    answers, expected = whole
    fraction = st.floats(0, 1, exclude_max=True)
    where = data.draw(st.integers(1, answers)), data.draw(fraction), data.draw(fraction)

    found = _second_cycle(server, where, b"(null)", how)

    assert len(expected - set(found.values)) <= (MOST_OF_A_ROW if how == "drop" else 5), OddSession.changed
    assert found.values["pg_up"] == 1


@pytest.mark.parametrize("text", [b"", b"x", b"-1", b"NaN", b"(null)"])
def test_an_invalid_counter_value_is_malformed(text: bytes) -> None:
    metric = STATISTICS["xact_commit"]

    assert sample(metric, text, server="", datid="1", datname="app") == Malformed(metric.name, text.decode())


def test_null_has_no_sample_and_gauges_can_be_negative() -> None:
    labels = {"server": "", "datname": "", "schemaname": "", "relname": ""}
    assert sample(SIZE, None, **labels) is None
    assert sample(SIZE, b"-1", **labels) == SIZE(-1, **labels)


def test_a_repeated_series_affects_only_itself() -> None:
    class Twice:
        def collect(self) -> Samples:
            labels = {"server": "", "datname": "", "schemaname": "", "relname": "orders"}
            yield SIZE(1, **labels)
            yield SIZE(2, **labels)
            yield SIZE(3, **{**labels, "relname": "items"})

    found = list(Once(Twice()).collect())

    assert [it.value for it in found if isinstance(it, Sample)] == [1, 3]
    assert [it.what for it in found if isinstance(it, Malformed)] == ["repeated series"]


@pytest.mark.parametrize("entry", [b"1 2 3", b"1 x 1 0 0 0 0 0 0 0 0", b"-1 1 1 0 0 0 0 0 0 0 0", b""])
def test_a_malformed_statement_affects_only_itself(entry: bytes) -> None:
    good = b"%d 1.5 1 0 0 0 0 0 0 0 0"
    readings = Readings()
    readings.take({b"odd": entry, b"good": good % 1}, "server")

    changes = readings.changes({b"odd": b"-" + entry, b"good": good % 3}, "server", reset=False)

    assert {key: figures.calls for key, (figures, _) in changes.items()} == {b"good": 2}
    assert [it.what for it in readings.malformed] == ["pg_stat_statements: odd"]
