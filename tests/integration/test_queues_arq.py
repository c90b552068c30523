"""arq, with the real library on a real Redis."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from databases import RedisServer, redis_server
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.programs import worker
from exporters.queues.support import eventually, figures, queues_in

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Has its own environment: arq needs an older client of Redis. See tests/install-python.sh.
_FOLDER = Path(sys.prefix) / "arq"
_PYTHON = _FOLDER / "bin" / "python"

pytestmark = pytest.mark.skipif(not (_FOLDER / ".installed").exists(), reason="arq is not installed: make services")

_SHOP = """
import asyncio, os, sys
from datetime import timedelta
from arq import create_pool
from arq.connections import RedisSettings

settings = RedisSettings.from_dsn({url!r})

async def wait(ctx, path):
    while not os.path.exists(path):
        await asyncio.sleep(0.05)

class WorkerSettings:
    functions = [wait]
    redis_settings = settings
    max_jobs = 2

async def send(path, queue):
    pool = await create_pool(settings)
    for _ in range(10):
        await pool.enqueue_job("wait", path, _queue_name=queue)
    await pool.enqueue_job("wait", path, _queue_name=queue, _defer_by=timedelta(hours=1))
    await pool.aclose()

if __name__ == "__main__":
    asyncio.run(send(*sys.argv[1:]))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        (tmp_path / "shop.py").write_text(_SHOP.format(url=running.url))
        yield running


def send(folder: Path, gate: Path, queue: str = "arq:queue") -> None:
    subprocess.run([_PYTHON, "shop.py", str(gate), queue], cwd=folder, check=True, timeout=120)


def test_job_values_are_correct_in_every_state(server: RedisServer, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    with opened(EXPORTER, {"kind": "arq", "url": server.url}) as target:
        assert queues_in(target) == set()
    send(tmp_path, gate)
    with server.client() as client:
        first = client.zrange("arq:queue", 0, 0)[0]
        client.zincrby("arq:queue", -600_000, first)
    with opened(EXPORTER, {"kind": "arq", "url": server.url, "queues": ["mails"]}) as target:
        assert queues_in(target) == {"arq:queue", "mails"}
        waiting = figures(target, "arq:queue")
        assert (waiting["length"], waiting["delayed"], waiting["in_flight"]) == (10, 1, 0)
        assert 600 <= waiting["oldest_message_age_seconds"] < 900
        assert waiting["oldest_message_age_exact"] == 1
        with worker(tmp_path, ["arq", "shop.WorkerSettings"], python=_PYTHON) as running:
            held = eventually(target, "arq:queue", lambda found: found["in_flight"] == 2)
            assert held["length"] == 8
            assert held["oldest_message_age_seconds"] < 600, "the oldest job runs"
            running.kill()
        killed = figures(target, "arq:queue")
        assert killed["length"] + killed["in_flight"] == 10
        with server.client() as client:  # arq waits minutes for the jobs of a killed worker
            client.delete(*client.keys("arq:in-progress:*"))
        gate.touch()
        with worker(tmp_path, ["arq", "shop.WorkerSettings"], python=_PYTHON):
            drained = eventually(target, "arq:queue", lambda found: found["length"] == found["in_flight"] == 0)
        assert (drained["delayed"], drained["oldest_message_age_seconds"]) == (1, 0)
        send(tmp_path, gate, "mails")
        assert figures(target, "mails")["length"] == 10


def test_check_lists_queues_and_missing_rights(server: RedisServer, tmp_path: Path) -> None:
    send(tmp_path, tmp_path / "go")
    settings = {"kind": "arq", "url": server.url, "username": "monitor", "password": "secret"}
    with server.client() as client, opened(EXPORTER, settings) as target:
        client.execute_command("ACL", "SETUSER", "monitor", "on", ">secret", "~*", "+scan", "+zcount")
        remedies = [it.remedy for it in EXPORTER.check(target.settings)]
        assert "ACL SETUSER monitor +zrange +exists" in remedies
        client.execute_command("ACL", "SETUSER", "monitor", "+zrange", "+exists")
        assert [it.what for it in EXPORTER.check(target.settings)] == ["arq queues: arq:queue"]
