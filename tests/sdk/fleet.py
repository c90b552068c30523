"""Applications of six kinds that report to one agent, while their processes are recycled and killed at random.

Processes are killed between two requests or tasks, at any moment of the agent's collection, so that it is known what
they have counted. That no damage is done by a kill within a count is tested in test_shared_memory.py.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import redis

from databases import redis_server
from sdk.web_apps import PYTHON
from services import ROOT, Program, agent, free_port, running, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

CLIENTS = 4
WORKERS = 4
_FILES_OF_THE_AGENT = 3  # its lock, the archive, and its replacement

_ORDERED = "shop_orders_total"
_ORDERS = f'orders = deckwatch.counter("{_ORDERED}", "Orders.", ["kind"])\n'
_FASTAPI = f"""
import deckwatch
from fastapi import FastAPI
{_ORDERS}
app = FastAPI()
app.add_middleware(deckwatch.AsgiMiddleware)
app.get("/ready")(lambda: "ok")

@app.get("/order/{{kind}}")
async def order(kind: str):
    orders.labels(kind).inc()
    return kind
"""
_FLASK = f"""
import deckwatch
from flask import Flask
{_ORDERS}
app = Flask("shop")
app.wsgi_app = deckwatch.WsgiMiddleware(app.wsgi_app)
app.add_url_rule("/ready", "ready", lambda: "ok")

@app.route("/order/<kind>")
def order(kind):
    orders.labels(kind).inc()
    return kind
"""
_DJANGO = f"""
import deckwatch
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
{_ORDERS}
settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF="django_shop", SECRET_KEY="of a test", MIDDLEWARE=["deckwatch.DjangoMiddleware"]
)

def order(request, kind):
    orders.labels(kind).inc()
    return HttpResponse(kind)

urlpatterns = [path("ready", lambda request: HttpResponse("ok")), path("order/<kind>", order)]

from django.core.wsgi import get_wsgi_application

app = get_wsgi_application()
"""
_CELERY = f"""
import os
import deckwatch
import redis
from celery import Celery, signals
{_ORDERS}
deckwatch.instrument_celery()
app = Celery("celery_shop", broker=os.environ["REDIS_URL"])
app.conf.broker_connection_retry_on_startup = True
done = redis.Redis.from_url(os.environ["REDIS_URL"])
signals.task_postrun.connect(lambda **_: done.incr("done:celery"), weak=False)  # after Deckwatch's

@app.task
def order(kind):
    orders.labels(kind).inc()
"""
_RQ_JOBS = f"""
import deckwatch
{_ORDERS}
def order(kind):
    orders.labels(kind).inc()
"""
_RQ_SETTINGS = """
import deckwatch
from rq import Worker

deckwatch.instrument_rq()
measured = Worker.perform_job

def perform_job(self, job, queue, *arguments, **options):
    result = measured(self, job, queue, *arguments, **options)
    self.connection.incr("done:rq")
    return result

Worker.perform_job = perform_job
"""
_CRON = f"""
import os, random, signal
import deckwatch
{_ORDERS}
with deckwatch.job("orders", every=86400) as job:
    orders.labels("a").inc()
    job.advance()
if random.random() < 0.3:
    os.kill(os.getpid(), signal.SIGKILL)
