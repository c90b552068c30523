"""Applications under uWSGI, which forks its workers without Python's hooks unless threads are enabled."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from databases import redis_server
from sdk.web_apps import value
from services import ROOT, agent, fetch, free_port, running, until

FOLDER = Path(sys.prefix) / "uwsgi"
REQUESTS = 200

SHOP = """
import os
import redis
import deckwatch
from flask import Flask

orders = deckwatch.counter("shop_orders_total", "Orders.")
orders.inc()  # with --master, before the fork
deckwatch.instrument()
cache = redis.Redis(port=int(os.environ["REDIS_PORT"]))
app = Flask("shop")
app.add_url_rule("/ready", "ready", lambda: "ok")

@app.route("/order")
def order():
    orders.inc()
    cache.incr("orders")
    return str(os.getpid())

app.wsgi_app = deckwatch.WsgiMiddleware(app.wsgi_app)
"""


@pytest.mark.skipif(
    not (FOLDER / ".installed").exists(), reason="uWSGI is not installed: make services (it needs a C compiler)"
)
@pytest.mark.parametrize(
    ("options", "imports"),
    [
        (("--processes", "3"), 1),
        (("--processes", "3", "--master"), 1),
        (("--processes", "3", "--master", "--lazy-apps"), 3),
        (("--processes", "2", "--master", "--threads", "4"), 1),
    ],
    ids=["plain", "loaded before the fork", "loaded in each worker", "threads"],
)
def test_requests_calls_and_counts_of_all_workers_are_exact(
    options: tuple[str, ...], imports: int, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    port, apps = free_port(), tmp_path / "apps"
    command = [str(FOLDER / "bin" / "uwsgi"), "--http-socket", f"127.0.0.1:{port}", "--module", "shop:app"]
    command += ["--virtualenv", str(FOLDER), "--die-on-term", "--need-app", *options]
    environ = {"DECKWATCH_APP_DIR": str(apps), "DECKWATCH_SERVICE": "shop", "PYTHONPATH": str(ROOT / "agent")}
    with (
        redis_server(tmp_path) as redis,
        running(
            command,
            f"http://127.0.0.1:{port}",
            "/ready",
            tmp_path / "uwsgi.log",
            {**environ, "REDIS_PORT": str(redis.port)},
            tmp_path,
        ) as shop,
        agent(tmp_path, f"interval: 1s\nexporters:\n  apps: {{dir: {apps}}}\n") as program,
    ):
        for _ in range(REQUESTS):
            assert fetch(f"{shop.url}/order")[0] == 200, shop.printed

        def counts() -> tuple[float, float, float]:
            text = program.metrics()
            calls = [it for it in text.splitlines() if it.startswith("cache_operation_duration_seconds_count{")]
            requests = {"service": "shop", "method": "GET", "route": "/order", "status": "200"}
            return (
                value(text, "shop_orders_total", service="shop"),
                value(text, "http_requests_total", **requests),
                sum(float(it.rsplit(" ", 1)[1]) for it in calls),
            )

        until(lambda: min(counts()) >= REQUESTS, what="all requests counted")
        assert counts() == (REQUESTS + imports, REQUESTS, REQUESTS), shop.printed
