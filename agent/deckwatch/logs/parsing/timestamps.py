"""Timestamps of log lines, as Unix nanoseconds.

RFC 3339 with any offset and fraction, Python's asctime (`2026-11-21 08:15:08,123`), Unix seconds, milliseconds,
microseconds or nanoseconds as number or text, what `strptime` reads, and the `{"epochSecond", "nanoOfSecond"}` of
log4j2. Without an offset it is the local time or that of a given zone.
"""

from __future__ import annotations

import contextlib
import re
import time
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final

from deckwatch.logs.entry import EARLIEST_OF_COLUMNS
from deckwatch.logs.parsing.time_format import TimeFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SECOND: Final = 10**9
_EPOCH: Final = date(1970, 1, 1).toordinal()
_TEXT: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:([.,])([0-9]+))?"
    r"( ?(?:[Zz]|UTC|[+-][0-9]{2}(?::?[0-9]{2})?))?"
)
_Last = tuple[str, slice, slice, str, str, str]
_NONE: Final[_Last] = (" " * 21, slice(0), slice(0), "", "", "")  # no text begins in this way, see `texts`
_NUMBER: Final = re.compile(r"([0-9]{9,19})(?:\.([0-9]{1,40}))?")
#: Smaller numbers (before March 1973) are durations, counters and the like rather than times.
_SMALLEST: Final = 10**8
_LARGEST: Final = 2**63  # Loki's nanoseconds are of 64 bits


