"""Joining lines into records: in order, complete, and with offsets from which reading can resume."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deckwatch.config.patterns import Pattern
from deckwatch.logs.parsing.formats import Piece
from deckwatch.logs.parsing.multiline import Record, RecordJoiner

FIRST = Pattern(r"^\S")


def _fed(joiner: RecordJoiner, pieces: list[tuple[str, str, bool]], now: float = 0.0) -> list[Record]:
    """Make pieces from (stream, text, more), each ten bytes long in the file."""
    released = []
    for index, (stream, text, more) in enumerate(pieces):
        released += joiner.add(Piece(text, stream, "", more), index * 10, index * 10 + 10, 0, now)
    return released


def _shape(records: list[Record]) -> list[tuple[str, int]]:
    return [(record.text, record.end) for record in records]


def test_traceback_is_one_record_with_the_end_offset_of_its_last_line() -> None:
    joiner = RecordJoiner(1000, FIRST)
    lines = [("", "Traceback:", False), ("", "  File", False), ("", "  x()", False), ("", "next", False)]
    assert _shape(_fed(joiner, lines)) == [("Traceback:\n  File\n  x()", 30)]
    assert joiner.pending_start == 30
    assert _shape(joiner.flush(0, final=True)) == [("next", 40)]
    assert joiner.pending_start is None


def test_pending_record_is_released_after_max_wait_and_not_before() -> None:
    joiner = RecordJoiner(1000, FIRST, max_wait=3)
    assert _fed(joiner, [("", "a", False)], now=100.0) == []
    assert joiner.flush(102.9) == []
    assert _shape(joiner.flush(103.0)) == [("a", 10)]


def test_clock_that_is_set_back_does_not_hold_a_record_indefinitely() -> None:
    joiner = RecordJoiner(1000, FIRST, max_wait=3)
    _fed(joiner, [("", "a", False)], now=1000.0)
    assert joiner.flush(10.0) == []
    assert _shape(joiner.flush(13.0)) == [("a", 10)]


def test_record_that_is_too_long_is_split_without_loss() -> None:
    by_lines = RecordJoiner(1000, FIRST, max_lines=2)
    by_bytes = RecordJoiner(5, FIRST)
    lines = [("", "a", False), ("", " b", False), ("", " c", False)]
    for joiner in (by_lines, by_bytes):
        records = _fed(joiner, lines) + joiner.flush(0, final=True)
        assert _shape(records) == [("a\n b", 20), (" c", 30)]


def test_split_lines_of_two_streams_are_joined_separately_and_no_offset_is_inside_one() -> None:
    joiner = RecordJoiner(1000)
    pieces = [("out", "a1", True), ("err", "b1", True), ("out", "a2", False), ("err", "b2", False), ("out", "c", False)]
    assert _fed(joiner, pieces[:3]) == []
    assert joiner.pending_start == 0
    joiner = RecordJoiner(1000)
    assert _shape(_fed(joiner, pieces)) == [("a1a2", 0), ("b1b2", 40), ("c", 50)]


def test_split_line_is_truncated_at_the_limit_with_the_missing_length() -> None:
    joiner = RecordJoiner(5)
    (record,) = _fed(joiner, [("out", "abc", True), ("out", "déf", True), ("out", "ghi", False)])
    assert (record.text, record.missing, record.end) == ("abcd", 6, 30)


def test_missing_end_of_a_split_line_holds_back_at_most_a_thousand_lines() -> None:
    joiner = RecordJoiner(1000)
    pieces = [("out", "never ends", True), *[("err", f"{n}", False) for n in range(2000)]]
    records = _fed(joiner, pieces)
    assert [record.text for record in records] == ["never ends", *[str(n) for n in range(2000)]]
    assert joiner.pending_start is None


PIECES = st.lists(st.tuples(st.sampled_from(["out", "err"]), st.sampled_from(["a", " b", "c"]), st.booleans()))


@given(PIECES, st.booleans(), st.integers(1, 4))
def test_all_text_is_released_once_in_order_of_start_and_end_offsets_never_decrease(
    pieces: list[tuple[str, str, bool]], joined: bool, max_lines: int
) -> None:
    joiner = RecordJoiner(10**6, FIRST if joined else None, max_lines)
    released: list[Record] = []
    for index, (stream, text, more) in enumerate(pieces):
        released += joiner.add(Piece(text, stream, "", more), index * 10, index * 10 + 10, 0, 0)
        held = joiner.pending_start
        if released and held is not None:
            assert released[-1].end <= held
    released += joiner.flush(0, final=True)
    assert [record.begin for record in released] == sorted(record.begin for record in released)
    ends = [record.end for record in released]
    assert ends == sorted(ends)
    assert not pieces or ends[-1] == len(pieces) * 10
    for name in ("out", "err"):
        said = "".join(text for stream, text, _ in pieces if stream == name)
        found = "".join(record.text.replace("\n", "") for record in released if record.stream == name)
        assert found == said
