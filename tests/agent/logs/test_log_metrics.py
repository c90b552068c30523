"""Metrics made from log lines: what is counted, measured, limited and refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deckwatch.config.log_settings import FileSettings
from deckwatch.logs.log_metrics import LogMetrics
from deckwatch.logs.parsing.counts import Counts
from deckwatch.logs.parsing.parser import Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNTER: dict[str, Any] = {"name": "app_events_total", "match": {"event": "^order[.]"}, "labels": {"source": "source"}}
HISTOGRAM: dict[str, Any] = {
    "name": "request_seconds",
    "type": "histogram",
    "field": "ms",
    "scale": 0.001,
    "buckets": [0.1, 1.0],
    "labels": {"route": "path"},
}


def settings(*metrics: dict[str, Any], **others: Any) -> FileSettings:
    return FileSettings.model_validate({"path": "/x.log", "metrics": list(metrics), **others})


def feed(metrics: LogMetrics, rule: FileSettings, lines: Sequence[str]) -> None:
    parser = Parser(rule, "/x.log", {}, Counts(), observe=metrics.observer(rule))
    parser.feed([line.encode() for line in lines], 0)
    parser.flush(final=True)


def measured(rule: FileSettings, *lines: dict[str, Any] | str) -> dict[str, float]:
    metrics = LogMetrics()
    metrics.use(rule.metrics)
    feed(metrics, rule, [line if isinstance(line, str) else json.dumps(line) for line in lines])
    return values(metrics)


def values(metrics: LogMetrics) -> dict[str, float]:
    return {it.series.text.rstrip(): it.value for it in metrics.collect() if it.value}


def test_a_counter_counts_the_lines_that_match_by_their_fields() -> None:
    assert measured(
        settings(COUNTER),
        {"event": "order.paid", "source": "web"},
        {"event": "order.paid", "source": "web", "level": "error"},
        {"event": "order.sent", "source": "app", "time": "2026-01-01T00:00:00Z"},
        {"event": "login", "source": "app"},
        {"source": "app"},
        {"event": "order.sent"},
        "no JSON at all",
    ) == {
        'app_events_total{source="web"}': 2,
        'app_events_total{source="app"}': 1,
        'app_events_total{source=""}': 1,
    }


def test_a_counter_with_a_field_adds_up_its_values() -> None:
    paid = {"name": "paid_total", "field": "amount", "scale": 0.01}
    assert measured(
        settings(paid), {"amount": 250}, {"amount": "50"}, {"amount": -1}, {"amount": "free"}, {"other": 1}
    ) == {"paid_total": 3.0, 'deckwatch_log_metric_invalid_values_total{metric="paid_total"}': 2}


def test_a_histogram_observes_numbers_and_counts_what_is_none() -> None:
    found = measured(
        settings(HISTOGRAM),
        {"ms": 50, "path": "/a"},
        {"ms": 100.0, "path": "/a"},
        {"ms": "2000", "path": "/a"},
        {"ms": "slow", "path": "/a"},
        {"ms": True, "path": "/a"},
        {"ms": float("nan"), "path": "/a"},
        {"ms": "1e999", "path": "/a"},
        {"ms": "-inf", "path": "/a"},
        {"path": "/a"},
    )
    assert found == {
        'request_seconds_bucket{route="/a",le="0.1"}': 2,
        'request_seconds_bucket{route="/a",le="1.0"}': 2,
        'request_seconds_bucket{route="/a",le="+Inf"}': 3,
        'request_seconds_sum{route="/a"}': pytest.approx(2.15),
        'request_seconds_count{route="/a"}': 3,
        'deckwatch_log_metric_invalid_values_total{metric="request_seconds"}': 5,
    }


def test_a_gauge_has_the_last_value() -> None:
    depth = {"name": "queue_depth", "type": "gauge", "field": "depth", "labels": {"queue": "queue"}}
    assert measured(settings(depth), {"depth": 3, "queue": "a"}, {"depth": 5, "queue": "a"}) == {
        'queue_depth{queue="a"}': 5
    }


def test_beyond_the_limit_all_further_lines_share_other() -> None:
    limited = COUNTER | {"max_series": 2}
    lines = [{"event": "order.paid", "source": f"s{number}"} for number in range(5)]
    found = measured(settings(limited), *lines, *lines)
    assert found == {
        'app_events_total{source="s0"}': 2,
        'app_events_total{source="s1"}': 2,
        'app_events_total{source="other"}': 6,
        'deckwatch_log_metric_other_total{metric="app_events_total"}': 6,
    }


@pytest.mark.parametrize(
    ("others", "line"),
    [
        ({"format": "logfmt"}, "event=order.paid source=web"),
        ({"format": "regex", "pattern": r"(?P<event>\S+) from (?P<source>\S+)"}, "order.paid from web"),
        ({"format": "cri"}, '2026-01-01T00:00:00Z stdout F {"event":"order.paid","source":"web"}'),
        ({"format": "docker"}, json.dumps({"log": '{"event":"order.paid","source":"web"}\n', "stream": "stdout"})),
        ({"multiline": {"first_line": r"^\{"}}, '{"event":"order.paid","source":"web"}'),
        ({"drop": [{"matches": "order"}]}, '{"event":"order.paid","source":"web"}'),
        ({"sample": [{"level": "info", "ratio": 0}]}, '{"event":"order.paid","source":"web","level":"info"}'),
    ],
)
def test_lines_of_every_format_are_counted_also_if_rules_drop_them(others: dict[str, Any], line: str) -> None:
    assert measured(settings(COUNTER, **others), line) == {'app_events_total{source="web"}': 1}


def test_the_level_is_its_normalized_name_and_line_is_the_whole_text() -> None:
    failed = {"name": "failed_total", "match": {"level": "error", "line": "payment"}, "labels": {"severity": "level"}}
    assert measured(
        settings(failed),
        {"level": "ERR", "message": "payment failed"},
        {"level": "error", "message": "login failed"},
        {"level": "info", "message": "payment"},
    ) == {'failed_total{severity="error"}': 1}


def test_redaction_applies_to_label_values() -> None:
    logins = {"name": "logins_total", "labels": {"user": "user"}}
    rule = settings(logins, redact=[{"kind": "email"}])
    assert measured(rule, {"user": "anna@example.org"}) == {'logins_total{user="***"}': 1}


def test_values_survive_a_reload_unless_the_declaration_changes() -> None:
    metrics, before = LogMetrics(), settings(COUNTER)
    metrics.use(before.metrics)
    feed(metrics, before, ['{"event":"order.paid","source":"web"}'])

    after = settings(COUNTER | {"match": {"event": "paid"}}, path="/*.log")
    metrics.use(after.metrics)
    feed(metrics, after, ['{"event":"order.paid","source":"web"}'])
    assert values(metrics) == {'app_events_total{source="web"}': 2}

    metrics.use(settings(COUNTER | {"labels": {"event": "event"}}).metrics)
    assert values(metrics) == {}


def test_two_files_with_one_metric_add_up_whatever_the_order_of_the_labels() -> None:
    one = settings({"name": "x_total", "labels": {"a": "first", "b": "second"}})
    two = settings({"name": "x_total", "labels": {"b": "zwei", "a": "eins"}})
    metrics = LogMetrics()
    metrics.use([*one.metrics, *two.metrics])
    feed(metrics, one, ['{"first":"1","second":"2"}'])
    feed(metrics, two, ['{"eins":"1","zwei":"2"}'])
    assert values(metrics) == {'x_total{a="1",b="2"}': 2}
