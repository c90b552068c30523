"""Metrics that a config declares do not take the names of built-in metrics."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deckwatch.collection.registry import Registry
from deckwatch.config import ConfigError, load_config

if TYPE_CHECKING:
    from pathlib import Path

QUERY = {"query": "SELECT 1 AS value"}


def messages(folder: Path, config: dict[str, Any]) -> list[str]:
    file = folder / "deckwatch.yml"
    file.write_text(json.dumps(config))
    try:
        load_config(file, {}, Registry.installed())
    except ConfigError as wrong:
        return [str(problem) for problem in wrong.problems]
    return []


def business(*metrics: dict[str, Any], **settings: Any) -> dict[str, Any]:
    target = {"name": "shop", "sqlite": "shop.db", "metrics": [{**QUERY, **it} for it in metrics], **settings}
    return {"exporters": {"business": [target]}}


def logs(*metrics: dict[str, Any]) -> dict[str, Any]:
    file = {"path": "/var/log/shop.json", "labels": {"job": "shop"}, "metrics": list(metrics)}
    return {"logs": {"loki": {"url": "http://127.0.0.1:3100"}, "files": [file]}}


@pytest.mark.parametrize(
    ("metric", "exposed", "exporter"),
    [
        ({"name": "redis_up"}, "redis_up", "redis"),
        ({"name": "queue_length", "labels": ["queue"]}, "queue_length", "queues"),
        ({"name": "celery_task_runtime_count"}, "celery_task_runtime_count", "queues"),
        ({"name": "pg_settings_own"}, "pg_settings_own", "postgres"),
        ({"name": "celery_worker_up", "type": "histogram", "buckets": [1]}, "celery_worker_up", "queues"),
    ],
)
def test_a_business_metric_with_the_name_of_a_built_in_metric_is_refused(
    tmp_path: Path, metric: dict[str, Any], exposed: str, exporter: str
) -> None:
    (message,) = messages(tmp_path, business(metric))
    assert "exporters.business[0].metrics[0].name" in message
    assert f"found '{metric['name']}'" in message
    assert f"expected another name: {exposed} is a built-in metric of the {exporter} exporter" in message


def test_a_metric_of_a_shared_query_is_refused_with_its_place(tmp_path: Path) -> None:
    shared = {**QUERY, "metrics": [{"name": "shop_orders"}, {"name": "pg_up"}]}
    (message,) = messages(tmp_path, business(queries=[shared]))
    assert "exporters.business[0].queries[0].metrics[1].name" in message


def test_a_log_metric_with_the_name_of_a_built_in_metric_is_refused(tmp_path: Path) -> None:
    metric = {"name": "celery_task_sent_total"}
    (message,) = messages(tmp_path, logs(metric, {"name": "shop_orders_total"}))
    assert "logs.files[0].metrics[0].name" in message
    assert "built-in metric of the queues exporter" in message


def test_business_and_log_metrics_have_the_same_rules_for_names_and_labels(tmp_path: Path) -> None:
    for name in ("log_messages_own_total", "node_own_total", "1_total"):
        (of_business,) = messages(tmp_path, business({"name": name, "type": "counter"}))
        (of_logs,) = messages(tmp_path, logs({"name": name}))
        assert of_business.partition("found")[2] == of_logs.partition("found")[2]
    for label in ("job", "__name__", "a-b"):
        assert messages(tmp_path, business({"name": "own", "labels": [label]}))
        assert messages(tmp_path, logs({"name": "own_total", "labels": {label: "field"}}))


def test_other_names_are_accepted(tmp_path: Path) -> None:
    accepted = {**business({"name": "redis_orders"}, {"name": "celery_task"}), **logs({"name": "orders_total"})}
    assert messages(tmp_path, accepted) == []
