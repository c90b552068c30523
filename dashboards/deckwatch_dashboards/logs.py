"""Logs: volume, errors, and the way of the lines to Loki."""

from __future__ import annotations

from .dashboard import Dashboard, Variable
from .log_panels import CHOSEN_INSTANCE, log_bar_graph, log_lines, log_table
from .panels import (
    BYTES,
    BYTES_PER_SECOND,
    PER_SECOND,
    SECONDS,
    YES_NO,
    graph,
    problem_stat,
    rate_graph,
    ratio_graph,
    row,
    top_list,
)
from .query import BY_HOST, HOST

_STREAM = f'job=~"$service", {CHOSEN_INSTANCE}'
_CHOSEN = f'{{{_STREAM}, level=~"$level"}} |~ `(?i)$search`'
_ERRORS = f'{{{_STREAM}, level=~"error|critical"}} |~ `(?i)$search`'
# Prometheus renames the metric's own label `job` to `exported_job`, unless honor_labels is set.
_LINES = "log_messages_total{@host}"
_ERROR_LINES = 'log_messages_total{@host, level=~"error|critical"}'

DASHBOARD = Dashboard(
    name="logs",
    title="Logs",
    question="How much is logged, which errors occur, and do the lines reach Loki?",
    instances="deckwatch_log_lines_read_total",
    variables=[
        Variable("service", "Service", "job", "The label `job` of the log streams.", ".+", loki=True),
        Variable("level", "Level", "level", "The label `level` of the log streams.", ".*", loki=True),
    ],
    has_search=True,
    tags=["logs"],
    panels=[
        problem_stat(
            "Destinations failing",
            "Loki destinations that did not accept the last push. No line is lost while the spool has room: check "
            "Loki and the network.",
            "sum(deckwatch_log_shipping{@host} == bool 0)",
        ),
        problem_stat(
            "Oldest unsent line",
            "Time that the oldest line has waited. If it rises, Loki is down, refuses lines or is too slow.",
            "max(time() - deckwatch_log_spool_oldest_timestamp_seconds{@host})",
            unit=SECONDS,
            bad_from=60,
            no_data="All lines were sent.",
        ),
        problem_stat(
            "Spool",
            "Share of the spool that is used, on the fullest agent. At 100 %, the oldest lines are dropped "
            "(`when_full`).",
            "max(deckwatch_log_spool_bytes{@host} / deckwatch_log_spool_limit_bytes{@host})",
            unit="percentunit",
            bad_from=0.5,
        ),
        problem_stat(
            "Lines lost",
            "Lines dropped in the last hour, except by your rules. The graph of dropped lines shows the reasons.",
            'sum(increase(deckwatch_log_lines_dropped_total{@host, reason!~"drop|keep|sample"}[1h])) or vector(0)',
        ),
        problem_stat(
            "Lines not parsed",
            "Lines of the last hour that do not have the configured `format`. They are sent unchanged; `deckwatch logs "
            "tail` shows them.",
            "sum(increase(deckwatch_log_lines_unparsed_total{@host}[1h]))",
        ),
        problem_stat(
            "Errors",
            "Lines of level error and critical per second.",
            f"sum(rate({_ERROR_LINES}[@rate])) or vector(0)",
            unit=PER_SECOND,
            bad_from=0.1,
        ),
        row("Volume and errors"),
        rate_graph(
            "Lines by level",
            "Lines that the agents read. If errors rise suddenly, look at the last deployment.",
            PER_SECOND,
            {"": _LINES},
            by="level",
            all_series=True,
            stacked=True,
        ),
        rate_graph(
            "Lines by service",
            "The services that log the most. If a service stops logging, check that it runs.",
            PER_SECOND,
            {"": _LINES},
            by="exported_job",
            stacked=True,
        ),
        ratio_graph(
            "Share of errors",
            "Errors as a share of all lines of each service. If it rises, the service has a new fault.",
            {
                "{{exported_job}}": f"sum by (exported_job) (rate({_ERROR_LINES}[@rate]))"
                f" / (sum by (exported_job) (rate({_LINES}[@rate])) > 0)"
            },
            no_data="No service has logged an error.",
        ),
        log_bar_graph(
            "Lines in Loki by level",
            "Lines that match the variables and the search.",
            "{{level}}",
            f"sum by (level) (count_over_time({_CHOSEN} [$__auto]))",
        ),
        log_bar_graph(
            "Errors in Loki by service",
            "Lines of level error and critical, for the services with the most.",
            "{{job}}",
            f"topk(12, sum by (job) (count_over_time({_ERRORS} [$__auto])))",
        ),
        log_table(
            "Most frequent errors",
            "Errors by message. Messages that contain numbers count separately: log numbers as fields instead.",
            f"topk(20, sum by (job, message) (count_over_time({_ERRORS} | json [$__auto])))",
            heading="lines",
        ),
        log_lines("Errors", "Lines of level error and critical, newest first.", _ERRORS, width=12),
        log_lines(
            "Search",
            "Lines of the chosen services and levels that match the search, which is a regular expression.",
            _CHOSEN,
            height=12,
        ),
        row("Shipping to Loki"),
        rate_graph(
            "Lines read and sent",
            "If fewer lines are sent than read, the spool fills; if more are sent, it empties.",
            PER_SECOND,
            {
                "read": "deckwatch_log_lines_read_total{@host}",
                "sent": "deckwatch_log_lines_sent_total{@host}",
            },
            by=BY_HOST,
        ),
        rate_graph(
            "Bytes sent",
            "Bytes sent to each Loki. Its default limit is 4 MB/s per tenant.",
            BYTES_PER_SECOND,
            {"": "deckwatch_log_bytes_sent_total{@host}"},
            by=f"{BY_HOST}, destination",
        ),
        graph(
            "Spool size",
            "Bytes that the slowest Loki has not received yet. At `spool.max_bytes`, the oldest lines are dropped.",
            BYTES,
            {HOST: "deckwatch_log_spool_bytes{@host}"},
        ),
        rate_graph(
            "Dropped lines by reason",
            "The reasons drop, keep and sample are your rules. All others are losses: see `deckwatch logs quarantine`.",
            PER_SECOND,
            {"": "deckwatch_log_lines_dropped_total{@host}"},
            by=f"{BY_HOST}, reason",
            no_data="No line was dropped.",
        ),
        rate_graph(
            "Failed pushes",
            "Pushes that failed and are retried. 429: a limit of Loki. 5xx: a fault of Loki. connect: the network.",
            PER_SECOND,
            {"": "deckwatch_log_push_failures_total{@host}"},
            by=f"{BY_HOST}, destination, reason",
            no_data="No push has failed.",
        ),
        graph(
            "Duration of pushes",
            "Median and 95th percentile of all pushes. If they take seconds, Loki or the network is slow.",
            SECONDS,
            {
                name: f"histogram_quantile({quantile},"
                " sum by (le) (rate(deckwatch_log_push_duration_seconds_bucket{@host}[@rate])) > 0)"
                for name, quantile in (("median", 0.5), ("95th percentile", 0.95))
            },
        ),
        top_list(
            "Files not read to the end",
            "Bytes of each file that are not in the spool yet. If they increase, the agent needs more CPU, or the "
            "spool is full.",
            BYTES,
            f"{HOST} {{{{file}}}}",
            "deckwatch_log_lag_bytes{@host}",
        ),
        rate_graph(
            "Changed lines",
            "Lines that were redacted, cut at `max_line_bytes`, or sent without being parsed.",
            PER_SECOND,
            {
                "redacted": "deckwatch_log_lines_redacted_total{@host}",
                "cut": "deckwatch_log_lines_cut_total{@host}",
                "not parsed": "deckwatch_log_lines_unparsed_total{@host}",
            },
            by=BY_HOST,
        ),
        rate_graph(
            "Spool faults",
            "Failed writes to the spool, and records that were damaged. Check the disk of the spool.",
            PER_SECOND,
            {
                "failed writes": "deckwatch_log_spool_write_failures_total{@host}",
                "damaged records": "deckwatch_log_spool_damaged_total{@host}",
            },
            by=BY_HOST,
        ),
        row("Journals and metrics from lines"),
        graph(
            "Journals",
            "Whether the agent reads all of the journal. If not, its log and the status page say why.",
            YES_NO,
            {f"{HOST} {{{{journal}}}}": "deckwatch_log_journal_reading{@host}"},
            no_data="No journal is read.",
        ),
        rate_graph(
            "Values that metrics cannot use",
            "Lines with a value that is not a number, or a negative one for a counter. Check `field` of the metric.",
            PER_SECOND,
            {"": "deckwatch_log_metric_invalid_values_total{@host}"},
            by=f"{BY_HOST}, metric",
            no_data="No metrics are made from lines.",
        ),
        rate_graph(
            "Lines beyond max_series",
            "Lines counted under the label value other. Choose labels with fewer values, or raise `max_series`.",
            PER_SECOND,
            {"": "deckwatch_log_metric_other_total{@host}"},
            by=f"{BY_HOST}, metric",
            no_data="No metrics are made from lines.",
        ),
    ],
)
