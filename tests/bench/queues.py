"""Celery's events for each CPU-second of the agent and at a fixed rate, and the cost of many queues, with a real Redis.

celery-exporter gets the same events if CELERY_EXPORTER is its command.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import time
import uuid
from typing import TYPE_CHECKING

from bench.measure import cpu_seconds, resident_bytes
from databases import RedisServer, redis_server
from peers.celery_exporter import COMMAND, celery_exporter
from services import Program, agent, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASKS = 100_000
QUEUES = 1000
_RUNS = 20  # of a second each
_RATE = 10_000  # events per second
_SECONDS = 20
_COUNTED = re.compile(r"^celery_task_(?:sent|received|started|succeeded)_total\{[^}]*\} (.+)$", re.MULTILINE)
_IN_A_MESSAGE = 8  # tasks; a worker groups the events of a second
_IN_FLIGHT = 200  # messages published and not received yet: Redis drops clients with more than 32 MB


def queues(folder: Path) -> list[tuple[str, ...]]:
    with redis_server(folder) as server:
        return [
            _celery_events(folder / "events", server),
            *_at_a_fixed_rate(folder / "rate", server),
            _many_queues(folder / "many", server),
        ]


def _many_queues(folder: Path, server: RedisServer) -> tuple[str, ...]:
    """The CPU time of a run that reads QUEUES queues with messages."""
    folder.mkdir()
    with server.client() as client, client.pipeline() as pipeline:
        for number in range(QUEUES):
            pipeline.sadd(f"_kombu.binding.q{number}", f"q{number}\x06\x16\x06\x16q{number}")
            pipeline.lpush(f"q{number}", "{}")
        pipeline.execute()
    target = {"name": "tasks", "kind": "celery", "url": server.url, "max_series": 20_000}
    with agent(folder, json.dumps({"interval": "1s", "exporters": {"queues": [target]}})) as ours:
        until(lambda: ours.metrics().count("\nqueue_length{") == QUEUES, what="all queues")
        before = cpu_seconds(ours.process.pid)
        time.sleep(_RUNS)
        used = (cpu_seconds(ours.process.pid) - before) / _RUNS
        memory = resident_bytes(ours.process.pid) / 1e6
    return f"CPU of a run with {QUEUES} Celery queues", f"{used * 1000:.0f} ms", f"{memory:.0f} MB", "-"


def _celery_events(folder: Path, server: RedisServer) -> tuple[str, ...]:
    folder.mkdir()
    target = {"name": "tasks", "kind": "celery", "url": server.url, "events": True}
    with (
        server.client() as client,
        agent(folder, json.dumps({"interval": "1s", "exporters": {"queues": [target]}})) as ours,
    ):
        until(lambda: _value(ours, "celery_events_connected") == 1, what="the subscription")
        before, published = cpu_seconds(ours.process.pid), 0
        for number, (events, message) in enumerate(_messages()):
            client.publish("/0.celeryev/task.multi", message)
            published += events
            if number % _IN_FLIGHT == 0:
                until(lambda: _backlog(client) == 0, what="the events being read")
        until(lambda: _value(ours, "celery_events_received_total") == published, what="all events")
        used = cpu_seconds(ours.process.pid) - before
        memory = resident_bytes(ours.process.pid) / 1e6
    return "Celery events for each CPU-second", f"{published / used:.0f}", f"{memory:.0f} MB", f"{published}"


def _at_a_fixed_rate(folder: Path, server: RedisServer) -> Iterator[tuple[str, ...]]:
    """The share of a core that _RATE events a second need, and how many of them are not counted; then the peer's."""
    folder.mkdir()
    target = {"name": "tasks", "kind": "celery", "url": server.url, "events": True}
    with agent(folder, json.dumps({"interval": "1s", "exporters": {"queues": [target]}})) as ours:
        yield _paced(ours, server, f"Core used by {_RATE} Celery events a second")
    if not COMMAND:
        yield "The same by celery-exporter", "not installed", "-", "-"
        return
    # Without the flag it ends when Redis drops it, because it does not read fast enough.
    with celery_exporter(folder, server.url, "--retry-interval=1") as peer:
        yield _paced(peer, server, "The same by celery-exporter")


def _paced(program: Program, server: RedisServer, title: str) -> tuple[str, ...]:
    with server.client() as client:
        until(lambda: client.pubsub_numpat() > 0, what="the subscription")
        before, began, published = cpu_seconds(program.process.pid), time.monotonic(), 0
        for events, message in itertools.chain.from_iterable(_messages() for _ in itertools.count()):
            client.publish("/0.celeryev/task.multi", message)
            published += events
            ahead = published / _RATE - (time.monotonic() - began)
            if ahead > 0.01:
                time.sleep(ahead)
            if published >= _RATE * _SECONDS:
                break
        seconds = time.monotonic() - began
        until(lambda: _backlog(client) == 0, what="the events being read")
        counted = _settled(program)
    used = (cpu_seconds(program.process.pid) - before) / seconds
    memory = resident_bytes(program.process.pid) / 1e6
    lost = f"{published - counted:.0f} of {published} lost, at {published / seconds:.0f} a second"
    return title, f"{used:.0%}", f"{memory:.0f} MB", lost


def _settled(program: Program) -> float:
    """The number of events that are counted, when it no longer grows."""
    counted, previous = -1.0, -2.0
    while counted != previous:
        time.sleep(3)  # longer than a run, and than the peer's scrape
        previous, counted = counted, sum(float(it) for it in _COUNTED.findall(program.metrics()))
    return counted


def _backlog(client: object) -> int:
    clients = client.client_list(_type="pubsub")  # type: ignore[attr-defined]  # redis-py
    return sum(int(it["omem"]) for it in clients)


def _value(program: Program, name: str) -> float:
    found = [line for line in program.metrics().splitlines() if line.startswith(f"{name}{{")]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


def _messages() -> Iterator[tuple[int, str]]:
    """Messages of producers, with one event, and of workers, with several, as Celery writes them; how many events."""
    clock = 0
    for number in range(TASKS // _IN_A_MESSAGE):
        from_worker: list[dict[str, object]] = []
        for _ in range(_IN_A_MESSAGE):
            clock += 4
            task = {"uuid": str(uuid.uuid4()), "name": f"shop.task{clock // 4 % 20}", "args": "(1, 2)", "kwargs": "{}",
                    "retries": 0, "eta": None, "expires": None}  # fmt: skip
            moment = {"timestamp": time.time(), "utcoffset": 0, "pid": 1, "clock": clock}
            yield 1, _message({"type": "task-sent", "hostname": "gen1@web", "queue": "celery", **task, **moment})
            worker = {"hostname": f"celery@worker-{number % 4}", **moment}
            from_worker += [
                {"type": "task-received", **worker, **task},
                {"type": "task-started", **worker, "uuid": task["uuid"]},
                {"type": "task-succeeded", **worker, "uuid": task["uuid"], "result": "3", "runtime": 0.12},
            ]
        yield len(from_worker), _message(from_worker)


def _message(body: object) -> str:
    return json.dumps({
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "celeryev", "routing_key": "task"},
            "delivery_tag": str(uuid.uuid4()),
        },
    })  # fmt: skip
