"""Django tasks, with the real database backend on a real PostgreSQL."""

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

_MANAGE = """
import os, sys, time
import django
from django.conf import settings

settings.configure(
    USE_TZ=True,
    SECRET_KEY="test",
    INSTALLED_APPS=["django_tasks", "django_tasks_db"],
    DATABASES={{"default": {{"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "postgres",
                             "HOST": "127.0.0.1", "PORT": {port}}}}},
    TASKS={{"default": {{"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": ["default", "mail"]}}}},
)
django.setup()

from django.core.management import execute_from_command_line
from django_tasks import task

@task(queue_name="mail")
def wait(path):
    while not os.path.exists(path):
        time.sleep(0.05)

@task(queue_name="mail")
def fail():
    raise ValueError("as intended")
"""
_MAIN = "from shop import *\nexecute_from_command_line(sys.argv)\n"
_SEND = """
from shop import *
from datetime import timedelta
from django.utils import timezone
for _ in range(5):
    wait.enqueue({path!r})
fail.enqueue()
wait.using(run_after=timezone.now() + timedelta(hours=1)).enqueue("/")
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


def test_task_values_are_correct_in_every_state(server: PostgresServer, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(_MANAGE.format(port=server.port))
    (tmp_path / "manage.py").write_text(_MAIN)
    gate = tmp_path / "go"
    settings = {"kind": "django_tasks", "dsn": server.dsn(), "queues": ["mail", "rare"]}
    with opened(EXPORTER, settings) as target:
        assert "no tables of django-tasks in this database" in target.collect().errors["queues"]
        run_python(tmp_path, "from shop import *\nexecute_from_command_line(['manage.py', 'migrate', '-v', '0'])")
        run_python(tmp_path, _SEND.format(path=str(gate)))
        waiting = figures(target, "mail")
        assert (waiting["length"], waiting["delayed"], waiting["in_flight"], waiting["dead"]) == (6, 1, 0, 0)
        assert 0 <= waiting["oldest_message_age_seconds"] < 300
        assert figures(target, "rare")["length"] == 0

        command = ["manage", "db_worker", "--queue-name", "*", "--interval", "0.1", "--no-startup-delay"]
        with worker(tmp_path, command) as running:
            assert eventually(target, "mail", lambda found: found["in_flight"] == 1)["length"] == 5
            running.kill()
        assert figures(target, "mail")["in_flight"] == 1, "a killed worker leaves its task behind"
        gate.touch()
        with worker(tmp_path, command):
            drained = eventually(target, "mail", lambda found: found["length"] == 0 and found["dead"] == 1)
        assert (drained["delayed"], drained["oldest_message_age_seconds"]) == (1, 0)
