"""Resident memory of an idle agent, and what its modules add to it."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from bench.measure import SETTLE, resident_bytes
from bench.stack import CONFIG, servers
from services import agent

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 10
HOST = "interval: 15s\nexporters: {system: {}}\n"
# Prints the growth of resident memory during the import of each top-level package, the packages that it imports
# included only if no other one imported them before.
IMPORTS = """
import builtins, collections, os
page, grown, stack = os.sysconf("SC_PAGESIZE"), collections.Counter(), []
plain = builtins.__import__

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * page

def measured(name, globals=None, locals=None, fromlist=(), level=0):
    package, before = (globals["__package__"] if level else name).partition(".")[0], resident()
    stack.append(0)
    try:
        return plain(name, globals, locals, fromlist, level)
    finally:
        whole, inner = resident() - before, stack.pop()
        grown[package] += whole - inner
        if stack:
            stack[-1] += whole

builtins.__import__ = measured
import deckwatch.cli.run
builtins.__import__ = plain
for package, size in grown.most_common(%d):
    print(package, size)
"""


def idle_memory(folder: Path) -> list[tuple[str, ...]]:
    with servers(folder) as (redis, postgres):
        where = {"redis": redis.url, "postgres": postgres.dsn(user="monitor")}
        rows: list[tuple[str, ...]] = [
            (title, _resident(folder / name, config))
            for name, title, config in (
                ("host", "host", HOST),
                ("all", "host, Redis and PostgreSQL", CONFIG.format(**where, more="")),
            )
        ]
    printed = subprocess.run(
        [sys.executable, "-c", IMPORTS % LARGEST], check=True, capture_output=True, text=True
    ).stdout
    for line in printed.splitlines():
        package, size = line.split()
        rows.append((f"  import of {package}", f"{int(size) / 1e6:.1f} MB"))
    return rows


def _resident(folder: Path, config: str) -> str:
    folder.mkdir()
    with agent(folder, config) as program:
        time.sleep(SETTLE)
        return f"{resident_bytes(program.process.pid) / 1e6:.1f} MB"
