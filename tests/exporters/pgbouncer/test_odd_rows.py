"""Odd rows of PgBouncer's console: a collection serves everything else, and counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deckwatch.testing import Collected, opened
from deckwatch_exporters import pgbouncer
from deckwatch_exporters.clients.libpq import Result

from .test_pgbouncer import VERSIONS, captured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The rows of each answer, as bytes.
Rows = list[dict[str, bytes | None]]
ODD = (
    None, b"", b"-5", b"(null)", b"nan", b"1e400", b"18446744073709551616", b"\xff\xfe", b"1_0", b"0x2", b" ",
)  # fmt: skip
#: The columns that identify a row.
KEYS = {
    "LISTS": ("list",),
    "CONFIG": ("key",),
    "DATABASES": ("name", "port"),
    "POOLS": ("database", "user"),
    "STATS_TOTALS": ("database",),
}
EVERY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Console:
    """Answers SHOW like a session with PgBouncer."""

    answers: Mapping[str, Rows] = {}
    version = 0

    def __init__(self, _conninfo: str, _timeout: float, *, limits: bool, setup: Callable[[Console], None]) -> None:
        assert not limits
        self._setup = setup

    def connect(self) -> None:
        self._setup(self)

    def query(self, command: str) -> Result:
        rows = self.answers[command.removeprefix("SHOW ")]
        columns = tuple(dict.fromkeys(column for row in rows for column in row))
        return Result(columns, [tuple(row.get(column) for column in columns) for row in rows])

    def close(self) -> None:
        pass


def _answers(version: str) -> dict[str, Rows]:
    return {
        what: [{column: None if it is None else it.encode() for column, it in row.items()} for row in rows]
        for what, rows in captured(version).items()
    }


@pytest.fixture(autouse=True)
def console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgbouncer, "Session", Console)


def _collect(answers: Mapping[str, Rows]) -> Collected:
    Console.answers = answers
    with opened(pgbouncer.EXPORTER, {"dsn": "host=127.0.0.1 user=a"}) as target:
        collected = target.collect()
    assert collected.errors == {}
    assert collected.values["pgbouncer_up"] == 1
    return collected


@pytest.mark.parametrize("version", VERSIONS)
@given(data=st.data())
@EVERY
def test_an_odd_field_affects_only_the_series_of_its_row(version: str, data: st.DataObject) -> None:
    answers: dict[str, Any] = _answers(version)
    what = data.draw(st.sampled_from(sorted(KEYS)))
    number = data.draw(st.integers(0, len(answers[what]) - 1))
    row = answers[what][number]
    others = _collect({**answers, what: [*answers[what][:number], *answers[what][number + 1 :]]}).values
    column, odd = data.draw(st.sampled_from(sorted(row))), data.draw(st.sampled_from(ODD))
    changed = {**row, column: odd}
    if data.draw(st.booleans()):
        del changed[column]

    found = _collect({**answers, what: [*answers[what][:number], changed, *answers[what][number + 1 :]]})

    assert others.items() <= found.values.items()
    base = _collect(answers).values
    if column not in KEYS[what] and changed.get(column) == b"(null)" and base != found.values:
        is_label = base.keys() - found.values.keys() and found.values.keys() - base.keys()
        assert is_label or len(found.malformed) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_in_another_order_and_new_rows_and_columns_change_nothing(version: str) -> None:
    answers = _answers(version)
    changed = {what: [{"new": b"1", **row, "newer": None} for row in reversed(rows)] for what, rows in answers.items()}
    changed["CONFIG"].append({"key": b"new", "value": b"(null)"})
    changed["LISTS"].insert(0, {"list": b"new", "items": b"\xff"})

    found = _collect(changed)

    assert found.values == _collect(answers).values
    assert found.malformed == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", sorted(KEYS))
def test_a_repeated_row_is_counted_and_the_first_one_served(version: str, what: str) -> None:
    answers = _answers(version)
    base = _collect(answers)
    rows = answers[what]
    exported = next(
        row for row in rows if _collect({**answers, what: [it for it in rows if it is not row]}).values != base.values
    )
    again = {name: it if name in KEYS[what] or not (it or b"").isdigit() else b"77" for name, it in exported.items()}

    found = _collect({**answers, what: [*rows, again]})

    assert found.values == base.values
    assert found.malformed


@pytest.mark.parametrize("what", [*sorted(KEYS), "CLIENTS", "VERSION"])
def test_an_empty_answer_costs_no_other_one(what: str) -> None:
    answers = _answers(VERSIONS[-1])

    found = _collect({**answers, what: []})

    prefix = {"CLIENTS": "pgbouncer_client_", "STATS_TOTALS": "pgbouncer_stats_", "VERSION": "pgbouncer_version"}
    own = prefix.get(what, "pgbouncer_" if what in ("LISTS", "CONFIG") else f"pgbouncer_{what.lower()}_")
    lost = _collect(answers).values.keys() - found.values.keys()
    assert all(series.startswith(own) for series in lost)
