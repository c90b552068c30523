"""The dashboards and alerts of celery-exporter's mixin, filled by the real celery-exporter and by Deckwatch.

CELERY_EXPORTER is the command that starts celery-exporter, for example `python /path/to/celery-exporter/cli.py`, and
CELERY_MIXIN the folder `celery-mixin` of its repository. Neither is part of Deckwatch.
"""

from __future__ import annotations

import contextlib
import json
import os
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comparison import differences, exposed
from databases import RedisServer, redis_server
from exporters.queues.celery_events import celery_worker, write_app
from exporters.queues.programs import run_python
from peers.celery_exporter import COMMAND, celery_exporter
from peers.celery_mixin import queries
from services import Program, agent, fetch, prometheus, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comparison import Exposed, Labels

_MIXIN = os.environ.get("CELERY_MIXIN", "")
_WORKER_TIMEOUT = 10
_BATCH = """
from shop import *
for n in range(10): add.apply_async((n, n), queue="mails" if n < 5 else "celery")
for n in range(3): fail.delay()
for n in range(2): retry.delay()
for n in range(2): reject.delay()
app.control.revoke("revoked-{number}", reply=True)
add.apply_async((1, 1), task_id="revoked-{number}")
"""
#: Events of a batch. A rejected task has failed, too, and each of two tasks is tried again twice.
_OUTCOMES = {"succeeded": 12, "failed": 5, "retried": 4, "rejected": 2, "revoked": 1}

#: What the dashboards offer to choose from.
_VARIABLES = {"job": "celery-exporter", "queue_name": "celery|mails", "task": "shop.(add|fail|reject|retry)"}

_BY_LAST_EVENT = ("hostname", "queue_name")

pytestmark = [
    pytest.mark.skipif(not COMMAND, reason="set CELERY_EXPORTER to the command of a celery-exporter"),
    pytest.mark.skipif(not _MIXIN, reason="set CELERY_MIXIN to the folder celery-mixin of celery-exporter"),
]


class SideBySide:
    """Both exporters beside one broker, each with a Prometheus that knows it as job celery-exporter."""

    def __init__(self, peer: Program, ours: Program, servers: tuple[Program, Program]) -> None:
        self.peer, self.ours = peer, ours
        self._servers = servers

    def fills(self, wanted: list[str]) -> tuple[set[str], set[str]]:
        """The queries with a result on the peer, and those of them without one on ours."""
        on_peer, on_ours = self._servers
        filled = {query for query in wanted if _result(on_peer, query)}
        missing = filled
        with contextlib.suppress(AssertionError):  # the caller names what is missing
            until(lambda: not (_without_result(on_ours, missing)), seconds=60)
        return filled, _without_result(on_ours, filled)

    def both_have(self, query: str) -> None:
        for name, server in zip(("celery-exporter", "Deckwatch"), self._servers, strict=True):
            until(lambda server=server: _result(server, query), what=f"{query} of {name}")  # type: ignore[misc]

    def exposed(self) -> tuple[Exposed, Exposed]:
        return exposed(self.peer.metrics()), exposed(fetch(f"{self.ours.url}/metrics?target=tasks")[1])


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def side_by_side(broker: RedisServer, tmp_path: Path) -> Iterator[SideBySide]:
    target = {
        "name": "tasks", "kind": "celery", "url": broker.url, "events": True, "ask_workers": True,
        "worker_timeout": f"{_WORKER_TIMEOUT}s",
    }  # fmt: skip
    folders = [tmp_path / name for name in ("peer", "ours")]
    for folder in folders:
        folder.mkdir()
    with (
        agent(folders[1], json.dumps({"interval": "1s", "exporters": {"queues": [target]}})) as ours,
        celery_exporter(folders[0], broker.url, f"--worker-timeout={_WORKER_TIMEOUT}") as peer,
        # A scrape of celery-exporter takes two seconds.
        prometheus(folders[0], {"celery-exporter": peer}, interval="5s") as of_peer,
        prometheus(folders[1], {"celery-exporter": ours}, interval="5s") as of_ours,
        broker.client() as client,
    ):
        until(lambda: len(client.client_list(_type="pubsub")) >= 2, what="both subscriptions")
        yield SideBySide(peer, ours, (of_peer, of_ours))


@pytest.mark.parametrize("sent_events", [True, False], ids=["task_send_sent_event", "without task-sent"])
def test_every_query_that_celery_exporter_fills_is_filled(
    side_by_side: SideBySide, broker: RedisServer, tmp_path: Path, sent_events: bool
) -> None:
    wanted = queries(Path(_MIXIN), _VARIABLES)
    assert len(wanted) > 50
    write_app(tmp_path, broker.url)
    if not sent_events:  # Celery's default
        with (tmp_path / "shop.py").open("a") as app:
            app.write("\napp.conf.task_send_sent_event = False\n")
    with celery_worker(tmp_path):
        side_by_side.both_have('celery_worker_up{hostname="shop"} == 1')
        side_by_side.both_have('celery_active_process_count{queue_name="mails"} == 2')
        for number in (1, 2):  # increase() of a new series is 0
            run_python(tmp_path, _BATCH.format(number=number))
            for outcome, tasks in _OUTCOMES.items():
                side_by_side.both_have(f"sum(celery_task_{outcome}_total) == {tasks * number}")
        at_work, missing_at_work = side_by_side.fills(wanted)
        peer, ours = side_by_side.exposed()
    side_by_side.both_have("celery_worker_up == 0")
    run_python(tmp_path, "from shop import *\nfor n in range(150): add.apply_async((n, n), queue='mails')")
    side_by_side.both_have('celery_queue_length{queue_name="mails"} == 150')
    without_worker, missing_without_worker = side_by_side.fills(wanted)

    assert not missing_at_work | missing_without_worker
    if sent_events:
        assert not set(wanted) - at_work - without_worker, "the peer fills all of them"
    assert not differences(peer, ours, _is_compared)
    counted = _totals(peer)
    assert len(counted) > 50
    assert {key: value for key, value in _totals(ours).items() if key in counted} == pytest.approx(counted)


def _is_compared(name: str) -> bool:
    return name.startswith("celery_") and not name.endswith("_created")


def _totals(metrics: Exposed) -> dict[tuple[str, Labels], float]:
    """Values without hostname and queue_name, which celery-exporter takes from whichever event came last."""
    found: dict[tuple[str, Labels], float] = {}
    for name, (_, series) in metrics.items():
        for (sample, labels), value in series.items() if _is_compared(name) else ():
            # celery-exporter writes None if it does not know the name of a task.
            kept = tuple((label, it.replace("None", "")) for label, it in labels if label not in _BY_LAST_EVENT)
            found[sample, kept] = found.get((sample, kept), 0.0) + value
    return found


def _without_result(server: Program, wanted: set[str]) -> set[str]:
    return {query for query in wanted if not _result(server, query)}


def _result(server: Program, query: str) -> list[object]:
    status, body = fetch(f"{server.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    assert status == 200, f"{query}: {body}"
    result: list[object] = json.loads(body)["data"]["result"]
    return result
