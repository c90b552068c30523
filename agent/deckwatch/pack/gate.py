"""`deckwatch gate`: would any of the shipped alerts have fired within the last minutes? For builds and deployments.

Prometheus needs no rules loaded: the recorded series are replaced by what they record.
"""

from __future__ import annotations

import difflib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deckwatch.pack.alerts import Alert, Rules, shipped_rules
from deckwatch.pack.promql import expanded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from deckwatch.pack.json_api import JsonApi

#: Always fires, and so says nothing here.
WATCHDOG = "Watchdog"
SEVERITIES = ("critical", "warning", "info")
#: In seconds: with the longest `for` this stays below the 11 000 points of a series that Prometheus gives.
LONGEST_WINDOW = 86400.0
#: The usual time between two evaluations of rules.
_STEP = 15.0


class UnknownAlertError(Exception):
    """No shipped alert is what was asked for; the message is for the user."""


@dataclass(frozen=True)
class Firing:
    """One series of an alert that would have fired: since when it is true (Unix seconds), to when, its last value."""

    alert: Alert
    labels: dict[str, str]
    since: float
    until: float
    value: str


@dataclass(frozen=True)
class Verdict:
    """What would have fired, worst first, out of how many `alerts`; evaluated until `now` (Unix seconds) by `step`."""

    firing: tuple[Firing, ...]
    alerts: int
    now: float
    step: float


def chosen_alerts(rules: Rules, names: Collection[str], severities: Collection[str] | None) -> list[Alert]:
    """The alerts of these names (all without any) and severities. Without severities `info` counts only where it is
    named, as that is for a daily mail. Raises UnknownAlertError."""
    known = {alert.name: alert for alert in rules.alerts if alert.name != WATCHDOG}
    for name in names:
        if name == WATCHDOG:
            raise UnknownAlertError(f"{WATCHDOG} always fires: it cannot be a gate")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else "; `deckwatch alerts list` has them all"
            raise UnknownAlertError(f"there is no alert {name!r}{hint}")
    wanted = severities or (SEVERITIES if names else ("critical", "warning"))
    found = [alert for alert in known.values() if (not names or alert.name in names) and alert.severity in wanted]
    if not found:
        raise UnknownAlertError(f"none of these alerts is {' or '.join(wanted)}")
    return found


def evaluate(prometheus: JsonApi, window: float, names: Collection[str], severities: Collection[str] | None) -> Verdict:
    """What would have fired within the last `window` seconds.

    Raises UnknownAlertError for a wrong name, ApiError when Prometheus does not answer or scraped nothing in that time.
    """
    rules = shipped_rules()
    alerts = chosen_alerts(rules, names, severities)
    now = round(time.time(), 3)
    longest = max((alert.wait for alert in alerts), default=0.0)
    step = _step(window)
    scraped = _scraped(prometheus, now - window - longest, now, step)
    if not any(at >= now - window for at in scraped):
        prometheus.fail("has scraped nothing in that time: that nothing fires there means nothing")
    firing = [
        found
        for alert in alerts
        for series in _evaluate(prometheus, alert, rules, window, now, step)
        for found in _firings(alert, series, scraped, now - window, step)
    ]
    return Verdict(tuple(sorted(firing, key=_order)), len(alerts), now, step)


def _step(window: float) -> float:
    """Whole seconds between two evaluations: as rules have it, closer in a short window."""
    return float(math.ceil(min(_STEP, window / 40)))


def _scraped(prometheus: JsonApi, start: float, end: float, step: float) -> set[float]:
    """The steps at which Prometheus had scraped anything. At others it did not run, and no rule would have fired:
    `absent(...)` is true of the time before it was started."""
    return {at for series in _query(prometheus, "count(up)", start, end, step) for at, _ in series["values"]}


def _evaluate(
    prometheus: JsonApi, alert: Alert, rules: Rules, window: float, now: float, step: float
) -> list[dict[str, Any]]:
    expr = expanded(alert.expr, rules.recorded, f"{step:.0f}s")
    return _query(prometheus, expr, now - window - alert.wait, now, step)


def _query(prometheus: JsonApi, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
    """The matrix at `end` and at every step before it until `start`: all queries look at the same moments."""
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
            series["metric"].pop("__name__", None)
            series["values"] = [(float(at), str(value)) for at, value in series["values"]]
    except (TypeError, KeyError, ValueError, AttributeError):
        prometheus.fail("answered something that is no result of a query: is this a Prometheus?")
    return result


def _firings(
    alert: Alert, series: dict[str, Any], scraped: Collection[float], window_start: float, step: float
) -> Iterable[Firing]:
    """The spans of a series that are as long as the alert's `for` and reach into the window."""
    for span in _spans([point for point in series["values"] if point[0] in scraped], step):
        (since, _), (until, value) = span[0], span[-1]
        if until >= window_start and until - since >= alert.wait:
            labels = {name: text for name, text in series["metric"].items() if name not in alert.labels}
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
