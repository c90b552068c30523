"""Applications of web frameworks in an environment of their own: see tests/install-python.sh."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from services import ROOT, Program, agent, free_port, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(sys.prefix) / "web"
PYTHON = str(FOLDER / "bin" / "python")
IS_INSTALLED = (FOLDER / ".installed").exists()


def value(exposition: str, name: str, **labels: str) -> float:
    """The value of a series that has exactly these labels; 0 if there is none."""
    for labelled, number in re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)(?: #.*)?$", exposition, re.MULTILINE):
        if dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labelled)) == labels:
            return float(number)
    return 0.0


def labels_of(exposition: str, name: str, label: str) -> set[str]:
    """The values of a label in all series of a name."""
    return set(re.findall(rf'^{name}\{{.*\b{label}="([^"]*)"', exposition, re.MULTILINE))


LINES = """
import json, logging

class Lines(logging.Handler):
    def emit(self, record):
        fields = {key: value for key, value in vars(record).items() if isinstance(value, (str, int, float))}
        print(json.dumps({**fields, "message": record.getMessage()}), flush=True)

logging.getLogger("deckwatch").addHandler(Lines())
"""


class Shop(NamedTuple):
    web: Program
    agent: Program

    def metrics(self) -> str:
        return self.agent.metrics()

    def until_counted(self, count: float, **labels: str) -> str:
        """Wait until the agent has counted this many requests."""
        until(lambda: value(self.metrics(), "http_requests_total", service="shop", **labels) == count, what=str(labels))
        return self.metrics()

    def events(self, name: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.web.printed.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]


@contextlib.contextmanager
def serving(folder: Path, *command: str, ready: str = "/ready", **environ: str) -> Iterator[Shop]:
    """Run a Python module that serves an application in `folder` at `{port}`, and an agent that reads its metrics.

    The application answers at the path `ready`. Its module may import `lines`, which prints Deckwatch's log as JSON.
    """
    (folder / "lines.py").write_text(LINES)
    apps, port = folder / "apps", free_port()
    environment = {"DECKWATCH_APP_DIR": str(apps), "DECKWATCH_SERVICE": "shop", "PYTHONPATH": str(ROOT / "agent")}
    arguments = [PYTHON, "-m", *(it.replace("{port}", str(port)) for it in command)]
    log = folder / "web.log"
    with (
        running(arguments, f"http://127.0.0.1:{port}", ready, log, {**environment, **environ}, folder) as web,
        agent(folder, f"interval: 1s\nexporters:\n  apps: {{dir: {apps}}}\n") as program,
    ):
        yield Shop(web, program)
