"""A small application that shares its metrics, in real processes, and what the agent makes of them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from deckwatch.testing import Collected, opened
from deckwatch_exporters.apps import EXPORTER
from deckwatch_exporters.apps.multiprocess_file import parse_name

if TYPE_CHECKING:
    from pathlib import Path

#: Forked children end with `os._exit()`, because faulthandler's timer would hang at their normal end.
APP = """
import faulthandler, os, sys
from deckwatch import counter, gauge, histogram, info
faulthandler.dump_traceback_later(50, exit=True)
orders = counter("orders_total", "Orders.", ["status"])
busy = gauge("busy", "Busy workers.")
took = histogram("took_seconds", "Duration.", buckets=[1, 5])
def work(count):
    for _ in range(count):
        orders.labels("paid").inc()
    busy.set(1)
    took.observe(2)
"""


def start(folder: Path, code: str, *before: str, **environ: str) -> subprocess.Popen[str]:
    """Start a process that runs `code` after APP, with a command `before` it."""
    variables = {"DECKWATCH_APP_DIR": str(folder), "DECKWATCH_SERVICE": "shop", **environ}
    return subprocess.Popen(
        [*before, sys.executable, "-c", APP + code],
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, code: str, *before: str, **environ: str) -> str:
    """Run a process to its end. Returns what it wrote to standard error."""
    process = start(folder, code, *before, **environ)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return errors


def collect(folder: Path) -> Collected:
    with opened(EXPORTER, {"dir": str(folder)}) as target:
        return target.collect()


def orders(folder: Path) -> float:
    return collect(folder).value("orders_total", service="shop", status="paid")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "shop").iterdir() if parse_name(path.name))
