"""`/metrics` served by an application."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
import asyncio
from deckwatch import asgi_app, counter, wsgi_app
counter("orders_total", "Orders.").inc(3)
sent = []
async def receive():
    return {"type": "http.request"}
async def send(message):
    sent.append(message)
scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": [], "query_string": b""}
asyncio.run(asgi_app()(scope, receive, send))
print(sent[-1]["body"].decode())
environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": ""}
print(b"".join(wsgi_app()(environ, lambda status, headers: None)).decode())
"""


def served(**environ: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return process.stdout


def test_an_application_serves_its_metrics_by_asgi_and_wsgi() -> None:
    assert served().count("\norders_total 3.0\n") == 2


def test_in_several_processes_it_serves_those_of_all(tmp_path: Path) -> None:
    environ = {"DECKWATCH_APP_DIR": str(tmp_path), "DECKWATCH_SERVICE": "shop"}
    served(**environ)

    assert served(**environ).count("\norders_total 6.0\n") == 2
