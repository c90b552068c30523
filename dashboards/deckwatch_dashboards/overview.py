"""Overview: whether anything is wrong, and where."""

from __future__ import annotations

from .dashboard import Dashboard
from .log_panels import CHOSEN_INSTANCE, log_lines
from .panels import (
    BYTES,
    COUNT,
    PER_SECOND,
    RATIO,
    SECONDS,
    graph,
    problem_stat,
    rate_graph,
    ratio_graph,
    row,
    state_timeline,
    text,
    value_table,
)
from .query import BY_HOST, BY_TARGET, HOST, TARGET

# Scrapes of agents. With service discovery, each target is an instance with an `up` too.
AGENT_UP = 'up{@host, exporter=~"deckwatch|"}'

_CPU = f'1 - avg by ({BY_HOST}) (rate(node_cpu_seconds_total{{@host, mode="idle"}}[@rate]))'
_MEMORY = "1 - node_memory_MemAvailable_bytes{@host} / node_memory_MemTotal_bytes{@host}"
_STORED = 'fstype!~"tmpfs|ramfs|squashfs|overlay"'
_FULLEST = (
    f"max by ({BY_HOST}) (1 - node_filesystem_avail_bytes{{@host, {_STORED}}}"
    f" / (node_filesystem_size_bytes{{@host, {_STORED}}} > 0))"
)
_HITS = f"sum by ({BY_TARGET}) (rate(redis_keyspace_hits_total{{@target}}[@rate]))"
_MISSES = f"sum by ({BY_TARGET}) (rate(redis_keyspace_misses_total{{@target}}[@rate]))"
#: Whether a target is up, by its type.
_UP = {
    "redis": "redis_up",
    "postgres": "pg_up",
    "pgbouncer": "pgbouncer_up",
    "queues": "queue_up",
    "business": "deckwatch_business_up",
    "http_probe": "probe_success",
}
_FAILING = "deckwatch_collector_success{@target} == bool 0"


def _of_each_type(query: str) -> str:
    """The results of a query for each type of target, with a label `type`, since targets may have the same name."""
    return " or ".join(
        f'label_replace({query.format(metric=metric)}, "type", "{name}", "", "")' for name, metric in _UP.items()
    )


