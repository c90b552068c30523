"""Is anything wrong, and where?"""

from __future__ import annotations

from .frame import Dashboard
from .shapes import (
    BYTES,
    COUNT,
    PER_SECOND,
    RATIO,
    SECONDS,
    events,
    grid,
    lines,
    rates,
    ratio,
    row,
    text,
    top,
    trouble,
    up_over_time,
)

_CPU = '1 - avg by (job, instance) (rate(node_cpu_seconds_total{@host, mode="idle"}[@rate]))'
_MEMORY = "1 - node_memory_MemAvailable_bytes{@host} / node_memory_MemTotal_bytes{@host}"
_REAL = 'fstype!~"tmpfs|ramfs|squashfs|overlay"'
_FULLEST = (
    f"max by (job, instance) (1 - node_filesystem_avail_bytes{{@host, {_REAL}}}"
    f" / (node_filesystem_size_bytes{{@host, {_REAL}}} > 0))"
)
_HITS = "sum by (instance, target) (rate(redis_keyspace_hits_total{@target}[@rate]))"
_MISSES = "sum by (instance, target) (rate(redis_keyspace_misses_total{@target}[@rate]))"

DASHBOARD = Dashboard(
    name="overview",
    title="Overview",
    question="Is anything wrong, and where?",
    subject="deckwatch_collector_success",
    panels=[
        trouble(
            "Alerts firing",
            "Alerts that fire now, without the Watchdog, which always does. Each has a runbook; the table names them.",
            'count(ALERTS{alertstate="firing", alertname!="Watchdog", @alert}) or vector(0)',
        ),
        trouble(
            "Agents down",
            "Agents that Prometheus could not scrape. Nothing below is known of theirs: begin here.",
            "sum(up{@host} == bool 0)",
            to="deckwatch",
        ),
        trouble(
            "Targets down",
            "Redis servers and PostgreSQL servers that do not answer. Open their dashboard, then the server's own log.",
            "sum(redis_up{@target} == bool 0 or pg_up{@target} == bool 0 or pgbouncer_up{@target} == bool 0)",
        ),
        trouble(
            "Collectors failing",
            "What could not be measured is absent, not stale. The Deckwatch dashboard says which, the log why.",
            "sum(deckwatch_collector_success{@target} == bool 0)",
            to="deckwatch",
        ),
        trouble(
            "Errors logged",
            "Lines of level error and critical each second. The Logs dashboard has them.",
            'sum(rate(log_messages_total{@host, level=~"error|critical"}[@rate])) or vector(0)',
            unit=PER_SECOND,
            bad_from=0.1,
            to="logs",
        ),
        trouble(
            "Slow queries running",
            "Queries that run for longer than the threshold right now. The Slow queries dashboard has their texts.",
            "sum(pg_slow_queries_running{@target})",
            to="slow-queries",
        ),
        row("Where"),
        grid(
            "Hosts",
            "One line for each agent. A host that is missing here has no agent, or one that cannot be scraped.",
            {
                "up": (COUNT, "up{@host}"),
                "CPU": (RATIO, _CPU),
                "memory": (RATIO, _MEMORY),
                "fullest disk": (RATIO, _FULLEST),
                "failing": (COUNT, "sum by (job, instance) (deckwatch_collector_success{@host} == bool 0)"),
            },
            hide=("__name__",),
            height=6,
        ),
        up_over_time(
            "Targets",
            "Since when each server has been up or down. Down and up again in turn: look for restarts and limits on "
            "connections.",
            {
                "redis {{instance}} {{target}}": "redis_up{@target}",
                "postgres {{instance}} {{target}}": "pg_up{@target}",
                "pgbouncer {{instance}} {{target}}": "pgbouncer_up{@target}",
            },
            height=6,
        ),
        grid(
            "Alerts",
            "What fires, and where. Follow the alert's runbook_url in Alertmanager, or alerts/runbooks/NAME.md.",
            {
                "firing": (
                    COUNT,
                    "count by (alertname, severity, instance, target)"
                    ' (ALERTS{alertstate="firing", alertname!="Watchdog", @alert})',
                )
            },
            height=5,
            none="No alert fires, or Prometheus has no rules loaded.",
        ),
        top(
            "Collectors that fail",
            "What cannot be measured at present. `deckwatch check` on that host says why and what would help.",
            COUNT,
            "{{instance}} {{target}} {{collector}}",
            "(deckwatch_collector_success{@target} == 0) + 1",
            width=12,
            height=5,
            none="Every collector succeeds.",
        ),
        row("How it goes"),
        ratio(
            "CPU",
            "How much of all cores is at work. Above the threshold for long: the Processes dashboard says whose.",
            {"{{instance}}": _CPU},
            threshold="cpu_ratio",
        ),
        ratio(
            "Memory",
            "How much of the memory cannot be given out any more. Near the top the kernel kills processes.",
            {"{{instance}}": _MEMORY},
        ),
        ratio(
            "Fullest file system",
            "Of each host. The Host dashboard says which one and when it will be full.",
            {"{{instance}}": _FULLEST},
        ),
        ratio(
            "Redis hit ratio",
            "Lookups that found their key. Below the threshold: keys expire too soon, or memory is too small.",
            {"{{instance}} {{target}}": f"{_HITS} / ({_HITS} + {_MISSES} > 0)"},
            threshold="cache_hit_ratio",
        ),
        lines(
            "Longest transaction",
            "The oldest open transaction of each PostgreSQL. One that stays open holds locks and keeps VACUUM from its "
            "work.",
            SECONDS,
            {"{{instance}} {{target}}": "max by (instance, target) (pg_stat_activity_max_tx_duration{@target})"},
        ),
        rates(
            "Log lines",
            "By level. A sudden rise of errors is the quickest sign of a bad deployment.",
            PER_SECOND,
            {"": "log_messages_total{@host}"},
            by="level",
            stacked=True,
        ),
        lines(
            "Largest processes",
            "Resident memory of each watched process on average, against the config's threshold. A slope that never "
            "ends is a leak.",
            BYTES,
            {
                "{{instance}} {{groupname}}": 'namedprocess_namegroup_memory_bytes{@host, memtype="resident"}'
                " / on (job, instance, groupname) (namedprocess_namegroup_num_procs{@host} > 0)"
            },
            threshold="process_memory_bytes",
            width=12,
        ),
        events(
            "Warnings and errors of the agent",
            "What Deckwatch itself logged: collectors that began to fail and recovered, refused configs.",
            '{job="deckwatch", level=~"warning|error|critical"} | json | line_format `{{.level}} {{.message}}`',
            width=12,
            height=8,
        ),
        text(
            "How to read this",
            "What the colours and the absence of data mean.",
            "**Blue is good, red-orange is bad**, and the words say so too."
            " A dashed line is a threshold of `deckwatch.yml`."
            " What could not be measured is **absent**, never 0: a gap is a finding."
            " Vertical marks are alerts and config loads.",
        ),
    ],
)
