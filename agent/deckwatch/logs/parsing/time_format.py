"""A `time_format` of strptime, with what strptime lacks: nanoseconds, and names of time zones.

strptime reads six digits of a fraction at most, knows no names but UTC, GMT and those of the machine's zone, and
forgets the name that it read.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Final

_WORDS: Final = re.compile(r"[A-Za-z]+")


class TimeFormat:
    """Reads texts in a format. `zone` is that of texts without a zone; None stands for the local one."""

    def __init__(self, time_format: str, zone: tzinfo | None) -> None:
        self._format = time_format
        self._zone = zone
        self._has_zone_name = "%Z" in time_format
        before = re.search(r"([^A-Za-z0-9%\s])%f", time_format)
        self._fraction = re.compile(re.escape(before[1]) + "([0-9]{6})([0-9]{1,3})[0-9]*") if before else None
        self._local_names = _names_of(zone)

    def read(self, text: str, year: int | None = None) -> tuple[datetime, int]:
        """Return the time with its zone, and its nanoseconds below a microsecond. Raises ValueError.

        `year` is for formats without one.
        """
        time_format, zone, name, nanoseconds = self._format, self._zone, "", 0
        if self._fraction is not None and (match := self._fraction.search(text)):
            nanoseconds = int(match[2].ljust(3, "0"))
            text = text[: match.end(1)] + text[match.end() :]
        if self._has_zone_name:
            text, name = self._with_utc_for_name(text)
            if name not in self._local_names:
                zone = UTC
        if year is not None:
            text, time_format = f"{year} {text}", f"%Y {time_format}"
        moment = datetime.strptime(text, time_format)
        if moment.tzinfo is None:
            moment = _in_zone(moment, zone, name)
        return moment, nanoseconds

    def _with_utc_for_name(self, text: str) -> tuple[str, str]:
        for match in reversed(list(_WORDS.finditer(text))):
            name = match[0].upper()
            if name in ("UTC", "GMT", "Z") or name in self._local_names:
                return f"{text[: match.start()]}UTC{text[match.end() :]}", name
        raise ValueError("no known name of a time zone")


def _names_of(zone: tzinfo | None) -> frozenset[str]:
    """The names of a zone in winter and summer, except those of UTC."""
    days = (datetime(2026, month, 1, tzinfo=zone) for month in (1, 7))
    names = {(day.astimezone() if zone is None else day).tzname() or "" for day in days}
    return frozenset(names - {"UTC", "GMT", ""})


def _in_zone(moment: datetime, zone: tzinfo | None, name: str) -> datetime:
    """The time in the zone. When clocks are set back, the name says which of two times is meant."""
    first, second = (
        moment.replace(fold=fold).astimezone() if zone is None else moment.replace(tzinfo=zone, fold=fold)
        for fold in (0, 1)
    )
    return second if name and first.tzname() != name and second.tzname() == name else first
