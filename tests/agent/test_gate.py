"""The gate: which alerts it checks, and when a range of samples counts as firing."""

from __future__ import annotations

import io
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from deckwatch.cli.gate import gate
from deckwatch.pack.alerts import shipped_rules
from deckwatch.pack.gate import LONGEST_WINDOW, UnknownAlertError, chosen_alerts
from deckwatch.pack.json_api import ApiError, JsonApi

if TYPE_CHECKING:
    from collections.abc import Collection


class ScriptedPrometheus(JsonApi):
    """A Prometheus that has scraped for `up` seconds, where one alert's expression is true at some ages (seconds ago).

    It has series of all metrics except the `missing` ones.
    """

    def __init__(self, true: list[tuple[float, float]], up: float = 86400, missing: Collection[str] = ()) -> None:
        super().__init__("Prometheus", "http://127.0.0.1:9")
        self.true, self.up, self.missing = true, up, missing
        self.queries: list[str] = []

    def post_form(self, path: str, form: dict[str, str]) -> Any:
        assert path == "/api/v1/query_range"
        self.queries.append(form["query"])
        now, step = time.time(), int(form["step"])
        start, end = (round(float(form[name]) * 1000) for name in ("start", "end"))
        ages = [(at / 1000, now - at / 1000) for at in range(start, end + 1, step * 1000)]
        if asked := re.fullmatch(r'count by \(__name__\) \(\{__name__=~"(.*)"\}\)', form["query"]):
            found = [name for name in asked[1].split("|") if name not in self.missing and self.up >= 0]
            return {"data": {"result": [{"metric": {"__name__": name}, "values": [[end, "1"]]} for name in found]}}
        if form["query"] == "count(up)":
            values = [[at, "3"] for at, age in ages if age <= self.up]
        else:
            values = [[at, "0.5"] for at, age in ages if any(old >= age >= young for old, young in self.true)]
        metric = {"__name__": "redis_up", "instance": "a:1", "target": "cache"}
        return {"status": "success", "data": {"result": [{"metric": metric, "values": values}] if values else []}}


def gated(
    prometheus: JsonApi, window: float = 600, alert: str = "HostMemoryExhausted", allow_missing: bool = False
) -> tuple[int, str]:
    out = io.StringIO()
    return gate(prometheus, window, [alert], None, allow_missing, out), out.getvalue()  # its `for` is 5m


@pytest.mark.parametrize(
    ("true", "fires"),
    [
        ([(400, 0)], True),
        ([(200, 0)], False),  # shorter than `for`
        ([(500, 350), (200, 0)], False),  # long enough only in total
        ([(850, 500)], True),  # resolved, but it fired in the window
        ([(850, 700)], False),  # before the window
        ([(80000, 0)], True),
        ([], False),
    ],
)
def test_an_alert_fires_if_it_is_true_for_its_for_duration_and_within_the_window(
    true: list[tuple[float, float]], fires: bool
) -> None:
    code, said = gated(ScriptedPrometheus(true))

    assert code == int(fires)
    assert f"{'1' if fires else 'none'} of 1 alert fired in the last 10m\n" in said


def test_the_table_shows_alert_severity_labels_times_and_value() -> None:
    _, said = gated(ScriptedPrometheus([(400, 0)]))
    header, row, _ = said.splitlines()

    assert header.split() == ["ALERT", "SEVERITY", "LABELS", "SINCE", "UNTIL", "VALUE"]
    name, severity, labels, since, until, value = row.split()
    assert (name, severity, labels) == ("HostMemoryExhausted", "critical", "instance=a:1,target=cache")
    assert since.endswith("Z")
    assert (until, value) == ("now", "0.5")


def test_resolved_alerts_have_an_end_time() -> None:
    _, said = gated(ScriptedPrometheus([(850, 500)]))
    assert said.splitlines()[1].split()[4].endswith("Z")


def test_time_before_prometheus_started_does_not_fire_alerts() -> None:
    """absent() is true for the time before Prometheus was started."""
    before = ScriptedPrometheus([(86400, 120)], up=120)
    assert gated(before, alert="DeckwatchAbsent")[0] == 0

    since = ScriptedPrometheus([(86400, 0)], up=400)
    assert gated(since, alert="DeckwatchAbsent")[0] == 1


def test_a_prometheus_without_scrapes_fails_the_gate() -> None:
    for allow_missing in (False, True):
        code, said = gated(ScriptedPrometheus([], up=-1), allow_missing=allow_missing)
        assert code == 3
        assert "Prometheus scraped nothing in the last 10m. Check its targets.\n" in said


