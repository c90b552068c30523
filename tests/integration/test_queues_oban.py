"""Oban, with the real Python library on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from databases import PostgresServer, postgres_server
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.programs import worker
from exporters.queues.support import eventually, figures, queues_in

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Has its own environment: Oban needs Python 3.12. See tests/install-python.sh.
_FOLDER = Path(sys.prefix) / "oban"
_PYTHON = _FOLDER / "bin" / "python"

pytestmark = pytest.mark.skipif(not (_FOLDER / ".installed").exists(), reason="Oban is not installed: make services")

_SHOP = """
import asyncio, os, sys
from datetime import timedelta
from oban import Oban, worker
from oban.schema import install

@worker(queue="mail", max_attempts=1)
class Wait:
    async def process(self, job):
        while not os.path.exists(job.args["path"]):
            await asyncio.sleep(0.05)

@worker(queue="mail", max_attempts=1)
class Fail:
    async def process(self, job):
        raise ValueError("as intended")

async def send(path):
    async with await Oban.create_pool({dsn!r}) as pool:
        await install(pool)
        oban = Oban(pool=pool)
        for _ in range(5):
            await oban.enqueue(Wait.new({{"path": path}}))
        await oban.enqueue(Wait.new({{"path": path}}, schedule_in=3600))
        await oban.enqueue(Fail.new())

async def work():
    async with await Oban.create_pool({dsn!r}) as pool:
        async with Oban(pool=pool, queues={{"mail": 1}}):
            await asyncio.Event().wait()

if __name__ == "__main__":
    asyncio.run(send(sys.argv[1]) if len(sys.argv) > 1 else work())
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


def test_job_values_are_correct_in_every_state(server: PostgresServer, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(_SHOP.format(dsn=server.dsn()))
    gate = tmp_path / "go"
    with opened(EXPORTER, {"kind": "oban", "dsn": server.dsn(), "queues": ["mail", "rare"]}) as target:
        assert "no tables of Oban in this database" in target.collect().errors["queues"]

        subprocess.run([_PYTHON, "shop.py", str(gate)], cwd=tmp_path, check=True, timeout=120)
        server.execute("UPDATE oban_jobs SET scheduled_at = scheduled_at - interval '10 minutes' WHERE id = 1")
        waiting = figures(target, "mail")
        assert (waiting["length"], waiting["delayed"], waiting["in_flight"], waiting["dead"]) == (6, 1, 0, 0)
        assert 600 <= waiting["oldest_message_age_seconds"] < 900
        assert queues_in(target) == {"mail", "rare"}
        assert figures(target, "rare")["length"] == 0

        with worker(tmp_path, ["shop"], python=_PYTHON) as running:
            held = eventually(target, "mail", lambda found: found["in_flight"] == 1)
            assert held["length"] == 5
            running.kill()
        assert figures(target, "mail")["in_flight"] == 1, "a killed worker leaves its job behind"
        gate.touch()
        with worker(tmp_path, ["shop"], python=_PYTHON):
            drained = eventually(target, "mail", lambda found: found["length"] == 0 and found["dead"] == 1)
        assert drained["delayed"] == 1
        assert drained["oldest_message_age_seconds"] == 0
