"""When a query runs, decided by APScheduler's triggers."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from apscheduler.triggers.base import BaseTrigger

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Schedule:
    """The times at which a query runs. All times are Unix seconds."""

    def __init__(self, trigger: BaseTrigger) -> None:
        self._trigger = trigger

    @classmethod
    def every(cls, seconds: float) -> Schedule:
        from apscheduler.triggers.interval import IntervalTrigger

        return cls(IntervalTrigger(seconds=seconds, timezone=UTC))

    @classmethod
    def at(cls, cron: str, timezone: str) -> Schedule:
        """The times of a crontab expression with five fields. Raises ValueError."""
        from apscheduler.triggers.cron import CronTrigger

        try:
            zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"a time zone such as Europe/Berlin, not {timezone}") from None
        fields = cron.split()
        if len(fields) != 5:
            raise ValueError('cron with five fields: minute, hour, day, month, day of week, such as "*/5 * * * *"')
        minute, hour, day, month, weekday = fields
        try:
            trigger = CronTrigger(
                minute=minute, hour=hour, day=day, month=month, day_of_week=_weekdays(weekday), timezone=zone
            )
        except ValueError as wrong:
            raise ValueError(f"a crontab expression; {cron!r} is not one ({wrong})") from None
        return cls(trigger)

    def following(self, moment: float, steps: int = 1) -> float:
        """The next time after `moment`, or a later one; infinity if there is none."""
        last = datetime.fromtimestamp(moment, UTC)
        for _ in range(steps):
            # A trigger returns a time at or after `now`, and cron's resolution is a second.
            found = self._trigger.get_next_fire_time(last, last + timedelta(microseconds=1))
            if found is None:
                return float("inf")
            last = found
        return last.timestamp()


def _weekdays(field: str) -> str:
    """The field with names: 0 and 7 are Sunday in crontab, but APScheduler's 0 is Monday."""
    return re.sub(r"(?<![\w/])[0-7](?!\w)", lambda match: _DAYS[int(match[0])], field)
