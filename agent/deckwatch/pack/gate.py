"""Evaluate the shipped alerts over the last minutes, for `deckwatch gate`.

Prometheus does not need to have loaded the rules: recorded series are replaced by what they record.
"""

from __future__ import annotations

import difflib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deckwatch.pack.alerts import FROM_PROMETHEUS, Alert, Rules, shipped_rules
from deckwatch.pack.promql import can_have_result, names_in, parse, without_recorded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from deckwatch.pack.json_api import JsonApi

#: Always fires by design, so it cannot be a gate.
WATCHDOG = "Watchdog"
SEVERITIES = ("critical", "warning", "info")
#: In seconds. With the longest `for`, a query stays below Prometheus' limit of 11 000 points per series.
LONGEST_WINDOW = 86400.0
#: The usual time between two evaluations of rules, in seconds.
_STEP = 15.0
#: For how long (seconds) Prometheus regards the last sample of a series as current.
_LOOKBACK = 300.0


class UnknownAlertError(Exception):
    """The chosen alerts do not exist. The message is for the user."""


@dataclass(frozen=True)
class Firing:
    """One series of an alert that would have fired: from `since` to `until` (Unix seconds), with its last value."""

    alert: Alert
    labels: dict[str, str]
    since: float
    until: float
    value: str


@dataclass(frozen=True)
class Unchecked:
    """An alert that cannot fire because Prometheus has no series of these metrics."""

    alert: Alert
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What would have fired, worst first, and what could not be checked, of all `alerts`.

    Evaluated until `now` (Unix seconds) at intervals of `step` seconds. `has_scraped` is false if Prometheus scraped
    nothing at all in that time.
    """

    firing: tuple[Firing, ...]
    unchecked: tuple[Unchecked, ...]
    alerts: int
    has_scraped: bool
    now: float
    step: float


def chosen_alerts(rules: Rules, names: Collection[str], severities: Collection[str] | None) -> list[Alert]:
    """The alerts with these names and severities; without names, all of them.

    Without severities, `info` alerts are included only if they are named. Raises UnknownAlertError.
    """
    known = {alert.name: alert for alert in rules.alerts if alert.name != WATCHDOG}
    for name in names:
        if name == WATCHDOG:
            raise UnknownAlertError(f"{WATCHDOG} always fires, so it cannot be a gate. Remove it from --alert.")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]!r}?" if near else "Run `deckwatch alerts list` to see all alerts."
            raise UnknownAlertError(f"unknown alert {name!r}. {hint}")
    wanted = severities or (SEVERITIES if names else ("critical", "warning"))
    found = [alert for alert in known.values() if (not names or alert.name in names) and alert.severity in wanted]
    if not found:
        raise UnknownAlertError(f"none of these alerts has the severity {' or '.join(wanted)}. Change --severity.")
    return found


def evaluate(prometheus: JsonApi, window: float, names: Collection[str], severities: Collection[str] | None) -> Verdict:
    """What would have fired within the last `window` seconds.

    Raises UnknownAlertError for a wrong name, and ApiError when Prometheus cannot be queried.
    """
    rules = shipped_rules()
    alerts = chosen_alerts(rules, names, severities)
    now = round(time.time(), 3)
    longest = max((alert.wait for alert in alerts), default=0.0)
    step = _step(window)
    expressions = {alert.name: without_recorded(alert.expr, rules.recorded, f"{step:.0f}s") for alert in alerts}
    scraped = _scraped(prometheus, now - window - longest, now, step)
    firing = [
        found
        for alert in alerts
        for series in _query(prometheus, expressions[alert.name], now - window - alert.wait, now, step)
        for found in _firings(alert, series, scraped, now - window, step)
    ]
    fired = {found.alert.name for found in firing}
    silent = [(alert, expressions[alert.name]) for alert in alerts if alert.name not in fired]
    unchecked = _unchecked(prometheus, silent, window, now)
    has_scraped = any(at >= now - window for at in scraped)
    return Verdict(tuple(sorted(firing, key=_order)), tuple(unchecked), len(alerts), has_scraped, now, step)


def _step(window: float) -> float:
    """Whole seconds between two evaluations: those of rules, or less in a short window."""
    return float(math.ceil(min(_STEP, window / 40)))


def _scraped(prometheus: JsonApi, start: float, end: float, step: float) -> set[float]:
    """The steps at which Prometheus had scraped anything.

    At the others it was not running, and no rule would have fired: `absent(...)` is true of the time before its start.
    """
    return {at for series in _query(prometheus, "count(up)", start, end, step) for at, _ in series["values"]}


def _unchecked(prometheus: JsonApi, silent: Sequence[tuple[Alert, str]], window: float, now: float) -> list[Unchecked]:
    """Which of the alerts that did not fire, given with their expressions, lack the series to fire."""
    metrics = set().union(*(names_in(expr) for _, expr in silent)) - FROM_PROMETHEUS
    missing = metrics - _with_series(prometheus, metrics, window, now)
    return [
        Unchecked(alert, tuple(sorted(names_in(expr) & missing)))
        for alert, expr in silent
        if not can_have_result(parse(expr), missing)
    ]


def _with_series(prometheus: JsonApi, metrics: Collection[str], window: float, now: float) -> set[str]:
    """Those of the metrics that have series within the window."""
    if not metrics:
        return set()
    query = f'count by (__name__) ({{__name__=~"{"|".join(sorted(metrics))}"}})'
    step = math.ceil(min(window, _LOOKBACK))
    return {series["metric"].get("__name__", "") for series in _query(prometheus, query, now - window, now, step)}


def _query(prometheus: JsonApi, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
    """The series at `end` and at every step before it until `start`: all queries look at the same times."""
    form = {
        "query": expr,
        "start": f"{end - math.ceil((end - start) / step) * step:.3f}",
        "end": f"{end:.3f}",
        "step": f"{step:.0f}",
        "timeout": "25s",
    }
    answer = prometheus.post_form("/api/v1/query_range", form)
    try:
        result: list[dict[str, Any]] = answer["data"]["result"]
        for series in result:
            series["metric"] = dict(series["metric"])
            series["values"] = [(float(at), str(value)) for at, value in series["values"]]
    except (TypeError, KeyError, ValueError, AttributeError):
        prometheus.fail("answered, but not with the result of a query. Check that the URL is that of a Prometheus.")
    return result


def _firings(
    alert: Alert, series: dict[str, Any], scraped: Collection[float], window_start: float, step: float
) -> Iterable[Firing]:
    """The periods in which a series is true for at least the alert's `for`, and which reach into the window."""
    for span in _spans([point for point in series["values"] if point[0] in scraped], step):
        (since, _), (until, value) = span[0], span[-1]
        if until >= window_start and until - since >= alert.wait:
            hidden = {"__name__", *alert.labels}
            labels = {name: text for name, text in series["metric"].items() if name not in hidden}
            yield Firing(alert, labels, since, until, value)


def _spans(points: Sequence[tuple[float, str]], step: float) -> list[list[tuple[float, str]]]:
    spans: list[list[tuple[float, str]]] = []
    for point in points:
        if spans and point[0] - spans[-1][-1][0] < 1.5 * step:
            spans[-1].append(point)
        else:
            spans.append([point])
    return spans


def _order(found: Firing) -> tuple[int, str, list[tuple[str, str]]]:
    severity = found.alert.severity
    return SEVERITIES.index(severity) if severity in SEVERITIES else 9, found.alert.name, sorted(found.labels.items())
