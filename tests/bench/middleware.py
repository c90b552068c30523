"""The cost of measuring a request, beside prometheus-fastapi-instrumentator and django-prometheus."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

from sdk.web_apps import IS_INSTALLED, PYTHON
from services import ROOT

if TYPE_CHECKING:
    from pathlib import Path

CALLS = 3000
ROUNDS = 7

FASTAPI = """
import asyncio, json, sys, time
from fastapi import FastAPI

which, calls, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
app = FastAPI()

@app.get("/items/{item}")
async def item(item: int):
    return item

if which == "ours":
    import deckwatch
    app.add_middleware(deckwatch.AsgiMiddleware)
elif which == "theirs":
    from prometheus_fastapi_instrumentator import Instrumentator
    Instrumentator().instrument(app)
scope = {
    "type": "http", "method": "GET", "path": "/items/3", "raw_path": b"/items/3", "root_path": "", "scheme": "http",
    "headers": [(b"host", b"localhost"), (b"accept", b"*/*")], "query_string": b"", "http_version": "1.1",
    "asgi": {"version": "3.0"}, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
}

async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}

async def send(message):
    pass

async def round():
    began = time.process_time()
    for _ in range(calls):
        await app(dict(scope), receive, send)
    return (time.process_time() - began) / calls

async def main():
    print(json.dumps(min([await round() for _ in range(rounds)])))

asyncio.run(main())
"""
DJANGO = """
import io, json, sys, time
from django.conf import settings

which, calls, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
middleware = {
    "none": [],
    "ours": ["deckwatch.DjangoMiddleware"],
    "theirs": [
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ],
}
settings.configure(ROOT_URLCONF="__main__", SECRET_KEY="x", ALLOWED_HOSTS=["*"], MIDDLEWARE=middleware[which])
import django
django.setup()
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("items/<int:item>", lambda request, item: HttpResponse("x"))]
handler = WSGIHandler()
environ = {
    "REQUEST_METHOD": "GET", "PATH_INFO": "/items/3", "SCRIPT_NAME": "", "SERVER_NAME": "localhost",
    "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(),
    "QUERY_STRING": "", "HTTP_HOST": "localhost",
}

def round():
    began = time.process_time()
    for _ in range(calls):
        response = handler(dict(environ), lambda status, headers: None)
        for _ in response:
            pass
        response.close()
    return (time.process_time() - began) / calls

print(json.dumps(min(round() for _ in range(rounds))))
"""


def middleware(folder: Path) -> list[tuple[str, ...]]:
    """Return the CPU time that measuring adds to a request. All write for several processes."""
    if not IS_INSTALLED:
        return []
    rows: list[tuple[str, ...]] = []
    for name, code, peer in (
        ("FastAPI", FASTAPI, "prometheus-fastapi-instrumentator"),
        ("Django", DJANGO, "django-prometheus"),
    ):
        theirs = folder / name
        theirs.mkdir()
        without = _timed(code, "none")
        ours = _timed(code, "ours", DECKWATCH_APP_DIR=str(folder), DECKWATCH_SERVICE="ours") - without
        peers = _timed(code, "theirs", PROMETHEUS_MULTIPROC_DIR=str(theirs)) - without
        rows.append((f"{name}, beside {peer}", f"{ours * 1e6:.1f} µs", f"{peers * 1e6:.1f} µs", f"{ours / peers:.2f}"))
    return rows


def _timed(code: str, which: str, **environ: str) -> float:
    command = [PYTHON, "-c", code, which, str(CALLS), str(ROUNDS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "agent"), **environ}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return float(json.loads(done.stdout))
