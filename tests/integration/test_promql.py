"""The PromQL parser compared with Prometheus: every shipped expression keeps its meaning when printed."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

import pytest

from dashboards.boards import every_query
from deckwatch.pack.alerts import shipped_rules
from deckwatch.pack.promql import PromqlError, parse, to_text, without_recorded
from services import prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Expressions that both reject.
WRONG = (
    "{}", 'x{a="b"', "x[5m", "x[5m:1m", "a + bool b", "a and on (x) group_left b", "rate(x)[5m]",
    "x offset 1m offset 2m", "x @ 1 @ 2", "1h", "x[1m1h]", 'x["5m"]', '"a" "b"', "max(a, b)", "topk(3)", "bool",
    "1_000", "0x", '"\\400"', "sum by (a:b) (x)",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("prometheus")
    with prometheus(folder, {}) as running:
        yield running.url


def formatted(url: str, expr: str) -> str:
    """Return the expression as printed by Prometheus, or an empty string if it is rejected."""
    body = urllib.parse.urlencode({"query": expr}).encode()
    try:
        with urllib.request.urlopen(f"{url}/api/v1/format_query", body, timeout=30) as answer:
            return str(json.load(answer)["data"])
    except urllib.error.HTTPError as refused:
        if refused.code != 400:
            raise
        return ""


def test_every_rule_and_panel_keeps_its_meaning_when_parsed_and_printed(server: str) -> None:
    rules = shipped_rules()
    panels = [query.filled for query in every_query() if not query.is_loki]
    expressions = [*(alert.expr for alert in rules.alerts), *rules.recorded.values(), *panels]
    assert len(expressions) > 300
    for expr in expressions:
        ours = to_text(parse(expr))
        assert parse(ours) == parse(expr)
        assert formatted(server, ours) == formatted(server, expr) != "", expr


def test_prometheus_accepts_every_alert_without_recorded_series(server: str) -> None:
    rules = shipped_rules()
    for alert in rules.alerts:
        assert formatted(server, without_recorded(alert.expr, rules.recorded, "15s")), alert.name


@pytest.mark.parametrize("expr", WRONG)
def test_expressions_that_prometheus_rejects_are_rejected(server: str, expr: str) -> None:
    assert formatted(server, expr) == ""
    with pytest.raises(PromqlError):
        parse(expr)
