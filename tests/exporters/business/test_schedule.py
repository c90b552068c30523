"""When business queries run."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from deckwatch_exporters.business.schedule import Schedule
from deckwatch_exporters.business.settings import BusinessSettings


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_an_interval_counts_from_the_last_run() -> None:
    schedule = Schedule.every(60)

    assert schedule.following(1000.25) == 1060.25
    assert schedule.following(1000.0, 3) == 1180.0


@pytest.mark.parametrize(
    ("cron", "timezone", "now", "expected"),
    [
        ("*/5 * * * *", "UTC", "2026-11-26T10:02:03", "2026-11-26T10:05:00"),
        ("*/5 * * * *", "UTC", "2026-11-26T10:05:00", "2026-11-26T10:10:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-11-26T10:00:00", "2026-11-27T02:00:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-06-26T10:00:00", "2026-06-27T01:00:00"),
        ("0 0 * * 0", "UTC", "2026-11-26T10:00:00", "2026-11-29T00:00:00"),  # a Sunday
        ("0 0 * * 7", "UTC", "2026-11-26T10:00:00", "2026-11-29T00:00:00"),
        ("0 0 * * 1-5", "UTC", "2026-11-28T10:00:00", "2026-11-30T00:00:00"),  # a Monday
        ("0 0 * * mon", "UTC", "2026-11-28T10:00:00", "2026-11-30T00:00:00"),
    ],
)
def test_cron_has_the_meaning_that_it_has_in_a_crontab(cron: str, timezone: str, now: str, expected: str) -> None:
    assert Schedule.at(cron, timezone).following(at(now)) == at(expected)


def test_several_times_ahead_are_the_times_of_the_schedule() -> None:
    assert Schedule.at("*/5 * * * *", "UTC").following(at("2026-11-26T10:02:03"), 3) == at("2026-11-26T10:15:00")


METRIC = {"name": "orders_total", "type": "counter", "query": "select 1 as value"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cron": "* * * *"}, "cron with five fields"),
        ({"cron": "61 * * * *"}, "a crontab expression"),
        ({"cron": "* * * * *", "timezone": "Mars/Base"}, "a time zone such as"),
        ({"cron": "* * * * *", "schedule": "60s"}, "only one of: schedule, cron"),
        ({"schedule": "0.5s"}, "greater than or equal to 1"),
        ({"dsn": "postgresql://u@h/d"}, "exactly one of: dsn, sqlite, sqlalchemy, redis, json"),
        ({"metrics": []}, "at least one metric"),
        ({"metrics": [METRIC, METRIC]}, "orders_total is declared twice"),
        ({"metrics": [{**METRIC, "name": "orders"}]}, "ends with _total: orders_total"),
        ({"metrics": [{**METRIC, "type": "gauge"}]}, "type: counter for orders_total"),
        ({"metrics": [{**METRIC, "name": "1 x"}]}, "a metric name"),
        ({"metrics": [{**METRIC, "name": "deckwatch_x_total"}]}, "does not start with deckwatch_"),
        ({"metrics": [{**METRIC, "labels": ["instance"]}]}, "another label name"),
        ({"metrics": [{**METRIC, "labels": ["a-b"]}]}, "a label name"),
        ({"metrics": [{**METRIC, "labels": ["a", "a"]}]}, "each label once"),
        ({"metrics": [{"name": "x", "type": "histogram", "query": "select 1"}]}, "buckets (with a value in each row)"),
        ({"metrics": [{"name": "x", "type": "info", "query": "select 1"}]}, "ends with _info: x_info"),
        ({"metrics": [{**METRIC, "buckets": [1]}]}, "only with type: histogram"),
    ],
)
def test_wrong_settings_are_refused_with_the_right_form(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        BusinessSettings.model_validate({"sqlite": "shop.db", "metrics": [METRIC], **change})

    assert message in str(wrong.value)