"""
_FAILED = re.compile(r'^deckwatch_collector_success\{collector="apps"[^}]*\} 0$', re.MULTILINE)
_GUNICORN = ("--bind", "127.0.0.1:{port}", "--workers", str(WORKERS), "--log-level", "critical")
_WEB: Mapping[str, tuple[str, Sequence[str]]] = {
    "fastapi": (_FASTAPI, ("--worker-class", "uvicorn.workers.UvicornWorker", "--max-requests", "900")),
    "django": (_DJANGO, ("--preload", "--max-requests", "500")),
    "flask": (_FLASK, ("--threads", "2", "--max-requests", "700")),
}


class Watch:
    """Scrapes the agent until it is left, and remembers what must not happen."""

    def __init__(self, program: Program, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._scrape)
        self._last: dict[str, float] = {}
        self.scrapes = 0
        self.failed = 0  # collections, on a machine that is too busy: their series are absent, as for any collector
        self.most_files = 0
        self.falls: list[str] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _scrape(self) -> None:
        while not self._is_over.wait(0.2):
            text = self._program.metrics()
            if _FAILED.search(text):
                self.failed += 1
                continue
            counters = counters_of(text)
            for series, before in self._last.items():
                # The CPU time of a service without processes is not exported, since none can be measured.
                absent = before if series.startswith("process_") else -1.0
                if counters.get(series, absent) < before:
                    self.falls.append(f"{series}: {before} to {counters.get(series)}")
            self._last |= counters
            self.scrapes += 1
            self.most_files = max(self.most_files, *(len(os.listdir(it)) for it in self._folder.iterdir()), 0)


def counters_of(exposition: str) -> dict[str, float]:
    """The counters and the parts of histograms of all services."""
    found = {}
    for line in exposition.splitlines():
        series, _, value = line.rpartition(" ")
        name = series.partition("{")[0]
        if '{service="' in series and name.endswith(("_total", "_count", "_sum", "_bucket")):
            found[series] = float(value)
    return found


class Fleet:
    """The running applications. `sent` counts requests and tasks by service."""

    def __init__(self, folder: Path, redis_url: str, chance: random.Random) -> None:
        self._folder = folder
        self._url = redis_url
        self._redis = redis.Redis.from_url(redis_url)
        self._random = chance
        self._environ = {"DECKWATCH_APP_DIR": str(folder / "apps"), "REDIS_URL": redis_url}
        self.sent: dict[str, int] = {}
        self.kills = 0

    def environ(self, service: str) -> dict[str, str]:
        return {**self._environ, "DECKWATCH_SERVICE": service, "PYTHONPATH": f"{ROOT / 'agent'}:{self._folder}"}

    def web(self, name: str, count: int, batch: int) -> None:
        """Send requests to a web application, and kill one of its workers after each batch."""
        code, options = _WEB[name]
        (self._folder / f"{name}_shop.py").write_text(code)
        port = free_port()
        arguments = [it.replace("{port}", str(port)) for it in _GUNICORN]
        command = [PYTHON, "-W", "ignore", "-m", "gunicorn", f"{name}_shop:app", *arguments, *options]
        log = self._folder / f"{name}.log"
        with (
            running(command, f"http://127.0.0.1:{port}", "/ready", log, self.environ(name), self._folder) as program,
            ThreadPoolExecutor(CLIENTS) as clients,
        ):
            for size in self._batches(count, batch):
                for _ in clients.map(lambda number: _order(port, "abc"[number % 3]), range(size)):
                    self.sent[name] = self.sent.get(name, 0) + 1
                self._kill_one(psutil.Process(program.process.pid).children())

    def celery(self, count: int, batch: int) -> None:
        (self._folder / "celery_shop.py").write_text(_CELERY)
        command = ["celery", "-A", "celery_shop", "worker", "-P", "prefork", "--concurrency", "2"]
        command += ["--max-tasks-per-child", "10", "--loglevel", "critical"]
        send = "import sys, celery_shop\nfor n in range(int(sys.argv[1])): celery_shop.order.delay('abc'[n % 3])"
        with self._worker("celery", command) as worker:
            for size in self._batches(count, batch):
                self._run("celery", send, str(size))
                self._until_done("celery", size)
                self._kill_one([it for it in worker().children() if it.status() != psutil.STATUS_ZOMBIE])

    def rq(self, count: int, batch: int) -> None:
        (self._folder / "rq_jobs.py").write_text(_RQ_JOBS)
        (self._folder / "rq_settings.py").write_text(_RQ_SETTINGS)
        send = (
            "import sys, redis, rq, rq_jobs\n"
            f"queue = rq.Queue('orders', connection=redis.Redis.from_url({self._url!r}))\n"
            "for n in range(int(sys.argv[1])): queue.enqueue(rq_jobs.order, 'abc'[n % 3], result_ttl=0)"
        )
        command = ["rq.cli", "worker", "-c", "rq_settings", "-u", self._url, "--quiet", "orders"]
        for size in self._batches(count, batch):
            with self._worker("rq", command) as worker:
                self._run("rq", send, str(size))
                self._until_done("rq", size)
                self._kill_one([worker()])

    def cron(self, count: int, batch: int) -> None:
        del batch
        for _ in range(count):
            ended = self._run("cron", _CRON, may_be_killed=True)
            self.kills += ended == -signal.SIGKILL
            self.sent["cron"] = self.sent.get("cron", 0) + 1

    def _batches(self, count: int, batch: int) -> Iterator[int]:
        while count > 0:
            size = min(count, self._random.randint(batch // 2, batch))
            yield size
            count -= size

    def _kill_one(self, processes: Sequence[psutil.Process]) -> None:
        """Kill a process that is idle. One that has ended meanwhile has been recycled."""
        with contextlib.suppress(psutil.NoSuchProcess):
            victim = self._random.choice(processes)
            # An ASGI server sends the response before the middleware counts it. Then it waits for the next one.
            until(lambda: victim.status() != psutil.STATUS_RUNNING, what="the worker to be idle")
            victim.kill()
            self.kills += 1

    @contextlib.contextmanager
    def _worker(self, service: str, command: Sequence[str]) -> Iterator[Callable[[], psutil.Process]]:
        with (self._folder / f"{service}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self._folder,
                env={**os.environ, **self.environ(service)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield lambda: psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)

    def _until_done(self, service: str, size: int) -> None:
        self.sent[service] = self.sent.get(service, 0) + size

        def is_done() -> bool:
            return int(self._redis.get(f"done:{service}") or 0) == self.sent[service]

        until(is_done, what=f"all tasks of {service}")

    def _run(self, service: str, code: str, *arguments: str, may_be_killed: bool = False) -> int:
        environ = {**os.environ, **self.environ(service)}
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=self._folder,
            env=environ,
            check=not may_be_killed,
            timeout=240,
        )
        return done.returncode


def _order(port: int, kind: str) -> None:
    """Send a request. It is repeated if a worker ended before it read it; such a request is never counted."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            connection.request("GET", f"/order/{kind}", headers={"Connection": "close"})
            answer = connection.getresponse()
            text = answer.read()
        except (http.client.RemoteDisconnected, ConnectionError):
            continue
        finally:
            connection.close()
        assert answer.status == 200, text
        return