DASHBOARD = Dashboard(
    name="overview",
    title="Overview",
    question="Is anything wrong, and where?",
    instances="deckwatch_collector_success",
    panels=[
        problem_stat(
            "Firing alerts",
            "Alerts that are firing, without Watchdog, which always fires. The table below lists them; each has a "
            "runbook.",
            "count(ALERTS{@alert}) or vector(0)",
        ),
        problem_stat(
            "Agents down",
            "Agents that Prometheus cannot scrape. Fix these first: nothing else is known about their hosts.",
            f"sum({AGENT_UP} == bool 0)",
            link_to="deckwatch",
        ),
        problem_stat(
            "Targets down",
            "Redis, PostgreSQL and PgBouncer servers and queue brokers that the agents cannot reach, and endpoints "
            "that fail their probes. Open the dashboard of the target, then its log.",
            " + ".join(f"(sum({metric}{{@target}} == bool 0) or vector(0))" for metric in _UP.values()),
        ),
        problem_stat(
            "Failing collectors",
            "Collectors that failed in their last run; their series are absent. The Deckwatch dashboard names them, "
            "and the agent's log says why.",
            f"sum({_FAILING})",
            link_to="deckwatch",
        ),
        problem_stat(
            "Errors logged",
            "Log lines of level error and critical per second. The Logs dashboard shows the lines.",
            'sum(rate(log_messages_total{@host, level=~"error|critical"}[@rate])) or vector(0)',
            unit=PER_SECOND,
            bad_from=0.1,
            link_to="logs",
        ),
        problem_stat(
            "Slow queries running",
            "PostgreSQL queries that have been running for longer than the threshold. The Slow queries dashboard shows "
            "their texts.",
            "sum(pg_slow_queries_running{@target})",
            link_to="slow-queries",
        ),
        row("Where"),
        value_table(
            "Hosts",
            "One row per agent, agents that are down first. A host that is missing here has no agent.",
            BY_HOST,
            {
                "up": (COUNT, AGENT_UP),
                "CPU": (RATIO, _CPU),
                "memory": (RATIO, _MEMORY),
                "fullest disk": (RATIO, _FULLEST),
                "failing collectors": (COUNT, f"sum by ({BY_HOST}) ({_FAILING}) and on ({BY_HOST}) ({AGENT_UP})"),
            },
            sort="up",
            descending=False,
            height=7,
        ),
        value_table(
            "Unavailable targets",
            "Servers that are down or were down in the time range. Check that the server runs and accepts the agent's "
            "connection; its log says more.",
            f"{BY_TARGET}, type",
            {
                "up": (
                    COUNT,
                    _of_each_type("{metric}{{@target}} and avg_over_time({metric}{{@target}}[$__range]) < 1"),
                ),
                "share of time up": (RATIO, _of_each_type("avg_over_time({metric}{{@target}}[$__range]) < 1")),
            },
            sort="up",
            descending=False,
            height=7,
            no_data="All targets are up and were up during the whole time range.",
        ),
        value_table(
            "Alerts",
            "The alerts that are firing. Open the alert's runbook_url in Alertmanager, or alerts/runbooks/NAME.md.",
            "alertname, severity, agent, instance, target",
            {"firing": (COUNT, "count by (alertname, severity, agent, instance, target) (ALERTS{@alert})")},
            height=7,
            no_data="No alert is firing, or Prometheus has no rules.",
        ),
        state_timeline(
            "Targets that were down",
            "When each server was up or down, for the servers that were down in the time range. If one goes up and "
            "down repeatedly, look for restarts and connection limits.",
            {f"{name} {TARGET}": f"{metric}{{@target}}" for name, metric in _UP.items()},
            height=7,
            no_data="No target was down in the time range.",
        ),
        row("Trends"),
        ratio_graph(
            "CPU",
            "Share of all cores that is busy, on the busiest hosts. If it stays above the threshold, the Processes "
            "dashboard shows which processes use it.",
            {HOST: _CPU},
            threshold_name="cpu_ratio",
        ),
        ratio_graph(
            "Memory",
            "Share of memory that is not available to programs, on the fullest hosts. Above 90 %, find the largest "
            "process before the kernel kills one.",
            {HOST: _MEMORY},
        ),
        ratio_graph(
            "Fullest disk",
            "Use of the fullest file system of each host. Above 90 %, the Host dashboard shows which one it is and "
            "when it will be full.",
            {HOST: _FULLEST},
        ),
        ratio_graph(
            "Redis hit ratio",
            "Share of key lookups that found a key, on the servers with the lowest. Below the threshold, keys expire "
            "too soon or memory is too small.",
            {TARGET: f"{_HITS} / ({_HITS} + {_MISSES} > 0)"},
            threshold_name="cache_hit_ratio",
            show_lowest=True,
        ),
        graph(
            "Longest transaction",
            "Age of the oldest open transaction of each PostgreSQL server. It holds locks and prevents VACUUM from "
            "removing dead rows: end it.",
            SECONDS,
            {TARGET: f'max by ({BY_TARGET}) (pg_stat_activity_max_tx_duration{{@target, backend_type!="walsender"}})'},
        ),
        rate_graph(
            "Log lines by level",
            "Log lines that the agents read. A sudden rise of errors often follows a bad deployment.",
            PER_SECOND,
            {"": "log_messages_total{@host}"},
            by="level",
            all_series=True,
            stacked=True,
        ),
        graph(
            "Largest processes",
            "Mean resident memory of the processes in each watched group. If it grows without end, the program leaks "
            "memory: restart it and find the leak.",
            BYTES,
            {
                f"{HOST} {{{{groupname}}}}": 'namedprocess_namegroup_memory_bytes{@host, memtype="resident"}'
                f" / on ({BY_HOST}, groupname) (namedprocess_namegroup_num_procs{{@host}} > 0)"
            },
            threshold_name="process_memory_bytes",
            width=12,
        ),
        log_lines(
            "Warnings and errors of the agents",
            "What the agents logged: collectors that failed or recovered, refused configurations. Each line says what "
            "to do.",
            f'{{job="deckwatch", level=~"warning|error|critical", {CHOSEN_INSTANCE}}} | json'
            " | line_format `{{.level}} {{.message}}`",
            width=12,
            height=8,
        ),
        text(
            "How to read the dashboards",
            "What colors, dashed lines and missing data mean.",
            "**Blue is good, red-orange is bad.** A dashed line is a threshold in `deckwatch.yml`. "
            "Series that could not be measured are **absent**, never 0, so a gap means that a measurement "
            "failed. Graphs show at most twelve series: those with the highest (or lowest) values in the time range. "
            "Vertical lines mark alerts and configuration loads.",
        ),
    ],
)
