"""An application that exports every metric of the library, under load."""

from __future__ import annotations

import contextlib
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from services import free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_APP = """
import asyncio, os
import deckwatch
from deckwatch import health
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

deckwatch.setup_logging(file=os.environ["APP_LOG"])
health.register("store", lambda: True, cache_seconds=0)
health.register("mailer", lambda: False, cache_seconds=0, critical=False)

async def order(request):
    deckwatch.event("order_placed", order=request.path_params["order"])
    return PlainTextResponse("ordered")

async def slow(request):
    await asyncio.sleep(0.15)
    return PlainTextResponse("late")

async def broken(request):
    raise KeyError("order")

async def upload(request):
    return PlainTextResponse(str(len(await request.body())))

async def endless(request):
    async def numbers():
        while True:
            yield b"1"
            await asyncio.sleep(0.01)
    return StreamingResponse(numbers())

async def job(request):
    for fails in (False, True):
        try:
            with deckwatch.job("import", total=2, every=3600) as running:
                running.advance()
                running.advance(failed=1)
                if fails:
                    raise ValueError("import")
        except ValueError:
            pass
    return PlainTextResponse("done")

routes = [
    Route("/orders/{order}", order, methods=["GET", "POST"]),
    Route("/slow", slow),
    Route("/broken", broken),
    Route("/upload", upload, methods=["POST"]),
    Route("/endless", endless),
    Route("/job", job),
    Route("/health{rest:path}", health.asgi_app()),
]
app = Starlette(routes=routes)
app.add_middleware(deckwatch.AsgiMiddleware, slow_request_seconds=0.1)
"""


@contextlib.contextmanager
def application(folder: Path) -> Iterator[str]:
    """Run it with its metrics in `folder`/apps and its log in `folder`/application.json. Yields its URL."""
    (folder / "application.py").write_text(_APP)
    port = free_port()
    environ = {
        "DECKWATCH_APP_DIR": str(folder / "apps"),
        "DECKWATCH_SERVICE": "orders",
        "APP_LOG": str(folder / "application.json"),
    }
    command = [sys.executable, "-m", "uvicorn", "application:app", "--port", str(port), "--log-level", "critical"]
    url = f"http://127.0.0.1:{port}"
    with running(command, url, "/health", folder / "application.log", environ, folder):
        yield url


def use(url: str) -> None:
    for number in range(5):
        _request(f"{url}/orders/{number}")
    _request(f"{url}/upload", b"x" * 2000)
    for path in ("/slow", "/broken", "/none", "/health/detailed", "/job"):
        _request(url + path)
    with urllib.request.urlopen(f"{url}/endless", timeout=30) as response:
        response.read(1)


def _request(url: str, body: bytes | None = None) -> None:
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(url, body, timeout=30) as response:
        response.read()
