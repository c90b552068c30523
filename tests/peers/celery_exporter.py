"""The real celery-exporter, which is not part of Deckwatch. CELERY_EXPORTER is the command that starts it."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from services import Program, free_port, running

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

COMMAND = shlex.split(os.environ.get("CELERY_EXPORTER", ""))


def celery_exporter(folder: Path, broker: str, *flags: str) -> AbstractContextManager[Program]:
    """Run it beside a broker, which is a URL. Its first scrape takes two seconds."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [*COMMAND, f"--broker-url={broker}", f"--port={port}", *flags]
    return running(command, url, "/metrics", folder / "celery-exporter.log")
