"""PromQL and LogQL queries, and the abbreviations that panels use in them.

`{@host}` stands for the matchers on job and instance, `{@target}` for those and the matcher on target, `{@pool}` for
those and the exclusion of PgBouncer's admin console, and `[@rate]` for Grafana's rate interval.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import loki, prometheus
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${prometheus_datasource}")
LOKI = DataSourceRef(type_val="loki", uid="${loki_datasource}")

# The labels that identify a host or a target. `agent` is set by deploy/prometheus/prometheus.yml: with service
# discovery, two agents may both have an instance called "main".
BY_HOST = "job, agent, instance"
BY_TARGET = f"{BY_HOST}, target"
HOST = "{{instance}}"
TARGET = "{{agent}} {{instance}} {{target}}"

_HOST_MATCHERS = 'job=~"$job", instance=~"$instance"'
_ABBREVIATIONS = {
    "@host": _HOST_MATCHERS,
    "@target": f'{_HOST_MATCHERS}, target=~"$target"',
    # Without the admin console, which is a separate database.
    "@pool": f'{_HOST_MATCHERS}, target=~"$target", database!="pgbouncer"',
    # Alerts on sums have neither job nor instance. Watchdog always fires.
    "@alert": 'alertstate="firing", alertname!="Watchdog", job=~"$job|", instance=~"$instance|"',
    "@rate": "$__rate_interval",
}
# The interval that the dashboard's variable has measured. Grafana makes $__rate_interval at least four times as long.
_SCRAPE_INTERVAL = "$scrape_interval"


def promql(text: str) -> str:
    """`text` on one line, with the abbreviations replaced."""
    for short, long in _ABBREVIATIONS.items():
        text = text.replace(short, long)
    return " ".join(text.split())


def highest(query: str, count: int) -> str:
    """The `count` series of `query` with the highest peaks in the dashboard's time range."""
    return f"({query}) and topk({count}, max_over_time(({query})[$__range:$__interval] @ end()))"


def lowest(query: str, count: int) -> str:
    """The `count` series of `query` with the lowest values in the dashboard's time range."""
    return f"({query}) and bottomk({count}, min_over_time(({query})[$__range:$__interval] @ end()))"


def threshold(name: str) -> str:
    """A threshold of the configuration. With service discovery, it belongs to another instance than the targets."""
    metric = f"deckwatch_threshold_{name}"
    return f'max({metric}{{@host}}) or max({metric}{{job=~"$job"}})'


def range_query(text: str, legend: str) -> prometheus.Dataquery:
    return _prometheus(text).legend_format(legend).range()


def instant_query(text: str, legend: str = "") -> prometheus.Dataquery:
    return _prometheus(text).legend_format(legend).instant()


def table_query(text: str) -> prometheus.Dataquery:
    return _prometheus(text).instant().format(PromQueryFormat.TABLE)


def _prometheus(text: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(PROMETHEUS).expr(promql(text)).interval(_SCRAPE_INTERVAL)


def log_query(text: str) -> loki.Dataquery:
    return loki.Dataquery().datasource(LOKI).expr(text).query_type("range").max_lines(200)


def log_range_query(text: str, legend: str) -> loki.Dataquery:
    return loki.Dataquery().datasource(LOKI).expr(text).query_type("range").legend_format(legend)


def log_instant_query(text: str) -> loki.Dataquery:
    return loki.Dataquery().datasource(LOKI).expr(text).query_type("instant")
