"""Procrastinate, with the real library on a real PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from databases import PostgresServer, postgres_server
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.programs import run_python, worker
from exporters.queues.support import eventually, figures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_APP = """
import os, time
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

def app_of(connector):
    app = App(connector=connector(conninfo={dsn!r}))

    @app.task(name="wait", queue="mail")
    def wait(path):
        while not os.path.exists(path):
            time.sleep(0.05)

    @app.task(name="fail", queue="mail")
    def fail():
        raise ValueError("as intended")

    return app

app = app_of(PsycopgConnector)
"""
_SEND = """
from shop import app_of, SyncPsycopgConnector
with app_of(SyncPsycopgConnector).open() as app:
    {setup}
    for _ in range(5):
        app.configure_task("wait", queue="mail").defer(path={path!r})
    app.configure_task("wait", queue="mail", schedule_in={{"hours": 1}}).defer(path="/")
    app.configure_task("fail", queue="mail").defer()
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


def test_job_values_are_correct_in_every_state(server: PostgresServer, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(_APP.format(dsn=server.dsn()))
    gate = tmp_path / "go"
    settings = {"kind": "procrastinate", "dsn": server.dsn(), "queues": ["mail", "rare"]}
    with opened(EXPORTER, settings) as target:
        assert "no tables of Procrastinate in this database" in target.collect().errors["queues"]

        setup = "app.schema_manager.apply_schema()"
        run_python(tmp_path, _SEND.format(setup=setup, path=str(gate)))
        server.execute("UPDATE procrastinate_events SET at = at - interval '10 minutes' WHERE job_id = 1")
        waiting = figures(target, "mail")
        assert (waiting["length"], waiting["delayed"], waiting["in_flight"], waiting["dead"]) == (6, 1, 0, 0)
        assert 600 <= waiting["oldest_message_age_seconds"] < 900
        assert figures(target, "rare")["length"] == 0

        command = ["procrastinate", "--app", "shop.app", "worker", "--concurrency", "1"]
        with worker(tmp_path, command) as running:
            assert eventually(target, "mail", lambda found: found["in_flight"] == 1)["length"] == 5
            running.kill()
        assert figures(target, "mail")["in_flight"] == 1, "a killed worker leaves its job behind"
        gate.touch()
        with worker(tmp_path, command):
            drained = eventually(target, "mail", lambda found: found["length"] == 0 and found["dead"] == 1)
        assert drained["delayed"] == 1
        assert drained["oldest_message_age_seconds"] == 0
