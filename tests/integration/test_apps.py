"""Applications with several processes, read by a real agent."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from services import agent, fetch, free_port, running, until

SHOP = """
import os
from deckwatch import counter, gauge, histogram

requests = counter("shop_requests_total", "Requests.", ["path"])
took = histogram("shop_request_seconds", "Duration.", buckets=[0.1, 1])
workers = gauge("shop_workers", "Workers.")


def app(environ, start_response):
    workers.set(1)
    with took.time():
        requests.labels(environ["PATH_INFO"]).inc()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
REQUESTS = 400
WORKERS = 3


def has_ended(process: str) -> bool:
    return not Path("/proc", process).exists()


@pytest.mark.parametrize("preload", [False, True])
def test_recycled_and_killed_gunicorn_workers_lose_no_count_and_no_counter_falls(tmp_path: Path, preload: bool) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    apps = tmp_path / "apps"
    port = free_port()
    # Each worker ends after 40 requests, so that about ten of them come and go. Others are killed.
    command = [sys.executable, "-m", "gunicorn", "shop:app", "--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS)]
    command += ["--max-requests", "40", "--chdir", str(tmp_path), "--worker-tmp-dir", str(tmp_path)]
    command += ["--preload"] if preload else []
    environ = {"DECKWATCH_APP_DIR": str(apps), "DECKWATCH_SERVICE": "shop"}
    config = f"interval: 1s\nexporters:\n  apps: {{dir: {apps}}}\n"
    with (
        agent(tmp_path, config) as program,
        running(command, f"http://127.0.0.1:{port}", "/ready", tmp_path / "gunicorn.log", environ, tmp_path) as shop,
    ):

        def counted() -> float:
            found = re.search(r'^shop_requests_total\{service="shop",path="/order"\} (\S+)$', body(), re.MULTILINE)
            return float(found[1]) if found else 0.0

        def body() -> str:
            return fetch(f"{program.url}/metrics")[1]

        seen: list[float] = []
        is_over = threading.Event()

        def scrape() -> None:
            while not is_over.is_set():
                seen.append(counted())

        scraper = threading.Thread(target=scrape)
        scraper.start()
        try:
            for number in range(REQUESTS):
                status, worker = fetch(f"{shop.url}/order")
                assert status == 200
                if number % 50 == 25:
                    os.kill(int(worker), signal.SIGKILL)
                    until(partial(has_ended, worker), what="the worker has ended")
            until(lambda: counted() == REQUESTS, what="all requests counted")
        finally:
            is_over.set()
            scraper.join()
        text = body()

    assert seen == sorted(seen)
    assert f'shop_request_seconds_count{{service="shop"}} {REQUESTS + 1}' in text  # with that for /ready
    processes = re.search(r'^shop_workers\{service="shop"\} (\S+)$', text, re.MULTILINE)
    assert processes is not None
    assert float(processes[1]) <= WORKERS + 1
    assert len(list((apps / "shop").glob("*.db"))) <= 3 * (WORKERS + 2)
