"""Every PromQL query of the runbooks, evaluated by a real Prometheus: two agents, and two servers of each type."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from dashboards.prometheus_server import ask, start_prometheus
from dashboards.simulated import END, VALUES, Job, write_blocks
from services import Program, installed

from .rule_files import RULE_FILES, metrics_in, rules
from .runbook_texts import RUNBOOKS, lines

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)

_AGENTS = ("host0:9797", "host1:9797")
_TARGETS = ("main.db", "other.db")
_LABELS = {**VALUES, "role": ("master", "slave"), "state": ("closed", "D", "active"), "service": ("shop", "")}


@dataclass(frozen=True)
class Scraping:
    """How Prometheus scrapes the two agents."""

    name: str
    jobs: tuple[Job, ...]

    @property
    def instances(self) -> tuple[str, ...]:
        """The values of `$INSTANCE`."""
        return (*_AGENTS, *_TARGETS) if self.jobs[0].discovered else _AGENTS

    def __str__(self) -> str:
        return self.name


SCRAPINGS = (
    Scraping("whole every 15 s", (Job("whole", 2, 15, targets=_TARGETS),)),
    Scraping("whole every 60 s", (Job("minute", 2, 60, targets=_TARGETS),)),
    Scraping("by target", (Job("discovered", 2, 15, discovered=True, targets=_TARGETS),)),
    Scraping("two jobs with the same instances", (Job("one", 2, 15), Job("two", 2, 15))),
)


def _queries() -> list[tuple[str, str]]:
    return [(path.stem, query) for path in RUNBOOKS for query in lines(path, "promql")]


def _read() -> set[str]:
    """The metrics that the queries read, and those from which the rules record what they read."""
    recorded = {rule.name: rule.expr for rule in rules() if not rule.is_alert}
    names = set[str]()
    new = {name for _, query in _queries() for name in metrics_in(query)}
    while new:
        names |= new
        new = {name for it in new & set(recorded) for name in metrics_in(recorded[it])} - names
    return names - set(recorded)


def _filled(query: str, instance: str, **matchers: str) -> str:
    """The query with its variables replaced, and with more matchers beside that of the instance."""
    more = "".join(f', {label}="{value}"' for label, value in matchers.items())
    query = query.replace('instance="$INSTANCE"', f'instance="{instance}"{more}')
    return re.sub(r'(\w+)="\$\w+"', lambda it: f'{it[1]}="{_LABELS.get(it[1], (f"{it[1]}-0",))[0]}"', query)


@pytest.fixture(scope="module", params=SCRAPINGS, ids=str)
def scraped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Scraping, Program]]:
    """A Prometheus with the series of a scraping and what the shipped rules record of them."""
    folder = tmp_path_factory.mktemp("runbooks")
    scraping: Scraping = request.param
    write_blocks(folder, _read(), scraping.jobs, _LABELS)
    for _ in range(2):  # the second time, from what was recorded first
        with start_prometheus(folder, {"scrape_configs": []}) as prometheus:
            command = [
                installed("promtool"), "tsdb", "create-blocks-from", "rules", f"--url={prometheus.url}",
                f"--start={END - 300}", f"--end={END}", "--eval-interval=60s", f"--output-dir={folder / 'prometheus'}",
            ]  # fmt: skip
            subprocess.run([*command, *map(str, RULE_FILES)], check=True, capture_output=True)
    with start_prometheus(folder, {"scrape_configs": []}) as prometheus:
        yield scraping, prometheus


def _result(prometheus: Program, query: str) -> set[tuple[frozenset[tuple[str, str]], str]]:
    """The series with their values. The query must not be refused."""
    status, answer = ask(prometheus, "query", query=query, time=END + 7)  # rarely at the time of a scrape
    assert status == 200, f"{query}: {answer['error']}"
    return {(frozenset(series["metric"].items()), series["value"][1]) for series in answer["data"]["result"]}


def test_every_query_has_a_result(scraped: tuple[Scraping, Program]) -> None:
    scraping, prometheus = scraped
    empty = [
        f"{name}: {query}"
        for name, query in _queries()
        if not any(_result(prometheus, _filled(query, it)) for it in scraping.instances)
    ]
    assert not empty, "\n".join(empty)


def test_no_figure_adds_up_servers_or_what_two_agents_measure_of_one(scraped: tuple[Scraping, Program]) -> None:
    scraping, prometheus = scraped
    label, values = ("agent", _AGENTS) if scraping.jobs[0].discovered else ("target", _TARGETS)
    mixed = []
    for name, query in _queries():
        if "$INSTANCE" not in query or not re.search(r"\b(avg|count|max|sum)\b", query):
            continue
        if name == "DeckwatchSeriesDropped":
            continue  # it counts the series of an agent
        for instance in scraping.instances:
            of_each = [_result(prometheus, _filled(query, instance, **{label: value})) for value in ("", *values)]
            of_all = _result(prometheus, _filled(query, instance))
            alone = {value for result in of_each for _, value in result}
            if not {value for _, value in of_all} <= alone:
                mixed.append(f"{name}: {query}")
                break
    assert not mixed, "\n".join(mixed)
