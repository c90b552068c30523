"""Timestamps of log lines: every format gives exact nanoseconds, regardless of what was parsed before."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.config.log_parsing_settings import zone_of
from deckwatch.logs.parsing.timestamps import Timestamps

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND = 10**9
MOMENT = int(datetime(2026, 11, 21, 8, 15, 8, tzinfo=UTC).timestamp()) * SECOND

MOMENTS = st.datetimes(datetime(1970, 1, 3), datetime(2261, 1, 1))
OFFSETS = st.integers(-23 * 60, 23 * 60)


@pytest.fixture
def kolkata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@given(st.lists(st.tuples(MOMENTS, OFFSETS, st.integers(0, 9), st.integers(0, SECOND - 1)), min_size=1, max_size=5))
def test_rfc_3339_with_any_offset_and_fraction_matches_datetime(
    cases: list[tuple[datetime, int, int, int]],
) -> None:
    times = Timestamps()  # shared by all examples: its cache must not affect results
    for moment, offset, places, nanoseconds in cases:
        whole = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=offset)))
        fraction = f"{nanoseconds:09}"[:places]
        sign, minutes = "-" if offset < 0 else "+", abs(offset)
        text = f"{whole:%Y-%m-%dT%H:%M:%S}{'.' if fraction else ''}{fraction}{sign}{minutes // 60:02}:{minutes % 60:02}"
        text = text.replace(whole.strftime("%Y"), f"{whole.year:04}", 1)
        expected = round(whole.timestamp()) * SECOND + int(fraction.ljust(9, "0"))
        assert times.read(text) == expected
        assert times.read(text) == expected


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        ("2026-11-21T08:15:08Z", 0),
        ("2026-11-21t08:15:08.5z", 500_000_000),
        ("2026-11-21 08:15:08.123456789+00", 123_456_789),
        ("2026-11-21 08:15:08,123 UTC", 123_000_000),
        ("2026-11-21T09:45:08.1234567891234+0130", 123_456_789),
        ("1795248908", 0),
        ("1795248908.25", 250_000_000),
        ("1795248908123", 123_000_000),
        (1795248908, 0),
        (1795248908.123456, 123_456_000),
        (1795248908123, 123_000_000),
        (1795248908123.5, 123_500_000),
        (1795248908123456, 123_456_000),
        (1795248908123456789, 123_456_789),
    ],
)
def test_common_formats_are_parsed(value: object, nanoseconds: int) -> None:
    assert Timestamps().read(value) == MOMENT + nanoseconds


@pytest.mark.usefixtures("kolkata")
@pytest.mark.parametrize("text", ["2026-11-21 13:45:08,123", "2026-11-21T13:45:08.123"])
def test_time_without_an_offset_is_local_time(text: str) -> None:
    times = Timestamps()
    assert [times.read(text), times.read(text)] == [MOMENT + 123_000_000] * 2


@pytest.mark.parametrize(
    "value",
    [
        "", "now", "2026-02-30T00:00:00Z", "2026-11-21", "2026-11-21T24:00:00Z", "2026-11-21T08:15:61Z", "12.5",
        "2026-11-21T08:15:08.Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9" * 40, "²026-11-21T08:15:08Z",
        "2026-11-21T08:15:08+99:00", 0, 12.5, -1, 10**30, 1e300, float("nan"), float("inf"), True, None, [], {},
    ],
)  # fmt: skip
def test_text_that_is_not_a_time_gives_none(value: object) -> None:
    assert Timestamps().read(value) is None


@pytest.mark.parametrize(
    "text", ["2026-11-21T08:15:08.12Z", "2026-11-21T08:15:08.1_2456Z", "2026-11-21T08:15:08:123456Z"]
)
def test_earlier_timestamps_do_not_affect_invalid_or_shorter_text(text: str) -> None:
    times = Timestamps()
    assert times.read("2026-11-21T08:15:08.123456Z") == MOMENT + 123_456_000
    assert times.read(text) == Timestamps().read(text)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.from_regex(r"[0-9T:.+Z -]{0,40}")))
def test_any_value_gives_none_or_a_time_that_loki_can_store(value: object) -> None:
    found = Timestamps().read(value)
    assert found is None or 0 <= found < 2**63


def test_a_custom_format_is_parsed_with_its_time_zone() -> None:
    times = Timestamps("%d/%b/%Y:%H:%M:%S %z")
    assert times.read("21/Nov/2026:09:15:08 +0100") == MOMENT
    assert times.read("2026-11-21T08:15:08Z") == MOMENT  # other text falls back to the default formats


@pytest.mark.usefixtures("kolkata")
@pytest.mark.parametrize(("today", "year"), [("2026-11-22", 2026), ("2027-01-01", 2026), ("2026-11-19", 2025)])
def test_a_custom_format_without_a_year_gives_the_latest_time_not_in_the_future(today: str, year: int) -> None:
    now = int(datetime.fromisoformat(today).timestamp()) * SECOND
    moment = Timestamps("%b %d %H:%M:%S", lambda: now).read("Nov 21 08:15:08")
    assert moment == int(datetime(year, 11, 21, 8, 15, 8).timestamp()) * SECOND


@pytest.mark.usefixtures("kolkata")
@pytest.mark.parametrize(
    ("time_format", "zone", "text", "moment"),
    [
        ("%Y-%m-%d %H:%M:%S %Z", "", "2026-11-21 08:15:08 UTC", "2026-11-21T08:15:08+00:00"),
        ("%Y-%m-%d %H:%M:%S %Z", "", "2026-11-21 08:15:08 gmt", "2026-11-21T08:15:08+00:00"),
        ("%Y-%m-%dT%H:%M:%S%Z", "", "2026-11-21T08:15:08Z", "2026-11-21T08:15:08+00:00"),
        ("%Y-%m-%d %H:%M:%S %Z", "", "2026-11-21 13:45:08 IST", "2026-11-21T08:15:08+00:00"),
        ("%a %b %d %H:%M:%S %Z %Y", "Europe/Berlin", "Sun Oct 25 02:30:00 CEST 2026", "2026-10-25T00:30:00+00:00"),
        ("%a %b %d %H:%M:%S %Z %Y", "Europe/Berlin", "Sun Oct 25 02:30:00 CET 2026", "2026-10-25T01:30:00+00:00"),
        ("%b %d %H:%M:%S %Z", "", "Nov 21 08:15:08 UTC", "2026-11-21T08:15:08+00:00"),
        ("%Y-%m-%d %H:%M:%S", "", "2026-11-21 13:45:08", "2026-11-21T08:15:08+00:00"),
    ],
)
def test_names_of_time_zones_are_honored(time_format: str, zone: str, text: str, moment: str) -> None:
    today = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    times = Timestamps(time_format, lambda: int(today) * SECOND, zone_of(zone))
    assert times.read(text) == int(datetime.fromisoformat(moment).timestamp()) * SECOND


@pytest.mark.usefixtures("kolkata")
@pytest.mark.parametrize("text", ["2026-11-21 08:15:08 EST", "2026-11-21 08:15:08 XYZ", "2026-11-21 08:15:08 "])
def test_a_name_that_is_no_known_time_zone_gives_none(text: str) -> None:
    assert Timestamps("%Y-%m-%d %H:%M:%S %Z").read(text) is None


@pytest.mark.parametrize(
    ("fraction", "nanoseconds"), [("123456789", 123456789), ("1234567", 123456700), ("5", 5 * 10**8)]
)
def test_a_custom_format_reads_up_to_nine_digits_of_a_fraction(fraction: str, nanoseconds: int) -> None:
    times = Timestamps("%Y/%m/%d %H:%M:%S.%f %z")
    assert times.read(f"2026/11/21 08:15:08.{fraction} +0000") == MOMENT + nanoseconds