@pytest.mark.parametrize(
    ("alert", "missing", "named"),
    [
        ("RedisDown", ["redis_up"], "RedisDown  redis_up"),
        ("HostMemoryExhausted", ["node_memory_MemTotal_bytes"], "HostMemoryExhausted  node_memory_MemTotal_bytes"),
        ("HostCpuHigh", ["deckwatch_threshold_cpu_ratio"], ""),  # the expression has a default
        ("LogShippingBehind", ["deckwatch_log_shipping"], ""),  # the metric only excludes cases
        ("DeckwatchAbsent", ["deckwatch_build_info"], ""),  # it fires if the metric is absent
    ],
)
def test_an_alert_whose_metric_has_no_series_fails_the_gate(alert: str, missing: list[str], named: str) -> None:
    code, said = gated(ScriptedPrometheus([], missing=missing), alert=alert)
    allowed, spoken = gated(ScriptedPrometheus([], missing=missing), alert=alert, allow_missing=True)

    assert (code, allowed) == (3 if named else 0, 0)
    assert named in said
    assert ("not checked: " in said) == bool(named)
    assert "METRICS WITHOUT SERIES" not in spoken
    assert "none of 1 alert fired in the last 10m\n" in spoken


def test_fired_alerts_take_precedence_over_alerts_that_could_not_be_checked() -> None:
    out = io.StringIO()
    prometheus = ScriptedPrometheus([(900, 0)], missing=["redis_up"])

    class OneAlert(ScriptedPrometheus):
        def post_form(self, path: str, form: dict[str, str]) -> Any:
            if form["query"].startswith("redis_up"):
                return {"data": {"result": []}}
            return prometheus.post_form(path, form)

    assert gate(OneAlert([]), 600, ["HostMemoryExhausted", "RedisDown"], None, False, out) == 1
    assert "1 alert not checked: " in out.getvalue()


@pytest.mark.parametrize("answer", [None, [], {}, {"data": {"result": [3]}}, {"data": {"result": [{"values": []}]}}])
def test_a_response_of_another_server_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    prometheus = JsonApi("Prometheus", "http://127.0.0.1:9")
    monkeypatch.setattr(prometheus, "post_form", lambda *_: answer)

    with pytest.raises(ApiError, match="Check that the URL is that of a Prometheus"):
        gated(prometheus)


def test_informational_alerts_count_only_if_requested() -> None:
    rules = shipped_rules()
    info = {alert.name for alert in rules.alerts if alert.severity == "info"} - {"Watchdog"}

    assert info
    assert not info & {alert.name for alert in chosen_alerts(rules, [], None)}
    assert {alert.name for alert in chosen_alerts(rules, [], ["info"])} == info
    assert [alert.name for alert in chosen_alerts(rules, ["HostLoadHigh"], None)] == ["HostLoadHigh"]
    assert len(chosen_alerts(rules, [], ["critical", "warning", "info"])) == len(rules.alerts) - 1


@pytest.mark.parametrize(
    ("names", "severities", "line"),
    [
        (["RedisDwn"], None, "unknown alert 'RedisDwn'. Did you mean 'RedisDown'?"),
        (["x"], None, "unknown alert 'x'. Run `deckwatch alerts list` to see all alerts."),
        (["Watchdog"], None, "Watchdog always fires, so it cannot be a gate. Remove it from --alert."),
        (
            ["RedisDown"],
            ["info", "warning"],
            "none of these alerts has the severity info or warning. Change",
        ),
    ],
)
def test_a_selection_without_alerts_is_rejected(names: list[str], severities: list[str] | None, line: str) -> None:
    with pytest.raises(UnknownAlertError) as refused:
        chosen_alerts(shipped_rules(), names, severities)
    assert str(refused.value).startswith(line)


def test_the_longest_window_stays_within_prometheus_limit_of_points() -> None:
    class Counting(ScriptedPrometheus):
        def post_form(self, path: str, form: dict[str, str]) -> Any:
            assert (float(form["end"]) - float(form["start"])) / int(form["step"]) <= 11000
            return super().post_form(path, form)

    longest = max(shipped_rules().alerts, key=lambda alert: alert.wait)
    assert gated(Counting([]), LONGEST_WINDOW, longest.name)[0] == 0
    assert gated(Counting([(80000, 79000)]), LONGEST_WINDOW)[0] == 1
