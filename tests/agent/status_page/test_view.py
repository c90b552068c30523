"""What the status page says of an agent's state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from deckwatch.collection.status import (
    AgentStatus,
    AlertStatus,
    CollectorStatus,
    DestinationStatus,
    KeyFigureStatus,
    LogJournalStatus,
    State,
)
from deckwatch.exporter import Incomplete
from deckwatch.status_page.page import status_page
from deckwatch.status_page.view import MAX_CARDS, MAX_ROWS, View, view

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_700_000_000.0


def collector(
    name: str, target: str = "", state: State = "ok", error: str | None = None, remedy: str | None = None
) -> CollectorStatus:
    return CollectorStatus(
        name, name.partition(".")[0], target, state, last_run=NOW - 3, error=error, remedy=remedy, since=NOW - 120
    )


def status(*collectors: CollectorStatus, **others: object) -> AgentStatus:
    own = collector("deckwatch.agent")
    values: dict[str, object] = {"config": None, "config_loaded": True, "runbooks": {"redis": "RedisDown"}, **others}
    return AgentStatus(version="1", started=NOW - 600, collectors=(own, *collectors), **values)  # type: ignore[arg-type]  # values by name


def shown(state: AgentStatus, text: str = "", wanted: str = "") -> View:
    return view(state, lambda *_: (), text, wanted)


def test_if_everything_works_the_headline_says_so() -> None:
    page = shown(status(collector("system.cpu"), collector("redis", "cache")))

    assert (page.level, page.headline) == ("good", "Everything works")
    assert [(card.title, card.state) for card in page.cards] == [("Host", "ok"), ("cache", "ok")]


def test_a_target_that_is_down_comes_first_with_its_cause_once_and_its_runbook() -> None:
    refused = "127.0.0.1:6379: Connection refused"
    page = shown(
        status(
            collector("system.cpu"),
            collector("redis", "cache", "failing", refused),
            collector("redis.slowlog", "cache", "not_run"),
        )
    )

    first = page.cards[0]
    assert page.headline == "1 of 2 targets is down"
    assert (first.title, first.level, first.state, first.cause) == ("cache", "bad", "down", refused)
    assert first.since == NOW - 120
    assert first.runbook.endswith("/RedisDown.md")


def test_a_target_that_works_in_part_says_what_fails_and_the_statement_that_fixes_it() -> None:
    page = shown(
        status(
            collector("postgres.server", "main"),
            collector(
                "postgres.wal",
                "main",
                "failing",
                "permission denied; GRANT pg_monitor TO monitor;",
                "GRANT pg_monitor TO monitor;",
            ),
        )
    )

    (card,) = page.cards
    assert page.headline == "1 of 1 target needs attention"
    assert (card.level, card.state) == ("warning", "partly failing")
    assert card.cause == "postgres.wal: permission denied"
    assert card.fixes == ("GRANT pg_monitor TO monitor;",)


def test_a_target_that_works_but_lacks_something_says_what_and_the_command_that_provides_it() -> None:
    lacking = replace(
        collector("redis", "cache"),
        lacks=(
            Incomplete("the server refuses CONFIG GET", "ACL SETUSER monitor +config|get"),
            Incomplete("12 series over the limit. Increase max_series"),
        ),
    )

    page = shown(status(lacking))

    (card,) = page.cards
    assert page.headline == "1 of 1 target needs attention"
    assert (card.level, card.state) == ("warning", "incomplete")
    assert card.cause == "The server refuses CONFIG GET. 12 series over the limit. Increase max_series."
    assert card.fixes == ("ACL SETUSER monitor +config|get",)
    row = next(row for row in page.rows if row.collector.name == "redis")
    assert row.error == "the server refuses CONFIG GET; 12 series over the limit. Increase max_series"


def test_in_the_first_second_what_is_unknown_is_shown_as_unknown() -> None:
    state = status(
        collector("system.cpu", state="pending"),
        key_figures=(KeyFigureStatus("system", "", "CPU", "ratio", None),),
    )

    page = shown(state)

    assert (page.level, page.headline) == ("waiting", "Starting: 1 of 1 target has no data yet")
    assert [figure.text for figure in page.cards[0].figures] == ["\u2013"]


def test_a_busy_host_is_a_warning() -> None:
    page = shown(
        status(
            collector("system.cpu"),
            key_figures=(
                KeyFigureStatus("system", "", "CPU", "ratio", 1.0, is_high=True),
                KeyFigureStatus("system", "", "Memory", "ratio", 0.5),
            ),
        )
    )

    assert page.level == "warning"
    assert (page.cards[0].state, page.cards[0].cause) == ("busy", "High: CPU.")


def test_a_log_destination_that_refuses_is_a_target_that_is_down() -> None:
    failing = DestinationStatus("loki", "failing", NOW - 60, "Connection refused")

    page = shown(status(collector("system.cpu"), logs=(failing,)))

    assert page.headline == "1 of 2 targets is down"
    assert page.cards[0].cause == "Connection refused"


def test_a_journal_that_cannot_be_read_is_a_target_that_is_down_with_the_reason() -> None:
    journals = (
        LogJournalStatus("journal nginx.service", "failing", "journalctl is not installed."),
        LogJournalStatus("journal nginx.service\n1", "ok"),
    )

    page = shown(status(collector("system.cpu"), journals=journals))

    assert page.headline == "1 of 3 targets is down"
    assert (page.cards[0].title, page.cards[0].cause) == ("Journal nginx.service", "journalctl is not installed.")
    assert page.cards[0].runbook.endswith("LogJournalNotRead.md")
    assert "Journal nginx.service 1" in [card.title for card in page.cards]


@pytest.mark.parametrize(
    ("severities", "level", "headline"),
    [
        ((), "good", "Everything works"),
        (("warning",), "warning", "All targets work; 1 alert fires"),
        (("critical", "warning"), "bad", "1 critical alert fires"),
    ],
)
def test_alerts_that_fire_are_in_the_headline(severities: Sequence[str], level: str, headline: str) -> None:
    alerts = tuple(AlertStatus("A", severity, "summary", "", "", NOW) for severity in severities)

    page = shown(status(collector("system.cpu"), alerts=alerts))

    assert (page.level, page.headline) == (level, headline)


def test_a_runbook_url_of_another_scheme_is_not_a_link() -> None:
    alert = AlertStatus("A", "critical", "summary", "", "javascript:alert(1)", NOW)

    assert "javascript:" not in status_page(status(alerts=(alert,)))


def test_a_thousand_targets_are_grouped_worst_first() -> None:
    healthy = [collector("redis", f"r{number:04}") for number in range(1000)]
    page = shown(status(*healthy, collector("redis", "broken", "failing", "timed out")))

    assert page.cards[0].title == "broken"
    assert len(page.cards) == MAX_CARDS
    assert [(group.exporter, len(group.names)) for group in page.groups] == [("redis", 1001 - MAX_CARDS)]
    assert len(page.rows) == MAX_ROWS
    assert page.left_out == 1002 - MAX_ROWS


def test_the_table_is_filtered_by_text_and_state() -> None:
    state = status(
        collector("redis", "cache", "failing", "timed out"), collector("redis", "sessions"), collector("system.cpu")
    )

    assert [row.collector.target for row in shown(state, "REDIS").rows] == ["cache", "sessions"]
    assert [row.collector.target for row in shown(state, "timed").rows] == ["cache"]
    assert [row.collector.target for row in shown(state, "redis", "ok").rows] == ["sessions"]
    assert len(shown(state, "", "nonsense").rows) == 0
