"""`deckwatch.instrument()` in applications of FastAPI, Flask and Django, whose servers fork their workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from databases import redis_server
from sdk.dependency_apps import IS_INSTALLED, MISSING, PYTHON
from services import ROOT, agent, free_port, running, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason=MISSING)

_BEGIN = """
import os
import redis
import deckwatch

cache = redis.Redis(port=int(os.environ["REDIS_PORT"]))
"""
_FASTAPI = """
from fastapi import FastAPI

deckwatch.instrument()
app = FastAPI()
app.get("/ready")(lambda: "ok")
app.get("/page")(lambda: cache.incr("pages"))
"""
_FLASK = """
from flask import Flask

deckwatch.instrument()
app = Flask("shop")
app.add_url_rule("/ready", "ready", lambda: "ok")
app.add_url_rule("/page", "page", lambda: str(cache.incr("pages")))
"""
_DJANGO = """
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF="shop", SECRET_KEY="of a test")
deckwatch.instrument()
django.setup()
urlpatterns = [
    path("ready", lambda request: HttpResponse("ok")),
    path("page", lambda request: HttpResponse(cache.incr("pages"))),
]

from django.core.wsgi import get_wsgi_application

app = get_wsgi_application()
"""
_GUNICORN = ("gunicorn", "shop:app", "--bind", "127.0.0.1:{port}", "--workers", "2")


@pytest.mark.parametrize(
    ("code", "command"),
    [
        (_FASTAPI, ("uvicorn", "shop:app", "--port", "{port}", "--workers", "2")),
        (_FLASK, _GUNICORN),
        (_FLASK, (*_GUNICORN, "--preload", "--max-requests", "10")),
        (_DJANGO, (*_GUNICORN, "--preload")),
    ],
    ids=["FastAPI", "Flask", "Flask, loaded before the fork, recycled", "Django, loaded before the fork"],
)
def test_calls_of_all_workers_are_counted(code: str, command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(_BEGIN + code)
    port, apps = free_port(), tmp_path / "apps"
    arguments = [PYTHON, "-W", "ignore", "-m", *(it.replace("{port}", str(port)) for it in command)]
    environ = {"DECKWATCH_APP_DIR": str(apps), "DECKWATCH_SERVICE": "shop", "PYTHONPATH": str(ROOT / "agent")}
    url = f"http://127.0.0.1:{port}"
    with (
        redis_server(tmp_path) as redis,
        running(
            arguments, url, "/ready", tmp_path / "web.log", {**environ, "REDIS_PORT": str(redis.port)}, tmp_path
        ) as web,
        agent(tmp_path, f"interval: 1s\nexporters:\n  apps: {{dir: {apps}}}\n") as program,
    ):
        for number in range(60):
            answer = httpx.get(f"{url}/page", timeout=60)
            assert (answer.status_code, answer.text) == (200, str(number + 1)), web.printed

        def counted() -> float:
            found = [line for line in program.metrics().splitlines() if line.startswith("cache_operation_duration_")]
            return sum(float(line.rsplit(" ", 1)[1]) for line in found if "_count{" in line and 'operation="in' in line)

        until(lambda: counted() == 60, what="all calls")
