"""Scrape durations of an authenticated client while other clients guess passwords continuously."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import bcrypt

from bench.measure import quantile
from services import agent

if TYPE_CHECKING:
    from pathlib import Path

SCRAPES = 1000
LOGINS = 10
ATTACKERS = 32

FLOOD = """
import asyncio, base64, sys

async def attack(number):
    tries = 0
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
            while True:
                tries += 1
                token = base64.b64encode(f"alice:{number}-{tries}".encode()).decode()
                head = f"GET /metrics HTTP/1.1\\r\\nHost: localhost\\r\\nAuthorization: Basic {token}\\r\\n\\r\\n"
                writer.write(head.encode())
                await reader.readuntil(b"\\r\\n\\r\\n")
                await asyncio.sleep(0.05)
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.1)

async def main():
    await asyncio.gather(*(attack(number) for number in range(int(sys.argv[2]))))

asyncio.run(main())
"""


def passwords(folder: Path) -> list[tuple[str, ...]]:
    users = {name: f"{name}-secret" for name in ("alice", *(f"user{number}" for number in range(LOGINS)))}
    hashes = {name: bcrypt.hashpw(word.encode(), bcrypt.gensalt(10)).decode() for name, word in users.items()}
    (folder / "web.yml").write_text("")
    with agent(folder, "interval: 15s\nweb_config: web.yml\n") as ours:
        (folder / "web.yml").write_text(  # only now, because the readiness check sends no password
            "basic_auth_users:\n" + "".join(f"  {name}: '{value}'\n" for name, value in hashes.items())
        )
        time.sleep(1.5)  # the file is checked once per second
        port = int(ours.url.rpartition(":")[2])
        _latencies(port, users["alice"])
        quiet = _latencies(port, users["alice"])
        flood = subprocess.Popen([sys.executable, "-c", FLOOD, str(port), str(ATTACKERS)])
        try:
            time.sleep(2)
            busy = _latencies(port, users["alice"])
            first = [_scrape(HTTPConnection("127.0.0.1", port), name, users[name]) for name in list(users)[1:]]
        finally:
            flood.kill()
            flood.wait()
    admitted = [took for status, took in first if status == 200]
    return [
        ("scrape, p50", f"{quantile(quiet, 0.5):.2f} ms", f"{quantile(busy, 0.5):.2f} ms"),
        ("scrape, p99", f"{quantile(quiet, 0.99):.2f} ms", f"{quantile(busy, 0.99):.2f} ms"),
        ("first logins admitted", "", f"{len(admitted)} of {len(first)}"),
        ("first login, slowest", "", f"{max(admitted):.0f} ms" if admitted else "-"),
    ]


def _latencies(port: int, password: str) -> list[float]:
    connection = HTTPConnection("127.0.0.1", port)
    times = []
    for _ in range(SCRAPES):
        status, took = _scrape(connection, "alice", password)
        if status != 200:
            raise RuntimeError(f"the authenticated scrape was answered with {status}")
        times.append(took)
        time.sleep(0.002)
    return times


def _scrape(connection: HTTPConnection, user: str, password: str) -> tuple[int, float]:
    """Return the status and the milliseconds until the whole response was read."""
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    began = time.perf_counter()
    connection.request("GET", "/metrics", headers={"Authorization": f"Basic {token}", "Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    answer.read()
    return answer.status, (time.perf_counter() - began) * 1000
