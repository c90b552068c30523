"""Metrics made from log lines, by a real agent: from the file to `/metrics`."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from log_shipping import config, following, reload, shipper
from loki import loki
from services import Program, deckwatch_command, fetch, until

if TYPE_CHECKING:
    from pathlib import Path

METRICS: list[dict[str, Any]] = [
    {"name": "orders_total", "match": {"event": "^order"}, "labels": {"source": "source"}},
    {"name": "request_seconds", "type": "histogram", "field": "duration", "buckets": [0.1, 1]},
]


def line(number: int) -> str:
    return json.dumps({"event": "order.paid", "source": "web", "duration": 0.5, "n": number}) + "\n"


def series(program: Program) -> dict[str, float]:
    lines = [text for text in fetch(program.url + "/metrics")[1].splitlines() if not text.startswith("#")]
    return {text.rpartition(" ")[0]: float(text.rpartition(" ")[2]) for text in lines}


def test_lines_become_metrics_and_values_survive_a_rotation_and_a_reload(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("".join(map(line, range(100))))
    text = config("http://127.0.0.1:9", [following(log, "app", metrics=METRICS)])
    with shipper(tmp_path, text) as program:
        orders = 'orders_total{source="web"}'
        until(lambda: series(program).get(orders) == 100, what="100 orders")
        log.rename(tmp_path / "app.log.1")
        log.write_text("".join(map(line, range(50))))
        until(lambda: series(program).get(orders) == 150, what="150 orders")
        reload(program, tmp_path, text.replace('"250ms"', '"300ms"'), 1)
        with log.open("a") as file:
            file.write(line(0))
        until(lambda: series(program).get(orders) == 151, what="151 orders")
        found = series(program)
        assert found['request_seconds_bucket{le="0.1"}'] == 0
        assert found['request_seconds_bucket{le="+Inf"}'] == found["request_seconds_count"] == 151
        assert found["request_seconds_sum"] == pytest.approx(75.5)


def test_metrics_do_not_change_what_is_shipped(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("".join(map(line, range(100))))
    with loki() as double, shipper(tmp_path, config(double, [following(log, "app", metrics=METRICS)])):
        until(lambda: len(double.stored_lines) == 100, what="100 lines")
        assert sorted(map(str, double.stored_lines)) == sorted(line(number).strip() for number in range(100))


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([{"name": "orders"}], "a counter's name that ends with _total: orders_total"),
        ([{"name": "node_orders_total"}], "a name that does not start with deckwatch_"),
        ([{"name": "x_total", "match": {"event": "(order"}}], "regular expression that RE2 accepts"),
        ([{"name": "x_seconds", "type": "histogram"}], "field: the field with the value of x_seconds"),
        ([{"name": "x_seconds", "type": "histogram", "field": "d", "buckets": [2, 1]}], "buckets in ascending order"),
        ([{"name": "x_total", "labels": {"job": "job"}}], "another label name: job is set by Deckwatch or Prometheus"),
        (
            [{"name": "x_total"}, {"name": "x_total", "labels": {"a": "a"}}],
            "the same type, labels, buckets and help for x_total in all files",
        ),
    ],
)
def test_check_says_what_is_wrong_with_a_metric(tmp_path: Path, metrics: list[dict[str, Any]], message: str) -> None:
    (tmp_path / "deckwatch.yml").write_text(config("http://127.0.0.1:9", [following("/x.log", "app", metrics=metrics)]))
    command = deckwatch_command("check", "--config", str(tmp_path / "deckwatch.yml"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
