"""How much is logged, by whom and at which level; which errors; and do the lines arrive?"""

from __future__ import annotations

from .frame import Dashboard, Variable
from .shapes import (
    BYTES,
    BYTES_PER_SECOND,
    PER_SECOND,
    SECONDS,
    events,
    events_table,
    lines,
    log_volume,
    rates,
    ratio,
    row,
    top,
    trouble,
    up,
)

_CHOSEN = '{job=~"$service", level=~"$level"} |~ `(?i)$search`'
_ERRORS = '{job=~"$service", level=~"error|critical"} |~ `(?i)$search`'
# Prometheus renames the metric's own `job`, since the scrape has one, unless honor_labels is set.
_LINES = "log_messages_total{@host}"
_LEVELS = 'log_messages_total{@host, level=~"error|critical"}'

DASHBOARD = Dashboard(
    name="logs",
    title="Logs",
    question="How much is logged, by whom and at which level; which errors; and do the lines arrive?",
    subject="deckwatch_log_lines_read_total",
    variables=[
        Variable("service", "Service", "job", "The label job of the log streams.", loki=True),
        Variable("level", "Level", "level", "The label level of the log streams.", everything=".*", loki=True),
    ],
    search="search",
    tags=["logs"],
    panels=[
        up(
            "Shipping",
            "Whether the last push reached Loki. DOWN: nothing is lost while the spool has room; see Loki and the "
            "network.",
            {"{{instance}} {{destination}}": "deckwatch_log_shipping{@host}"},
        ),
        trouble(
            "Oldest line not sent",
            "How long it has waited. Rising: Loki is down, refuses, or is too slow.",
            "max(time() - deckwatch_log_spool_oldest_timestamp_seconds{@host})",
            unit=SECONDS,
            bad_from=60,
            none="All is sent.",
        ),
        trouble(
            "Spool",
            "Part of it that is full. At 100 % the oldest lines are dropped (`when_full`).",
            "max(deckwatch_log_spool_bytes{@host} / deckwatch_log_spool_limit_bytes{@host})",
            unit="percentunit",
            bad_from=0.5,
        ),
        trouble(
            "Lines dropped",
            "In the last hour, but for those that rules drop. The reasons are below.",
            'sum(increase(deckwatch_log_lines_dropped_total{@host, reason!~"drop|keep|sample"}[1h])) or vector(0)',
        ),
        trouble(
            "Lines not parsed",
            "In the last hour. They are sent as they are: `format` does not fit the file. `deckwatch logs tail` shows "
            "them.",
            "sum(increase(deckwatch_log_lines_unparsed_total{@host}[1h]))",
        ),
        trouble(
            "Errors",
            "Lines of level error and critical each second.",
            f"sum(rate({_LEVELS}[@rate])) or vector(0)",
            unit=PER_SECOND,
            bad_from=0.1,
        ),
        row("Volume and errors"),
        rates(
            "Lines by level",
            "What the agent has read. A sudden rise of errors: see what was deployed.",
            PER_SECOND,
            {"": _LINES},
            by="level",
            stacked=True,
        ),
        rates(
            "Lines by service",
            "Who logs how much. A service that falls silent is as bad as one that shouts.",
            PER_SECOND,
            {"": _LINES},
            by="exported_job",
            stacked=True,
        ),
        ratio(
            "Part that is errors",
            "Of each service's lines. Rising with the same volume: something broke.",
            {
                "{{exported_job}}": f"sum by (exported_job) (rate({_LEVELS}[@rate]))"
                f" / (sum by (exported_job) (rate({_LINES}[@rate])) > 0)"
            },
            none="No service has logged an error.",
        ),
        log_volume(
            "Lines in Loki by level",
            "Those that the choice above and the search leave.",
            "{{level}}",
            f"sum by (level) (count_over_time({_CHOSEN} [$__auto]))",
        ),
        log_volume(
            "Errors in Loki by service",
            "Level error and critical.",
            "{{job}}",
            f"sum by (job) (count_over_time({_ERRORS} [$__auto]))",
        ),
        events_table(
            "Most frequent errors",
            "By message. Messages with numbers in them count apart: log the numbers as fields.",
            f"topk(20, sum by (job, message) (count_over_time({_ERRORS} | json [$__auto])))",
            heading="times",
        ),
        events("Errors", "The newest first.", _ERRORS, width=12),
        events(
            "Search",
            "Lines of the services and levels chosen above that match the search, a regular expression.",
            _CHOSEN,
            height=12,
        ),
        row("On the way to Loki"),
        rates(
            "Read and sent",
            "Sent follows read. Read without sent: the spool fills; sent without read: it empties.",
            PER_SECOND,
            {
                "read": "deckwatch_log_lines_read_total{@host}",
                "sent": "deckwatch_log_lines_sent_total{@host}",
            },
            by="instance",
        ),
        rates(
            "Bytes sent",
            "To each Loki. Its limit is 4 MB/s for a tenant unless it is raised.",
            BYTES_PER_SECOND,
            {"": "deckwatch_log_bytes_sent_total{@host}"},
            by="instance, destination",
        ),
        lines(
            "Spool",
            "What the slowest Loki does not have yet; at `spool.max_bytes` the oldest lines are dropped.",
            BYTES,
            {"{{instance}}": "deckwatch_log_spool_bytes{@host}"},
        ),
        rates(
            "Lines dropped, by reason",
            "The reasons drop, keep and sample are your rules; spool_full and Loki's are losses:"
            " `deckwatch logs quarantine`.",
            PER_SECOND,
            {"": "deckwatch_log_lines_dropped_total{@host}"},
            by="instance, reason",
            none="No line was dropped.",
        ),
        rates(
            "Pushes that failed",
            "They are tried again for ever. 429: Loki's limits; 5xx: Loki; connect: the network.",
            PER_SECOND,
            {"": "deckwatch_log_push_failures_total{@host}"},
            by="instance, destination, reason",
            none="No push has failed.",
        ),
        lines(
            "Duration of a push",
            "The median and the 95th percentile.",
            SECONDS,
            {
                name: f"histogram_quantile({value},"
                " sum by (le) (rate(deckwatch_log_push_duration_seconds_bucket{@host}[@rate])) > 0)"
                for name, value in (("median", 0.5), ("95th percentile", 0.95))
            },
        ),
        top(
            "Files that lag",
            "Bytes that are not in the spool yet. Rising: the agent has too little CPU, or the spool is full.",
            BYTES,
            "{{instance}} {{file}}",
            "deckwatch_log_lag_bytes{@host}",
            width=12,
        ),
        rates(
            "Redacted, cut, not parsed",
            "What happened to lines on their way.",
            PER_SECOND,
            {
                "redacted": "deckwatch_log_lines_redacted_total{@host}",
                "cut": "deckwatch_log_lines_cut_total{@host}",
                "not parsed": "deckwatch_log_lines_unparsed_total{@host}",
            },
            by="instance",
            width=12,
        ),
    ],
)
