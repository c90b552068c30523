"""Queue libraries on Redis, each with its real producers and workers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from databases import RedisServer, redis_server
from deckwatch.testing import Opened, opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.programs import run_python, worker
from exporters.queues.support import eventually, figures, queues_in
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAIT = """
import os, time

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.05)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "waiting.py").write_text(_WAIT)
    with redis_server(tmp_path) as running:
        yield running


_DRAMATIQ = """
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from waiting import wait_for
dramatiq.set_broker(RedisBroker(url={url!r}))

@dramatiq.actor(queue_name="mail", max_retries=0)
def wait(path):
    wait_for(path)

@dramatiq.actor(queue_name="mail", max_retries=0)
def fail():
    raise ValueError("as intended")
"""


def test_dramatiq_values_are_correct(server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(_DRAMATIQ.format(url=server.url))
    gate = tmp_path / "go"
    with opened(EXPORTER, {"kind": "dramatiq", "url": server.url}) as target:
        assert queues_in(target) == set()
        waits = f"[wait.send({str(gate)!r}) for _ in range(10)]"
        run_python(
            tmp_path, f"from shop import *\n{waits}\nfail.send()\nwait.send_with_options(args=('/',), delay=3600_000)"
        )
        waiting = figures_once_found(server, "dramatiq", "mail")
        assert (waiting["length"], waiting["delayed"], waiting["in_flight"], waiting["dead"]) == (11, 1, 0, 0)
        assert waiting["oldest_message_age_exact"] == 1
        assert waiting["oldest_message_age_seconds"] < 300
    command = ["dramatiq", "shop", "--processes", "1", "--threads", "1"]
    with opened(EXPORTER, {"kind": "dramatiq", "url": server.url, "queues": ["mail"]}) as target:
        with worker(tmp_path, command) as running:
            # A message that is fetched between the two commands of a run counts twice.
            eventually(target, "mail", lambda it: it["in_flight"] > 0 and it["length"] + it["in_flight"] == 11)
            eventually(target, "mail", lambda found: found["delayed"] == 1 and found["in_flight"] > 0)
            running.kill()
        killed = figures(target, "mail")
        assert killed["length"] + killed["in_flight"] == 11
        gate.touch()
        with worker(tmp_path, command):
            drained = eventually(target, "mail", lambda found: found["length"] == 0 and found["dead"] == 1)
        assert drained["oldest_message_age_seconds"] == 0


def figures_once_found(server: RedisServer, kind: str, queue: str) -> dict[str, float]:
    """Return the values in a new agent, which discovers the current queues."""
    with opened(EXPORTER, {"kind": kind, "url": server.url}) as target:
        return figures(target, queue)


_SAQ = """
import asyncio
from saq import Queue
from waiting import wait_for
queue = Queue.from_url({url!r}, name="mail")

async def wait(ctx, *, path):
    await asyncio.to_thread(wait_for, path)

settings = {{"queue": queue, "functions": [wait], "concurrency": 1}}

async def show():
    print(await queue.count("queued"), await queue.count("active"))
    await queue.disconnect()

async def send(path, later=0):
    for _ in range(5):
        await queue.enqueue("wait", path=path, timeout=0)
    if later:
        await queue.enqueue("wait", path=path, scheduled=later)
    await queue.disconnect()
"""


def saq_counts(target: Opened) -> list[str]:
    found = figures(target, "mail")
    return [f"{found[name]:.0f}" for name in ("length", "in_flight")]


def test_saq_values_are_correct(server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(_SAQ.format(url=server.url))
    gate = tmp_path / "go"
    run_python(tmp_path, f"from shop import *\nimport time\nasyncio.run(send({str(gate)!r}, int(time.time()) + 3600))")
    waiting = figures_once_found(server, "saq", "mail")
    assert (waiting["length"], waiting["delayed"], waiting["in_flight"], waiting["consumers"]) == (5, 1, 0, 0)
    assert (waiting["oldest_message_age_exact"], waiting["oldest_message_age_seconds"] < 300) == (1, True)
    with opened(EXPORTER, {"kind": "saq", "url": server.url}) as target, worker(tmp_path, ["saq", "shop.settings"]):
        eventually(target, "mail", lambda found: found["in_flight"] > 0 and found["consumers"] == 1)
        # A worker's first sweep may mistake a just fetched job for an abandoned one, so compare with SAQ's counts.
        until(lambda: saq_counts(target) == run_python(tmp_path, "from shop import *\nasyncio.run(show())").split())
        gate.touch()
        drained = eventually(target, "mail", lambda found: found["length"] == 0 and found["in_flight"] == 0)
    assert drained["delayed"] == 1


_HUEY = """
from huey import RedisHuey, PriorityRedisHuey
plain = RedisHuey("plain", url={url!r})
ordered = PriorityRedisHuey("ordered", url={url!r})

@plain.task()
def one(): pass

@ordered.task()
def two(): pass
"""


def test_huey_values_are_correct(server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(_HUEY.format(url=server.url))
    run_python(tmp_path, "from shop import *\n[(one(), two(priority=n)) for n in range(3)]")
    with opened(EXPORTER, {"kind": "huey", "url": server.url, "queues": ["plain"]}) as target:
        collected = target.collect()
        assert collected.value("queue_length", queue="plain") == 3
        assert collected.value("queue_oldest_message_age_exact", queue="plain") == 0
        assert "LLEN huey.redis.ordered" in collected.malformed, "a sorted set needs priorities: true"
    with server.client() as client:
        client.zadd("huey.schedule.ordered", {"task": 4e9})
        client.delete("huey.redis.plain")
    with opened(EXPORTER, {"kind": "huey", "url": server.url, "priorities": True}) as target:
        found = figures(target, "ordered")
    assert (found["length"], found["delayed"]) == (3, 1)
    assert "oldest_message_age_seconds" not in found


_BULLMQ = """
const { Queue, Worker } = require("bullmq");
const fs = require("fs");
const connection = { host: "127.0.0.1", port: PORT };
const queue = new Queue("mail", { connection });
(async () => {
  if (process.argv[2] === "send") {
    for (let n = 0; n < 4; n++) await queue.add("wait", { n });
    await queue.add("first", {}, { priority: 5 });
    await queue.add("later", {}, { delay: 3600000 });
    await queue.add("fail", {});
    await queue.close();
  } else {
    new Worker("mail", async (job) => {
      if (job.name === "fail") throw new Error("as intended");
      while (!fs.existsSync(process.argv[3])) await new Promise((done) => setTimeout(done, 50));
    }, { connection });
  }
})();
"""


def _bullmq() -> Path:
    modules = Path(sys.prefix, "bullmq", "node_modules")
    if not shutil.which("node") or not (modules / "bullmq").is_dir():
        pytest.skip("BullMQ is not installed; tests/install-npm.sh installs it where there is npm")
    return modules


def test_bullmq_values_are_correct(server: RedisServer, tmp_path: Path) -> None:
    environ = {"NODE_PATH": str(_bullmq()), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    script, gate = tmp_path / "mail.js", tmp_path / "go"
    script.write_text(_BULLMQ.replace("PORT", str(server.port)))
    subprocess.run(["node", script, "send"], env=environ, check=True, timeout=120)
    with opened(EXPORTER, {"kind": "bullmq", "url": server.url}) as target:
        waiting = figures(target, "mail")
        assert (waiting["length"], waiting["delayed"], waiting["in_flight"], waiting["dead"]) == (6, 1, 0, 0)
        assert (waiting["oldest_message_age_exact"], waiting["oldest_message_age_seconds"] < 300) == (1, True)
        process = subprocess.Popen(["node", script, "work", gate], env=environ)
        try:
            assert eventually(target, "mail", lambda found: found["in_flight"] == 1)["length"] == 5
            gate.touch()
            until(lambda: figures(target, "mail")["dead"] == 1)
            drained = eventually(target, "mail", lambda found: found["in_flight"] == 0)
        finally:
            process.kill()
            process.wait()
    assert (drained["length"], drained["delayed"]) == (0, 1)
