"""Business figures: whether their queries work, and every figure of the config."""

from __future__ import annotations

from .dashboard import Dashboard, Variable
from .panels import COUNT, SECONDS, graph, problem_stat, row, value_table
from .query import BY_TARGET, TARGET

_QUERY = f"{BY_TARGET}, query"
_SECONDS_SINCE = "time() - deckwatch_business_query_last_success_timestamp_seconds{@target}"

_GAUGES = '{__name__=~"$metric", __name__!~".*_total", @target}'
_COUNTERS = '{__name__=~"$metric", __name__=~".*_total", @target}'


def _named(selector: str) -> str:
    """The series with their metric's name as a label: functions drop the name, and the rest may be equal."""
    return f'label_join({selector}, "figure", "", "__name__")'


DASHBOARD = Dashboard(
    name="business",
    title="Business",
    question="Is the business running, and are its figures current?",
    instances="deckwatch_business_up",
    targets="deckwatch_business_up",
    variables=(
        Variable("metric", "Figure", "deckwatch_business_series_limited{@target}, metric", "Figures of the config."),
    ),
    panels=[
        problem_stat(
            "Sources down",
            "Databases and other sources that the agent cannot read. Check that each one runs, and read the agent's "
            "log.",
            "sum(deckwatch_business_up{@target} == bool 0)",
            width=6,
        ),
        problem_stat(
            "Failing queries",
            "Queries with a failed last run. The table names them, and `deckwatch once business` shows the error.",
            "sum(deckwatch_business_query_success{@target} == bool 0)",
            width=6,
        ),
        problem_stat(
            "Figures gone",
            "Queries that failed three times in a row, so that their figures are no longer exported.",
            "sum(deckwatch_business_query_stale{@target})",
            width=6,
        ),
        problem_stat(
            "Over the series limit",
            "Metrics that are not exported because they have more than `max_series` series.",
            "sum(deckwatch_business_series_limited{@target})",
            width=6,
        ),
        row("Figures"),
        graph(
            "Gauges",
            "Values of the chosen figures, except counters. If a line ends, its query fails.",
            COUNT,
            {f"{TARGET} {{{{figure}}}}": _named(_GAUGES)},
            width=12,
        ),
        graph(
            "Counters",
            "Increase of the chosen counters per minute. If it falls to 0 in working hours, look for a fault upstream.",
            COUNT,
            {f"{TARGET} {{{{figure}}}}": f"clamp_min({_named(_COUNTERS)} - {_named(_COUNTERS + ' offset 5m')}, 0) / 5"},
            width=12,
        ),
        row("Queries"),
        value_table(
            "Queries",
            "One row per query, the one with the oldest success first.",
            _QUERY,
            {
                "since success": (SECONDS, _SECONDS_SINCE),
                "duration": (SECONDS, "deckwatch_business_query_duration_seconds{@target}"),
                "series": (COUNT, "deckwatch_business_query_series{@target}"),
            },
            sort="since success",
            width=24,
        ),
        graph(
            "Query duration",
            "Duration of the last run of each query. If it nears `timeout`, add an index or narrow the query.",
            SECONDS,
            {f"{TARGET} {{{{query}}}}": "deckwatch_business_query_duration_seconds{@target}"},
            width=24,
        ),
    ],
)