def run_fleet(folder: Path, requests: int, tasks: int, batch: int) -> list[tuple[str, str, str]]:
    """Send requests and tasks to applications of all kinds. Returns what was sent and counted, by service.

    Raises AssertionError if the counts differ, a counter falls, or the folder keeps files of processes that have ended.
    """
    apps = folder / "apps"
    apps.mkdir()
    config = f"interval: 1s\nexporters:\n  apps: {{dir: {apps}}}\n"
    with redis_server(folder) as server, agent(folder, config) as program, Watch(program, apps) as watch:
        chance = random.Random()
        fleet = Fleet(folder, server.url, chance)
        work: list[Callable[[], None]] = [
            lambda: fleet.web("fastapi", requests * 2 // 5, batch),
            lambda: fleet.web("django", requests * 3 // 10, batch),
            lambda: fleet.web("flask", requests * 3 // 10, batch),
            lambda: fleet.celery(tasks * 6 // 10, batch // 2),
            lambda: fleet.rq(tasks * 3 // 10, batch // 2),
            lambda: fleet.cron(tasks // 10, batch),
        ]
        with ThreadPoolExecutor(len(work)) as threads:
            for done in [threads.submit(it) for it in work]:
                done.result()

        def has_counted_all() -> bool:
            text = program.metrics()
            return all(min(counted(text, service).values()) >= sent for service, sent in fleet.sent.items())

        until(has_counted_all, what="all requests and tasks counted")

        def has_cleaned_up() -> bool:
            limit = _FILES_OF_THE_AGENT  # all processes have ended
            return all(len(os.listdir(it)) <= limit for it in apps.iterdir())

        until(has_cleaned_up, what="the files of ended processes removed")
        text = program.metrics()
    assert not watch.falls, watch.falls[:20]
    for service, sent in fleet.sent.items():
        assert set(counted(text, service).values()) == {sent}, (
            f"{service}: {sent} sent, {counted(text, service)} counted"
        )
    rows = [(it, str(sent), f"{counted(text, it)[_ORDERED]:.0f}") for it, sent in sorted(fleet.sent.items())]
    return [
        *rows,
        ("processes killed", str(fleet.kills), ""),
        ("scrapes, falls of a counter", str(watch.scrapes), str(len(watch.falls))),
        ("failed collections", str(watch.failed), ""),
        ("most files of a service", str(watch.most_files), ""),
    ]


def counted(exposition: str, service: str) -> dict[str, float]:
    """What the application and the library have counted, by metric."""
    if service in _WEB:
        names = ["http_requests_total", "http_request_duration_seconds_count"]
        labels = {"route": "/order"}  # the beginning of the route, which each framework writes in another way
    elif service == "cron":
        names, labels = ["job_runs_total", "job_items_done_total"], {}
    else:
        names, labels = ["worker_task_duration_seconds_count"], {}
    found = {name: _sum(exposition, name, service=service, **labels) for name in names}
    return {_ORDERED: _sum(exposition, _ORDERED, service=service), **found}


def _sum(exposition: str, name: str, **labels: str) -> float:
    """The sum of the series of a name with labels that begin with these values."""
    wanted = [f'{label}="{text}' for label, text in labels.items()]
    found = counters_of(exposition).items()
    return sum(
        value for series, value in found if series.startswith(f"{name}{{") and all(it in series for it in wanted)
    )
