"""Queries as the panels write them, and as Grafana takes them.

`{@host}` stands for the matchers on job and instance, `{@target}` for those on the target too (which metrics of a
named target carry, unless each target is scraped by itself), `[@rate]` for the range that fits the scrape interval.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import loki, prometheus
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${prometheus_datasource}")
LOKI = DataSourceRef(type_val="loki", uid="${loki_datasource}")

_HOST = 'job=~"$job", instance=~"$instance"'
_SHORT = {
    "@host": _HOST,
    "@target": f'{_HOST}, target=~"$target"',
    # An alert may be about no job or instance at all.
    "@alert": 'job=~"$job|", instance=~"$instance|"',
    "@rate": "$__rate_interval",
}


def promql(text: str) -> str:
    """`text` with its short forms written out, on one line."""
    for short, long in _SHORT.items():
        text = text.replace(short, long)
    return " ".join(text.split())


def over_time(text: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(PROMETHEUS).expr(promql(text)).legend_format(legend).range()


def now(text: str, legend: str = "", table: bool = False) -> prometheus.Dataquery:
    """Only the value at the end of the dashboard's time."""
    query = prometheus.Dataquery().datasource(PROMETHEUS).expr(promql(text)).instant()
    return query.format(PromQueryFormat.TABLE) if table else query.legend_format(legend)


def log(text: str) -> loki.Dataquery:
    return loki.Dataquery().datasource(LOKI).expr(text).query_type("range").max_lines(200)


def log_over_time(text: str, legend: str) -> loki.Dataquery:
    return loki.Dataquery().datasource(LOKI).expr(text).query_type("range").legend_format(legend)


def log_now(text: str) -> loki.Dataquery:
    return loki.Dataquery().datasource(LOKI).expr(text).query_type("instant")
