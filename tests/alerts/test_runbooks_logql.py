"""Every LogQL query of the runbooks selects the lines that it is about, and no others.

With DECKWATCH_TEST_LOKI_URL, a real Loki evaluates them; otherwise, the tests' own evaluation of that part of LogQL.
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from dashboards import logql
from loki import Double, Loki, loki_under_test
from services import ROOT, agent, fetch, until

from .rule_files import ALERTS
from .runbook_texts import RUNBOOKS, lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SHOP = {"job": "shop", "level": "error"}
#: A line for each runbook with LogQL that is not about an event of the agent: labels and text.
_LINES: dict[str, tuple[dict[str, str], str]] = {
    "CeleryTaskFailureRatioHigh": (_SHOP, '{"message": "Task shop.tasks.send raised", "level": "ERROR"}'),
    "HostDiskFull": (_SHOP, "OSError: [Errno 28] No space left on device"),
    "JobFailed": (_SHOP, '{"event": "job.failed", "job_name": "nightly", "error": "ValueError"}'),
    "LogErrorsRising": (_SHOP, '{"message": "payment refused"}'),
    "PostgresDeadlocks": (_SHOP, "ERROR:  deadlock detected"),
    "ProcessRestarting": ({"job": "system", "level": "critical"}, "web: worker was killed"),
    "QueueDeadLetters": (_SHOP, "Traceback in a message of emails: ValueError"),
    "QueueDown": ({"job": "deckwatch", "level": "warning"}, '{"event": "collector.failing", "collector": "queues"}'),
    "RedisDown": ({"job": "deckwatch", "level": "warning"}, '{"event": "collector.failing", "collector": "redis"}'),
}
_VARIABLES = {"TASK": "shop.tasks.send", "JOB_NAME": "nightly", "JOB": "shop", "GROUP": "web", "QUEUE": "emails"}
_HEALTHY = ({"job": "quiet", "level": "info"}, '{"message": "request served", "level": "INFO"}')


def _queries() -> list[tuple[str, str]]:
    found = [(path.stem, query) for path in RUNBOOKS for query in lines(path, "logql")]
    return [(name, re.sub(r"\$(\w+)", lambda it: _VARIABLES[it[1]], query)) for name, query in found]


def _line_of(name: str, query: str) -> tuple[dict[str, str], str]:
    """The line that a query is about."""
    if event := re.search(r'\| event="([^"]+)"', query):
        return {"job": "deckwatch", "level": "info"}, json.dumps({"event": event[1], "target": "main"})
    return _LINES[name]


@pytest.fixture(scope="module")
def loki() -> Iterator[Loki]:
    """A Loki with the line of each query and one of a healthy service, marked by the label `run`."""
    run = uuid.uuid4().hex
    with loki_under_test() as under_test:
        for number, (labels, text) in enumerate([_HEALTHY, *(_line_of(*it) for it in _queries())]):
            stream = {"stream": {**labels, "run": run}, "values": [[str(time.time_ns() + number), text]]}
            request = urllib.request.Request(
                f"{under_test.url}/loki/api/v1/push",
                json.dumps({"streams": [stream]}).encode(),
                {"Content-Type": "application/json"},
            )
            urllib.request.urlopen(request, timeout=30).close()
        until(lambda: under_test.lines(f'{{run="{run}"}}'), what="the lines")
        yield under_test


def _result(loki: Loki, query: str) -> list[Any]:
    now = time.time() + 1
    if isinstance(loki, Double):
        return list(logql.query(logql.entries(loki), query, now - 600, now)["result"])
    asked = {"query": query, "start": int((now - 600) * 1e9), "end": int(now * 1e9), "step": 15}
    status, body = fetch(f"{loki.url}/loki/api/v1/query_range?{urllib.parse.urlencode(asked)}")
    assert status == 200, f"{query}: {body}"
    return list(json.loads(body)["data"]["result"])


@pytest.mark.parametrize(("name", "query"), _queries())
def test_a_query_selects_its_lines_and_no_others(loki: Loki, name: str, query: str) -> None:
    result = _result(loki, query)
    assert result
    _, text = _line_of(name, query)
    selected = [value[1] for stream in result if "stream" in stream for value in stream["values"]]
    assert not selected or text in selected
    assert _HEALTHY[1] not in selected


def test_the_events_in_queries_are_documented() -> None:
    documented = (ROOT / "docs" / "reference" / "events.md").read_text()
    for name, query in _queries():
        for event in re.findall(r'event="([^"]+)"', query):
            assert f"| `{event}` |" in documented, name


def test_an_agent_writes_what_the_runbooks_of_unreachable_servers_select(tmp_path: Path) -> None:
    url = "redis://127.0.0.1:1/0"  # a port that no other test's server takes
    settings = {
        "exporters": {
            "redis": [{"name": "cache", "url": url}],
            "queues": [{"name": "tasks", "kind": "celery", "url": url, "queues": ["celery"]}],
        },
    }
    with loki_under_test() as loki:
        labels = {"run": uuid.uuid4().hex}
        settings["logs"] = {"loki": {"url": loki.url, "batch_wait": "200ms", "labels": labels}}
        with agent(tmp_path, json.dumps(settings), STATE_DIRECTORY=str(tmp_path / "state")):
            for name in ("RedisDown", "QueueDown"):
                (query,) = lines(ALERTS / "runbooks" / f"{name}.md", "logql")
                of_this = query.replace("{", f'{{run="{labels["run"]}", ', 1)
                until(lambda of_this=of_this: _result(loki, of_this), what=query)  # type: ignore[misc]
