"""Health checks and their endpoints in real FastAPI, Flask and Django applications, read by an agent."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from sdk.web_apps import IS_INSTALLED, Shop, serving, value
from services import fetch, free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason="FastAPI, Flask and Django are not installed: make services")

CHECKS = """
import asyncio, os, socket, time
from pathlib import Path
from deckwatch import health

def store():
    socket.create_connection(("127.0.0.1", int(os.environ["STORE_PORT"])), 1).close()

async def cache():
    await asyncio.sleep(60 if Path("slow").exists() else 0)

def mailer():
    if Path("slow").exists():
        time.sleep(60)
    return not Path("broken").exists()

def leaky():
    if Path("broken").exists():
        raise OSError("cannot connect to redis://user:secret@127.0.0.1/0")

health.register("store", store, cache_seconds=0)
health.register("cache", cache, timeout=0.2, cache_seconds=0, critical=False)
health.register("mailer", mailer, timeout=0.2, cache_seconds=0, critical=False)
health.register("leaky", leaky, cache_seconds=0, critical=False)
"""
FASTAPI = """
import checks, deckwatch, lines, time
from fastapi import FastAPI

app = FastAPI()
app.add_middleware(deckwatch.AsgiMiddleware, slow_request_seconds=0.05)
app.add_route("/health{rest:path}", deckwatch.health.asgi_app())

@app.get("/ready")
def ready():
    return True

@app.get("/slow")
def slow():
    time.sleep(0.1)
"""
FLASK = """
import checks, deckwatch, lines, time
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

app = Flask("shop")
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/health": deckwatch.health.wsgi_app()})
app.wsgi_app = deckwatch.WsgiMiddleware(app.wsgi_app, slow_request_seconds=0.05)

@app.get("/ready")
def ready():
    return "ready"

@app.get("/slow")
def slow():
    time.sleep(0.1)
    return ""
"""
DJANGO = """
import checks, deckwatch, lines, time
from django.conf import settings
settings.configure(
    ROOT_URLCONF="shop", SECRET_KEY="tests only", ALLOWED_HOSTS=["*"], MIDDLEWARE=["deckwatch.DjangoMiddleware"],
    DECKWATCH_SLOW_REQUEST_SECONDS=0.05,
)
import django
django.setup()
from django.http import HttpResponse
from django.urls import include, path

def slow(request):
    time.sleep(0.1)
    return HttpResponse("")

urlpatterns = [
    path("", include(deckwatch.health.urlpatterns)),
    path("ready", lambda request: HttpResponse("ready")),
    path("slow", slow),
]
from django.core.wsgi import get_wsgi_application
app = get_wsgi_application()
"""
_GUNICORN = ("gunicorn", "shop:app", "--bind", "127.0.0.1:{port}", "--threads", "4")
APPS = {
    "fastapi": (FASTAPI, ("uvicorn", "shop:app", "--port", "{port}")),
    "flask": (FLASK, _GUNICORN),
    "django": (DJANGO, _GUNICORN),
}
STORE = free_port()


@pytest.fixture(scope="module", params=APPS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp(request.param)
    code, command = APPS[request.param]
    (folder / "shop.py").write_text(code)
    (folder / "checks.py").write_text(CHECKS)
    with serving(folder, *command, STORE_PORT=str(STORE)) as running:
        yield running


@pytest.fixture
def store() -> Iterator[None]:
    with closing(socket.create_server(("127.0.0.1", STORE))):
        yield


def asked(shop: Shop, endpoint: str = "") -> tuple[int, Any]:
    status, body = fetch(f"{shop.web.url}/health{endpoint}")
    return status, json.loads(body)


@pytest.mark.usefixtures("store")
def test_an_application_with_working_dependencies_is_ok(shop: Shop) -> None:
    assert asked(shop) == (200, {"status": "ok", "failing": []})
    assert asked(shop, "/readiness")[0] == 200
    status, detailed = asked(shop, "/detailed")
    assert (status, detailed["status"]) == (200, "ok")
    assert [it["name"] for it in detailed["checks"]] == ["store", "cache", "mailer", "leaky"]


def test_a_critical_check_that_fails_makes_the_application_not_ready_but_alive(shop: Shop) -> None:
    assert asked(shop) == (503, {"status": "failing", "failing": ["store"]})
    assert asked(shop, "/readiness")[0] == 503
    assert asked(shop, "/liveness") == (200, {"status": "ok"})
    status, dependencies = asked(shop, "/dependencies")
    assert status == 200
    assert dependencies[0]["error"].startswith("ConnectionRefusedError")

    def failing() -> bool:
        labels = {"service": "shop", "check": "store", "critical": "true"}
        text = shop.metrics()
        return "health_check_success{" in text and value(text, "health_check_success", **labels) == 0

    until(failing, what="the failing check as a metric")
    text = shop.metrics()
    assert value(text, "health_check_success", service="shop", check="cache", critical="false") == 1
    assert value(text, "health_check_last_run_timestamp_seconds", service="shop", check="cache", critical="false") > 0


@pytest.mark.usefixtures("store")
def test_checks_that_hang_time_out_and_checks_that_fail_do_not_leak_passwords(shop: Shop) -> None:
    folder = shop.web.output.parent
    (folder / "broken").touch()
    status, body = asked(shop)
    assert (status, body) == (200, {"status": "degraded", "failing": ["mailer", "leaky"]})
    errors = {it["name"]: it["error"] for it in asked(shop, "/dependencies")[1]}
    assert errors["leaky"] == "OSError: cannot connect to redis://user:***@127.0.0.1/0"
    (folder / "broken").unlink()

    (folder / "slow").touch()
    errors = {it["name"]: it["error"] for it in asked(shop, "/dependencies")[1]}
    (folder / "slow").unlink()
    assert errors == {
        "store": None,
        "cache": "timed out after 0.2 s",
        "mailer": "timed out after 0.2 s",
        "leaky": None,
    }


def test_requests_and_slow_requests_of_the_process_are_listed(shop: Shop) -> None:
    assert fetch(f"{shop.web.url}/slow")[0] == 200
    (slow,) = [it for it in asked(shop, "/slow-requests?threshold=0.1")[1] if it["route"] == "/slow"]
    assert slow["status"] == 200
    assert not [it for it in asked(shop, "/slow-requests?threshold=60")[1] if it["route"] == "/slow"]
    assert asked(shop, "/slow-requests?threshold=slow")[0] == 400
    assert asked(shop, "/metrics")[1]["requests"]["2xx"] >= 1


def test_unknown_endpoints_are_not_found(shop: Shop) -> None:
    assert asked(shop, "/nothing") == (404, {"error": "no such endpoint"})
