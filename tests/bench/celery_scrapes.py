"""How long scrapes of a Celery with a worker take, at rest and while its broker hangs, beside celery-exporter."""

from __future__ import annotations

import contextlib
import json
import math
import time
from typing import TYPE_CHECKING

from bench.measure import Scraper, quantile
from databases import redis_server
from exporters.queues.celery_events import celery_worker, write_app
from peers.celery_exporter import COMMAND, celery_exporter
from services import agent, until

if TYPE_CHECKING:
    from pathlib import Path

    from services import Program

_SCRAPES = 40
_PAUSE = 0.5  # seconds
_HUNG_SCRAPES = 5  # of celery-exporter, which answers none


def celery_scrapes(folder: Path) -> list[tuple[str, ...]]:
    target = {"name": "tasks", "kind": "celery", "events": True, "ask_workers": True, "timeout": "2s"}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(redis_server(folder))
        write_app(folder, server.url)
        stack.enter_context(celery_worker(folder))
        config = {"interval": "1s", "exporters": {"queues": [{**target, "url": server.url}]}}
        ours = stack.enter_context(agent(folder, json.dumps(config)))
        peer = stack.enter_context(celery_exporter(folder, server.url)) if COMMAND else None
        until(lambda: "celery_active_worker_count{" in ours.metrics(), what="the worker")
        at_rest = [_latencies(it, _SCRAPES) if it else [] for it in (ours, peer)]
        server.freeze()
        try:
            hung = [_latencies(ours, _SCRAPES), _latencies(peer, _HUNG_SCRAPES) if peer else []]
        finally:
            server.thaw()
    return [
        ("scrape at rest, p50", *(_shown(it, 0.5) for it in at_rest)),
        ("scrape at rest, p99", *(_shown(it, 0.99) for it in at_rest)),
        ("scrape while the broker hangs, p50", *(_shown(it, 0.5) for it in hung)),
        ("scrape while the broker hangs, p99", *(_shown(it, 0.99) for it in hung)),
    ]


def _latencies(program: Program, scrapes: int) -> list[float]:
    """Milliseconds of each scrape; infinity for one without an answer."""
    scraper = Scraper(int(program.url.rpartition(":")[2]))
    found = []
    for _ in range(scrapes):
        began = time.perf_counter()
        try:
            scraper.scrape()
            found.append((time.perf_counter() - began) * 1000)
        except OSError:  # a timeout, or the connection is closed
            found.append(math.inf)
            scraper = Scraper(int(program.url.rpartition(":")[2]))
        time.sleep(_PAUSE)
    return found


def _shown(milliseconds: list[float], level: float) -> str:
    if not milliseconds:
        return "not installed"
    found = quantile(milliseconds, level)
    return "no answer" if math.isinf(found) else f"{found:.1f} ms"