class Timestamps:
    """Reads the timestamps of one file. Those of the same minute and shape as the one before cost a fifth."""

    __slots__ = (
        "_clock",
        "_digits_end",
        "_format",
        "_has_year",
        "_last",
        "_length",
        "_minute",
        "_prefix",
        "_scale",
        "_tail",
        "_zone",
    )

    def __init__(
        self, time_format: str = "", wall_clock: Callable[[], int] = time.time_ns, zone: tzinfo | None = None
    ) -> None:
        self._format = TimeFormat(time_format, zone) if time_format else None
        self._zone = zone
        self._clock = wall_clock
        self._has_year = any(f"%{letter}" in time_format for letter in "YyGcx")
        self._length = -1  # of the text; what follows is of the last one that was read
        self._prefix = ""  # up to the minute and its colon
        self._minute = 0  # Unix nanoseconds
        self._digits_end = 19
        self._scale = _SECOND  # nanoseconds of the last digit
        self._tail = ("", "")  # between seconds and fraction, and after the fraction
        # For `texts`. Of the last text with a fraction and a zone: its beginning up to the fraction, where fraction and
        # zone are, the zone, and what stands before and after the fraction in Unix nanoseconds.
        self._last = _NONE

    def texts(self, values: Sequence[object]) -> list[str]:
        """Unix nanoseconds as text of 19 digits. Empty for what is no time, and for times before 2001."""
        found: list[str] = []
        append = found.append
        head = slice(20)  # up to the fraction; made once, because each slice that is written out is an object
        second, digits, tail, zone, before, after = self._last
        for value in values:
            # Nearly all times lie in the second of the one before: its digits are those of the nanoseconds.
            if value.__class__ is str and value[head] == second and value[tail] == zone:
                append(f"{before}{value[digits]}{after}")
            else:
                append(as_text(self.read(value)))
                second, digits, tail, zone, before, after = self._last
        joined = "".join(found)
        if joined and not (joined.isascii() and joined.encode().isdigit()):  # one look at all fractions
            return [as_text(self.read(value)) for value in values]
        return found

    def read(self, value: object) -> int | None:
        """Unix nanoseconds; None for what is no time, or not one that Loki can hold."""
        if isinstance(value, str):
            if self._format is not None:
                found = self._formatted(self._format, value)
                if found is not None:
                    return found
            elif len(value) == self._length and value[:17] == self._prefix:
                end = self._digits_end
                if (value[19:20], value[end:]) == self._tail:
                    digits = value[17:19] + value[20:end]
                    if digits < "6" and digits.isdecimal() and digits.isascii():
                        found = self._minute + int(digits) * self._scale
                        if self._last is not _NONE:
                            self._remember(value, found)
                        return found
            return self._text(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _number(value)
        return _instant(value) if isinstance(value, dict) else None

    def _text(self, text: str) -> int | None:
        match = _TEXT.fullmatch(text)
        if match is None:
            number = _NUMBER.fullmatch(text)
            return None if number is None else _scaled(int(number[1]), number[2] or "")
        separator, fraction, zone = match[7], match[8] or "", match[9] or ""
        minute = _full_minute(*[int(match[group]) for group in range(1, 6)], zone=zone.strip(), local=self._zone)
        seconds = int(match[6])
        if minute is None or seconds > 60:  # 60 is a leap second
            return None
        nanoseconds = minute * _SECOND
        if not 0 <= nanoseconds < _LARGEST - 61 * _SECOND:
            return None
        if len(fraction) <= 9:
            self._length, self._prefix, self._minute = len(text), text[:17], nanoseconds
            self._digits_end = 20 + len(fraction) if fraction else 19
            self._scale = 10 ** (9 - len(fraction))
            self._tail = (separator or zone[:1], zone)
            self._last = _NONE
            if fraction and zone and self._format is None:
                self._remember(text, nanoseconds + seconds * _SECOND)
        return nanoseconds + seconds * _SECOND + int(fraction[:9].ljust(9, "0"))

    def _remember(self, text: str, nanoseconds: int) -> None:
        """Note what is needed to read times of the same second."""
        end = self._digits_end
        second = str(nanoseconds // _SECOND)
        if nanoseconds >= EARLIEST_OF_COLUMNS:
            zeros = "0" * (9 - (end - 20))
            self._last = (text[:20], slice(20, end), slice(end, None), self._tail[1], second, zeros)
        else:
            self._last = _NONE

    def _formatted(self, time_format: TimeFormat, text: str) -> int | None:
        try:
            if self._has_year:
                return _nanoseconds(*time_format.read(text))
            # Without a year it is the latest that is not in the future, but for a day of clocks that disagree.
            now = datetime.fromtimestamp(self._clock() / _SECOND, UTC)
            for year in (now.year + 1, now.year, now.year - 1):
                with contextlib.suppress(ValueError):  # also the 29th of February in a year that has none
                    found = time_format.read(text, year)
                    if found[0] <= now + timedelta(days=1):
                        return _nanoseconds(*found)
        except (ValueError, OverflowError, re.error):
            return None
        return None


def as_text(nanoseconds: int | None) -> str:
    """Text of 19 digits. Empty for None, and for times before 2001, which are shorter."""
    return "" if nanoseconds is None or nanoseconds < EARLIEST_OF_COLUMNS else str(nanoseconds)


def _nanoseconds(moment: datetime, below_microsecond: int) -> int | None:
    seconds = round(moment.replace(microsecond=0).timestamp())
    found = seconds * _SECOND + moment.microsecond * 1000 + below_microsecond
    return found if 0 <= found < _LARGEST else None


def _instant(value: dict[str, Any]) -> int | None:
    """The `instant` of log4j2's JsonLayout."""
    second, fraction = value.get("epochSecond"), value.get("nanoOfSecond", 0)
    if type(second) is not int or type(fraction) is not int or not 0 <= fraction < _SECOND:
        return None
    found = second * _SECOND + fraction
    return found if second >= _SMALLEST and found < _LARGEST else None


def _full_minute(
    year: int, month: int, day: int, hour: int, minute: int, *, zone: str, local: tzinfo | None
) -> int | None:
    """Unix seconds of the full minute; None where there is no such minute."""
    if hour > 23 or minute > 59:
        return None
    try:
        days = date(year, month, day).toordinal() - _EPOCH
        if not zone and local is not None:
            return int(datetime(year, month, day, hour, minute, tzinfo=local).timestamp())
        if not zone:
            return int(time.mktime((year, month, day, hour, minute, 0, 0, 0, -1)))
    except (ValueError, OverflowError):
        return None
    offset = 0
    if zone[0] in "+-":
        hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
        if hours > 23 or minutes > 59:
            return None
        offset = (hours * 60 + minutes) * (-60 if zone[0] == "-" else 60)
    return days * 86400 + hour * 3600 + minute * 60 - offset


def _number(value: float) -> int | None:
    if not _SMALLEST <= value < _LARGEST:  # nor NaN
        return None
    whole = int(value)
    # A double holds the microseconds of Unix seconds and no more.
    return _scaled(whole, f"{round((value - whole) * 10**6) % 10**6:06}" if isinstance(value, float) else "")


def _scaled(whole: int, fraction: str) -> int | None:
    """The unit by the magnitude: seconds up to the year 5138, and so on."""
    if not _SMALLEST <= whole < _LARGEST:
        return None
    for places, largest in ((9, 10**11), (6, 10**14), (3, 10**17)):
        if whole < largest:
            found = whole * 10**places + int(fraction[:places].ljust(places, "0"))
            return found if found < _LARGEST else None
    return whole
