"""Odd rows of a query for queues: each affects only its own queue and is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import Malformed, Sample
from deckwatch_exporters.clients.libpq import Result
from deckwatch_exporters.queues.model import QueueCollector
from deckwatch_exporters.queues.postgres_broker import COLUMNS, NAME, OLDEST, queues_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Finding
    from deckwatch_exporters.queues.model import Reported

FIELDS = (NAME, OLDEST, *COLUMNS)
ODD = (
    None, b"", b"(null)", b"-5", b"nan", b"inf", b"1e999", b"18446744073709551616", b"\xff\xfe", b"2026-01-01", b"t",
)  # fmt: skip


class _Rows:
    """A broker that reports these rows."""

    def __init__(self, rows: list[tuple[bytes | None, ...]]) -> None:
        self._rows = rows

    def read(self) -> Iterator[Reported]:
        return queues_of(Result(FIELDS, self._rows), "")

    def check(self) -> Iterator[Finding]:
        return iter(())

    def close(self) -> None:
        pass


def _row(name: bytes) -> tuple[bytes | None, ...]:
    return (name, *(b"%d" % number for number in range(1, len(FIELDS))))


def _collect(rows: list[tuple[bytes | None, ...]]) -> tuple[dict[str, float], list[Malformed]]:
    found = list(QueueCollector("sql", _Rows(rows)).collect())
    values = {it.series.text.rstrip(): it.value for it in found if isinstance(it, Sample)}
    return values, [it for it in found if isinstance(it, Malformed)]


@given(data=st.data())
def test_an_odd_field_affects_only_its_own_series(data: st.DataObject) -> None:
    rows = [_row(b"a"), _row(b"b"), _row(b"c")]
    base, _ = _collect(rows)
    place, odd = data.draw(st.integers(0, len(FIELDS) - 1)), data.draw(st.sampled_from(ODD))
    rows[1] = (*rows[1][:place], odd, *rows[1][place + 1 :])

    found, malformed = _collect(data.draw(st.permutations(rows)))

    lost = {name: value for name, value in base.items() if found.get(name) != value}
    assert all('queue="b"' in name for name in lost)
    if place:
        assert len(lost) <= 2  # the age has two series
    assert all(0 <= value < 2**63 for name, value in found.items())
    if odd in (b"", b"(null)", b"nan", b"1e999", b"\xff\xfe", b"2026-01-01") and place:
        assert len(malformed) == 1
    if odd in (b"-5", b"18446744073709551616") and place > 1:
        assert len(malformed) == 1


def test_repeated_queues_are_counted_and_cost_no_other_one() -> None:
    base, _ = _collect([_row(b"a")])

    found, malformed = _collect([_row(b"b"), _row(b"a"), _row(b"b")])

    assert found == base
    assert len(malformed) == 2
